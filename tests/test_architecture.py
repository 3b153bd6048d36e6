"""The rooms import downward only, and every method goes through the one update rule."""

import ast
from pathlib import Path

import pytest
import torch

import multidrift as md
from multidrift.samplers import update

SOURCE = Path(md.__file__).parent
LOWEST = {"processes"}
FOUR = {"processes", "noise", "drifts", "plans"}
SAMPLING = FOUR | {"samplers"}
ALLOWED = {
    "processes": set(),
    "noise": LOWEST,
    "drifts": LOWEST,
    "plans": LOWEST,
    "samplers": FOUR,
    "distributed": SAMPLING,
    "evaluation": SAMPLING,
    "planning": SAMPLING | {"evaluation"},
    "training": {"processes", "drifts", "evaluation"},
    "integrations": SAMPLING,
    "report": SAMPLING | {"evaluation", "planning"},
    "cli": None,  # everything
}
HEAVY = {
    *("diffusers", "accelerate", "matplotlib", "plotly", "jinja2", "torchmetrics", "ot", "scipy", "sklearn", "arviz"),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_rooms_import_downward_only(path):
    room = path.relative_to(SOURCE).parts[0]
    if room == "__init__.py":
        return
    allowed = ALLOWED[room]
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "multidrift" and len(parts) > 1 and allowed is not None:
            assert parts[1] in allowed | {room}, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_core_needs_no_extra_at_import(path):
    room = path.relative_to(SOURCE).parts[0]
    if room in {"training", "cli", "report"}:
        return
    top = ast.parse(path.read_text()).body
    names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.split(".")[0] for node in top if isinstance(node, ast.ImportFrom) and node.module}
    assert not names & HEAVY


def test_core_reads_no_pickles():
    for path in FILES:
        text = path.read_text()
        assert "torch.load" not in text
        assert "import pickle" not in text


def test_files_stay_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 320, path


METHODS = [
    md.Euler(12),
    md.Multistep(12),
    md.Multistep(12, order=3),
    md.Multilevel(12, levels=("a", "b"), calls=(12, 4)),
    md.Multilevel(12, levels=("a", "b"), calls=(12, 4), shared=False, order=2),
    md.Picard(12),
    md.Picard(12, window=3, blocks=2),
    md.Picard(12, coarse="a"),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.filterwarnings("ignore::multidrift.plans.advice.PlanWarning")
def test_every_method_goes_through_the_update_rule(method, mixture, ddpm, monkeypatch):
    model = md.Ladder([mixture.denoiser(ddpm, "a"), mixture.denoiser(ddpm, "b")])
    plain = md.sample(model, method, count=3)
    calls = []

    def doubled(z, dtau, drift, dw):
        calls.append(dtau)
        return z + 2 * dtau * drift + dw

    monkeypatch.setattr(update, "increment", doubled)
    changed = md.sample(model, method, count=3)
    if isinstance(method, md.Picard):
        assert sum(len(dtau) for dtau in calls) >= 11  # every step of the path, some of them several times
    else:
        assert len(calls) == 11
    assert not torch.allclose(plain.samples, changed.samples)
