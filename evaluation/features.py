r"""Features of one shard of one method: whole images, captions, region crops and their labels, and detections, in one pass.

    python -m evaluation.features --layouts layouts/test/0000.jsonl --images samples/hcma/test/0000.zip \
        --regions regions/test/0000.parquet --extractors extractors.json --out features/hcma/test/0000.npz

The npz holds, in the order of the layouts and regions (I images, R regions, B boxes of all layouts, F found by a detector):

    image_ids, image_image_ids [I], region_ids, region_objects, region_image_ids [R]: which layout, object and photo
    image_NAME [I, D], region_NAME [R, D]: features by each extractor, float32
    region_found [R]: of a table of regions that says so, whether the object was found (evaluation.detected_regions)
    image_text [I, D], region_text [R, D], image_text_cut [I], region_text_cut [R]: CLIP's of the captions and labels, and
        whether a text was longer than its context
    detection_{ids,boxes,scores,labels} [F]: what `detector` found; of a further detector NAME_detection_...
    NAME_detection_cut [B]: whether a box's phrase was longer than that detector reads
    judge_NAME [I], judge_NAME_cut [I]: a judge's score, and whether the caption was longer than it reads
    what metrics of one's own carry (evaluation.metrics.own)
    about, source: JSON of the networks that made them, and of what made the images

An image is decoded once, for all networks and its regions, and only a few are held at a time.

--device cuda takes the first GPU that no other job of this harness holds; --workers are processes that read, cut and resize for
it. Features do not depend on their number.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.crops import kept_boxes, read_regions
from evaluation.feature_files import joined
from evaluation.layouts import read_layout_rows
from evaluation.metrics.adherence import asked, check_labels, named
from evaluation.metrics.own import SECTION, Own, Shard, load, section
from evaluation.networks import (
    BATCH,
    DETECTIONS,
    DETECTOR,
    FEATURES,
    NO_FRECHET,
    ROLES,
    SCORES,
    detection_arrays,
    measured_by,
    stated_of,
)
from evaluation.protocol import CROPS, Protocol, add_options, check_resolution, chosen
from formats.cli import integer_from, options, quick_imports, run
from formats.files import InputError, read_json, replacing
from formats.images import check_images, read_meta

# The networks are imported when the images have been checked.
if TYPE_CHECKING:
    import torch

    from evaluation.detectors import Detections, Detector
    from evaluation.extractors import Extractor
    from evaluation.judges import Judge


@dataclass(frozen=True)
class Networks:
    """The networks of a configuration, by their names there."""

    extractors: "dict[str, Extractor]"
    detectors: "dict[str, Detector]" = field(default_factory=dict)
    judges: "dict[str, Judge]" = field(default_factory=dict)

    def all(self) -> "dict[str, Extractor | Detector | Judge]":
        """Every one."""
        return {**self.extractors, **self.detectors, **self.judges}


def main() -> None:
    parser = options(__doc__)
    add_shard_options(parser)
    arguments = parser.parse_args()
    layouts = read_layout_rows(arguments.layouts)
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
        networks = load_networks(stanzas, device)
    workers = chosen_workers(arguments.workers, arguments.device)
    write_features(arguments.images, layouts, table, networks, protocol, arguments.out, workers, own)


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """What a program takes that looks at a shard's images with networks."""
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument(
        "--extractors", type=Path, required=True, help="a configuration as JSON, or its section `extractors`"
    )
    add_options(parser)
    add_device_options(parser)
    parser.add_argument("--out", type=Path, required=True)


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
    networks: Networks,
    protocol: Protocol,
    out: Path,
    workers: int = 0,
    own: Sequence[Own] = (),
) -> None:
    """Write one npz of features of all layouts' images and the regions that `table` keeps, whole or not at all.

    workers: as `loader.load`. own: metrics of one's own, for what they carry. Raises InputError.
    """
    for name, detector in networks.detectors.items():
        if detector.labels is not None:
            check_labels(layouts, detector.labels, detector.name, name)
    seen_by = networks.detectors.get(DETECTOR)
    for one in own:
        one.check(layouts, seen_by.labels if seen_by else None)
    carrying = [one for one in own if one.carries]
    arrays = extract(images, layouts, table, networks, protocol, workers)
    labels = [protocol.label_template.format(label=phrase) for phrase in table["phrase"]]
    arrays |= keys(layouts, table)
    detected = {"region_found": table["found"].to_numpy(bool)} if "found" in table else {}
    arrays |= detected
    clip = networks.extractors["clip"]
    arrays |= _texts(clip, "image", [row["caption"] for row in layouts])
    arrays |= _texts(clip, "region", labels)
    assert clip.texts is not None
    shard = Shard(layouts, table, arrays.copy(), clip.texts)
    for one in carrying:
        arrays |= one.carry(shard)
    made = about(networks, protocol)
    made |= {SECTION: {one.name: one.stated() for one in carrying}} if carrying else {}
    stated = {"about": made, "source": source(read_meta(images)) | ({"crops": CROPS[1]} if detected else {})}
    arrays |= {name: np.array(json.dumps(content, sort_keys=True)) for name, content in stated.items()}
    with replacing(out) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays, allow_pickle=False)


