"""A study: what each reading changes, with intervals, metric by metric, against each row that readings are compared with."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import scipy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evaluation.figures.drawing import COLOURS, HIGHER, LOWER, plain, save, save_sentence
from evaluation.metrics import Metric
from evaluation.metrics.jackknife import GROUPS
from evaluation.tables.table import Row, Table

LEVEL = 0.95
TRAININGS = "0.75"
GREY = "\nGrey: from the least to the most over trainings, each with its seed."


def draw(table: Table, known: Mapping[str, Metric], out: Path) -> None:
    """A block of panels for each view of differences, a panel for each of the `known` metrics, a line for each reading."""
    keys = {column.key for column in table.columns}
    metrics = [metric for name, metric in known.items() if name in keys]
    blocks = [(view.lead, [table.rows[place] for place in view.rows or []]) for view in table.views]
    blocks = [(lead, rows) for lead, rows in blocks if rows and rows[0]["against"].value]
    if not blocks or not metrics:
        save_sentence(table.title, "nothing is compared", out)
        return
    heights = [len(rows) + 2.5 for _, rows in blocks]
    size = (2.5 + 2.5 * len(metrics), 0.6 + 0.2 * sum(heights))
    figure, axes = pyplot.subplots(
        len(blocks), len(metrics), figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for (line, (lead, rows)), (place, metric) in product(zip(axes, blocks, strict=True), enumerate(metrics)):
        _panel(line[place], metric, rows)
        if place == 0:
            line[place].set_yticks(range(len(rows)), [plain(str(row["reading"].value)) for row in rows], fontsize=7)
            title = {"ha": "right", "fontsize": 8, "fontweight": "bold", "transform": line[place].transAxes}
            line[place].text(-0.03, 1.04, plain(lead), **title)
        else:
            line[place].set_yticks(range(len(rows)), [])
    cells = [row.get(metric.name) for _, rows in blocks for row in rows for metric in metrics]
    several = any(cell is not None and cell.least is not None for cell in cells)
    figure.supxlabel(
        f"Differences and their {LEVEL:.0%} intervals (paired jackknife over images); filled: told apart by Holm's correction "
        f"over the study.{several * GREY}",
        fontsize=7,
    )
    save(figure, out)


def _panel(axis: Axes, metric: Metric, rows: list[Row]) -> None:
    for place, row in enumerate(rows):
        if (cell := row.get(metric.name)) is None or cell.value is None:
            continue
        told, options = row[f"{metric.name}_different"].value == "yes", dict[str, Any]()
        if cell.least is not None and cell.most is not None:
            ends = [cell.least * metric.scale, cell.most * metric.scale]
            axis.plot(ends, [place, place], color=TRAININGS, linewidth=5, solid_capstyle="butt", zorder=1)
        if cell.standard_error is not None:
            # Of the t distribution by which the difference is tested where it is not by flips or swaps.
            reach = float(scipy.special.stdtrit(int(row[f"{metric.name}_groups"].value or GROUPS) - 1, (1 + LEVEL) / 2))
            options["xerr"] = reach * cell.standard_error * metric.scale
        axis.errorbar(
            float(cell.value) * metric.scale,
            place,
            color=COLOURS[0],
            marker="o",
            markersize=4,
            linewidth=1,
            markerfacecolor=COLOURS[0] if told else "white",
            zorder=2,
            **options,
        )
    axis.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_title(f"{metric.title}\n", loc="left", fontweight="bold", fontsize=8)
    axis.text(0, 1.01, HIGHER if metric.higher_is_better else LOWER, transform=axis.transAxes, fontsize=6, color="0.35")
