"""CLIP score of the regions of each category, row by row, with standard errors over images; `real` in grey behind every row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import HIGHER, looks, plain, save, save_sentence
from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean
from formats.files import InputError

COLUMNS = 6


def read_categories(regions: Sequence[Path], scores: dict[str, Path]) -> dict[str, pd.DataFrame]:
    """method -> `by_category` of its scores file, with the phrases of the tables of regions."""
    phrases = pd.concat([_read(path, ["id", "object", "phrase"]) for path in regions])
    columns = ["id", "object", "image_id", "clip"]
    return {method: by_category(_read(path, columns), phrases) for method, path in scores.items()}


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=list(columns))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no table of {', '.join(columns)} ({error}); delete it and run again") from None


def by_category(scores: pd.DataFrame, phrases: pd.DataFrame) -> pd.DataFrame:
    """phrase, n, clip and se (nan where there is none), categories of most regions first."""
    table = scores[scores["object"] >= 0].dropna(subset="clip").merge(phrases, on=["id", "object"], how="left")
    lines = [{"phrase": phrase} | _mean(rows) for phrase, rows in table.groupby("phrase")]
    found = pd.DataFrame(lines, columns=["phrase", "n", "clip", "se"])
    return found.sort_values(["n", "phrase"], ascending=[False, True], ignore_index=True)


def _mean(rows: pd.DataFrame) -> dict[str, Any]:
    numbers = groups(rows["image_id"])
    found = jackknife(leave_out_mean(rows["clip"].to_numpy(), numbers), numbers)
    return {"n": len(rows), "clip": found.value, "se": np.nan if found.se is None else found.se}


def draw(tables: dict[str, pd.DataFrame], names: dict[str, str], out: Path) -> None:
    """One panel a row, one line a category; without any region a sentence."""
    first = next(iter(tables.values()))
    if first.empty:
        save_sentence("Region CLIP by category", "no box is large enough for a region, so no category has a score", out)
        return
    lines = -(-len(tables) // COLUMNS)
    size = (10.5, lines * (0.5 + 0.2 * len(first)) + 0.3)
    figure, axes = pyplot.subplots(
        lines, COLUMNS, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    look = looks(tables)
    for axis, (method, table) in zip(axes.flat, tables.items(), strict=False):
        if "real" in tables and method != "real":
            axis.plot(tables["real"]["clip"], range(len(first)), "s", color="0.85", markersize=5)
        _panel(axis, table, *look[method])
        axis.set_title(names[method], fontsize=8)
    axes[0][0].set_yticks(range(len(first)), [f"{plain(str(row.phrase))} ({row.n})" for row in first.itertuples()])
    axes[0][0].set_ylim(len(first) - 0.5, -0.5)
    figure.supxlabel(
        f"Region CLIP, cosine; {HIGHER}. Bars: one standard error, regions clustered by image. Grey: real. In brackets: "
        "number of regions.",
        fontsize=7,
    )
    save(figure, out)


def _panel(axis: Axes, table: pd.DataFrame, colour: str, marker: str) -> None:
    axis.errorbar(
        table["clip"], range(len(table)), xerr=table["se"], color=colour, marker=marker, markersize=3, linestyle="none"
    )
    axis.tick_params(axis="x", labelsize=7, labelbottom=True)
