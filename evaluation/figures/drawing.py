"""One look for all figures, and PNG and SVG whose bytes depend on what is drawn alone.

Rows differ by colour and by marker; the colours are Okabe and Ito's, and after them three of Tol's, which
colour-blind readers can tell apart.
"""

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from formats.files import replacing

matplotlib.use("agg")
# Without a salt of its own an SVG's ids are random.
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "hcma",
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.9",
        "legend.frameon": False,
    }
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288", "#117733", "#888888")
MARKERS = "osD^vPX<>*h"
REAL = ("black", "s")
LOWER, HIGHER = "lower is better ↓", "higher is better ↑"


def looks(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """method -> (colour, marker), in order; `real` is black."""
    pairs = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    return {method: REAL if method == "real" else next(pairs) for method in methods}


def plain(text: str) -> str:
    """Text from outside as matplotlib should print it: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def save(figure: Any, out: Path, dpi: int = 150) -> None:
    """Write a figure as `out`.png and `out`.svg, each whole or not at all, and close it."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        with replacing(out.with_name(out.name + suffix)) as beside:
            figure.savefig(beside, format=suffix[1:], dpi=dpi, metadata=metadata, bbox_inches="tight")
    pyplot.close(figure)


def save_sentence(title: str, text: str, out: Path) -> None:
    """What replaces a figure where a run has nothing to draw; a run is not stopped for it."""
    figure, axis = pyplot.subplots(figsize=(6.5, 1.1), layout="constrained")
    axis.text(0, 0.6, text, transform=axis.transAxes, va="center")
    axis.set_axis_off()
    axis.set_title(f"{title}\n", loc="left", fontweight="bold")
    save(figure, out)
