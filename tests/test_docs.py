"""What README and docs say runs: examples, commands, targets, names, links, figures, and the site itself."""

import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import diffusers
import matplotlib as mpl
import pytest
import torch
from tests import edm2, sit, tiny, tiny_pipelines
from typer.main import get_command

import multidrift as md
from multidrift.cli.app import app
from multidrift.integrations.diffusers import accelerate

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
WRITTEN = NAMES | {"CONTRIBUTING.md": ROOT / "CONTRIBUTING.md"}

# Examples run as they are written, but for these shorter ones of long runs; each left side must stand in the page.
SHORTER = {
    "README.md": {"count=16": "count=2"},
    "docs/langevin.md": {"horizon=1024.0": "horizon=32.0", "steps=8192": "steps=128", "burn_in=200": "burn_in=4"},
    "docs/models-of-diffusers.md": {
        "shape=(16, 128, 128)": "shape=(4, 8, 12)",
        "shape=(128, 64, 64)": "shape=(16, 4, 6)",
        "(16, 21, 60, 104)": "(4, 2, 4, 6)",
    },
    "docs/picard.md": {"Picard(60": "Picard(6"},
    "docs/speculative.md": {"Speculative(40": "Speculative(6", "Speculative(10": "Speculative(4"},
    "docs/quick-start.md": {"steps=40": "steps=8", "calls=(40, 20)": "calls=(8, 4)"},
}


def brought():
    """What a reader is taken to have, by the names of the pages: networks, a schedule, a ladder."""

    def net(x, t, labels=None):
        return 0.1 * x if labels is None else 0.1 * x * (1 + labels.view(-1, *(1,) * (x.ndim - 1)))

    bundled = md.Ladder.bundled("digits")
    nets = {"small": bundled["f1"].net, "big": bundled["f2"].net}
    two_points = md.GaussianMixture([0.5, 0.5], [[-0.5, 0.0], [0.5, 0.0]], [[[0.1, 0.0], [0.0, 0.1]]] * 2).denoiser(
        bundled.schedule
    )
    return {
        "md": md, "net": net, "small": net, "big": net, "nets": nets, "ladder": bundled, "schedule": bundled.schedule,
        "model": two_points,
    }  # fmt: skip


def brought_of_diffusers(page, folder):
    """The same of pages on diffusers' models: tiny pipelines by the names of their families, text for them, folders."""
    if page in ("docs/guidance.md", "docs/pipelines.md"):
        return {"small_pipe": tiny_pipelines.sd()[0], "pipe": tiny_pipelines.sd()[0]}
    if page == "docs/beside-diffusers.md":
        return brought_beside()
    if page not in ("docs/models-of-diffusers.md", "docs/families.md"):
        return {}
    kinds = ("flux", "flux2", "dit", "pixart", "sana", "wan", "cogvideox")
    names = {kind: tiny_pipelines.parts(getattr(tiny, kind)()) for kind in kinds}
    names |= {kind: getattr(tiny_pipelines, kind)()[0] for kind in ("sd", "sdxl", "sd3", "ddpm")}
    names |= {"text": torch.randn(1, 5, 8), "pooled": torch.randn(1, 6), "net": torch.nn.Identity(), "torch": torch}
    if page == "docs/families.md":
        for size in ("small", "big"):
            diffusers.DDPMPipeline(tiny.unet().net, tiny.unet().scheduler).save_pretrained(folder / size)
            names[f"{size}_folder"] = folder / size
        names |= {"conditioning": {}, "sit_files": [sit.saved(folder / f"SiT-{size}.safetensors") for size in "SB"]}
        names["edm2_folders"] = [folder / f"edm2-{size}" for size in ("xs", "s")]
        for number, place in enumerate(names["edm2_folders"]):
            edm2.saved(place, blocks=1 + number)
    return names


def brought_beside():
    """What the tasks beside diffusers begin with, imports among it."""
    names = {
        name: getattr(diffusers, name) for name in ("DPMSolverMultistepScheduler", "StableDiffusionImg2ImgPipeline")
    }
    sd, labelled = tiny_pipelines.sd()[0], tiny.dit()
    names |= {
        "torch": torch,
        "accelerate": accelerate,
        "sd": sd,
        "unet": sd.unet,
        "scheduler": sd.scheduler,
        "vae": sd.vae,
    }
    names |= {"sd3": tiny_pipelines.sd3()[0], "half": tiny_pipelines.sd()[0], "small_sd": tiny_pipelines.sd()[0]}
    names |= {"dit": labelled.net, "dit_scheduler": labelled.scheduler, "labels": torch.tensor([2, 7])}
    names |= {"large": tiny.sd(seed=1).net, "small_unet": tiny.sd(seed=1).net, "picture": tiny_pipelines.picture()}
    names |= {"text": torch.randn(1, 8, 8), "nothing": torch.zeros(1, 8, 8)}
    return names | {"latents": torch.zeros(1, 4, 8, 8), "mask": torch.ones(1, 1, 8, 8)}


