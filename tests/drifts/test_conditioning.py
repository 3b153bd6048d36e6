"""Conditioning of every shape goes to the samples it belongs to, however a run is cut into calls."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

import multidrift as md

F64 = {"dtype": torch.float64}
COUNT = 4


class Residuals(NamedTuple):
    """What ControlNet adds."""

    down: list
    middle: torch.Tensor


class Conditioned:
    """A function of all of its conditioning, which is nested as SDXL's and ControlNet's are; remembers its rows."""

    def __init__(self, scale=0.1):
        self.scale, self.rows = scale, set()

    def __call__(self, x, t, encoder_hidden_states, added_cond_kwargs, residuals, guidance, table, mask):
        text, ids = added_cond_kwargs["text_embeds"], added_cond_kwargs["time_ids"]
        (down,), middle = residuals.down, residuals.middle
        assert len(encoder_hidden_states) == len(text) == len(ids) == len(down) == len(middle) == len(mask) == len(x)
        assert isinstance(mask, np.ndarray)
        assert table.shape == (COUNT,)
        assert len(guidance) in (1, len(x))  # of a single sample every row of a call gets its own
        assert added_cond_kwargs["name"] == "fixed"
        self.rows.add(len(x))
        pull = encoder_hidden_states.mean(dim=(1, 2))[:, None] + text + ids.sum(dim=1, keepdim=True) + down * middle
        return torch.tanh(x + guidance * pull + table.mean()) + self.scale * torch.from_numpy(mask)


def conditioning(rows=slice(None)):
    values = torch.arange(COUNT, dtype=torch.float64)
    return {
        "encoder_hidden_states": values[:, None, None].expand(COUNT, 3, 5)[rows],
        "added_cond_kwargs": {
            "text_embeds": torch.stack((values, -values), dim=1)[rows],
            "time_ids": 0.1 * values[:, None].expand(COUNT, 6)[rows],
            "name": "fixed",
        },
        "residuals": Residuals([0.2 * values[:, None][rows]], values[:, None][rows]),
        "guidance": torch.full((1, 1), 0.3, dtype=torch.float64),
        "table": md.shared(torch.linspace(0, 1, COUNT, dtype=torch.float64)),
        "mask": values[:, None].numpy()[rows],
    }


@pytest.fixture
def ladder(ddpm):
    levels = [md.Denoiser(Conditioned(s), ddpm, "sample", name=n, shape=(2,)) for n, s in (("f1", 0.05), ("f5", 0.1))]
    return md.Ladder(levels)


METHODS = {
    "Euler": md.Euler(8),
    "Multilevel": md.Multilevel(8, calls=(8, 3), shared=False),
    "Picard": md.Picard(8, tolerance=1e-13),
    "ladder Picard": md.Picard(8, tolerance=1e-13, coarse="f1"),
    "PoissonMidpoint": md.PoissonMidpoint(8, substeps=4),
    "PredictorCorrector": md.PredictorCorrector(md.Picard(8, tolerance=1e-13), md.Picard(4, tolerance=1e-13)),
}


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning")
@pytest.mark.parametrize("name", METHODS)
def test_nested_conditioning_follows_the_samples(ladder, ddpm, name):
    """Cut in three ways, and sample by sample: the same samples."""
    process = md.Diffusion(ddpm, eta=0.0 if name == "PredictorCorrector" else 1.0)

    def run(count=COUNT, first=0, given=None, **settings):
        given = conditioning() if given is None else given
        return md.sample(
            ladder, METHODS[name], process, count=count, first=first, conditioning=given, **F64, **settings
        ).samples

    whole = run()
    assert torch.allclose(run(batch_size=3), whole, atol=1e-10)
    assert torch.allclose(run(memory_limit=3000.0), whole, atol=1e-10)
    each = [run(1, i, conditioning(slice(i, i + 1))) for i in range(COUNT)]
    assert torch.allclose(torch.cat(each), whole, atol=1e-10)
    assert (whole[0] - whole[1]).abs().max() > 0.1  # it does depend on what it was given
    assert len(set().union(*(level.net.rows for level in ladder))) > 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"added_cond_kwargs": {"time_ids": torch.ones(3, 6)}}, r"\['added_cond_kwargs'\]\['time_ids'\]: got first "),
        ({"residuals": (torch.ones(4, 2), [torch.ones(0)])}, r"\['residuals'\]\[1\]\[0\]: got first dimension 0"),
        ({"scale": np.ones(5)}, r"\['scale'\]: got first dimension 5; it takes count=4 rows, or md.shared\(array\)"),
        ({3: 4}, "got {3: 4}; it takes None or a mapping from strings"),
        ([("scale", 1)], "got .*; it takes None or a mapping"),
    ],
)
def test_what_cannot_be_told_is_refused_before_any_call(ladder, given, message):
    with pytest.raises(md.MultidriftError, match=f"conditioning.*{message}"):
        md.sample(ladder, md.Euler(5), count=COUNT, conditioning=given)
    assert not ladder["f5"].net.rows
    with pytest.raises(md.MultidriftError, match=r"conditioning\['a'\]: got first dimension 7; it takes count=3 rows"):
        ladder.check(conditioning={"a": torch.ones(7)})


def test_shared_takes_tensors_alone(denoiser):
    with pytest.raises(md.MultidriftError, match="value: got 0.5; it takes a tensor or a numpy array"):
        md.shared(0.5)
