"""The tables of speculative sampling say how many rounds were taken, and how many were forecast."""

from benchmarks.speculative import report


def entry(label, rounds, **more):
    known = {"problem": "digits", "steps": 400, "images": 3, "median": rounds[1], "critical_path": 0.3465}
    known |= {"acceptance": 0.911, "predicted": 0.9174, "calls": {"f5": 742.3}}
    return known | {"label": label, "rounds": rounds} | more


def test_the_fewest_rounds_come_first(monkeypatch):
    entries = [entry("frozen", [48, 50, 53]), entry("f1+held", [39, 42, 48], forecast=38)]
    monkeypatch.setattr(report, "results", lambda name: {"speculative": {"entries": entries}}[name])
    lines = report.table("digits").splitlines()
    assert lines[2] == "| 400 | f1+held | 3 | 42 (39 to 48) | 43.0 | 38.0 | 0.911 | 0.917 | 742 | 0.346 |"
    assert lines[3].startswith("| 400 | frozen | 3 | 50 (48 to 53) | 50.3 | – |")
    assert report.table("2 dimensions").startswith("Not measured yet")


def test_forecasts_are_held_against_what_was_measured(monkeypatch):
    entries = [entry("a", [10, 10, 10], forecast=12), entry("b", [20, 20, 20], forecast=19), entry("c", [1, 2, 3])]
    monkeypatch.setattr(report, "results", lambda name: {"speculative": {"entries": entries}}[name])
    assert report.misses() == "2 forecasts: 1 within 15% of the mean, the furthest +20% (digits, 400 steps, a)."


def test_picard_stands_beside_by_critical_path(monkeypatch):
    reached = {"0.001": {"rounds": 6, "calls": 600, "critical_path": 0.2}}
    known = {"label": "f1, every 4th step", "family": "ours", "images": 2, "reached": reached}
    parallel = [known | {"steps": 1000, "eta": eta} for eta in (0.0, 1.0)]
    ours = [entry("frozen", [48, 50, 53], steps=1000)]
    kept = {"speculative": {"entries": ours}, "parallel": {"entries": parallel}}
    monkeypatch.setattr(report, "results", lambda name: kept[name])
    lines = report.beside().splitlines()
    assert lines[2:] == [
        "| `Picard` | f1, every 4th step | path to 1e-3 | 6 | 100 | 0.200 | 2 |",
        "| `Speculative` | frozen | exact law | 50 | 15 | 0.346 | 3 |",
    ]
