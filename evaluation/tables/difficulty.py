"""Metrics by difficulty: every row in every band of every facet, beside the row that it is tested against."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluation.difficulty import Bands, Facet, Layouts, many_valued, objects_of
from evaluation.metrics import Metric
from evaluation.metrics.permutation import FLIPS
from evaluation.significance import LEVEL_OF_TEST
from evaluation.tables.explained import explained
from evaluation.tables.headline import MARK
from evaluation.tables.table import P_VALUE, Cell, Column, Row, Table, View, decimals

BAND = "band"
COUNTS = ("images", "boxes")
UNTESTED = "¶"
MARKS = {"no": MARK, "untested": UNTESTED}


def difficulty_table(
    title: str,
    layouts: Layouts,
    facets: Sequence[Facet],
    bands: Bands,
    metrics: Sequence[Metric],
    found: pd.DataFrame,
    called: Mapping[str, str],
    protocol: dict[str, Any],
    against: str | None,
    caveat: str = "",
) -> Table:
    """A view a facet, a line a band and row of `called`, row -> label; `found` is what `breakdown` made of the facets.

    images and boxes are those of the band; `{metric}_images` and `{metric}_n` those that were measured. protocol: of a metrics
    file.
    """
    cells: dict[tuple[Any, ...], dict[Any, Any]] = {
        (line["facet"], line[BAND], line["method"], line["metric"]): line for line in found.to_dict("records")
    }
    rows: list[Row] = []
    views: list[View] = []
    few: list[str] = []
    for facet in facets:
        lines_shown, shown = list[int](), [m.name for m in metrics if not facet.per_box or m.mean_over == "box"]
        for place, band in enumerate(facet.bands):
            counts = dict(zip(COUNTS, _counts(layouts, facet, place), strict=True))
            if counts["images"] < bands.least:
                few.append(f"{facet.title} {band} ({counts['images']})")
            else:
                lines_shown += range(len(rows), len(rows) + len(called))
            for method, label in called.items():
                row = {"facet": facet.key, "facet_title": facet.title, BAND: band, "method": method, "label": label}
                lines = {name: cells[facet.key, band, method, name] for name in shown}
                values = {key: cell for name, line in lines.items() for key, cell in _cells(name, line).items()}
                rows.append({key: Cell(text) for key, text in (row | counts).items()} | values)
        columns = [BAND, "label", *shown, *COUNTS]
        if lines_shown:
            views.append(View(f"{facet.title}:", columns, lines_shown, {BAND: facet.title}))
    notes = _notes(layouts, facets, bands, metrics, found, protocol, against)
    if few:
        notes.insert(0, f"Bands of fewer than {bands.least} images are in the CSV alone: {', '.join(few)}.")
    return Table(title, _columns(metrics), rows, notes, views, caveat)


def _counts(layouts: Layouts, facet: Facet, place: int) -> tuple[int, int]:
    """Images and boxes of a band; of a facet of boxes the images that have such a box."""
    counts_N, inside = objects_of(layouts), facet.place_N == place
    if not facet.per_box:
        return int(inside.sum()), int(counts_N[inside].sum())
    return len(np.unique(np.repeat(np.arange(len(layouts)), counts_N)[inside])), int(inside.sum())


def _columns(metrics: Sequence[Metric]) -> list[Column]:
    columns = [Column("facet", shown=False), Column("facet_title", shown=False), Column(BAND, "Band")]
    columns += [Column("method", shown=False), Column("label", "Method")]
    for metric in metrics:
        columns.append(Column(metric.name, metric.title, decimals(metric.digits), metric.scale))
    columns += [Column(name, name.capitalize(), ",d") for name in COUNTS]
    for metric in metrics:
        number = decimals(metric.digits, "+")
        columns += [Column(f"{metric.name}_{name}", number=",d", shown=False) for name in ("images", "n")]
        columns.append(Column(f"{metric.name}_difference", number=number, scale=metric.scale, shown=False))
        columns += [Column(f"{metric.name}_{name}", number=P_VALUE, shown=False) for name in ("p", "p_holm")]
        columns.append(Column(f"{metric.name}_different", shown=False))
    return columns


def _cells(name: str, line: dict[Any, Any]) -> Row:
    return {
        name: Cell.of(line["value"], line["se"], mark=MARKS.get(line["different"], "")),
        f"{name}_images": Cell(line["images"]),
        f"{name}_n": Cell(line["n"]),
        f"{name}_difference": Cell.of(line["difference"], line["difference_se"]),
        f"{name}_p": Cell.of(line["p"]),
        f"{name}_p_holm": Cell.of(line["p_holm"]),
        f"{name}_different": Cell(line["different"]),
    }


def _notes(
    layouts: Layouts,
    facets: Sequence[Facet],
    bands: Bands,
    metrics: Sequence[Metric],
    found: pd.DataFrame,
    protocol: dict[str, Any],
    against: str | None,
) -> list[str]:
    whole = [metric.title for metric in metrics if metric.mean_over != "box"]
    notes = [facet.what for facet in facets if facet.what]
    if not facets:
        notes.append("Nothing is broken down: no layout lies in a band of any facet.")
    if whole and (of_boxes := [facet.title for facet in facets if facet.per_box]):
        notes.append(f"Not by {', '.join(of_boxes).lower()}, being no means over boxes: {', '.join(whole)}.")
    if odd := many_valued(layouts, bands):
        notes.append(
            f"Tags with more than {bands.tag_values} values, by which nothing is broken down: {', '.join(odd)}."
        )
    notes += [
        f"Images and boxes: all of the band. -: of fewer than {bands.least} images. ± one standard error (delete-a-group "
        "jackknife over images, the groups of every other table).",
        *explained(metrics, protocol),
    ]
    return notes + (_test(metrics, found, against) if against else ["No row is tested: the run has no reference row."])


def _test(metrics: Sequence[Metric], found: pd.DataFrame, against: str) -> list[str]:
    tests = found.groupby("metric")["p"].count()
    flipped = [metric.title for metric in metrics if metric.flips and tests.get(metric.name, 0) > FLIPS * LEVEL_OF_TEST]
    notes = [
        f"{MARK}: not distinguishable from {against} in the same band (paired by image, by the test that the metric has in "
        "significance.md; Holm-corrected over all bands and rows of the table, metric by metric, "
        f"p >= {LEVEL_OF_TEST}). Every difference with its p-value is in the CSV. `real` is not tested."
    ]
    if (found["different"] == "untested").any():
        notes.append(
            f"{UNTESTED}: not tested, the difference being the same in every group of images, so that it has no error."
        )
    if flipped:
        notes.append(
            f"So many tests that {FLIPS:,} flips can tell no row apart after Holm's correction, by {', '.join(flipped)}: give "
            "the table fewer facets or rows."
        )
    return notes