def load_networks(stanzas: dict[str, Any], device: "torch.device | None" = None) -> Networks:
    """The networks of a configuration on a device (the CPU).

    Raises InputError for a clip that reads no text, and for Frechet distances in another precision than float32.
    """
    from evaluation.detectors import load_detector
    from evaluation.extractors import CPU, FLOAT32, load_extractor, precision_of
    from evaluation.judges import load_judge

    found: dict[str, dict[str, Any]] = {measured: {} for measured in (FEATURES, DETECTIONS, SCORES)}
    load: dict[str, Callable[..., Any]] = {FEATURES: load_extractor, DETECTIONS: load_detector, SCORES: load_judge}
    for name in sorted(stanzas, key=lambda name: [*ROLES, name].index(name)):
        measured = ROLES.get(name) or measured_by(stanzas[name]["kind"]) or FEATURES
        precision = precision_of(stanzas[name], name)
        if measured == FEATURES and name not in NO_FRECHET and precision != FLOAT32:
            raise InputError(f"extractors.{name}: precision {precision}, expected float32: a Frechet distance needs it")
        found[measured][name] = load[measured](stanzas[name], device or CPU, name)
    networks = Networks(found[FEATURES], found[DETECTIONS], found[SCORES])
    if networks.extractors["clip"].texts is None:
        raise InputError(f"extractors.clip: {networks.extractors['clip'].name} has no text tower")
    return networks


def about(networks: Networks, protocol: Protocol) -> dict[str, Any]:
    """Which networks, at which sizes, from which weights and in which precision where it is not float32, and the protocol.

    Of further networks also what they measure, of extractors the least number of samples, and of all parameters that are not
    the usual ones.
    """
    import torch

    from evaluation.extractors import FLOAT32

    made: dict[str, Any] = {}
    for name, network in networks.all().items():
        one: dict[str, Any] = {"name": network.name, "sha256": network.sha256}
        one |= {"resize": resize} if (resize := getattr(network, "resize", "")) else {}
        one |= {"precision": network.precision} if network.precision != FLOAT32 else {}
        one |= {"params": params} if (params := stated_of(network.params)) else {}
        made[name] = one
    made["clip"]["context"] = networks.extractors["clip"].context
    for name in made.keys() - ROLES:
        if name in networks.extractors:
            made[name] |= {"measures": FEATURES, "least": networks.extractors[name].least}
        else:
            made[name] |= {"measures": DETECTIONS if name in networks.detectors else SCORES}
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
    networks: Networks,
    protocol: Protocol,
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """Features of all images and of the crops that `table` cuts from them, what detectors find, and what judges say.

    Raises InputError that lists the images that are black all over, as a failed decoder leaves them.
    """
    from evaluation.loader import Batches, Pictures, load

    extractors = networks.extractors
    batchers, captions = {}, {row["id"]: row["caption"] for row in layouts} if networks.judges else {}
    for name, detector in networks.detectors.items():
        batchers[name] = Batcher(detector.find, {row["id"]: asked(row, detector.params) for row in layouts})
    for name, judge in networks.judges.items():
        batchers[name] = Batcher(partial(_judged, judge), captions)
    prepare = {name: network.prepare for name, network in extractors.items()}
    watch = {name: network.prepare for name, network in networks.all().items() if name not in extractors}
    pictures = Pictures(images, kept_boxes(layouts, table), protocol, prepare, watch)
    parts: dict[str, list[torch.Tensor]] = {
        f"{level}_{name}": [] for level in ("image", "region") for name in extractors
    }
    waiting = {name: Batches() for name in parts}
    black: list[int] = []

    def encode(level: str, name: str, batches: Iterable["torch.Tensor"]) -> None:
        # What a GPU has found is copied while it goes on; nothing here waits for it before the end.
        parts[f"{level}_{name}"] += (extractors[name].encode(batch).to("cpu", non_blocking=True) for batch in batches)

    gpus = {network.device for network in networks.all().values() if network.device.type == "cuda"}
    for chunk in load(pictures, workers, bool(gpus)):
        black += chunk.black
        for level, stacks in (("image", chunk.images), ("region", chunk.regions)):
            for name, stack in stacks.items():
                on_device = stack.to(extractors[name].device, non_blocking=True)
                encode(level, name, waiting[f"{level}_{name}"].add(on_device))
        for name, batcher in batchers.items():
            batcher.add(chunk.ids, chunk.seen[name])
    if black:
        listed = ", ".join(map(str, black))
        raise InputError(f"{images}: {len(black)} images are black all over: {listed}; sample them again")
    for level in ("image", "region"):
        for name in extractors:
            encode(level, name, waiting[f"{level}_{name}"].rest())
    found = _arrays(parts, gpus)
    for name, detector in networks.detectors.items():
        found |= detection_columns(name, batchers[name].finish())
        if name not in ROLES:
            found[f"{name}_detection_cut"] = _truncated_phrases(detector, layouts)
    for name in networks.judges:
        found[f"judge_{name}"] = np.array([score for _, score in batchers[name].finish()], np.float32)
    for name, judge in networks.judges.items():
        found[f"judge_{name}_cut"] = _truncated(judge, [row["caption"] for row in layouts])
    return found


