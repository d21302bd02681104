"""Metrics by difficulty: a panel a metric, its values against the bands of each facet, a line a row, with standard errors."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import HIGHER, LOWER, looks, plain, save, save_sentence
from evaluation.metrics import Metric
from evaluation.tables.elsewhere import named
from evaluation.tables.table import Table

COLUMNS = 2
GAP = 0.8  # between the bands of two facets, which are 1 apart themselves
SPREAD = 0.5  # over which the rows of a band lie side by side, so that their errors are seen


def draw(table: Table, known: Mapping[str, Metric], elsewhere: Mapping[str, str], out: Path) -> None:
    """What a table by difficulty holds, by `known` metrics; a sentence where every band is of too few images.

    elsewhere: row -> who made it, of those that other code made.
    """
    frame = table.frame()
    metrics = [known[column.key] for column in table.columns if column.key in known]
    shown = [metric for metric in metrics if frame[metric.name].notna().any()]
    if not shown:
        save_sentence(table.title, "too few images in every band", out)
        return
    labels = dict(zip(frame["method"], frame["label"], strict=True))
    names = {method: named(method, label, elsewhere) for method, label in labels.items()}
    lines = -(-len(shown) // COLUMNS)
    figure, axes = pyplot.subplots(
        lines, COLUMNS, figsize=(11.5, 2.5 * lines + 0.4), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes.flat, shown, strict=False):
        _panel(axis, metric, frame.dropna(subset=f"{metric.name}_n"), names)
    handles, texts = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside right upper")
    figure.supxlabel(
        "Bars: one standard error (jackknife over images). A band of too few images has no point.", fontsize=7
    )
    save(figure, out)


def _panel(axis: Axes, metric: Metric, frame: pd.DataFrame, names: dict[str, str]) -> None:
    look, start = looks(names), 0.0
    ticks: dict[float, str] = {}
    for title, facet in frame.groupby("facet_title", sort=False):
        place = {band: start + number for number, band in enumerate(facet["band"].unique())}
        start += len(place) + GAP
        ticks |= {x: plain(str(band)) for band, x in place.items()}
        axis.text(
            sum(place.values()) / len(place),
            1.01,
            plain(str(title)),
            transform=axis.get_xaxis_transform(),
            ha="center",
            fontsize=7,
            color="0.35",
        )
        for number, (method, rows) in enumerate(facet.groupby("method", sort=False)):
            colour, marker = look[str(method)]
            beside = SPREAD * (number / max(1, len(names) - 1) - 0.5)
            axis.errorbar(
                [place[band] + beside for band in rows["band"]],
                rows[metric.name] * metric.scale,
                rows.get(f"{metric.name}_se", pd.Series(float("nan"), rows.index)) * metric.scale,
                color=colour,
                marker=marker,
                markersize=3.5,
                linewidth=0.9,
                elinewidth=0.8,
                label=None if len(ticks) > len(place) else plain(names[str(method)]),
            )
    axis.set_xticks(list(ticks), list(ticks.values()), rotation=25, ha="right", fontsize=7)
    axis.grid(axis="x", visible=False)
    axis.set_title(f"{metric.title}, {HIGHER if metric.higher_is_better else LOWER}\n", loc="left", fontweight="bold")
