r"""Regions of one shard of one row where a detector finds their objects: another reading of where rows are cropped (A36).

    python -m evaluation.detected_regions --layouts layouts/test/0000.jsonl --images samples/sd14/test/0000.zip \
        --regions regions/test/0000.parquet --size 64 --min-side 6 --extractors extractors.json \
        --out regions/sd14_detected/test/0000.parquet

The table has the regions of --regions, so that rows stay paired: the same objects, each at the box of a detection of its label
in this row's own image, or where there is none at the layout's box (`adherence.found_boxes`). What is too small on the canvas
to be a region is not found. A column says which objects were.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.crops import pixel_box, read_regions
from evaluation.features import Batcher, add_shard_options, chosen_workers, detection_columns
from evaluation.layouts import read_layout_rows
from evaluation.metrics.adherence import asked, check_labels, found_boxes, named
from evaluation.networks import DETECTOR
from evaluation.protocol import Protocol, chosen
from formats.cli import integer_from, options, quick_imports, run
from formats.files import InputError, read_json, replacing
from formats.images import check_images

if TYPE_CHECKING:
    from evaluation.detectors import Detector


def main() -> None:
    parser = options(__doc__)
    add_shard_options(parser)
    parser.add_argument("--size", type=integer_from(1), required=True, help="side of the canvas in pixels")
    arguments = parser.parse_args()
    layouts = read_layout_rows(arguments.layouts)
    ids = [row["id"] for row in layouts]
    table = read_regions(arguments.regions, ids)
    check_images(arguments.images, ids)
    content = read_json(arguments.extractors)
    stanza = content.get("extractors", content).get(DETECTOR)
    if not stanza:
        raise InputError(f"{arguments.extractors}: no extractor `{DETECTOR}`, expected one that finds the objects")
    with quick_imports():
        from evaluation.detectors import load_detector
        from formats.device import take_device

        detector = load_detector(stanza, take_device(arguments.device), DETECTOR)
    workers = chosen_workers(arguments.workers, arguments.device)
    least = chosen(arguments).min_side
    found = detected_regions(arguments.images, layouts, table, detector, arguments.size, least, workers)
    with replacing(arguments.out) as beside:
        found.to_parquet(beside, index=False)
    print(f"{int(found['found'].sum())} of {len(found)} regions found by {detector.name}")


def detected_regions(
    images: Path,
    layouts: Sequence[dict[str, Any]],
    table: pd.DataFrame,
    detector: "Detector",
    size: int,
    min_side: int,
    workers: int = 0,
) -> pd.DataFrame:
    """A table of regions with the boxes that `evaluation.crops` cuts in the place of the layouts': `box` (xyxy in the unit
    square), and `found`.

    size, min_side: pixels of the canvas; workers: as `loader.load`.

    Raises InputError for an object that the detector has no word for.
    """
    from evaluation.loader import Pictures, load

    if detector.labels is not None:
        check_labels(layouts, detector.labels, detector.name)
    batcher = Batcher(detector.find, {row["id"]: asked(row, detector.params) for row in layouts})
    pictures = Pictures(images, {row["id"]: [] for row in layouts}, Protocol(), {}, {DETECTOR: detector.prepare})
    for chunk in load(pictures, workers, detector.device.type == "cuda"):
        batcher.add(chunk.ids, chunk.seen[DETECTOR])
    detections = large_enough(detection_columns(DETECTOR, batcher.finish()), size, min_side)
    boxes = found_boxes([named(row, detector.params) for row in layouts], detections, detector.params)
    places = list(zip(table["id"].tolist(), table["object"].tolist(), strict=True))
    of_layout = {row["id"]: [thing["box"] for thing in row["objects"]] for row in layouts}
    return table.assign(
        box=[boxes.get(place, of_layout[place[0]][place[1]]) for place in places],
        found=[place in boxes for place in places],
    )


def large_enough(detections: dict[str, np.ndarray], size: int, min_side: int) -> dict[str, np.ndarray]:
    """Those whose part in the image has an area, and both sides on a canvas of `size` pixels at least `min_side`."""
    boxes_N4 = detections["detection_boxes"].clip(0, 1)
    sides_N = [
        min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (pixel_box(box, size, size) for box in boxes_N4.astype(float))
    ]
    inside_N = (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(1) & (np.array(sides_N, int) >= min_side)
    return {name: column[inside_N] for name, column in (detections | {"detection_boxes": boxes_N4}).items()}


if __name__ == "__main__":
    run(main)
