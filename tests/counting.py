"""A network that counts, for tests of what parallel methods call."""

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
