"""The rooms import downward only and in no circle, and every method goes through the one update rule."""

import ast
from pathlib import Path

import pytest
import torch

import multidrift as md
from multidrift.runs import update

SOURCE = Path(md.__file__).parent
# Every room and what it may import, itself aside; the two modules of the front door are named as rooms are.
ALLOWED = {
    "basics": set(),
    "noise": {"basics"},
    "schedules": {"basics"},
    "processes": {"basics", "noise", "schedules"},
    "drifts": {"basics", "schedules", "processes"},
    "targets": {"basics", "schedules", "drifts"},
    "runs": {"basics", "noise", "schedules", "processes", "drifts"},
}
ALLOWED["methods"] = {*ALLOWED["runs"], "runs"}
ALLOWED["prepare"] = {*ALLOWED["methods"], "methods"}
ALLOWED["sampling"] = {*ALLOWED["prepare"], "prepare"}
ALLOWED["evaluation"] = {*ALLOWED["sampling"], "sampling"}
ALLOWED["planning"] = {*ALLOWED["evaluation"], "evaluation"}
ALLOWED["training"] = {"basics", "schedules", "drifts", "evaluation"}
ALLOWED["integrations"] = {*ALLOWED["sampling"], "sampling"}
ALLOWED["report"] = {*ALLOWED["planning"], "planning"}
ALLOWED["distributed"] = {*ALLOWED["prepare"], "prepare"}
ALLOWED["generation"] = {*ALLOWED["evaluation"], "evaluation", "distributed"}
ALLOWED["serving"] = {*ALLOWED["sampling"], "sampling"}
ALLOWED["cli"] = set(ALLOWED) | {"targets"}
ALLOWED["__main__"] = {"cli"}
HEAVY = {
    *(
        "diffusers",
        "accelerate",
        "matplotlib",
        "plotly",
        "jinja2",
        "torchmetrics",
        "ot",
        "scipy",
        "sklearn",
        "arviz",
        "optuna",
        "ray",
        "fastapi",
    ),
}
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path):
    """The dotted name of a file of the package, below it."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(text, modules=MODULES):
    """The modules of the package that a file imports, wherever in it, also for the sake of types alone."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "multidrift":
            home = node.module.removeprefix("multidrift").removeprefix(".")
            for alias in node.names:
                below = f"{home}.{alias.name}".removeprefix(".")
                yield below if below in modules else home
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "multidrift":
                    yield alias.name.removeprefix("multidrift").removeprefix(".")


def circle(graph):
    """Modules that import each other, from one of them back to it; None where there is no such circle."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        path.append(module)
        found = next((c for c in map(visit, graph.get(module, ())) if c), None)
        path.pop()
        done.add(module)
        return found

    return next((c for c in map(visit, graph) if c), None)


def upward(module, imported):
    """The imports of a module that its room is not allowed."""
    room = module.split(".")[0]
    return sorted(other for other in imported if other.split(".")[0] not in ALLOWED[room] | {room})


def test_the_rooms_are_those_that_exist():
    there = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert there == set(ALLOWED)


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_rooms_import_downward_only(module):
    assert not upward(module, imports(MODULES[module].read_text()))


def test_no_import_runs_in_a_circle():
    graph = {module: set(imports(path.read_text())) for module, path in MODULES.items() if module}
    assert circle(graph) is None


def test_circles_and_imports_that_run_up_are_found():
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": set()}) is None
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}) == ["b", "c", "d", "b"]
    known = {"runs.run": None, "methods.euler": None}
    text = (
        "if TYPE_CHECKING:\n    from multidrift.methods import euler\ndef f():\n    from multidrift.runs.run import Run"
    )
    assert list(imports(text, known)) == ["methods.euler", "runs.run"]
    assert upward("runs.plan", imports(text, known)) == ["methods.euler"]
    assert upward("noise.path", ["processes.process", "basics.errors", "noise.counter"]) == ["processes.process"]


def test_tests_import_no_benchmarks():
    for path in Path(__file__).parent.rglob("*.py"):
        nodes = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
        assert not [name for name in names if name.split(".")[0] == "benchmarks"], path


def test_the_package_imports_every_room_through_its_modules():
    """Nothing below imports the package itself, whose names come from everywhere."""
    for module, path in MODULES.items():
        assert "" not in set(imports(path.read_text())), module


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
    md.LadderMultistep(12, levels=("a", "b")),
    md.Picard(12),
    md.Picard(12, window=3, blocks=2),
    md.Picard(12, coarse="a"),
    md.Speculative(12, window=3, drafter="a"),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning")
def test_every_method_goes_through_the_update_rule(method, mixture, ddpm, monkeypatch):
    model = md.Ladder([mixture.denoiser(ddpm, "a"), mixture.denoiser(ddpm, "b")])
    plain = md.sample(model, method, count=3)
    calls = []

    def doubled(z, dtau, drift, dw):
        calls.append(dtau)
        return z + 2 * dtau * drift + dw

    monkeypatch.setattr(update, "increment", doubled)
    changed = md.sample(model, method, count=3)
    if isinstance(method, md.Picard | md.Speculative):
        assert sum(len(dtau) for dtau in calls) >= 11  # every step of the path, some of them several times
    elif isinstance(method, md.LadderMultistep):
        assert len(calls) > 2 * 11  # the substeps of every cell, and the cell itself
    else:
        assert len(calls) == 11
    assert not torch.allclose(plain.samples, changed.samples)
