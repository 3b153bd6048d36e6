# ruff: noqa: E501 (tables)
"""Settings of every public call, and runs with settings that were taken: an answer or one clear error."""

import functools
import math
import os
import time
import types
import typing
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from tests.fuzz.examples import answered, examples, in_time
from tests.fuzz.values import LADDER, MIXTURE, SCHEDULE, numbers, values
from tests.test_wrong_input import CALLS

import multidrift as md

# With their own defaults these work for minutes; "missing" is no public call itself.
QUICK = {
    "auto": {"samples": 4, "reference_steps": 8},
    "learn_plan": {"paths": 2, "iterations": 4, "validation": 4, "reference_steps": 8},
    "memorise_plan": {"draws": 1, "count": 2, "reference_steps": 8},
}
TARGETS = {
    name: (call, good | QUICK.get(name, {}), sorted({*wrong, *QUICK.get(name, {})}))
    for name, (call, good, wrong) in CALLS.items()
    if name != "missing"
}
METHODS = {
    "Euler": {"steps": 5}, "Multistep": {"steps": 5}, "Multilevel": {"steps": 5, "calls": (5, 2)},
    "PoissonMidpoint": {"steps": 4, "substeps": 3}, "Picard": {"steps": 5}, "LadderMultistep": {"steps": 5, "levels": ("a", "b")},
    "Speculative": {"steps": 5, "window": 2, "drafter": "a"},
}  # fmt: skip
PROCESSES = {
    "Diffusion": (md.Diffusion, {"schedule": SCHEDULE}, LADDER),
    "Overdamped": (md.Overdamped, {"horizon": 1.0}, MIXTURE.score),
    "Underdamped": (md.Underdamped, {"horizon": 1.0}, MIXTURE.score),
}


def settings_of(kind):
    """The names of what a frozen dataclass is given."""
    return [field.name for field in fields(kind) if field.init]


def hints_of(call):
    """The annotations of what a call takes, by name."""
    call = call.func if isinstance(call, functools.partial) else call
    found = {}
    if isinstance(call, type):
        found = typing.get_type_hints(call, include_extras=True) if hasattr(call, "__dataclass_fields__") else {}
        call = call.__init__ if not found else call
    if not isinstance(call, type):
        found = typing.get_type_hints(getattr(call, "__wrapped__", call), include_extras=True)
    return found


def choices(hint):
    """The types that an annotation names, without their limits; "anything" where it names none."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return choices(args[0]) | {str(note) for note in hint.__metadata__}
    if origin in (typing.Union, types.UnionType):
        return set().union(*(choices(arg) for arg in args))
    if origin is typing.Literal:
        return {*args, *(type(arg) for arg in args)}
    named = isinstance(hint, type) and hint is not object
    return {hint} if named else {origin} if isinstance(origin, type) else {"anything"}


def is_meant(hint, value):
    """Whether a value may be what an annotation asks for: told by other means than the checker's."""
    names = choices(hint)
    if "anything" in names or any(getattr(name, "_is_protocol", False) for name in names):
        return True
    infinite = any("MayBeInfinite" in str(name) for name in names)
    if isinstance(value, bool | np.bool_):
        return bool in names
    if isinstance(value, float) and not math.isfinite(value):
        return infinite and not math.isnan(value)
    if isinstance(value, str | bytes):
        return value in names or (isinstance(value, str) and bool(names & {str, os.PathLike}))
    return not (value is None and not names & {None, type(None)})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """What a random name of a file makes, it makes there."""
    (tmp_path / "within").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "within")


@examples(0.5, 120)
@given(st.data())
def test_settings_of_every_public_call(data):
    name = data.draw(st.sampled_from(sorted(TARGETS)))
    call, good, arguments = TARGETS[name]
    changed = data.draw(st.dictionaries(st.sampled_from(arguments), values, min_size=1, max_size=2))
    note(f"{name}: {changed}")
    _, error = answered(call, **(good | changed))
    if error is None:
        hints = hints_of(call)
        for argument, value in changed.items():
            assert is_meant(hints.get(argument, object), value), (name, argument, value)


@examples(0.1, 20)
@given(st.data())
def test_methods_that_are_taken_run(data):
    """What its checks let through can be planned, run and written down, or is refused with a reason."""
    name = data.draw(st.sampled_from(sorted(METHODS)))
    kind = getattr(md, name)
    names = sorted(set(settings_of(kind)) - {"steps", "covariance", "weights"})
    changed = data.draw(st.dictionaries(st.sampled_from(names), st.one_of(numbers, values), max_size=3))
    note(f"{name}: {changed}")
    method, error = answered(kind, **(METHODS[name] | changed))
    if error is not None:
        return
    again, error = answered(md.method_from_dict, method.to_dict())
    assert error is None
    assert again == method
    eta = data.draw(st.sampled_from([0.0, 1.0]))
    result, _ = answered(md.sample, LADDER, method, md.Diffusion(SCHEDULE, eta), count=2, progress=False)
    assert result is None or bool(torch.isfinite(result.samples).all())


@examples(0.1, 20)
@given(st.data())
def test_processes_that_are_taken_run(data):
    name = data.draw(st.sampled_from(sorted(PROCESSES)))
    kind, good, model = PROCESSES[name]
    names = sorted(set(settings_of(kind)) - {"schedule"})
    changed = data.draw(st.dictionaries(st.sampled_from(names), st.one_of(numbers, values), max_size=3))
    note(f"{name}: {changed}")
    process, error = answered(kind, **(good | changed))
    if error is None:
        result, _ = answered(md.sample, model, md.Euler(4), process, count=2, shape=(2,), progress=False)
        assert result is None or bool(torch.isfinite(result.samples).all())


def test_the_oracle_tells():
    hints = hints_of(md.sample)
    assert not is_meant(hints["count"], np.True_)
    assert not is_meant(hints["seed"], math.nan)
    assert not is_meant(hints["shape"], "ab")
    assert not is_meant(hints["plan_seed"], None)
    assert is_meant(hints["count"], None)
    assert is_meant(hints["memory_limit"], math.inf)
    assert is_meant(hints["device"], "cpu")
    assert not is_meant(hints_of(md.Picard)["blocks"], "4")


def test_what_is_raised_raw_or_hangs_is_no_answer():
    with pytest.raises(ZeroDivisionError):
        answered(lambda: 1 / 0)
    with pytest.raises(BaseException, match="no answer"), in_time(0.05):
        time.sleep(5)
