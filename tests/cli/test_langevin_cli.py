"""`multidrift langevin`, run as a user runs it."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.cli.inside import run

from multidrift.basics.errors import MultidriftError
from multidrift.integrations.arviz import available
from multidrift.report.langevin import Chains, table, trace_plot

MODEL = """
import torch

wide = torch.tensor([1.0, 1.5, 0.5])


def log_density(x):
    return -0.5 * ((x - 1) / wide).square().sum(dim=1)


def score(x):
    return (1 - x) / wide**2


def matrix(x):
    return x


def broken(x):
    return x.nonsense()


def complaining(x):
    raise ValueError("one [bold]line[/]\\nand another")


class Posterior:
    log_density = staticmethod(log_density)


posterior = Posterior()
number = 3
"""
QUICK = ("--dimension", 3, "--steps", 400, "--horizon", 80, "--chains", 8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    np.save(tmp_path / "point.npy", np.full(3, 2.0))
    np.save(tmp_path / "points.npy", np.zeros((5, 3)))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    return tmp_path


def command(folder, *arguments):
    return run("langevin", *arguments, cwd=folder, env={"COLUMNS": "160"})


def kept(folder):
    with np.load(folder / "langevin" / "samples.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_samples_a_log_density(folder):
    done = command(folder, "--target", "my_model:log_density", *QUICK)
    assert done.returncode == 0, done.stderr
    found = kept(folder)
    assert found["samples"].shape == found["velocities"].shape == (8, 3)
    assert found["trajectory"].shape == (401, 8, 3)
    np.testing.assert_array_equal(found["trajectory"][-1], found["samples"])
    assert found["times"][-1] == pytest.approx(80)
    assert found["calls"] == 800
    settings = json.loads(str(found["settings"]))
    assert settings["target"] == "my_model:log_density"
    assert settings["process"]["friction"] == 2
    late = found["trajectory"][100:].reshape(-1, 3)
    np.testing.assert_allclose(late.mean(axis=0), 1.0, atol=0.8)
    np.testing.assert_allclose(late.std(axis=0), [1.0, 1.5, 0.5], rtol=0.3)
    picture = Image.open(folder / "langevin" / "trace.png")
    assert picture.size[0] > 1000
    assert ("R-hat" in done.stderr) == available() or "pip install" in done.stderr
    assert "x2" in done.stderr
    assert sorted(p.name for p in (folder / "langevin").iterdir()) == ["samples.npz", "trace.png"]


def test_gradient_and_log_density_give_the_same_chains(folder):
    for target in (("my_model:score", "--gradient"), ("my_model:posterior.log_density",)):
        shorter = (*QUICK, "--steps", 100, "--horizon", 20)
        done = command(
            folder, "--target", *target, *shorter, "--process", "overdamped", "--seed", 5, "--out", target[0]
        )
        assert done.returncode == 0, done.stderr
    ours, same = (
        np.load(folder / name / "samples.npz")["samples"]
        for name in ("my_model:score", "my_model:posterior.log_density")
    )
    np.testing.assert_allclose(ours, same, atol=1e-4)


@pytest.mark.parametrize(("file", "chains"), [("point.npy", 8), ("points.npy", 5)])
def test_chains_start_where_they_are_told(folder, file, chains):
    options = ("--start", file, "--method", "euler", "--steps", 50, "--horizon", 5, "--chains", chains, "--save", 10)
    done = command(folder, "--target", "my_model:log_density", *options)
    assert done.returncode == 0, done.stderr
    found = kept(folder)
    np.testing.assert_array_equal(found["trajectory"][0], np.broadcast_to(np.load(folder / file), (chains, 3)))
    assert len(found["times"]) == 6
    assert found["calls"] == 50


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("my_model", QUICK, "target: got 'my_model'; it takes module:function"),
        ("nowhere:f", QUICK, "target: could not import 'nowhere'"),
        ("my_model:nothing", QUICK, "'my_model' has nothing called 'nothing'"),
        ("my_model:number", QUICK, "'number' is a int"),
        ("my_model:broken", QUICK, "'Tensor' object has no attribute 'nonsense' (my_model.py line 20)"),
        ("my_model:complaining", QUICK, "ValueError: one [bold]line[/] and another"),
        ("my_model:matrix", QUICK, "one scalar a chain"),
        ("my_model:log_density", (), "dimension: got None; it takes a count, or give --start"),
        ("my_model:log_density", (*QUICK, "--draws", "some"), "draws: got 'some'"),
        ("my_model:log_density", (*QUICK, "--friction", 0), "friction: got 0"),
        ("my_model:log_density", (*QUICK, "--save", 0), "save: got 0"),
        ("my_model:log_density", (*QUICK, "--chains", 0), "chains: got 0"),
        ("my_model:log_density", (*QUICK, "--burn-in", 1), "burn_in: got 1"),
        ("my_model:log_density", (*QUICK, "--out", "point.npy"), "out: got 'point.npy'; it takes a folder"),
        ("my_model:log_density", ("--start", "none.npy"), "start: 'none.npy' is not there, or cannot be read"),
        ("my_model:log_density", ("--start", "words.npy"), "start: got"),
        ("my_model:log_density", ("--start", "points.npy", "--chains", 4), "start: got '5 rows'"),
        ("my_model:log_density", ("--start", "point.npy", "--dimension", 2), "start: got (3,)"),
    ],
)
def test_errors_are_one_line(folder, target, options, message):
    done = command(folder, "--target", target, *options)
    assert done.returncode == 2
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("langevin/*"))


def test_help_teaches(folder):
    done = command(folder, "--help")
    assert done.returncode == 0
    assert "multidrift langevin --target my_model:log_density --dimension 10" in done.stdout
    assert "shape (n, d)" in done.stdout


def test_plot_and_table_of_many_coordinates(tmp_path):
    trajectory = np.random.default_rng(0).normal(size=(30, 3, 25))
    chains = Chains(trajectory, np.arange(30.0), 10, [f"x{i}" for i in range(25)])
    trace_plot(chains, "a title", tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    found = table(chains, "a title", r_hat=np.full(25, 1.2), effective=np.full(25, np.nan))
    assert found.row_count == 20
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found)
    text = console.export_text()
    assert "and 5 more coordinates" in text
    assert "1.200" in text
    with pytest.raises(MultidriftError, match="names: got"):
        Chains(trajectory, np.arange(30.0), 10, ["x"])
