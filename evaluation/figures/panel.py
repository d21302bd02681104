"""The paper's Figure 4: the same layouts across all methods, boxes drawn; a single object, a pair, a relation, a count."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.patches import Rectangle

from evaluation.figures.drawing import plain, save, save_sentence
from formats.images import read_image

Layout = dict[str, Any]
RELATION = re.compile(r"\b(left of|right of|above|below|under|beneath|next to|on top of|over|behind)\b", re.IGNORECASE)
COUNT = re.compile(r"\b(two|three|four|five|six|several)\b", re.IGNORECASE)
WIDEST = 26  # characters of a title
COLOURS = ["tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown"]


def draw_panel(
    layouts: Sequence[Layout], samples: Path, shard_size: int, methods: Sequence[str], names: dict[str, str], out: Path
) -> None:
    """Choose layouts and draw every method's image of each; samples: folder of {method}/test/{shard}.zip."""
    chosen = choose_layouts(layouts)
    shards = [f"{layouts.index(row) // shard_size:04d}.zip" for row in chosen.values()]
    images = {
        names[method]: [
            read_image(samples / method / "test" / shard, row["id"])
            for shard, row in zip(shards, chosen.values(), strict=True)
        ]
        for method in methods
    }
    draw(chosen, images, out)


def choose_layouts(layouts: Sequence[Layout]) -> dict[str, Layout]:
    """The first layout of each kind, and where a kind has none, the first layout with objects that is left."""
    left, chosen = [row for row in layouts if row["objects"]], {}
    for kind, fits in KINDS.items():
        fitting = [row for row in left if fits(row)]
        if fitting:
            chosen[kind] = fitting[0]
            left.remove(fitting[0])
    for kind, row in zip([kind for kind in KINDS if kind not in chosen], left, strict=False):
        chosen[f"{kind} (none found)"] = row
    return chosen


def _phrases(row: Layout) -> Counter[str]:
    return Counter(thing["phrase"] for thing in row["objects"])


KINDS: dict[str, Callable[[Layout], bool]] = {
    "single object": lambda row: len(row["objects"]) == 1,
    "pair": lambda row: len(row["objects"]) == 2 == len(_phrases(row)) and not RELATION.search(row["caption"]),
    "relation": lambda row: len(row["objects"]) <= 3 and bool(RELATION.search(row["caption"])),
    "counting": lambda row: bool(COUNT.search(row["caption"])) and max(_phrases(row).values()) >= 3,
}


def draw(chosen: dict[str, Layout], images: dict[str, list[np.ndarray]], out: Path) -> None:
    """Write the panel: one row a layout, one column a method, captions at the left; without any layout a sentence."""
    if not chosen:
        save_sentence("The same layouts across all rows", "no layout has objects to show", out)
        return
    figure, axes = pyplot.subplots(
        len(chosen), len(images) + 1, figsize=(1.7 * (len(images) + 1), 1.8 * len(chosen)), squeeze=False
    )
    for line, (kind, row) in zip(axes, chosen.items(), strict=True):
        line[0].text(0.5, 0.5, f"{kind}\n\n" + fill(plain(row["caption"]), 22), ha="center", va="center", fontsize=8)
        line[0].axis("off")
    for column, (method, pictures) in enumerate(images.items(), 1):
        axes[0][column].set_title(fill(method, WIDEST), fontsize=9)
        for line, row, picture in zip(axes, chosen.values(), pictures, strict=True):
            _picture(line[column], picture, row)
    figure.tight_layout(pad=0.4)
    save(figure, out)


def _picture(axis: Any, picture: np.ndarray, row: Layout) -> None:
    side = len(picture)
    axis.imshow(picture, extent=(0, side, side, 0), interpolation="nearest")
    axis.axis("off")
    colour = {phrase: COLOURS[i % len(COLOURS)] for i, phrase in enumerate(_phrases(row))}
    for thing in row["objects"]:
        x0, y0, x1, y1 = (edge * side for edge in thing["box"])
        edge = colour[thing["phrase"]]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=1))
