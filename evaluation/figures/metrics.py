"""Every headline metric and the most telling of layout adherence, of every row, with standard errors.

Published values are not shown: they are of other networks and photos.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import HIGHER, LOWER, looks, save
from evaluation.metrics import Metric, metrics_of
from formats.files import InputError

COLUMNS = 4


def draw(rows: Sequence[dict[str, Any]], names: dict[str, str], out: Path) -> None:
    """One panel a metric that any row has, one line a row; raises InputError where no row has any."""
    known = metrics_of(rows[0].get("protocol", {}))
    panels = [metric for metric in known.values() if metric.headline or metric.figure_title]
    shown = [metric for metric in panels if any(row["metrics"].get(metric.name) for row in rows)]
    if not shown:
        raise InputError("no row has a metric to draw: too few images")
    lines = -(-len(shown) // COLUMNS)
    size = (11, lines * (0.9 + 0.22 * len(rows)))
    figure, axes = pyplot.subplots(lines, COLUMNS, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes.flat, shown, strict=False):
        _panel(axis, metric, rows)
    axes[0][0].set_yticks(range(len(rows)), [names[row["method"]] for row in rows])
    axes[0][0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(
        "Thick bars: one standard error; thin: 95 % (jackknife over images). Dashed: expected distance of two samples of "
        "one distribution.",
        fontsize=7,
    )
    save(figure, out)


def _panel(axis: Axes, metric: Metric, rows: Sequence[dict[str, Any]]) -> None:
    look = looks(row["method"] for row in rows)
    for place, row in enumerate(rows):
        if found := row["metrics"].get(metric.name):
            colour, marker = look[row["method"]]
            se = found["se"] if found["se"] is not None else np.nan
            axis.errorbar(found["value"], place, xerr=1.96 * se, color=colour, linewidth=0.8)
            axis.errorbar(found["value"], place, xerr=se, color=colour, marker=marker, markersize=5, linewidth=2.2)
    if floor := (rows[0]["metrics"].get(metric.name) or {}).get("floor"):
        axis.axvline(floor, color="0.4", linestyle="--", linewidth=1)
    axis.set_title(f"{metric.bare_title}\n", loc="left", fontweight="bold")
    better = HIGHER if metric.higher_is_better else LOWER
    axis.text(
        0, 1.03, f"{metric.of}; {better}" if metric.of else better, transform=axis.transAxes, fontsize=7, color="0.35"
    )
    axis.grid(axis="x", visible=True)
