"""How the alignment module learned: its losses and what it can tell of held-out latents, against the optimiser's steps."""

from pathlib import Path

import pandas as pd
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import COLOURS, HIGHER, LOWER, save
from formats.files import InputError

LOSSES = {"global": "(6) caption", "local": "(7) boxes"}
STYLES = {"train": ("-", "train"), "heldout": ("--", "held out"), "baseline": (":", "always the mean embedding")}
ABILITIES = {"recall_": "Caption recall@1", "label_accuracy_": "Label accuracy"}


def read_curves(path: Path) -> pd.DataFrame:
    """The curves of a training by step; raises InputError for another file."""
    try:
        return pd.read_csv(path).set_index("step")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not the curves of a training ({error})") from None


def draw(curves: pd.DataFrame, out: Path) -> None:
    """Losses at the left, then held-out retrieval and label accuracy by timestep."""
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
    for (term, name), colour in zip(LOSSES.items(), COLOURS, strict=False):
        for stem, (style, shown) in STYLES.items():
            if f"{stem}_{term}" in curves:
                axes[0].plot(curves[f"{stem}_{term}"], style, color=colour, label=f"{name}, {shown}")
    for step in curves.index[curves["kept"] == 1] if "kept" in curves else []:
        label = f"kept: step {step:.0f}" if step else "kept: the untrained weights"
        axes[0].axvline(step, color="0.6", linewidth=1, label=label)
    _finish(axes[0], "Losses", LOWER, "1 - cosine")
    for axis, (stem, name) in zip(axes[1:], ABILITIES.items(), strict=True):
        columns = [column for column in curves if str(column).startswith(stem)]
        for place, column in enumerate(columns):
            shade = colormaps["cividis"](0.9 * place / max(len(columns) - 1, 1))
            axis.plot(curves[column], color=shade, label=f"t = {str(column).removeprefix(stem)}")
        axis.set_ylim(0, 1)
        _finish(axis, f"{name}, held out", HIGHER, "share")
    save(figure, out)


def _finish(axis: Axes, title: str, better: str, unit: str) -> None:
    axis.set_title(f"{title}\n", loc="left", fontweight="bold")
    axis.text(0, 1.03, better, transform=axis.transAxes, fontsize=7, color="0.35")
    axis.set(xlabel="optimiser step", ylabel=unit)
    axis.legend(fontsize=7)
