"""The page on a ladder: whole, self-contained, and showing what was measured."""

import json
import re

import pytest
import torch

import multidrift as md
from multidrift.report.page import Findings, distinct, find_out, write_page


@pytest.fixture(scope="module")
def findings():
    schedule = md.schedules.ddpm()
    nets = [lambda x, t, s=s: s * torch.tanh(x) for s in (0.8, 1.0)]
    levels = [
        md.Denoiser(net, schedule, "sample", name=n, shape=(1, 4, 4)) for net, n in zip(nets, ("a", "b"), strict=True)
    ]
    ladder = md.Ladder(levels, costs=md.SyntheticLadder(3.0, levels=2).ladder(schedule).costs)
    seconds = md.SyntheticLadder(3.0, levels=2).ladder(schedule).costs.seconds
    costs = type(ladder.costs)({"a": seconds["f1"], "b": seconds["f2"]}, 1, "a test")
    process = md.Diffusion(schedule, 0.0)
    calibration = md.calibrate(ladder, process, costs=costs, paths=2, steps=8)
    return find_out(ladder, process, calibration, (4.0, 6.0), 4)


def test_the_page_is_whole_and_loads_nothing(findings, tmp_path):
    write_page(findings, tmp_path / "page.html", "Is <it> worth it?", "multidrift report")
    text = (tmp_path / "page.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    own = text.replace(re.search(r"<script>.*?</script>", text, flags=re.DOTALL)[0], "")
    assert "Is &lt;it&gt; worth it?" in own
    assert not re.search(r"(src|href)=\"(?!data:)", own)
    assert "http" not in own.replace("https://", "http") or "http://" not in own
    for choice in findings.choices.values():
        assert choice.reason.split(":")[0] in own
    assert own.count("<tr>") == 6
    assert own.count('<img class="samples"') == 6
    figures = json.loads(re.search(r"const figures = (.*);", own)[1])
    tried = sum(len(choice.tried) for choice in findings.choices.values())
    points = [x for trace in figures["curves"]["data"] for x in trace["x"]]
    assert len(points) == tried
    hovers = [detail for trace in figures["curves"]["data"] for detail in trace["customdata"]]
    assert all(picture.startswith("data:image/png;base64,") for _, picture in hovers)
    assert "a test" in own
    assert "prefers-color-scheme: dark" in own


def test_five_rows_are_the_best_of_each_kind(findings):
    tried = findings.choices[6.0].tried
    rows = distinct(tried)
    assert len(rows) == 5
    assert rows[0] is tried[0]
    assert {m.candidate.kind for m in rows} == {m.candidate.kind for m in tried}
    place = {id(measured): n for n, measured in enumerate(tried)}
    assert [place[id(m)] for m in rows] == sorted(place[id(m)] for m in rows)


def test_a_page_that_cannot_be_written_is_one_error(findings, tmp_path):
    few = Findings(findings.ladder, findings.process, findings.calibration, {4.0: findings.choices[4.0]})
    with pytest.raises(md.MultidriftError, match="could not write"):
        write_page(few, tmp_path / "none" / "page.html", "title", "command")
