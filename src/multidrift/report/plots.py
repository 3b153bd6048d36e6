"""What a calibration found, as plots: costs and errors (the paper's Figure 2), and levels and errors by noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from multidrift.planning.acceptance import kicks
from multidrift.planning.calibration import Calibration

_STEPS = 100  # of the grid that acceptance is shown for
_DECADE = 10.0


def calibration_plots(found: Calibration) -> dict[str, dict[str, object]]:
    """The paper's Figure 2, and by noise level: differences of neighbours, best coefficients, S, accepted drafts."""
    names, places = found.names, list(found.places)
    plots = {}
    seconds = [1000 * found.seconds[name] for name in names]
    if found.errors.shape[1]:
        fit = found.by_errors
        floor = 0.0 if fit is None else fit.floor
        above = (found.errors.mean(axis=1) - floor).tolist()
        gamma = "" if fit is None else f": γ = {fit.gamma:.2f} ({fit.interval[0]:.2f} to {fit.interval[1]:.2f})"
        data = [{"type": "scatter", "mode": "lines+markers+text", "x": seconds, "y": above, "text": list(names),
                 "textposition": "top right", "name": "levels"}]  # fmt: skip
        title = f"Error above a floor of {floor:.3g}{gamma}"
        plots["scaling"] = figure(data, title, f"ms a call of {found.batch}", "squared error", logarithmic="xy")
    rows = found.variances(names)[1:]
    data = [
        {"type": "scatter", "x": places, "y": np.sqrt(row).tolist(), "name": f"{name} from the level below"}
        for name, row in zip(names[1:], rows, strict=True)
    ]
    plots["differences"] = figure(
        data, "How far neighbouring levels are apart", "noise level λ (time)", "root mean square", logarithmic="y"
    )
    data = [
        {"type": "scatter", "x": places, "y": row.tolist(), "name": f"{below} for {name}"}
        for below, name, row in zip(names[:-1], names[1:], found.best_coefficients(names), strict=True)
    ]
    plots["coefficients"] = figure(
        data, "What to multiply the lower level with", "noise level λ (time)", "best coefficient"
    )
    if np.isfinite(found.sensitivity).any():
        data = [{"type": "scatter", "x": places, "y": found.sensitivity.tolist(), "name": "S"}]
        plots["sensitivity"] = figure(data, "How far an error there carries", "noise level λ (time)", "S")
    steps = np.linspace(places[0], places[-1], _STEPS + 1)
    if kicks(found.process, steps) is not None:
        data = [
            {"type": "scatter", "x": steps[1:].tolist(), "y": found.acceptance(name, steps).tolist(), "name": name}
            for name in names[:-1]
        ]
        title = f"Accepted drafts, at {_STEPS} equal steps"
        plots["acceptance"] = figure(data, title, "noise level λ (time)", "probability")
    return plots


def figure(
    data: Sequence[Mapping[str, object]], title: str, x: str, y: str, logarithmic: str = ""
) -> dict[str, object]:
    """Data and layout as plotly takes them; `logarithmic`: the letters of the axes that are."""

    def axis(name: str, label: str) -> dict[str, object]:
        if name not in logarithmic:
            return {"title": {"text": label}, "type": "linear"}
        values = np.concatenate([np.asarray(trace[name], dtype=np.float64) for trace in data])
        wide = len(values) and values.max() > _DECADE * values.min()  # marked at 1, 2 and 5; else as plotly finds best
        return {"title": {"text": label}, "type": "log", **({"dtick": "D2"} if wide else {})}

    return {"data": list(data), "layout": {"title": {"text": title}, "xaxis": axis("x", x), "yaxis": axis("y", y)}}
