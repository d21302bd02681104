"""How trainings went: losses, and what the alignment module tells of held-out latents, against the optimiser's steps."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import COLOURS, HIGHER, LOWER, save
from formats.files import InputError

# Losses of one unit share a panel: its title and unit, and the curves' names in columns and legend.
LOSSES = (
    ("Losses", "1 - cosine", {"global": "(6) caption", "local": "(7) boxes"}),
    ("Noise loss", "squared error", {"noise": "noise loss"}),
)
STYLES = {"train": ("-", "train"), "heldout": ("--", "held out"), "baseline": (":", "baseline")}
ABILITIES = {"recall_": "Caption recall@1", "label_accuracy_": "Label accuracy"}


def read_curves(path: Path) -> pd.DataFrame:
    """The curves of a training by step; raises InputError for another file."""
    try:
        return pd.read_csv(path).set_index("step")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not the curves of a training ({error})") from None


def draw(trainings: Sequence[pd.DataFrame], out: Path) -> None:
    """A row of panels a training: one for each unit of its losses, then held-out retrieval and label accuracy by timestep."""
    columns = max(1, *(len(_losses(curves)) + len(_abilities(curves)) for curves in trainings))
    size = (11 / 3 * columns, 3.3 * len(trainings))
    figure, grid = pyplot.subplots(len(trainings), columns, figsize=size, layout="constrained", squeeze=False)
    for axes, curves in zip(grid, trainings, strict=True):
        _draw_row(axes, curves)
    save(figure, out)


def _losses(curves: pd.DataFrame) -> list[tuple[str, str, dict[str, str]]]:
    return [panel for panel in LOSSES if any(f"{stem}_{name}" in curves for name in panel[2] for stem in STYLES)]


def _abilities(curves: pd.DataFrame) -> dict[str, list[str]]:
    found = {name: [str(c) for c in curves if str(c).startswith(stem)] for stem, name in ABILITIES.items()}
    return {name: columns for name, columns in found.items() if columns}


def _draw_row(axes: Sequence[Axes], curves: pd.DataFrame) -> None:
    losses, abilities = _losses(curves), _abilities(curves)
    for axis, (title, unit, names) in zip(axes, losses, strict=False):
        _draw_losses(axis, curves, names)
        _finish(axis, title, LOWER, unit)
    for axis, (name, columns) in zip(axes[len(losses) :], abilities.items(), strict=False):
        for place, column in enumerate(columns):
            shade = colormaps["cividis"](0.9 * place / max(len(columns) - 1, 1))
            axis.plot(curves[column], color=shade, label=f"t = {column.rpartition('_')[2]}")
        axis.set_ylim(0, 1)
        _finish(axis, f"{name}, held out", HIGHER, "share")
    for axis in axes[len(losses) + len(abilities) :]:
        axis.set_axis_off()


def _draw_losses(axis: Axes, curves: pd.DataFrame, names: dict[str, str]) -> None:
    for (term, name), colour in zip(names.items(), COLOURS, strict=False):
        for stem, (style, shown) in STYLES.items():
            if f"{stem}_{term}" in curves:
                axis.plot(curves[f"{stem}_{term}"], style, color=colour, label=f"{name}, {shown}")
    for step in curves.index[curves["kept"] == 1] if "kept" in curves else []:
        label = f"kept: step {step:.0f}" if step else "kept: the untrained weights"
        axis.axvline(step, color="0.6", linewidth=1, label=label)


def _finish(axis: Axes, title: str, better: str, unit: str) -> None:
    axis.set_title(f"{title}\n", loc="left", fontweight="bold")
    axis.text(0, 1.03, better, transform=axis.transAxes, fontsize=7, color="0.35")
    axis.set(xlabel="optimiser step", ylabel=unit)
    axis.legend(fontsize=7)
