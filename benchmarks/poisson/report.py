"""The written figures of `benchmarks.poisson`: tables and a plot of the law of samples against calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables import Entry, machine, results, rows
from multidrift.report.comparison import write_figure

RECORD = "poisson_diffusion"


def interval(distance: Entry) -> str:
    """A kernel distance in thousandths, with the half width of its 95% interval."""
    half = (distance["high"] - distance["low"]) / 2
    return f"{1000 * distance['kernel']:.1f} ± {1000 * half:.1f}"


def reference(record: Entry) -> Entry:
    """The entry of the 1,000-call DDPM."""
    return next(e for e in record["entries"] if e["family"] == "reference")


def curves(record: Entry) -> dict[str, list[Entry]]:
    """The entries of each method, by calls, the highlighted one first; the reference is not among them."""
    families = ("poisson", "euler", "multistep", "peer")
    shown = [e for e in record["entries"] if e["family"] in families]
    found: dict[str, list[Entry]] = {}
    for entry in sorted(shown, key=lambda e: (e["label"] != record["highlighted"], families.index(e["family"]))):
        found.setdefault(entry["label"], []).append(entry)
    return {label: sorted(entries, key=lambda e: e["calls"]) for label, entries in found.items()}


def name(record: Entry, label: str) -> str:
    """A method's name in a table; the setting that was chosen beforehand is in bold."""
    return f"**{label}**" if label == record["highlighted"] else label


def every_setting() -> str:
    """All settings: both kernel distances and the Fréchet distance, with real digits and the reference first."""
    record = results(RECORD)
    split, ddpm = record["real_split"], reference(record)
    lines = [
        ["real digits, held out", "", interval(split), "", f"{split['frechet']:.3f}"],
        [ddpm["label"], f"{ddpm['counted_calls']:.0f}", interval(ddpm), "–", f"{ddpm['frechet']:.3f}"],
    ]
    for label, entries in curves(record).items():
        for e in entries:
            near = interval(e["to_reference"])
            title = name(record, label)
            lines.append([title, f"{e['counted_calls']:.0f}", interval(e), near, f"{e['frechet']:.3f}"])
    header = ["method", "calls", "kernel distance to real digits, ×1000", "to the 1000-call DDPM, ×1000", "Fréchet"]
    return rows(header, lines)


Criterion = tuple[Callable[[Entry], bool], Callable[[Entry], Entry]]  # whether it is met, and the distance it is about


def criteria(record: Entry) -> list[Criterion]:
    """As near to real digits as the 1,000-call DDPM, within its interval; not told from its samples at 95%."""
    top = reference(record)["high"]
    return [
        (lambda e: e["kernel"] <= top, lambda e: e),
        (lambda e: e["to_reference"]["low"] <= 0, lambda e: e["to_reference"]),
    ]


def first_calls(entries: list[Entry], criterion: Criterion) -> str:
    """The fewest calls among these entries at which a criterion is met, and the distance there with its interval."""
    met, distance = criterion
    found = [e for e in entries if met(e)]
    if not found:
        return f"not by {max(e['counted_calls'] for e in entries):.0f}"
    first = min(found, key=lambda e: e["counted_calls"])
    return f"{first['counted_calls']:.0f} ({interval(distance(first))})"


def titles(record: Entry) -> list[str]:
    """What the columns of both criteria are called, with the bound of the first."""
    top = f"{1000 * reference(record)['high']:.1f}"
    return [
        f"calls until as near to real digits as the 1000-call DDPM, at most {top} (distance there)",
        "calls until not told from the 1000-call DDPM at 95% (distance there)",
    ]


def reached() -> str:
    """For each method the calls at which it first is where the 1,000-call DDPM is, by both distances."""
    record = results(RECORD)
    lines = []
    for label, entries in curves(record).items():
        tried = ", ".join(f"{e['counted_calls']:.0f}" for e in entries)
        lines.append([name(record, label), tried, *(first_calls(entries, c) for c in criteria(record))])
    return rows(["method", "calls tried", *titles(record)], lines)


def calls_to_the_reference(label: str) -> tuple[float, ...]:
    """Calls at which a method first meets each criterion: near real digits, and near the 1,000-call DDPM's samples."""
    record = results(RECORD)
    entries = curves(record)[label]
    return tuple(min(e["counted_calls"] for e in entries if met(e)) for met, _ in criteria(record))


def best_of_each() -> str:
    """Calls to where the 1,000-call DDPM is, by both distances, of every peer at the spacing that takes the fewest."""
    record = results(RECORD)
    methods: dict[str, list[Entry]] = {}
    for label, entries in curves(record).items():
        if "variant" not in label and "spread" not in label:
            method = label.rsplit(", ", 1)[0] if label.startswith("diffusers") else label
            methods.setdefault(method, []).extend(entries)
    lines = [
        [name(record, method), *(first_calls(entries, c) for c in criteria(record))]
        for method, entries in methods.items()
    ]
    ddpm = reference(record)
    note = (
        f"\n\nKernel distances ×1000 with 95% intervals over {record['count']} images; that of DDPM in 1000 calls to "
        f"real digits is {interval(ddpm)}."
    )
    return rows([f"{record['level']} of the ladder", *titles(record)], lines) + note


