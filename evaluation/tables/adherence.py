"""How well each row's objects lie where its layouts put them, as detectors see it, each in a part of its own.

The row `real` says how good a detector itself is on these boxes.
"""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import Metric, in_table
from evaluation.networks import DETECTOR, limits_of
from evaluation.tables.table import Cell, Column, Row, Table, View, decimals
from formats.files import InputError

TITLE = "Layout adherence"


def adherence_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a row with every metric, those of each detector a view; without a detector a sentence.

    Raises InputError where one row's detectors are not the first row's.
    """
    about, first = rows[0]["protocol"], rows[0]["method"]
    metrics: dict[str, list[Metric]] = {}
    for metric in in_table("adherence", about):
        metrics.setdefault(metric.extractor, []).append(metric)
    for row in rows:
        if any(row["protocol"].get(name) != about.get(name) for name in metrics):
            raise InputError(f"{row['method']}: seen by another detector than {first}; measure both again")
    # Of the columns of a detector that there is not none has a value.
    there = {name: found for name, found in metrics.items() if name in about}
    shown = there or {DETECTOR: metrics[DETECTOR]}
    columns = [Column("method", "Method")]
    for found in shown.values():
        columns += [Column(metric.name, metric.head, decimals(metric.digits), metric.scale) for metric in found]
    lines = [_line(row, [metric for found in shown.values() for metric in found]) for row in rows]
    if not there:
        nothing = ["No detector is configured (`extractors.detector`)."]
        return Table(TITLE, columns, lines, nothing, [View(columns=[])])
    notes = [_how(about[name], rows[0].get(f"n_{name}_texts_cut", 0)) for name in there] + [BOXES]
    if len(there) == 1:
        return Table(TITLE, columns, lines, notes)
    views = [
        View(f"As {about[name]['name']} sees it:", ["method", *(metric.name for metric in found)])
        for name, found in there.items()
    ]
    return Table(TITLE, columns, lines, notes, views)


def _line(row: dict[str, Any], metrics: Sequence[Metric]) -> Row:
    found = {metric.name: row["metrics"].get(metric.name) or {} for metric in metrics}
    return {"method": Cell(row["method"])} | {
        name: Cell(result.get("value"), result.get("se")) for name, result in found.items()
    }


def _how(about: dict[str, Any], cut: int) -> str:
    """What a detector finds, and what counts as found."""
    limits, ask = limits_of(about), about.get("params", {}).get("ask")
    said = (
        f"What the detector {about['name']} finds, with the layouts' boxes as ground truth: AP, AP50 and AP75 as COCO defines "
        f"them; recall: boxes that any detection of their label overlaps by {limits.overlap}; the rest by detections of a "
        f"score of at least {limits.sure}: the mean best overlap of a box, the share of boxes found (each detection serves "
        "one), the share of images whose boxes are all found, and the share of labels an image with the right number of "
        "objects."
    )
    if ask:
        said += (
            f" It is asked for each layout's own {'phrases' if ask == 'phrase' else 'categories'} alone, which are the labels: "
            "what other layouts name is never a false detection."
        )
    if cut:
        said += f" {cut} boxes have a longer phrase than it reads, which was cut."
    return said


BOXES = (
    "Images without boxes are left out. AP and counts ignore what a photo is annotated with besides the layout's boxes "
    "(crowds, small ones, those beyond the largest), as COCO ignores crowds; other things of a label that is in the "
    "layout count as false detections, also for `real`. ± one standard error (jackknife over images)."
)
