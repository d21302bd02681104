"""Frechet distance against the number of images or regions, row by row, over the floor that a finite sample has."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from evaluation.figures.drawing import LOWER, looks, save
from evaluation.metrics.summary import LEVELS
from formats.files import InputError


def read_sizes(path: Path) -> pd.DataFrame:
    """What evaluation.by_size wrote; raises InputError for another file."""
    try:
        return pd.read_csv(path)[["method", "level", "n", "fid", "floor"]]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of distances by size ({error})") from None


def draw(table: pd.DataFrame, names: dict[str, str], out: Path) -> None:
    """One panel a level; `real`, whose subsets are compared with one another, are points without a line."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    look = looks(names)
    for axis, level in zip(axes, LEVELS, strict=True):
        rows = table[table["level"] == level]
        for method, line in rows.groupby("method", sort=False):
            colour, marker = look[str(method)]
            style = "none" if method == "real" else "-"
            name = "real, disjoint subsets" if method == "real" else names[str(method)]
            axis.plot(
                line["n"],
                line["fid"],
                color=colour,
                marker=marker,
                markersize=4,
                linestyle=style,
                linewidth=1.2,
                label=name,
            )
        # All rows are of the same images; the subsets of `real` are other ones, so its floors lie a little beside.
        floor = (rows[rows["method"] != "real"] if set(rows["method"]) > {"real"} else rows).drop_duplicates("n")
        axis.plot(floor["n"], floor["floor"], color="0.3", linestyle="--", label="floor: one distribution")
        _finish(axis, level, floor["n"].tolist())
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside right center")
    save(figure, out)


def _finish(axis: Axes, level: str, ticks: list[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(bottom=0)
    axis.set(xlabel=f"number of {level}s, logarithmic", ylabel="Frechet distance")
    axis.set_title(f"{level.capitalize()} FD\n", loc="left", fontweight="bold")
    axis.text(0, 1.03, LOWER, transform=axis.transAxes, fontsize=7, color="0.35")