ORDERS = "poisson_order"


def orders() -> str:
    """Weak order and the calls to an error, in closed form."""
    record = results(ORDERS)
    shown = [record["steps"].index(n) for n in (16, 64, 256, 1024)]
    first = rows(
        ["", *(f"{record['steps'][i]} steps" for i in shown), "order, last two steps"],
        [[e["label"], *(f"{e['errors'][i]:.1e}" for i in shown), f"{e['slopes'][-1]:.2f}"] for e in record["entries"]],
    )
    second = rows(
        ["calls to an error of", *(f"{target:g}" for target in record["targets"])],
        [[e["label"], *(f"{n:,.0f}" for n in e["calls_to"])] for e in record["entries"]],
    )
    return f"{first}\n\n{second}"


def where() -> str:
    """What was run on what."""
    record = results(RECORD)
    minutes = f"{record['minutes']:.0f} minutes of sampling in all"
    return (
        f"Level {record['level']} of the bundled ladder, {record['count']} images of each; {machine(record)}; "
        f"{minutes}, which other work on the machine made longer."
    )


def substeps() -> str:
    """Milliseconds a call by the number of substeps."""
    record = results("substeps")
    lines = [
        [e["label"], *(f"{value:.2f}" for value in e["milliseconds_a_call"].values()), f"{e['ratio']:.2f}"]
        for e in record["entries"]
    ]
    sizes = [f"K = {size}" for size in record["entries"][0]["milliseconds_a_call"]]
    return rows(["ms a network call", *sizes, "K = 1000 over K = 10"], lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "substeps": substeps,
    "poisson-orders": orders,
    "poisson-summary": best_of_each,
    "poisson-reached": reached,
    "poisson-settings": every_setting,
    "poisson-machine": where,
}
STYLES = {  # by how the label begins: colour and marker
    "DD": ("k", "s"),
    "Multistep": ("C0", "^"),
    "diffusers DPM": ("C7", "x"),
    "diffusers UniPC": ("C9", "+"),
    "diffusers SDE": ("C8", "x"),
    "Poisson midpoint, paper": ("C5", "v"),
    "Poisson": ("C1", "o"),
}


def _draw(axes: Axes, record: Entry, pick: Callable[[Entry], Entry]) -> None:
    """All curves of one of the distances, with their intervals."""
    for place, (label, entries) in enumerate(curves(record).items()):
        colour, marker = next(style for start, style in STYLES.items() if label.startswith(start))
        main = label == record["highlighted"]
        found = [pick(e) for e in entries]
        axes.errorbar(
            [e["counted_calls"] * (1 + 0.01 * (place % 5 - 2)) for e in entries],  # side by side, not on each other
            [1000 * f["kernel"] for f in found],
            yerr=[1000 * (f["high"] - f["low"]) / 2 for f in found],
            label=label, color="C3" if main else colour, marker=marker, ms=4, lw=2.4 if main else 1.0, capsize=2,
            ls="-" if main else ("-", "--", ":", "-.")[place % 4], alpha=1.0 if main else 0.7, zorder=3 if main else 2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xticks([5, 10, 20, 40, 80, 160], ["5", "10", "20", "40", "80", "160"])
    axes.set_yticks([-5, 0, 5, 10, 20, 50, 100, 200, 500], ["−5", "0", "5", "10", "20", "50", "100", "200", "500"])
    axes.set_ylim(-12, 1000)  # what lies beyond makes no digits
    axes.minorticks_off()
    axes.set(xlabel=f"calls of {record['level']} per image", ylabel="kernel distance × 1000")
    axes.grid(visible=True, alpha=0.2)


def plot(path: Path) -> None:
    """Both kernel distances against calls, with intervals; the 1,000-call DDPM and real digits as bands."""
    record = results(RECORD)
    figure = Figure(figsize=(14, 8.5), dpi=90)
    left, right = figure.subplots(1, 2)
    bands = ((reference(record), "C2", "1000-call DDPM"), (record["real_split"], "C4", "real digits, held out"))
    for found, colour, label in bands:
        left.axhspan(1000 * found["low"], 1000 * found["high"], color=colour, alpha=0.25, lw=0, label=label)
    _draw(left, record, lambda e: e)
    _draw(right, record, lambda e: e["to_reference"])
    left.set_title("to 9,000 real digits")
    right.set_title("to the 1000-call DDPM's samples")
    right.axhline(0, color="C2", lw=1)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, ncol=4, loc="lower center")
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    write_figure(figure, path)
