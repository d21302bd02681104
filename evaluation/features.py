"""Features of one shard of one method: whole images, captions, region crops and their labels, and detections, in one pass.

    python -m evaluation.features --layouts layouts/test/0000.jsonl --images samples/hcma/test/0000.zip \
        --regions regions/test/0000.parquet --extractors extractors.json --out features/hcma/test/0000.npz

The npz holds, in the order of the layouts and regions, image_{ids,image_ids,text,text_cut} and
region_{ids,objects,image_ids,text,text_cut}, the last of each: whether the text was longer than CLIP's context and so cut,
{image,region}_{name} for every extractor of the configuration (frechet, clip, and frechet_legacy and cmmd where there), all
features float32; with a detector, detection_{ids,boxes,scores,labels}; what the
configuration's metrics carry (evaluation.metrics.own); `about`: which networks made them; `source`: what
made the images. An image is decoded once, for all networks and its regions, and only a few are held at a time.

--device cuda takes the first GPU that no other job of this harness holds; --workers are processes that read, cut and resize for
it. Features do not depend on their number.
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.crops import kept_boxes, read_regions
from evaluation.feature_files import joined
from evaluation.layouts import read_layouts
from evaluation.metrics import METRICS
from evaluation.metrics.adherence import check_labels
from evaluation.metrics.own import SECTION, Own, Shard, load, section
from evaluation.protocol import FRECHET, Protocol, add_options, check_resolution, chosen
from evaluation.sizes import BATCH
from formats.cli import integer_from, options, quick_imports, run
from formats.files import InputError, read_json, replacing
from formats.images import check_images, read_meta

# The networks are imported when the images have been checked.
if TYPE_CHECKING:
    import torch

    from evaluation.detectors import Detections, Detector
    from evaluation.extractors import Extractor

# All that a metric needs but the detector.
DETECTOR = "detector"
NAMES = tuple(dict.fromkeys(metric.extractor for metric in METRICS.values() if metric.extractor != DETECTOR))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument(
        "--extractors", type=Path, required=True, help="a configuration as JSON, or its section `extractors`"
    )
    add_options(parser)
    add_device_options(parser)
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
    own = load(section(content)) if "extractors" in content else []
    with quick_imports():
        from formats.device import take_device

        device = take_device(arguments.device)
        networks, detector = load_networks(stanzas, device)
    workers = chosen_workers(arguments.workers, arguments.device)
    write_features(arguments.images, layouts, table, networks, detector, protocol, arguments.out, workers, own)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """--device and --workers."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument(
        "--workers",
        type=integer_from(0),
        help="processes that read and resize (with a GPU one a core, else 0: this process, since torch has the cores)",
    )


def chosen_workers(asked: int | None, device: str) -> int:
    """Worker processes for a device, where not asked for: none on the CPU, else one a core that this process may use."""
    if asked is not None:
        return asked
    if device == "cpu":
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_features(
    images: Path,
    layouts: Sequence[dict[str, Any]],
    table: pd.DataFrame,
    networks: "dict[str, Extractor]",
    detector: "Detector | None",
    protocol: Protocol,
    out: Path,
    workers: int = 0,
    own: Sequence[Own] = (),
) -> None:
    """Write one npz of features of all layouts' images and the regions that `table` keeps, whole or not at all.

    workers: as `loader.load`. own: metrics of one's own, for what they carry. Raises InputError.
    """
    if detector:
        check_labels(layouts, detector.labels, detector.name)
    for one in own:
        one.check(layouts, detector.labels if detector else None)
    carrying = [one for one in own if one.carries]
    arrays = extract(images, layouts, table, networks, detector, protocol, workers)
    labels = [protocol.label_template.format(label=phrase) for phrase in table["phrase"]]
    arrays |= keys(layouts, table)
    arrays |= _texts(networks["clip"], "image", [row["caption"] for row in layouts])
    arrays |= _texts(networks["clip"], "region", labels)
    assert networks["clip"].texts is not None
    shard = Shard(layouts, table, arrays.copy(), networks["clip"].texts)
    for one in carrying:
        arrays |= one.carry(shard)
    made = about(networks, detector, protocol)
    made |= {SECTION: {one.name: one.stated() for one in carrying}} if carrying else {}
    stated = {"about": made, "source": source(read_meta(images))}
    arrays |= {name: np.array(json.dumps(content, sort_keys=True)) for name, content in stated.items()}
    with replacing(out) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays, allow_pickle=False)


