"""Every method on every family of networks."""

import json

import pytest
import torch
from tests import tiny

import multidrift as md

METHODS = [
    md.Multistep(4),
    md.PoissonMidpoint(3, substeps=2),
    md.Picard(4, tolerance=0.1),
    md.Multilevel(4, levels=("low", "top"), calls=(4, 2)),
    md.LadderMultistep(3, levels=("low", "top"), substeps=2),
]


@pytest.mark.parametrize("name", tiny.FAMILIES)
@pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
@pytest.mark.filterwarnings("ignore::multidrift.methods.picard.walk.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::multidrift.runs.marginals.RunWarning")
def test_every_method_runs_on_every_family(name):
    """On a ladder of two, on the ODE and the SDE, and again from the plan that was saved."""
    build = tiny.FAMILIES[name]
    levels = [
        md.Denoiser.from_diffusers(made.net, made.scheduler, shape=made.shape, clip=1.0)
        for made in (build(), build(seed=1))
    ]
    ladder = md.Ladder(levels, names=("low", "top"))
    given = {"count": 2, "conditioning": build().conditioning(2)}
    for method in METHODS:
        for eta in (0.0, 1.0):
            process = md.Diffusion(ladder.schedule, eta)
            samples = md.sample(ladder, method, process, **given).samples
            assert samples.isfinite().all(), method
        plan = json.loads(json.dumps(method.plan(ladder, process, count=2).to_dict()))
        again = md.sample(ladder, md.Plan.from_dict(plan), process, **given).samples
        assert torch.equal(again, samples), method
