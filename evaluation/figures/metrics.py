"""Every main metric of every row, with its standard error: distances, CLIP scores, and layout adherence where measured.

    python -m evaluation.figures.metrics --metrics metrics/real/test.json metrics/hcma/test.json ... \
        --published workflow/config/published.csv --out figures/metrics

writes metrics.png and metrics.svg. Published values are not shown: they are of other networks and photos.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from evaluation.figures.drawing import HIGHER, LOWER, labels, looks, save
from formats.cli import run
from formats.files import InputError, read_json

# metric -> title, which way is better
PANELS = {
    "image_fid": ("Image FD", LOWER),
    "region_fid": ("Region FD", LOWER),
    "image_clip": ("Image CLIP", HIGHER),
    "region_clip": ("Region CLIP", HIGHER),
    "ap50": ("AP50 of the boxes", HIGHER),
    "instance_success": ("Objects found", HIGHER),
    "image_success": ("Images with all found", HIGHER),
    "count_right": ("Counts right", HIGHER),
}
COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="of the rows, in order")
    parser.add_argument("--published", type=Path, required=True, help="for the rows' names")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    rows = [read_json(path) for path in arguments.metrics]
    draw(rows, labels(arguments.published, [row["method"] for row in rows]), arguments.out)


def draw(rows: Sequence[dict[str, Any]], names: dict[str, str], out: Path) -> None:
    """One panel a metric that any row has, one line a row; raises InputError where no row has any."""
    shown = [metric for metric in PANELS if any(row["metrics"].get(metric) for row in rows)]
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


def _panel(axis: Axes, metric: str, rows: Sequence[dict[str, Any]]) -> None:
    look = looks(row["method"] for row in rows)
    for place, row in enumerate(rows):
        if found := row["metrics"].get(metric):
            colour, marker = look[row["method"]]
            se = found["se"] if found["se"] is not None else np.nan
            axis.errorbar(found["value"], place, xerr=1.96 * se, color=colour, linewidth=0.8)
            axis.errorbar(found["value"], place, xerr=se, color=colour, marker=marker, markersize=5, linewidth=2.2)
    if floor := (rows[0]["metrics"].get(metric) or {}).get("floor"):
        axis.axvline(floor, color="0.4", linestyle="--", linewidth=1)
    title, better = PANELS[metric]
    axis.set_title(f"{title}\n", loc="left", fontweight="bold")
    axis.text(0, 1.03, better, transform=axis.transAxes, fontsize=7, color="0.35")
    axis.grid(axis="x", visible=True)


if __name__ == "__main__":
    run(main)
