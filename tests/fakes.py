"""What stands for a network in tests, and the dtype of exact identities."""

import torch

import multidrift as md

F64 = {"dtype": torch.float64}


class Counting:
    """A network that counts its invocations and remembers the rows and times of each."""

    def __init__(self, drift, schedule=None):
        self.drift, self.schedule, self.rows, self.times = drift, schedule, [], []

    def __call__(self, x, *t, **conditioning):
        self.rows.append(len(x))
        self.times.append(t[0].clone() if t else None)
        return self.drift(x, *t, **conditioning)


def counting_denoiser(mixture, schedule, name="model"):
    exact = mixture.denoiser(schedule)
    return md.Denoiser(Counting(lambda x, t: exact.net(x, t)), schedule, "sample", name=name, shape=(2,))


class Small(torch.nn.Module):
    """A convolution that stands for a network: cheap, with parameters, sensitive to every input."""

    def __init__(self, channels=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.seen = []

    def forward(self, x, t, scale=None):
        self.seen.append((tuple(x.shape), t.clone()))
        out = torch.tanh(self.conv(x)) * torch.cos(t / 1000).view(-1, 1, 1, 1).to(x.dtype)
        return out if scale is None else out * scale.view(-1, 1, 1, 1).to(x.dtype)
