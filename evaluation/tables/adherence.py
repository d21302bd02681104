"""How well each row's objects lie where its layouts put them, as a detector sees it.

The row `real` says how good the detector itself is on these boxes.
"""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import in_table
from evaluation.metrics.adherence import OVERLAP, SURE
from evaluation.tables.table import Cell, Column, Table, View, decimals
from formats.files import InputError


def adherence_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a row with every metric; without a detector a sentence.

    Raises InputError where one row's detector is not the first row's.
    """
    first = rows[0]
    for row in rows:
        if row["protocol"].get("detector") != first["protocol"].get("detector"):
            raise InputError(f"{row['method']}: seen by another detector than {first['method']}; measure both again")
    metrics = in_table("adherence")
    columns = [Column("method", "Method")]
    columns += [Column(metric.name, metric.head, decimals(metric.digits), metric.scale) for metric in metrics]
    lines = []
    for row in rows:
        found = {metric.name: row["metrics"].get(metric.name) or {} for metric in metrics}
        cells = {name: Cell(result.get("value"), result.get("se")) for name, result in found.items()}
        lines.append({"method": Cell(row["method"])} | cells)
    detector = first["protocol"].get("detector", {}).get("name")
    if detector is None:
        nothing = ["No detector is configured (`extractors.detector`)."]
        return Table("Layout adherence", columns, lines, nothing, [View(columns=[])])
    return Table("Layout adherence", columns, lines, _notes(detector))


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
