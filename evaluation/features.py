"""Features of one shard of one method: whole images, captions, region crops and their labels, and detections, in one pass.

    python -m evaluation.features --layouts layouts/test/0000.jsonl --images samples/hcma/test/0000.zip \
        --regions regions/test/0000.parquet --extractors extractors.json --out features/hcma/test/0000.npz

The npz holds, in the order of the layouts and regions, image_{ids,image_ids,text,text_cut} and
region_{ids,objects,image_ids,text,text_cut}, the last of each: whether the text was longer than CLIP's context and so cut,
{image,region}_{name} for every extractor of the configuration (frechet, clip, and frechet_legacy and cmmd where there), all
features float32; with a detector, detection_{ids,boxes,scores,labels}; `about`: which networks made them; `source`: what
made the images. An image is decoded once, and only a batch of them is held at a time.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.crops import crop, kept_boxes, read_regions
from evaluation.feature_files import joined
from evaluation.layouts import read_layouts
from evaluation.metrics import METRICS
from evaluation.metrics.adherence import check_labels
from evaluation.protocol import Protocol, add_options, at_resolution, check_resolution, chosen, framed
from evaluation.sizes import BATCH
from formats.cli import options, quick_imports, run
from formats.files import InputError, read_json, replacing
from formats.images import check_images, read_images, read_meta

# The networks are imported when the images have been checked.
if TYPE_CHECKING:
    from evaluation.detectors import Detections, Detector
    from evaluation.extractors import Extractor

    SeenBy = tuple[dict[str, Extractor], Detector | None, Protocol]

# All that a metric needs but the detector.
NAMES = tuple(dict.fromkeys(metric.extractor for metric in METRICS.values() if metric.level != "box"))
FRECHET = ("frechet", "frechet_legacy")
DETECTOR = "detector"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument(
        "--extractors", type=Path, required=True, help="a configuration as JSON, or its section `extractors`"
    )
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layouts = read_layouts(arguments.layouts)
    ids = [row["id"] for row in layouts]
    table = read_regions(arguments.regions, ids)
    protocol = chosen(arguments)
    # Before a network is loaded.
    check_resolution(arguments.images, check_images(arguments.images, ids), protocol.resolution)
    content = read_json(arguments.extractors)
    stanzas = {name: stanza for name, stanza in content.get("extractors", content).items() if stanza}
    with quick_imports():
        networks, detector = load_networks(stanzas)
    write_features(arguments.images, layouts, table, (networks, detector, protocol), arguments.out)


def write_features(
    images: Path,
    layouts: Sequence[dict[str, Any]],
    table: pd.DataFrame,
    seen_by: "SeenBy",
    out: Path,
) -> None:
    """Write one npz of features of all layouts' images and the regions that `table` keeps, whole or not at all.

    seen_by: the networks, the detector if any, and the protocol. Raises InputError.
    """
    networks, detector, protocol = seen_by
    if detector:
        check_labels(layouts, detector.labels, detector.name)
    arrays = extract(images, layouts, table, seen_by)
    labels = [protocol.label_template.format(label=phrase) for phrase in table["phrase"]]
    arrays |= keys(layouts, table)
    arrays |= _texts(networks["clip"], "image", [row["caption"] for row in layouts])
    arrays |= _texts(networks["clip"], "region", labels)
    stated = {"about": about(*seen_by), "source": source(read_meta(images))}
    arrays |= {name: np.array(json.dumps(content, sort_keys=True)) for name, content in stated.items()}
    with replacing(out) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays, allow_pickle=False)


def load_networks(stanzas: dict[str, Any]) -> tuple[dict[str, "Extractor"], "Detector | None"]:
    """The extractors of a configuration by name, and its detector; raises InputError for a clip that reads no text."""
    from evaluation.detectors import load_detector
    from evaluation.extractors import load_extractor

    networks = {name: load_extractor(stanzas[name]) for name in NAMES if name in stanzas}
    if networks["clip"].texts is None:
        raise InputError(f"extractors.clip: {networks['clip'].name} has no text tower")
    return networks, load_detector(stanzas[DETECTOR]) if DETECTOR in stanzas else None


def about(networks: dict[str, "Extractor"], detector: "Detector | None", protocol: Protocol) -> dict[str, Any]:
    """Which networks, at which sizes and from which weights, and the protocol."""
    import torch

    made: dict[str, Any] = {
        name: {"name": network.name, "resize": network.resize, "sha256": network.sha256}
        for name, network in networks.items()
    }
    made["clip"]["context"] = networks["clip"].context
    if detector:
        made[DETECTOR] = {"name": detector.name, "sha256": detector.sha256}
    return made | protocol.about() | {"batch": BATCH, "torch": torch.__version__}


def source(meta: dict[str, Any]) -> dict[str, Any]:
    """What of a shard's meta.json decides its images: the specification, weights and library versions."""
    return {name: meta.get(name) for name in ("spec", "weights_sha256", "versions", "photos", "size", "resize")}


