"""How a training went: its losses, and what the alignment module tells of held-out latents, against the optimiser's steps.

    python -m evaluation.figures.training --curves train/curves.csv --out figures/training

writes training.png and training.svg, with a panel for each kind of column that the curves have.
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import COLOURS, HIGHER, LOWER, save
from formats.cli import run
from formats.files import InputError

# Losses of one unit share a panel: its title and unit, and the curves' names in columns and legend.
LOSSES = (
    ("Losses", "1 - cosine", {"global": "(6) caption", "local": "(7) boxes"}),
    ("Noise loss", "squared error", {"noise": "noise loss"}),
)
STYLES = {"train": ("-", "train"), "heldout": ("--", "held out"), "baseline": (":", "baseline")}
ABILITIES = {"recall_": "Caption recall@1", "label_accuracy_": "Label accuracy"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    try:
        curves = pd.read_csv(arguments.curves).set_index("step")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{arguments.curves}: not the curves of a training ({error})") from None
    draw(curves, arguments.out)


def draw(curves: pd.DataFrame, out: Path) -> None:
    """A panel for each unit of losses, then held-out retrieval and label accuracy by timestep."""
    losses = [panel for panel in LOSSES if any(f"heldout_{name}" in curves for name in panel[2])]
    abilities = {name: [c for c in curves if str(c).startswith(stem)] for stem, name in ABILITIES.items()}
    abilities = {name: columns for name, columns in abilities.items() if columns}
    panels = max(1, len(losses) + len(abilities))
    figure, grid = pyplot.subplots(1, panels, figsize=(11 / 3 * panels, 3.3), layout="constrained", squeeze=False)
    axes = iter(grid[0])
    for axis, (title, unit, names) in zip(axes, losses, strict=False):
        _draw_losses(axis, curves, names)
        _finish(axis, title, LOWER, unit)
    for axis, (name, columns) in zip(axes, abilities.items(), strict=False):
        for place, column in enumerate(columns):
            shade = colormaps["cividis"](0.9 * place / max(len(columns) - 1, 1))
            axis.plot(curves[column], color=shade, label=f"t = {str(column).rpartition('_')[2]}")
        axis.set_ylim(0, 1)
        _finish(axis, f"{name}, held out", HIGHER, "share")
    save(figure, out)


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


if __name__ == "__main__":
    run(main)
