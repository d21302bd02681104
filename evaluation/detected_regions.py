r"""Regions of one shard of one row where a detector finds their objects: another reading of where rows are cropped (A36).

    python -m evaluation.detected_regions --layouts layouts/test/0000.jsonl --images samples/sd14/test/0000.zip \
        --regions regions/test/0000.parquet --extractors extractors.json --out regions/sd14/test/0000.parquet

The table has the regions of --regions, so that rows stay paired: the same objects, each at the box of a detection of its label
in this row's own image, or where there is none at the layout's box. Detections that are sure are handed out in order of their
scores, each to the free object of its label that it covers best, however far away. A column says which objects were found.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.crops import read_regions
from evaluation.features import Batcher, add_device_options, chosen_workers, detection_columns
from evaluation.layouts import read_layout_rows
from evaluation.metrics.adherence import asked, check_labels, found_boxes, named
from evaluation.networks import DETECTOR
from formats.cli import options, quick_imports, run
from formats.files import InputError, read_json, replacing
from formats.images import check_images

if TYPE_CHECKING:
    from evaluation.detectors import Detector


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument(
        "--extractors", type=Path, required=True, help="a configuration as JSON, or its section `extractors`"
    )
    add_device_options(parser)
    parser.add_argument("--out", type=Path, required=True)
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
    found = detected_regions(arguments.images, layouts, table, detector, workers)
    with replacing(arguments.out) as beside:
        found.to_parquet(beside, index=False)
    print(f"{int(found['found'].sum())} of {len(found)} regions found by {detector.name}")


def detected_regions(
    images: Path, layouts: Sequence[dict[str, Any]], table: pd.DataFrame, detector: "Detector", workers: int = 0
) -> pd.DataFrame:
    """A table of regions with the boxes that `evaluation.crops` cuts in the place of the layouts': `box` (xyxy in the unit
    square), and `found`.

    workers: as `loader.load`. Raises InputError for an object that the detector has no word for.
    """
    from evaluation.loader import Pictures, load
    from evaluation.protocol import Protocol

    if detector.labels is not None:
        check_labels(layouts, detector.labels, detector.name)
    batcher = Batcher(detector.find, {row["id"]: asked(row, detector.params) for row in layouts})
    pictures = Pictures(images, {row["id"]: [] for row in layouts}, Protocol(), {}, {DETECTOR: detector.prepare})
    for chunk in load(pictures, workers, detector.device.type == "cuda"):
        batcher.add(chunk.ids, chunk.seen[DETECTOR])
    detections = detection_columns(DETECTOR, batcher.finish())
    boxes = found_boxes([named(row, detector.params) for row in layouts], detections, detector.params)
    places = list(zip(table["id"].tolist(), table["object"].tolist(), strict=True))
    of_layout = {row["id"]: [thing["box"] for thing in row["objects"]] for row in layouts}
    return table.assign(
        box=[boxes.get(place, of_layout[place[0]][place[1]]) for place in places],
        found=[place in boxes for place in places],
    )


if __name__ == "__main__":
    run(main)
