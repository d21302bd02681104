"""How difficult a layout or a box is: the facets by which metrics are broken down, and layouts filtered, and their bands.

objects    of a layout: how many it has
size       of a box: the root of its area, as a share of the canvas's side
overlap    of a layout of two boxes or more: the largest intersection over union of two of them
tags       of a layout: every tag of its set that has few values, each a facet; tags.NAME: that one
"""

import argparse
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from evaluation.metrics.adherence import overlaps
from formats.cli import integer_from
from formats.files import InputError

OBJECTS, SIZE, OVERLAP, TAGS = "objects", "size", "overlap", "tags"
FACETS = (OBJECTS, SIZE, OVERLAP, TAGS)
OF_TAG = f"{TAGS}."
# Boxes are stored with six decimals: what those may have moved off an edge lies on it, and boxes side by side do not overlap.
DECIMALS = 5
Layouts = Sequence[dict[str, Any]]
ROOT_OF_AREA = "Size of the box: the root of its area, as a share of the canvas's side."
OF_TWO = "Largest overlap: the intersection over union of the two boxes of a layout that overlap most."


@dataclass(frozen=True)
class Bands:
    """objects, size, overlap: the edges between bands, ascending; what lies on one is of the band above it.

    tag_values: a tag with more values than this is no facet. least: images of which a mean is shown.
    """

    objects: tuple[int, ...] = (1, 2, 3, 5, 9)
    size: tuple[float, ...] = (0.0625, 0.1875, 0.375)
    overlap: tuple[float, ...] = (0.1, 0.3)
    tag_values: int = 12
    least: int = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option a field of Bands."""
    default = Bands()
    edges: dict[str, tuple[Callable[[str], Any], Sequence[float], str]] = {
        "objects": (integer_from(1), default.objects, "numbers of objects"),
        "size": (_share, default.size, "sizes of a box, the root of its area as a share of the canvas's side"),
        "overlap": (
            _share,
            default.overlap,
            "largest overlaps of a layout, intersection over union; none has its own band",
        ),
    }
    for name, (kind, usual, what) in edges.items():
        parser.add_argument(
            f"--{name}-bands",
            type=kind,
            nargs="+",
            default=usual,
            metavar="EDGE",
            help=f"edges between bands of {what}, ascending",
        )
    parser.add_argument(
        "--tag-values", type=integer_from(1), default=default.tag_values, help="most values of a tag that is a facet"
    )
    parser.add_argument(
        "--least", type=integer_from(2), default=default.least, help="images under which a mean is a dash"
    )


def chosen(arguments: argparse.Namespace) -> Bands:
    """The bands of parsed options; raises InputError for edges that do not ascend."""
    edges = {name: tuple(getattr(arguments, f"{name}_bands")) for name in (OBJECTS, SIZE, OVERLAP)}
    for name, found in edges.items():
        if sorted(set(found)) != list(found):
            raise InputError(f"--{name}-bands {' '.join(f'{edge:g}' for edge in found)}: expected ascending edges")
    return Bands(**edges, tag_values=arguments.tag_values, least=arguments.least)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, found {text!r}")
    return value


@dataclass(frozen=True)
class Facet:
    """One way to tell easy from hard: its bands, in order, and the band of every layout or, per_box, of every object.

    key: its name in options and files; title and what: for people; place_N: the band's place, -1 where it has none.
    """

    key: str
    title: str
    bands: list[str]
    place_N: np.ndarray
    per_box: bool = False
    what: str = ""


def objects_of(layouts: Layouts) -> np.ndarray:
    """How many objects each layout has, int [layouts]."""
    return np.array([len(row["objects"]) for row in layouts], int)


def facets(layouts: Layouts, bands: Bands, by: Sequence[str] = FACETS) -> list[Facet]:
    """The facets of `by` in its order, with the bands that any layout or box is in; one without a band is left out.

    Raises InputError for a facet that there is none, and for a tag that no layout has or that has too many values.
    """
    found: dict[str, Facet] = {}
    for name in by:
        for facet in _facets(name, layouts, bands):
            found.setdefault(facet.key, facet)
    return [_occurring(facet) for facet in found.values() if (facet.place_N >= 0).any()]


def many_valued(layouts: Layouts, bands: Bands) -> list[str]:
    """The tags that are no facets, having too many values."""
    return [name for name, values in _tags(layouts).items() if len(set(values) - {None}) > bands.tag_values]


def _facets(name: str, layouts: Layouts, bands: Bands) -> Iterator[Facet]:
    if name == OBJECTS:
        yield Facet(OBJECTS, "Number of objects", _counted(bands.objects), _band(objects_of(layouts), bands.objects))
    elif name == SIZE:
        boxes_N4 = np.array([thing["box"] for row in layouts for thing in row["objects"]], float).reshape(-1, 4)
        side_N = np.sqrt((boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(-1))
        yield Facet(SIZE, "Size of the box", _between(bands.size), _band(side_N, bands.size), True, ROOT_OF_AREA)
    elif name == OVERLAP:
        overlap_N = np.array([_largest_overlap(row) for row in layouts], float)
        # No overlap is a band of its own, before the others; a layout without a pair has none.
        place_N = np.where(overlap_N > 0, 1 + _band(overlap_N, bands.overlap), np.where(np.isnan(overlap_N), -1, 0))
        single = int(np.isnan(overlap_N).sum())
        what = (
            f"{OF_TWO} {single} of {len(layouts)} layouts have fewer than two boxes, and no overlap."
            if single
            else OF_TWO
        )
        yield Facet(OVERLAP, "Largest overlap", ["none", *_between(bands.overlap)], place_N, what=what)
    elif name == TAGS:
        for tag, values in _tags(layouts).items():
            if 1 < len(set(values) - {None}) <= bands.tag_values:
                yield _of_tag(tag, values)
    elif name.startswith(OF_TAG):
        known, tag = _tags(layouts), name.removeprefix(OF_TAG)
        if tag not in known:
            raise InputError(f"by {name}: no layout has the tag {tag!r}; they have {', '.join(known) or 'none'}")
        if (count := len(set(known[tag]) - {None})) > bands.tag_values:
            raise InputError(
                f"by {name}: the tag has {count} values, more than {bands.tag_values} (difficulty.tag_values)"
            )
        yield _of_tag(tag, known[tag])
    else:
        raise InputError(f"by {name}: expected {', '.join(FACETS)} or {OF_TAG}NAME")


def _band(values_N: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """How many edges lie at or below each value."""
    return np.searchsorted(np.array(edges, float), np.round(values_N, DECIMALS), side="right")


def _counted(edges: Sequence[int]) -> list[str]:
    """Bands of whole numbers from 0."""
    starts = [0, *edges]
    inner = [str(low) if high == low + 1 else f"{low} to {high - 1}" for low, high in zip(starts, edges, strict=False)]
    return [*inner, f"{edges[-1]} or more"]


def _between(edges: Sequence[float]) -> list[str]:
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"under {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]


def _largest_overlap(layout: dict[str, Any]) -> float:
    """nan of fewer than two boxes."""
    boxes_N4 = np.array([thing["box"] for thing in layout["objects"]], float).reshape(-1, 4)
    if len(boxes_N4) < 2:
        return float("nan")
    pairs_NN = overlaps(boxes_N4, boxes_N4)
    return float(np.round(np.triu(pairs_NN, 1).max(), DECIMALS - 1))


def _tags(layouts: Layouts) -> dict[str, list[str | None]]:
    """Tag -> its value of each layout in print, None where it has none."""
    names = dict.fromkeys(name for row in layouts for name in row.get("tags", {}))
    return {name: [_printed(row.get("tags", {}).get(name)) for row in layouts] for name in names}


def _printed(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value).lower()  # also true and false
    return f"{value:.12g}"


def _of_tag(name: str, values: Sequence[str | None]) -> Facet:
    """Numbers in their order, all else as the layouts come."""
    bands = list(dict.fromkeys(value for value in values if value is not None))
    with contextlib.suppress(ValueError):
        numbers = {band: float(band) for band in bands}
        if all(map(math.isfinite, numbers.values())):
            bands = sorted(bands, key=lambda band: numbers[band])
    place = {band: number for number, band in enumerate(bands)}
    place_N = np.array([-1 if value is None else place[value] for value in values], int)
    return Facet(f"{OF_TAG}{name}", f"Tag {name}", bands, place_N)


def _occurring(facet: Facet) -> Facet:
    """Without the bands that nothing is in."""
    used, place_N = np.unique(facet.place_N[facet.place_N >= 0]), facet.place_N
    number = np.full(len(facet.bands) + 1, -1)  # the last is that of -1
    number[used] = np.arange(len(used))
    return replace(facet, bands=[facet.bands[place] for place in used], place_N=number[place_N])