def keys(layouts: Sequence[dict[str, Any]], table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which image or region each row is of."""
    return {
        "image_ids": np.array([row["id"] for row in layouts], np.int64),
        "image_image_ids": np.array([row["image_id"] for row in layouts], np.int64),
        "region_ids": table["id"].to_numpy(np.int64),
        "region_objects": table["object"].to_numpy(np.int64),
        "region_image_ids": table["image_id"].to_numpy(np.int64),
    }


def extract(
    images: Path,
    layouts: Sequence[dict[str, Any]],
    table: pd.DataFrame,
    seen_by: "SeenBy",
) -> dict[str, np.ndarray]:
    """Features of all images and of the crops that `table` cuts from them, and what the detector finds.

    seen_by: the networks, the detector if any, and the protocol. Raises InputError that lists the images that are black all
    over, as a failed decoder leaves them.
    """
    networks, detector, protocol = seen_by
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    boxes = kept_boxes(layouts, table)
    found: list[tuple[int, Detections]] = []
    black: list[int] = []
    crops: list[np.ndarray] = []
    for batch in _batches(read_images(images, list(boxes))):
        black += [number for number, pixels in batch if not pixels.any()]
        pixels = [image for _, image in batch]
        sized = [at_resolution(image, protocol.resolution) for image in pixels]
        for name, network in networks.items():
            _add(parts, "image", sized if name in FRECHET else pixels, {name: network})
        if detector:
            found += zip([number for number, _ in batch], detector.detect(pixels), strict=True)
        crops += [framed(crop(image, box), protocol) for number, image in batch for _, box in boxes[number]]
        while len(crops) >= BATCH:
            _add(parts, "region", crops[:BATCH], networks)
            crops = crops[BATCH:]
    if black:
        listed = ", ".join(map(str, black))
        raise InputError(f"{images}: {len(black)} images are black all over: {listed}; sample them again")
    _add(parts, "region", crops, networks)
    return {name: joined(arrays) for name, arrays in parts.items()} | (_detections(found) if detector else {})


def _batches(images: Iterable[tuple[int, np.ndarray]]) -> Iterator[list[tuple[int, np.ndarray]]]:
    rest = iter(images)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _add(
    parts: dict[str, list[np.ndarray]], level: str, pixels: Sequence[np.ndarray], networks: dict[str, "Extractor"]
) -> None:
    for name, network in networks.items():
        parts[f"{level}_{name}"].append(network.features(pixels) if pixels else np.zeros((0, 0), np.float32))


def _detections(found: Sequence[tuple[int, "Detections"]]) -> dict[str, np.ndarray]:
    """One row a detection, in the order of the images."""
    return {
        "detection_ids": np.array([number for number, seen in found for _ in seen.labels], np.int64),
        "detection_boxes": np.concatenate([np.zeros((0, 4), np.float32), *(seen.boxes_N4 for _, seen in found)]),
        "detection_scores": np.concatenate([np.zeros(0, np.float32), *(seen.scores_N for _, seen in found)]),
        "detection_labels": np.array([label for _, seen in found for label in seen.labels], np.str_),
    }


def _texts(clip: "Extractor", level: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    """Text features and which texts were cut, each distinct text encoded once."""
    assert clip.texts is not None and clip.cut is not None
    distinct = sorted(set(strings))
    rows = {text: number for number, text in enumerate(distinct)}
    places = [rows[text] for text in strings]
    return {f"{level}_text": clip.texts(distinct)[places], f"{level}_text_cut": clip.cut(distinct)[places]}


if __name__ == "__main__":
    run(main)
