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
    assert lines[2] == "| 400 | f1+held | 42 (39 to 48) | 43.0 | 38 | 0.911 | 0.917 | 742 | 0.346 |"
    assert lines[3].startswith("| 400 | frozen | 50 (48 to 53) | 50.3 | – |")
    assert report.table("2 dimensions").startswith("Not measured yet")