def lines_of(block):
    """Lines of code: neither empty nor a comment."""
    return sum(bool(line.split("#")[0].strip()) for line in block.splitlines())


def test_tasks_take_at_most_a_line_more_than_diffusers():
    page = NAMES["docs/beside-diffusers.md"].read_text()
    rows = []
    for task in page.split("\n## ")[1:]:
        theirs, ours = map(lines_of, re.findall(r"^```python\n(.*?)^```", task, flags=re.DOTALL | re.MULTILINE))
        assert ours <= theirs + 1, task
        rows.append(f"| {task.splitlines()[0]} | {theirs} | {ours} |")
    table = re.search(r"<!-- counted -->\n.*?\n.*?\n(.*?)\n<!-- end of what is counted -->", page, flags=re.DOTALL)[1]
    assert table.splitlines() == rows


def examples(page):
    """The Python of a page, block by block, with the shorter settings in place."""
    text = NAMES[page].read_text()
    for written, shorter in SHORTER.get(page, {}).items():
        assert written in text, f"{page}: {written} stands nowhere"
        text = text.replace(written, shorter)
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(page):
    """The commands of a page that begin with `multidrift`, as written in a block."""
    text = NAMES[page].read_text()
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    lines = shell.splitlines() + re.findall(r"^ {4}(.*)$", text, flags=re.MULTILINE)
    return [line.split("#")[0].removeprefix("multidrift ") for line in lines if line.startswith("multidrift ")]


@pytest.mark.parametrize("page", [page for page in NAMES if examples(page)])
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = brought() | brought_of_diffusers(page, tmp_path) if page != "README.md" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for example in examples(page):
            exec(compile(example, page, "exec"), names)  # noqa: S102 (the example is what is tested)
    printed = capsys.readouterr().out
    assert ("{'f1': 79, 'f5': 20}" in printed) == (page == "README.md")
    assert ("{'potential': 400}" in printed) == (page == "docs/quick-start.md")
    assert (tmp_path / "digits.png").is_file() == (page in ("README.md", "docs/quick-start.md"))


@pytest.mark.parametrize("page", [page for page in NAMES if commands(page)])
def test_commands_parse(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "src/multidrift/bundled").mkdir(parents=True)
    (tmp_path / "src/multidrift/bundled/digits.npz").touch()
    for line in commands(page):
        name, *arguments = line.split()
        command = get_command(app).commands[name]
        command.make_context(name, arguments)  # unknown options, missing arguments and wrong types raise


def test_commands_are_found_where_they_stand():
    assert len(commands("README.md")) == 4
    assert len(commands("docs/quick-start.md")) == 6


@pytest.mark.parametrize("page", WRITTEN)
def test_what_is_named_exists(page):
    text = WRITTEN[page].read_text()
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    assert set(re.findall(r"(?:`|^ {4})make (\w+)", text, flags=re.MULTILINE)) <= set(targets)
    for module in re.findall(r"python -m (benchmarks[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    for name in re.findall(r"\bmd((?:\.\w+)+)", text):
        functools.reduce(getattr, name.strip(".").split("."), md)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for listed in re.findall(r"pip install \"?\.\[([\w,]+)\]", text) + re.findall(r"\"\.\[([\w,]+)\]\"", text):
        assert set(listed.split(",")) <= set(extras)


@pytest.mark.parametrize("page", WRITTEN)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", WRITTEN[page].read_text()):
        assert link.startswith("https://") or (WRITTEN[page].parent / link).exists(), link


def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs`, which `make test` installs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    for page in pages:
        html = (tmp_path / "site" / page).with_suffix(".html").read_text()
        assert not re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", html)


def test_the_reference_has_every_public_name():
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    assert set(re.findall(r"^::: multidrift\.(\w+)", pages, flags=re.MULTILINE)) >= set(md.__all__)
