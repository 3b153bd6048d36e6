# ruff: noqa: E501 (tables)
"""Options of the command line with values of all kinds: done, or one line and status 2."""

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from tests.cli.inside import run
from tests.fuzz.examples import examples, in_time
from tests.fuzz.test_fuzz_files import tiny

import multidrift as md

COUNTS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "2.5",
    "1000000000",
    "10000000000000",
    "99999999999999999999999",
    "nan",
    "",
    "a",
    "True",
)
NUMBERS = ("0", "1", "0.5", "-1", "nan", "inf", "1e400", "1e-300", "", "a", "1,2")
NAMES = (
    "",
    "f1",
    "f2",
    "f1,f2",
    "f2,f1",
    "f1,",
    ",",
    "gaussian",
    "data",
    "noise",
    "blend",
    "piadm",
    "secant",
    "digits",
    "auto",
    "a\0b",
)
PLACES = ("", ".", "a.png", "a.jpg", "a.webp", "a.npz", "a.safetensors", "a.pdf", ".png", "folder", "there", "there/a.png",
          "file.txt", "file.txt/a.png", "missing/a.png", "x" * 300 + ".png", "a:b.png", "[red]a[/red].png", "a.PNG", "-")  # fmt: skip
METHODS = ("euler", "multistep", "ladder-multistep", "multilevel", "picard", "poisson", "speculative", "magic", "")
COMMON = {"--steps": COUNTS, "--method": METHODS, "--seed": COUNTS, "--first": COUNTS, "--eta": NUMBERS, "--holds": NAMES, "--grid": NAMES,
          "--levels": NAMES, "--calls": ("2,1", "3,3", "a", "", "nan,1", "1"), "--draws": ("single", "midpoint", "a"), "--substeps": COUNTS,
          "--order": COUNTS, "--plan-seed": COUNTS, "--level": NAMES, "--device": ("cpu", "meta", "cuda:9", "", "a"), "--coarse": NAMES}  # fmt: skip
OPTIONS = {
    "sample": COMMON | {"--out": PLACES, "--batch-size": COUNTS, "--memory-limit": NUMBERS, "--blocks": COUNTS, "--window": COUNTS,
                        "--tolerance": NUMBERS, "--accelerate": NAMES, "--drafter": NAMES, "--variant": ("1a", "2", "9"),
                        "--verification": ("step", "block", "a"), "--count": COUNTS, "--coarse-every": COUNTS},
    "generate": COMMON | {"--out": PLACES, "--batch-size": COUNTS, "--shard-size": COUNTS, "--format": ("images", "webdataset", "a", ""),
                          "--rows": ("file.txt", "there", "none.csv", "a.csv"), "--plan": ("file.txt", "none.json"), "--timeout": NUMBERS,
                          "--metrics": ("magic", "a:b", ""), "--real": PLACES, "--count": COUNTS, "--verify": (None,), "--resume": (None,)},
    "langevin": {"--out": PLACES, "--dimension": COUNTS, "--start": PLACES, "--method": ("euler", "poisson", "a"), "--horizon": NUMBERS,
                 "--process": ("overdamped", "underdamped", "a"), "--steps": ("0", "2", "8", "a", "1000000000"), "--friction": NUMBERS,
                 "--beta": NUMBERS, "--chains": COUNTS, "--substeps": COUNTS, "--draws": NAMES, "--save": COUNTS, "--burn-in": NUMBERS,
                 "--seed": COUNTS, "--device": ("cpu", "meta", "a"), "--timeout": NUMBERS, "--gradient": (None,)},
    "train": {"--levels": NAMES, "--steps": COUNTS, "--batch-size": COUNTS, "--held-out": NUMBERS, "--seed": COUNTS, "--device": ("cpu", "a")},
    "calibrate": {"--out": PLACES, "--eta": NUMBERS, "--batch": COUNTS, "--paths": COUNTS, "--steps": COUNTS, "--seed": COUNTS,
                  "--device": ("meta", "a"), "--ladder": PLACES},
    "report": {"--out": PLACES, "--calibration": ("file.txt", "none"), "--eta": NUMBERS, "--budgets": ("", "a", "1,nan", "-1"), "--samples": COUNTS,
               "--device": ("meta", "a"), "--ladder": PLACES},
    "demo": {"--out": ("file.txt", "file.txt/a", ""), "--eta": ("nan", "-1", "a"), "--count": ("0", "-1", "a", "100000000000")},
}  # fmt: skip
# What a command is given besides: enough that it is done soon where nothing is wrong.
GIVEN = {
    "sample": {"--ladder": "tiny", "--steps": "3", "--count": "1"},
    "generate": {"--ladder": "tiny", "--steps": "3", "--count": "1", "--out": "made"},
    "langevin": {"--target": "my_fuzzed:f", "--dimension": "2", "--steps": "8", "--chains": "2", "--horizon": "1"},
    "calibrate": {"--ladder": "tiny"}, "report": {"--ladder": "tiny"}, "demo": {"--out": "file.txt"}, "train": {},
}  # fmt: skip
# What these have right would take minutes.
NEVER_RIGHT = {"train": ["file.txt", "out"], "calibrate": [], "report": [], "demo": []}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("commands")
    md.Ladder([md.Denoiser(tiny(), md.schedules.ddpm(), name=name) for name in ("f1", "f2")]).save(root / "tiny")
    (root / "there").mkdir()
    (root / "file.txt").write_text("years of work")
    (root / "a.csv").write_text("label\n1\n")
    (root / "my_fuzzed.py").write_text("def f(x):\n    return -(x * x).sum(dim=1)\n")
    return root


@examples(0.1, 25)
@given(st.data())
def test_options(place, data):
    command = data.draw(st.sampled_from(sorted(OPTIONS)))
    options = OPTIONS[command]
    chosen = data.draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=3, unique=True))
    given_options = GIVEN[command] | {name: data.draw(st.sampled_from(options[name])) for name in chosen}
    line = [command, *NEVER_RIGHT.get(command, ())]
    line += [f"{name}={value}" if value is not None else name for name, value in given_options.items()]
    if command in ("calibrate", "report"):
        line.append("--device=meta" if "--device" not in chosen else "--batch=0")
    note(" ".join(line))
    with in_time(60):
        done = run(*line, cwd=place, env={"COLUMNS": "200"})
    assert done.returncode in (0, 2)
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.startswith("error")]
        assert len(said) == 1, done.stderr
        assert done.stderr.splitlines()[-1] == said[0]
        assert said[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert (place / "file.txt").read_text() == "years of work"
    assert not list(place.glob(".multidrift-*"))
