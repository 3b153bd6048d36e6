"""Everything public that takes arguments goes through the one checker; none is left out by being new."""

import importlib
import inspect

from tests.test_architecture import MODULES as ARCHITECTURE

import multidrift as md
from multidrift.basics.checks import _hints, checked

MODULES = [f"multidrift.{module}" for module in ARCHITECTURE if module.split(".")[0] not in ("__main__", "cli", "")]
GUARDED = checked(lambda: None).__code__
# Called at every step of a run, or by what has checked its arguments: protocols of processes, methods, drifts.
INSIDE = {
    *(
        "walk",
        "iterate",
        "grid_for",
        "spacing",
        "for_model",
        "levels_of",
        "expected_calls",
        "planned_calls",
        "plan_for",
    ),
    *("weight_table", "probability_table", "covariance_for", "bind", "predict", "raw", "converted", "posterior_mean"),
    *(
        "nodes",
        "nodes_through",
        "refined",
        "place",
        "time",
        "relative_steps",
        "start_std",
        "noise_size",
        "log_variance",
    ),
    *("intervals", "rotation", "reach", "position", "velocity", "joined", "lift", "check_time", "has_noise_of"),
    *("read_at", "log_snr", "spaced", "unspaced", "alpha", "sigma", "log_alpha", "log_sigma", "begin"),
}
# Of objects that the package makes and hands out: they are asked, not set up.
HANDED_OUT = {
    *("Calibration.cost", "Calibration.variances", "Calibration.to_top", "Calibration.best_coefficients"),
    *("Calibration.sensitivities", "Calibration.acceptance", "Calibration.check", "Plan.check", "Transitions.of"),
    *("DriftCovariance.value", "DriftCovariance.mean", "DriftCovariance.regress", "DriftCovariance.check"),
    *("DriftCovariance.serves", "Metrics.of", "Metrics.estimate", "Accelerated.called", "Accelerated"),
    *("Picard.forecast", "Speculative.forecast_from"),
}


def takes_arguments(function):
    return any(name not in ("self", "cls") for name in inspect.signature(function).parameters)


def unguarded(name, thing):
    """Names of what takes arguments and does not check them."""
    if inspect.isfunction(thing):
        if takes_arguments(thing) and thing.__code__ is not GUARDED:
            yield name
        return
    if not inspect.isclass(thing) or issubclass(thing, Exception):
        return
    if "__init__" in vars(thing) and not hasattr(thing, "__dataclass_fields__"):
        yield from unguarded(name, thing.__init__)
    for method, found in vars(thing).items():
        function = getattr(found, "__func__", found)
        if not method.startswith("_") and inspect.isfunction(function) and method not in INSIDE:
            yield from unguarded(f"{name}.{method}", function)


def test_public_calls_are_checked():
    rooms = [md, md.schedules, md.distributed, md.integrations.diffusers]
    public = {name: getattr(room, name) for room in rooms for name in room.__all__}
    conventions = vars(md.conventions).items()
    public |= {n: f for n, f in conventions if inspect.isfunction(f) and f.__module__ == md.conventions.__name__}
    public |= {name: getattr(md.integrations.arviz, name) for name in ("to_inference_data", "diagnose")}
    found = {name for key, thing in public.items() if not key.startswith("_") for name in unguarded(key, thing)}
    assert not found - HANDED_OUT
    assert found == HANDED_OUT  # no name that is left over


def test_what_checked_calls_take_is_known():
    """The annotations of every one can be read when it is called, also where an extra is not installed."""
    for module in MODULES:
        for thing in vars(importlib.import_module(module)).values():
            for found in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
                function = getattr(found, "__func__", found)
                if getattr(function, "__code__", None) is GUARDED:
                    assert "return" not in _hints(function.__wrapped__)


def test_a_call_that_is_not_checked_is_found():
    class Thing:
        def __init__(self, size: int): ...

        @checked
        def good(self, size: int): ...

        def bad(self, size: int): ...

        def none(self): ...

    assert list(unguarded("Thing", Thing)) == ["Thing", "Thing.bad"]