def _judged(judge: "Judge", images: "Sequence[torch.Tensor]", captions: Sequence[str]) -> list[float]:
    """A number an image."""
    import torch

    return judge.score(torch.stack(list(images)), captions).cpu().tolist()


class Batcher:
    """Gives a detector or judge BATCH images at a time, and keeps its results in the order of the images.

    look: from prepared images and the text or texts of each to a result each. texts: by layout id.
    """

    def __init__(self, look: Callable[..., Sequence[Any]], texts: Mapping[int, Any]) -> None:
        self._look, self._texts = look, texts
        self._waiting: list[tuple[int, torch.Tensor]] = []
        self._found: list[tuple[int, Any]] = []

    def add(self, ids: Sequence[int], prepared: "Sequence[torch.Tensor]") -> None:
        """Hand over prepared images; full batches are run."""
        self._waiting += zip(ids, prepared, strict=True)
        while len(self._waiting) >= BATCH:
            self._run_batch()

    def finish(self) -> list[tuple[int, Any]]:
        """Run the rest; layout id and result of every image."""
        while self._waiting:
            self._run_batch()
        return self._found

    def _run_batch(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        ids = [number for number, _ in batch]
        found = self._look([image for _, image in batch], [self._texts[number] for number in ids])
        self._found += zip(ids, found, strict=True)


def _arrays(parts: "dict[str, list[torch.Tensor]]", gpus: "set[torch.device]") -> dict[str, np.ndarray]:
    """Features by name, once all copies from GPUs are there; those of no pictures have no width."""
    import torch

    for gpu in gpus:
        torch.cuda.synchronize(gpu)
    none = [np.zeros((0, 0), np.float32)]
    return {name: joined([part.numpy() for part in found] or none) for name, found in parts.items()}


def detection_columns(name: str, found: "Sequence[tuple[int, Detections]]") -> dict[str, np.ndarray]:
    """What a detector found, by the names of its arrays: one row a detection, in the order of the images."""
    columns = (
        np.array([number for number, seen in found for _ in seen.labels], np.int64),
        np.concatenate([np.zeros((0, 4), np.float32), *(seen.boxes_N4 for _, seen in found)]),
        np.concatenate([np.zeros(0, np.float32), *(seen.scores_N for _, seen in found)]),
        np.array([label for _, seen in found for label in seen.labels], np.str_),
    )
    return dict(zip(detection_arrays(name), columns, strict=True))


def _truncated_phrases(detector: "Detector", layouts: Sequence[dict[str, Any]]) -> np.ndarray:
    """Of every box whether the detector reads only the beginning of what it is asked for, bool [N]."""
    return _truncated(
        detector, [thing["phrase"] for row in layouts for thing in named(row, detector.params)["objects"]]
    )


def _truncated(network: "Detector | Judge", texts: Sequence[str]) -> np.ndarray:
    """Which texts a network reads only the beginning of, bool [N]."""
    if network.cut is None or not texts:
        return np.zeros(len(texts), bool)
    distinct = sorted(set(texts))
    known = dict(zip(distinct, network.cut(distinct).tolist(), strict=True))
    return np.array([known[text] for text in texts], bool)


def _texts(clip: "Extractor", level: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    """Text features and which texts were cut, each distinct text encoded once."""
    assert clip.texts is not None and clip.cut is not None
    distinct = sorted(set(strings))
    rows = {text: number for number, text in enumerate(distinct)}
    places = [rows[text] for text in strings]
    return {f"{level}_text": clip.texts(distinct)[places], f"{level}_text_cut": clip.cut(distinct)[places]}


if __name__ == "__main__":
    run(main)
