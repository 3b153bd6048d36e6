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
from multidrift.drifts.costs import Costs

NAN, INF = math.nan, math.inf
SCHEDULE = md.schedules.ddpm()
MIXTURE = md.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)])
DENOISER = MIXTURE.denoiser(SCHEDULE)
LADDER = md.Ladder([MIXTURE.denoiser(SCHEDULE, "a"), MIXTURE.denoiser(SCHEDULE, "b")])
PLAN = md.Multilevel(5, calls=(5, 3)).plan(LADDER)
RESULT = md.sample(DENOISER, md.Euler(2))
SYNTHETIC = md.SyntheticLadder(2.5, levels=2).ladder(SCHEDULE)
COSTS = Costs({"f1": 1.0, "f2": 4.0}, 1, "here")
CALIBRATION = md.calibrate(SYNTHETIC, paths=2, steps=8, costs=COSTS)
ONE_LEVEL = md.Ladder([SYNTHETIC["f2"]])
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
    "auto": (md.auto, {"ladder": SYNTHETIC, "calls": 3, "calibration": CALIBRATION}, {
        "ladder": (None, DENOISER, ONE_LEVEL), "calls": (True, NAN, -1, "3"), "seconds": (1.0, 0), "error": (INF,), "latency": ("a",),
        "calibration": ({}, 3), "batch": (True, 0), "quality": ("best", None), "samples": (3, 2.5, 10**9), "seed": (-1, 2**40, 1.5),
        "reference_steps": (1, 10**9), "features": (3,), "process": ("ddpm",), "force": (1,),
    }),
    "calibrate": (md.calibrate, {"ladder": SYNTHETIC, "costs": COSTS}, {
        "ladder": (None, DENOISER), "paths": (1, True, 10**9), "steps": (7, 8.5), "batch": (*NOT_COUNTS, 10**13), "repeats": (0,),
        "seed": (-1,), "costs": ([1.0], {}), "images": ([1], torch.zeros(3, 5), torch.zeros(()), torch.full((3, 2), NAN),
                                                      torch.zeros(3, 2, dtype=torch.int64)),
    }),
    "allocate": (md.allocate, {"ladder": SYNTHETIC, "calibration": CALIBRATION, "seconds": 9.0}, {
        "seconds": (None, NAN, True), "error": (1.0,), "rule": ("best",), "steps": (1, "8"), "levels": ("f1", [1]), "draws": ("none",),
    }),
    "worth": (md.worth, {}, {"calibration": (None, {}, COSTS)}),
    "learn_plan": (md.learn_plan, {"ladder": SYNTHETIC, "calibration": CALIBRATION, "levels": ("f1", "f2"), "steps": 4, "calls": 2}, {
        "paths": (1, True), "iterations": (3,), "validation": (0,), "calls": (None, NAN), "steps": (1, None), "levels": ("f1", ("f1",), 3),
    }),
    "memorise_plan": (md.memorise_plan, {"ladder": SYNTHETIC, "method": md.Multilevel(3, calls=(3, 2))}, {
        "method": (md.Euler(3), None), "draws": (True, 0), "count": ("3", 0), "reference_steps": (1,),
    }),
    "Calibration": (md.Calibration.from_dict, {}, {
        "values": (None, {}, [], changed(CALIBRATION, seconds={"f1": -1.0, "f2": 1.0}), changed(CALIBRATION, levels="ab"),
                   changed(CALIBRATION, places=[NAN]), changed(CALIBRATION, format=True), changed(CALIBRATION, errors=[[]]),
                   changed(CALIBRATION, by_errors={"gamma": "a"}), changed(CALIBRATION, batch=True), changed(CALIBRATION, coarse=[1])),
    }),
    "Calibration.load": (md.Calibration.load, {}, {"path": (None, 3, "nowhere.json", "/", "")}),
    "generate": (functools.partial(md.generate, out="/dev/null/out"), {"model": DENOISER, "method": md.Euler(3), "count": 2}, {
        "model": (None,), "method": (None, "euler"), "count": (*NOT_COUNTS, 10**15, None), "seed": (True, [1, 2]), "first": (-1,),
        "rows": (3, "nowhere.csv", [1], [{"a": 1}], []), "encode": (3,), "conditioning": ([1],), "shape": ("ab", (3,)),
        "batch_size": (*NOT_COUNTS,), "shard_size": (0, True), "format": ("tiff", 3, "images"), "device": ("meta",), "dtype": ("float",),
        "resume": ("no",), "lease_seconds": (0, NAN), "timeout": (-1,), "metrics": (3,), "report": (3,), "progress": (1,), "out": (None, 3),
    }),
    "read_samples": (md.read_samples, {"folder": "/"}, {"folder": (None, 3, "nowhere", "/"), "first": (-1, True), "count": (0, "3")}),
    "verify_samples": (md.verify_samples, {}, {"folder": (None, "nowhere")}),
    "Metrics": (md.Metrics, {"features": torch.nn.Identity(), "real": torch.zeros(4, 2)}, {
        "features": (None, 3), "real": (None, torch.zeros(2, 2), torch.full((4, 2), NAN), [[1.0]]),
    }),
    "Sampler": (md.Sampler, {"model": DENOISER, "method": md.Euler(3)}, {
        "model": (None,), "method": ("euler", PLAN), "max_rows": (0, True), "max_waiting": (0,), "wait": (-1, NAN), "shape": ("ab",),
    }),
    "guided": (DENOISER.guided, {"scale": 2.0, "conditional": {}}, {
        "scale": (True, NAN, "a", None), "conditional": ([1], {1: 2}), "unconditional": ("a",), "rescale": (NAN, 2.0, True),
        "interval": ((1.0,), (2.0, 1.0), "ab", (0.0, INF)), "weak": (3, "f1"),
    }),
    "transformed": (DENOISER.transformed, {}, {"function": (None, 3), "differentiable": ("no",)}),
    "on": (DENOISER.on, {}, {"schedule": (None, "ddpm")}),
    "Ladder.choose": (LADDER.choose, {"names": "a"}, {"names": (3, None, [1], "z", []), "below": (1,)}),
    "from_diffusers": (md.Denoiser.from_diffusers, {}, {"model": (None, 3, "nowhere", Small()), "scheduler": (3,)}),
    "Ladder.from_diffusers": (md.Ladder.from_diffusers, {}, {"models": ("ab", [], [(1, 2)], 3, None)}),
    "schedules.from_diffusers": (md.schedules.from_diffusers, {}, {"scheduler": (None, SCHEDULE), "shift": (0,), "tokens": (True,)}),
    "conventions": (md.conventions.edm, {"net": Small()}, {"net": (3, None), "sigma_min": (0, NAN, 90.0), "shape": (3,)}),
    "conventions.flow": (md.conventions.flow, {"velocity": Small(), "data_at": 1}, {"data_at": (2, None, True), "scale": (0,)}),
    "spread": (md.distributed.spread, {}, {"least": (0, True), "holders": ({1: [0]}, {"a": "b"}, []), "announce": (1,)}),
    "latency": (md.distributed.latency, {"model": DENOISER, "method": md.Euler(3)}, {"count": (0,), "ranks": (0, True), "link": (3,)}),
    "Link": (md.distributed.Link, {}, {"latency": (-1, NAN), "bandwidth": (0, True)}),
    "arviz": (md.integrations.arviz.diagnose, {"result": RESULT}, {"result": (None, RESULT), "burn_in": (-1, True, 1.5)}),
    "accelerate": (md.integrations.diffusers.accelerate, {"pipe": 3, "method": md.Euler(3)}, {"pipe": (3, None), "method": ("euler",)}),
    "SyntheticLadder": (md.SyntheticLadder, {"gamma": 2.0}, {"gamma": (INF, 0, "a"), "levels": (0, 10**9, True), "dimension": (0,)}),
    "Result.save": (RESULT.save, {}, {"path": (None, 3, "a.pdf", "a", "/nowhere/a.png"), "columns": (0, True, 1.5)}),
    "no such setting": (md.Euler, {"steps": 3}, {"stepz": (3,)}),
    "missing": (lambda kind: kind(), {}, {"kind": (md.Diffusion, md.Overdamped, md.SyntheticLadder, md.Metrics)}),
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
