"""How well each row's objects lie where its layouts put them, as detectors see it, each in a part of its own.

The row `real` says how good a detector itself is on these boxes.
"""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import OWN, Metric, in_table, own_names
from evaluation.networks import DETECTIONS, DETECTOR, limits_of, networks_in
from evaluation.tables.table import Cell, Column, Row, Table, View, decimals
from formats.files import InputError

TITLE = "Layout adherence"


def adherence_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a row with every metric, those of each detector a view; without a detector a sentence.

    Metrics of one's own that no layout has anything for have no column. Raises InputError where one row's detectors, or metrics
    of one's own, are not the first row's.
    """
    about, first = rows[0]["protocol"], rows[0]["method"]
    known, own = in_table("adherence", about), own_names(about)
    seen = dict.fromkeys(metric.extractor for metric in known)
    detectors = [name for name in seen if networks_in(about).get(name) == DETECTIONS]
    for row in rows:
        if any(row["protocol"].get(name) != about.get(name) for name in (*detectors, DETECTOR)):
            raise InputError(f"{row['method']}: seen by another detector than {first}; measure both again")
        if row["protocol"].get(OWN) != about.get(OWN):
            raise InputError(
                f"{row['method']}: measured by other metrics of one's own than {first}; measure both again"
            )
    # Of the columns of a detector that there is not none has a value.
    asked = [
        metric for metric in known if metric.extractor in about or (metric.extractor == DETECTOR and not detectors)
    ]
    shown = [one for one in asked if one.name not in own or any(row["metrics"].get(one.name) for row in rows)]
    columns = [Column("method", "Method")]
    columns += [Column(metric.name, metric.head, decimals(metric.digits), metric.scale) for metric in shown]
    lines = [measured_line(row, shown) for row in rows]
    notes = [*(one.note for one in shown if one.note), *_remarks(rows, shown)]
    if absent := [one.head for one in asked if one not in shown]:
        notes.append(f"Without a column, since no layout has what they are of: {', '.join(absent)}.")
    if not detectors:
        nothing = "No detector is configured (`extractors.detector`)."
        others = [one.name for one in shown if one.extractor in about]
        return Table(TITLE, columns, lines, [nothing, *notes], [View(columns=["method", *others] if others else [])])
    notes = [_how(about[name], rows[0].get(f"n_{name}_texts_cut", 0)) for name in detectors] + [BOXES, *notes]
    if len(detectors) == 1:
        return Table(TITLE, columns, lines, notes)
    parts = {
        f"As {about[name]['name']} sees it:": [one.name for one in shown if one.extractor == name] for name in detectors
    }
    parts |= {"Besides:": [one.name for one in shown if one.extractor not in detectors]}
    views = [View(lead, ["method", *names]) for lead, names in parts.items() if names]
    return Table(TITLE, columns, lines, notes, views)


def _remarks(rows: Sequence[dict[str, Any]], metrics: Sequence[Metric]) -> list[str]:
    """What metrics say of what they leave out, each sentence once."""
    found = [(row["metrics"].get(one.name) or {}).get("remark") for row in rows for one in metrics]
    return [remark for remark in dict.fromkeys(found) if remark]


def measured_line(row: dict[str, Any], metrics: Sequence[Metric]) -> Row:
    """A row's name and its metrics with their errors; a dash of those that it has not."""
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