def load_networks(
    stanzas: dict[str, Any], device: "torch.device | None" = None
) -> tuple[dict[str, "Extractor"], "Detector | None"]:
    """The extractors of a configuration by name, and its detector, on a device (the CPU).

    Raises InputError for a clip that reads no text, and for Frechet distances in another precision than float32.
    """
    from evaluation.detectors import load_detector
    from evaluation.extractors import CPU, FLOAT32, load_extractor, precision_of

    for name in FRECHET:
        if name in stanzas and (precision := precision_of(stanzas[name])) != FLOAT32:
            raise InputError(f"extractors.{name}: precision {precision}, expected float32: a Frechet distance needs it")
    networks = {name: load_extractor(stanzas[name], device or CPU) for name in NAMES if name in stanzas}
    if networks["clip"].texts is None:
        raise InputError(f"extractors.clip: {networks['clip'].name} has no text tower")
    return networks, load_detector(stanzas[DETECTOR], device or CPU) if DETECTOR in stanzas else None


def about(networks: dict[str, "Extractor"], detector: "Detector | None", protocol: Protocol) -> dict[str, Any]:
    """Which networks, at which sizes, from which weights and in which precision where it is not float32, and the protocol."""
    import torch

    from evaluation.extractors import FLOAT32

    made: dict[str, Any] = {
        name: {"name": network.name, "resize": network.resize, "sha256": network.sha256}
        for name, network in networks.items()
    }
    made["clip"]["context"] = networks["clip"].context
    if detector:
        made[DETECTOR] = {"name": detector.name, "sha256": detector.sha256}
    precisions = {name: network.precision for name, network in networks.items()}
    precisions |= {DETECTOR: detector.precision} if detector else {}
    for name, precision in precisions.items():
        made[name] |= {"precision": precision} if precision != FLOAT32 else {}
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
    networks: "dict[str, Extractor]",
    detector: "Detector | None",
    protocol: Protocol,
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """Features of all images and of the crops that `table` cuts from them, and what the detector finds.

    Raises InputError that lists the images that are black all over, as a failed decoder leaves them.
    """
    from evaluation.loader import Batches, Pictures, load

    prepare = {name: network.prepare for name, network in networks.items()}
    pictures = Pictures(images, kept_boxes(layouts, table), protocol, prepare, detector.prepare if detector else None)
    parts: dict[str, list[torch.Tensor]] = {f"{level}_{name}": [] for level in ("image", "region") for name in networks}
    waiting = {name: Batches() for name in parts}
    looking: list[tuple[int, torch.Tensor]] = []
    found: list[tuple[int, Detections]] = []
    black: list[int] = []

    def encode(level: str, name: str, batches: Iterable["torch.Tensor"]) -> None:
        # What a GPU has found is copied while it goes on; nothing here waits for it before the end.
        parts[f"{level}_{name}"] += (networks[name].encode(batch).to("cpu", non_blocking=True) for batch in batches)

    def look(least: int) -> None:
        while detector and len(looking) >= least:
            batch = looking[:BATCH]
            del looking[:BATCH]
            found.extend(zip([number for number, _ in batch], detector.find([one for _, one in batch]), strict=True))

    gpus = {network.device for network in networks.values() if network.device.type == "cuda"}
    for chunk in load(pictures, workers, bool(gpus)):
        black += chunk.black
        for level, stacks in (("image", chunk.images), ("region", chunk.regions)):
            for name, stack in stacks.items():
                on_device = stack.to(networks[name].device, non_blocking=True)
                encode(level, name, waiting[f"{level}_{name}"].add(on_device))
        looking += zip(chunk.ids, chunk.seen, strict=True) if detector else []
        look(BATCH)
    if black:
        listed = ", ".join(map(str, black))
        raise InputError(f"{images}: {len(black)} images are black all over: {listed}; sample them again")
    for level in ("image", "region"):
        for name in networks:
            encode(level, name, waiting[f"{level}_{name}"].rest())
    look(1)
    return _arrays(parts, gpus) | (_detections(found) if detector else {})


def _arrays(parts: "dict[str, list[torch.Tensor]]", gpus: "set[torch.device]") -> dict[str, np.ndarray]:
    """Features by name, once all copies from GPUs are there; those of no pictures have no width."""
    import torch

    for gpu in gpus:
        torch.cuda.synchronize(gpu)
    none = [np.zeros((0, 0), np.float32)]
    return {name: joined([part.numpy() for part in found] or none) for name, found in parts.items()}


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
