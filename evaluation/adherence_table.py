"""How well each row's objects lie where its layouts put them, as a detector sees it: one table.

    python -m evaluation.adherence_table --metrics metrics/real/test.json metrics/hcma/test.json ... --out tables/adherence

writes adherence.csv and adherence.md. The row `real` says how good the detector itself is on these boxes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.adherence import OVERLAP, SURE
from evaluation.printing import number, write_csv
from formats.cli import run
from formats.files import InputError, read_json, write_text

HEADS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "recall50": "Recall",
    "best_iou": "Best IoU",
    "instance_success": "Instances",
    "image_success": "Images",
    "count_right": "Counts",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    rows = [read_json(path) for path in arguments.metrics]
    table = build(rows)
    write_csv(arguments.out.with_suffix(".csv"), table)
    detector = rows[0]["protocol"].get("detector", {}).get("name")
    write_text(arguments.out.with_suffix(".md"), markdown(table, detector))


def build(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line a method: every metric and its standard error; empty cells without a detector.

    Raises InputError where one row was seen by another detector than the first.
    """
    first = rows[0]
    for row in rows:
        if row["protocol"].get("detector") != first["protocol"].get("detector"):
            raise InputError(f"{row['method']}: seen by another detector than {first['method']}; measure both again")
    return pd.DataFrame([_line(row) for row in rows])


def _line(row: dict[str, Any]) -> dict[str, Any]:
    line = {"method": row["method"]}
    for metric in HEADS:
        found = row["metrics"].get(metric) or {}
        line |= {metric: found.get("value"), f"{metric}_se": found.get("se")}
    return line


def markdown(table: pd.DataFrame, detector: str | None) -> str:
    """The table and how to read it."""
    if detector is None:
        return "**Layout adherence**\n\n- No detector is configured (`extractors.detector`).\n"
    lines = [["Method", *HEADS.values()], ["---"] + ["---:"] * len(HEADS)]
    for row in table.to_dict("records"):
        lines.append([str(row["method"]), *(number(row[name], 3, row[f"{name}_se"]) for name in HEADS)])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = (
        f"What the detector {detector} finds, with the layouts' boxes as ground truth: AP, AP50 and AP75 as COCO defines them; "
        f"recall: boxes that any detection of their label overlaps by {OVERLAP}; the rest by detections of a score of at least "
        f"{SURE}: the mean best overlap of a box, the share of boxes found (each detection serves one), the share of images "
        "whose boxes are all found, and the share of labels an image with the right number of objects.",
        "Images without boxes are left out. AP and counts ignore what a photo is annotated with besides the layout's boxes "
        "(crowds, small ones, those beyond the largest), as COCO ignores crowds; other things of a label that is in the "
        "layout count as false detections, also for `real`. ± one standard error (jackknife over images).",
    )
    return f"**Layout adherence**\n\n{body}\n\n" + "".join(f"- {note}\n" for note in notes)


if __name__ == "__main__":
    run(main)
