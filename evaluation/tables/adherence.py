"""How well each row's objects lie where its layouts put them, as a detector sees it.

The row `real` says how good the detector itself is on these boxes.
"""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import Metric, in_table
from evaluation.metrics.adherence import OVERLAP, SURE
from evaluation.metrics.own import BUILT_IN, SECTION
from evaluation.tables.table import Cell, Column, Table, View, decimals
from formats.files import InputError


def adherence_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a row with every metric that any has, and without a detector a sentence.

    Raises InputError where one row's detector or metrics of one's own are not the first row's.
    """
    first = rows[0]
    for row in rows:
        for key, what in (
            ("detector", "seen by another detector"),
            (SECTION, "measured by other metrics of one's own"),
        ):
            if row["protocol"].get(key) != first["protocol"].get(key):
                raise InputError(f"{row['method']}: {what} than {first['method']}; measure both again")
    detector = first["protocol"].get("detector", {}).get("name")
    asked = [metric for metric in in_table("adherence") if metric.extractor in first["protocol"]]
    metrics = [one for one in asked if one.name in BUILT_IN or any(row["metrics"].get(one.name) for row in rows)]
    columns = [Column("method", "Method")]
    columns += [Column(metric.name, metric.head, decimals(metric.digits), metric.scale) for metric in metrics]
    lines = []
    for row in rows:
        found = {metric.name: row["metrics"].get(metric.name) or {} for metric in metrics}
        cells = {name: Cell(result.get("value"), result.get("se")) for name, result in found.items()}
        lines.append({"method": Cell(row["method"])} | cells)
    own = [*(one.note for one in metrics if one.note), *_remarks(rows, metrics)]
    if absent := [one.head for one in asked if one not in metrics]:
        own.append(f"Without a column, since no layout has what they are of: {', '.join(absent)}.")
    if detector is None:
        nothing = "No detector is configured (`extractors.detector`)."
        return Table("Layout adherence", columns, lines, [nothing, *own], [View()] if metrics else [View(columns=[])])
    return Table("Layout adherence", columns, lines, [*_notes(detector), *own])


def _remarks(rows: Sequence[dict[str, Any]], metrics: Sequence[Metric]) -> list[str]:
    """What metrics say of what they leave out, each sentence once."""
    found = [(row["metrics"].get(one.name) or {}).get("remark") for row in rows for one in metrics]
    return [remark for remark in dict.fromkeys(found) if remark]


def _notes(detector: str) -> list[str]:
    return [
        f"What the detector {detector} finds, with the layouts' boxes as ground truth: AP, AP50 and AP75 as COCO defines them; "
        f"recall: boxes that any detection of their label overlaps by {OVERLAP}; the rest by detections of a score of at least "
        f"{SURE}: the mean best overlap of a box, the share of boxes found (each detection serves one), the share of images "
        "whose boxes are all found, and the share of labels an image with the right number of objects.",
        "Images without boxes are left out. AP and counts ignore what a photo is annotated with besides the layout's boxes "
        "(crowds, small ones, those beyond the largest), as COCO ignores crowds; other things of a label that is in the "
        "layout count as false detections, also for `real`. ± one standard error (jackknife over images).",
    ]
