# ruff: noqa: E501 (a table)
"""Wrong input, one value a row: every one is refused by one MultidriftError that names what it is about.

`CALLS`: for each public call the arguments that are right, and for each of its arguments values that are not.
"""

import functools
import math
import signal

import numpy as np
import pytest
import torch
from tests.fakes import Small

import multidrift as md

NAN, INF = math.nan, math.inf
SCHEDULE = md.schedules.ddpm()
MIXTURE = md.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)])
DENOISER = MIXTURE.denoiser(SCHEDULE)
LADDER = md.Ladder([MIXTURE.denoiser(SCHEDULE, "a"), MIXTURE.denoiser(SCHEDULE, "b")])
PLAN = md.Multilevel(5, calls=(5, 3)).plan(LADDER)
NOT_COUNTS = (True, 0, -1, 2.5, "3", [3], NAN)
NOT_POSITIVE = (True, 0, -1.0, NAN, INF, "1", [1.0], None)


def mutates(state):
    state.x.fill_(0)
    return "go on"


def changed(plan, **entries):
    return plan.to_dict() | entries


sample = functools.partial(md.sample, progress=False)
langevin = functools.partial(md.sample, MIXTURE.score, md.Euler(5), count=2, shape=(2,))
CALLS = {
    "sample": (sample, {"model": DENOISER, "method": md.Euler(5), "count": 2}, {
        "model": (None, 3, "digits", Small(), [DENOISER]),
        "method": (None, "euler", 50, md.Euler),
        "process": ("ddpm", 3, SCHEDULE, md.Diffusion(md.schedules.vp()), md.Overdamped(1.0)),
        "count": (*NOT_COUNTS, 10**12, 2**70),
        "seed": (True, 1.5, "7", [1, None], [1, 2.5], 2**80, -(2**70), [True, 1], [1, 2, 3], np.array([[1, 2]]), {}),
        "first": (True, -1, 1.5, "a", 2**70, 2**63 - 1),
        "start": ([1, 2], "x", np.zeros((2, 2)), torch.zeros(2, 2, dtype=torch.complex64), torch.zeros(2, 3),
                  torch.eye(2).to_sparse(), torch.full((2, 2), NAN), torch.zeros(2, 2, dtype=torch.int64),
                  torch.zeros(()), torch.zeros(3, 2)),
        "shape": (3, (), (-1,), (2.5,), (10**12,), "ab", (True, 2), (0,), (3,)),
        "plan_seed": (True, "a", 1.5, None, 2**80),
        "conditioning": ([1], {1: 2}, "a", {"y": 1}, {"y": torch.zeros(5)}),
        "batch_size": (*NOT_COUNTS,),
        "device": ("cuda:99", "foo", 1.5, "meta", 3),
        "dtype": (torch.float16, "float32", torch.int64, None),
        "save": (*NOT_COUNTS,),
        "callback": (3, "print", lambda state: state.x, lambda state: 1 / 0, lambda state: "stop", mutates),
        "progress": ("yes", 1),
        "grad": ("no", 1, None),
        "velocities": (torch.zeros(2, 2), "x"),
        "memory_limit": (0, -1, "2GB", True, NAN),
        "colour": ("blue",),
    }),
    "langevin": (langevin, {"process": md.Overdamped(1.0)}, {
        "process": (None, md.Diffusion(SCHEDULE), md.Overdamped(1.0, preconditioner=[1.0, 2.0, 3.0])),
    }),
    "underdamped": (langevin, {"process": md.Underdamped(1.0)}, {
        "velocities": (np.zeros((2, 2)), [1.0], torch.zeros(3, 2), torch.full((2, 2), NAN)),
    }),
    "Denoiser": (md.Denoiser, {"net": Small(), "schedule": SCHEDULE}, {
        "net": (None, 3, "net"), "schedule": (None, "ddpm", md.schedules.ddpm), "predicts": ("noise", None, 3, ["epsilon"]),
        "clip": ("1", True, 0, -1, NAN, INF), "name": (3, None), "shape": ("ab", (2.5,), (-3,), 3, (True,)),
    }),
    "ddpm": (md.schedules.ddpm, {}, {
        "beta": ("cosine", None, 3), "steps": (-5, 1, 2.5, True, "a", 10**9), "start": ("a", -1, NAN, 0), "end": (5.0, INF, "b"),
    }),
    "cosine": (md.schedules.cosine, {}, {"steps": (0, True, 10**9), "offset": (NAN, -1), "largest": (0, "a", 2.0)}),
    "vp": (md.schedules.vp, {}, {"beta_min": (*NOT_POSITIVE, 30.0), "beta_max": ("a", NAN), "smallest": (1.5, 0)}),
    "ve": (md.schedules.ve, {}, {"smallest": (*NOT_POSITIVE, 60.0), "largest": (INF, "a", True)}),
    "edm": (md.schedules.edm, {}, {"smallest": (100.0, NAN), "largest": (INF, "a")}),
    "flow": (md.schedules.flow, {}, {"scale": NOT_POSITIVE, "smallest": (2.0, "a")}),
    "Discrete": (md.schedules.Discrete, {}, {
        "betas": (None, 0.1, [[0.1, 0.2]], [0.1], [0.1, 2.0], "ab", [0.1, None], [NAN, 0.1], [], [True, True]),
    }),
    "schedule": (md.schedules.from_dict, {}, {
        "values": (None, {}, {"kind": "vp"}, {"kind": ["vp"]}, {"kind": "discrete", "betas": None}, [],
                   {"kind": "flow", "scale": "1", "smallest": 0.1}, {"kind": "edm", "smallest": NAN, "largest": 1.0}),
    }),
    "Diffusion": (md.Diffusion, {"schedule": SCHEDULE}, {
        "schedule": ("ddpm", None), "eta": (None, True, -1, NAN, INF, "1", [1.0]), "holds": ("x0", None, 1),
        "noise_scale": ("1", -1, NAN, None, True),
    }),
    "noise_scale": (lambda f: md.Diffusion(SCHEDULE, noise_scale=f).to_dict(), {}, {
        "f": (lambda t: None, lambda t: -1.0, lambda t: NAN, lambda t: "a", lambda t: 1 / 0, lambda: 1.0),
    }),
    "process": (md.Diffusion.from_dict, {}, {"values": (None, {}, md.Diffusion(SCHEDULE).to_dict() | {"eta": "1"})}),
    "Overdamped": (md.Overdamped, {"horizon": 1.0}, {
        "horizon": (*NOT_POSITIVE,), "beta": (*NOT_POSITIVE[:-1],), "resolution": (2.0, 0, "a"),
        "preconditioner": ([], [0.0], "ab", [NAN], [1.0, None], [[1.0], [1.0, 2.0]]),
    }),
    "Underdamped": (md.Underdamped, {"horizon": 1.0}, {"friction": NOT_POSITIVE}),
    "Euler": (md.Euler, {}, {
        "steps": (True, 1, -3, 20.0, "a", None, 10**9), "grid": ("quadratic", 3), "integer": (1, "yes"),
        "times": (5, "ab", [[3.0, 1.0]], [3.0, None], [NAN, 1.0], {}),
    }),
    "Multistep": (functools.partial(md.Multistep, 5), {}, {"order": (2.0, 0, 4, "2", True, None)}),
    "Multilevel": (functools.partial(md.Multilevel, 5), {"calls": (5, 2)}, {
        "levels": (5, "ab", ["a", 1]), "calls": ("80,20", 5, (5, None), (NAN, 1.0), None, ()), "shared": ("no", 1),
        "draws": ("random", None), "order": (3, True), "probabilities": ("a", (0.5, 0.5)),
    }),
    "PoissonMidpoint": (functools.partial(md.PoissonMidpoint, 5), {}, {
        "substeps": (*NOT_COUNTS, 10**9), "draws": ("none", None), "spread": ("even",), "shared": ("no", 1), "reduce_noise": (1,),
    }),
    "Picard": (functools.partial(md.Picard, 5), {}, {
        "blocks": (0, True, "ab", [NAN], None), "window": (0, True, 2.5, "a"), "tolerance": ("a", 0, NAN, INF, None),
        "absolute": ("no",), "max_rounds": (0, "a"), "rounds": (0, True), "coarse": (3, [1, 2]), "coarse_every": (0, 2.0),
        "accelerate": ("fast", 1), "initial": ("end", 0, 1.5, True),
    }),
    "LadderMultistep": (functools.partial(md.LadderMultistep, 5), {}, {
        "levels": (5, [1], ("a", "b", "c")), "substeps": (0, 2.5, True), "start": (3,), "reevaluate": ("no",),
        "covariance": (3, {}, {"levels": 1}), "weights": (3, {"top": "a"}, {"bottom": 1.0}),
    }),
    "method_from_dict": (md.method_from_dict, {}, {
        "values": (None, {}, [], {"method": "Magic"}, {"method": "Euler", "a": 1}, {"method": "PredictorCorrector"},
                   {"method": "Euler", "steps": "5"}, {"method": "PredictorCorrector", "predictor": 1}),
    }),
    "Method": (md.Method, {}, {"steps": (5,)}),
    "Ladder": (md.Ladder, {"levels": [DENOISER]}, {
        "levels": (None, [], 5, [3], "ab", [Small()], [None]), "names": ("a", [1], ["a", "b"], [""], ["../x"], 3),
    }),
    "load": (md.Ladder.load, {}, {"folder": (None, 3, "", "nowhere", "/dev/null", "a\0b")}),
    "bundled": (md.Ladder.bundled, {}, {"name": (None, "faces", 3)}),
    "to": (LADDER.to, {}, {"device": ("x", None, 1.5, "meta", "cuda:99")}),
    "measured": (LADDER.measured, {}, {"batch": (*NOT_COUNTS, 10**12), "repeats": (0, True, 10**9), "device": ("x",)}),
    "check": (LADDER.check, {}, {"shape": ("ab", (2.5,), 3), "conditioning": ([1],)}),
    "choose": (md.sample, {"model": LADDER, "method": md.Euler(5)}, {
        "method": (md.Multilevel(5, levels=("b", "a"), calls=(5, 2)), md.Multilevel(5, levels=("c",), calls=(5,)),
                   md.Multilevel(5, calls=(9, 9)), md.Picard(5, coarse="z"), md.LadderMultistep(5, levels=("b", "a"))),
    }),
    "grid_times": (md.grid_times, {"schedule": SCHEDULE, "steps": 5}, {
        "schedule": (None, "ddpm"), "steps": (*NOT_COUNTS, 10**10), "grid": ("even", 3), "eta": (NAN, "1", -1),
    }),
    "piadm": (md.piadm, {"dimension": 4, "accuracy": 0.5, "schedule": SCHEDULE}, {
        "dimension": NOT_COUNTS, "accuracy": (0, NAN, 9.0, "a", 1e-12), "schedule": (None,), "rounds": (0, INF),
    }),
    "pmm_variant": (md.pmm_variant, {"variant": "1a", "schedule": SCHEDULE}, {
        "variant": ("4", 1, None), "schedule": (md.schedules.vp(), None),
    }),
    "recommended_variant": (md.recommended_variant, {}, {"calls": (0, "9", NAN, None)}),
    "forecasts": (md.forecasts, {"ladder": LADDER, "steps": 5}, {"steps": (0, -3, "a", True), "ladder": (None,)}),
    "Plan": (md.Plan.from_dict, {}, {
        "content": (None, {}, [], changed(PLAN, seed="a"), changed(PLAN, calls={"a": -1, "b": 1}), changed(PLAN, times=[1.0]),
                    changed(PLAN, times=[1.0, 2.0, 0.5, 0.2, 0.1]), changed(PLAN, times=[NAN] * 5), changed(PLAN, levels="ab"),
                    changed(PLAN, process={"process": "Diffusion"}), changed(PLAN, process=[]), changed(PLAN, firings=[[[9], []]]),
                    changed(PLAN, process=PLAN.to_dict()["process"] | {"eta": -1}), changed(PLAN, firings=[[[0, 0], []]]),
                    changed(PLAN, weights=[[["x"], []]]), changed(PLAN, weights=[]), changed(PLAN, samples=[-1]),
                    changed(PLAN, cost=NAN), changed(PLAN, format=True), changed(PLAN, kind="cake"), changed(PLAN, ladder={})),
    }),
    "Plan.load": (md.Plan.load, {}, {"path": (None, 3, "nowhere.json", "/", "")}),
    "Plan.save": (PLAN.save, {}, {"path": (None, 3, "/", "/nowhere/plan.json", f"{'x' * 260}.json")}),
    "potential": (md.potential, {"log_density": MIXTURE.log_density}, {"log_density": (None, 3), "name": (3,), "shape": ("ab",)}),
    "mixture": (md.GaussianMixture, {"weights": [1.0], "means": [[0.0]], "covariances": [[[1.0]]]}, {
        "weights": ("a", [], [0.0], [NAN], [1.0, 1.0], None), "means": ([[NAN]], "a", [0.0], [[0.0], [1.0, 2.0]]),
        "covariances": ("a", [[[-1.0]]], [[[INF]]], [[1.0]], None),
    }),
    "mixture.sample": (MIXTURE.sample, {"n": 3}, {"n": (*NOT_COUNTS, 10**12), "seed": (1.5, None), "dtype": ("float",)}),
    "mixture.log_density": (MIXTURE.log_density, {}, {"x": (None, np.zeros((1, 2)), torch.zeros(2), torch.zeros(1, 3))}),
    "GaussianDenoiser": (md.GaussianDenoiser, {"mean": [0.0], "covariance": 1.0, "schedule": SCHEDULE}, {
        "mean": ("a", [], [NAN], None), "covariance": ("a", -1.0, [[1.0, 2.0]], INF), "schedule": (None,),
    }),
    "fit": (md.GaussianDenoiser.fit, {"schedule": SCHEDULE}, {
        "samples": (None, torch.zeros(()), torch.zeros(1, 2), torch.full((3, 2), NAN), np.zeros((3, 2))),
    }),
    "LogisticRegression": (md.LogisticRegression, {"features": [[1.0], [2.0]], "labels": [0, 1]}, {
        "features": ([], "a", [[NAN], [1.0]], [1.0, 2.0]), "labels": ([0, 2], [0], "ab"), "prior_std": NOT_POSITIVE,
    }),
    "shared": (md.shared, {}, {"value": (3, [1.0], None)}),
}  # fmt: skip
ROWS = [
    pytest.param(call, good, argument, value, id=f"{name}-{argument}-{str(value)[:24].split(' at 0x')[0]}")
    for name, (call, good, wrong) in CALLS.items()
    for argument, values in wrong.items()
    for value in values
]


@pytest.fixture(autouse=True)
def _no_hanging():
    """Ten seconds a row, and then a failure."""
    signal.alarm(10)
    yield
    signal.alarm(0)


def test_there_are_enough_rows():
    assert len(ROWS) >= 250


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "good", "argument", "value"), ROWS)
def test_wrong_arguments(call, good, argument, value):
    with pytest.raises(md.MultidriftError) as error:
        call(**(good | {argument: value}))
    message = str(error.value)
    assert "\n" not in message
    assert 10 < len(message) < 900, message
