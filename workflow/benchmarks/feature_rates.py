"""Images and regions a second through the evaluation's networks on a device, and how far its numbers are from the CPU's.

A shard of 512 px pictures made up here, their layouts, and random weights in the published architectures, all in a temporary
folder; a stanza of `small_features`, `small_detector` or a model of its own keeps its file. The detector's are always sure of a
dog, so that it finds something. What is timed is the evaluation's own work, networks loaded and warm:

    extractors  all extractors at both levels, from the shard's file to arrays
    detector    each detector alone, likewise, by its name in the configuration
    prepared    the workers alone: what is read, cut and resized a second
    alone       each network alone, on a batch that is on the device already

Images and regions are `pictures`. `differences` are those of the first images and their regions: the largest of a picture's
features, as a share of their norm, on the device against the CPU; of detections, whether there are as many of the same labels,
and the largest of boxes and scores.
"""

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from evaluation.crops import kept_boxes
from evaluation.extractors import CPU, Extractor, stacked
from evaluation.features import Networks, extract, load_networks
from evaluation.loader import Pictures, load
from evaluation.networks import BATCH, DETECTOR, detection_arrays
from evaluation.protocol import Protocol
from evaluation.regions import regions as tabulate
from formats.checksums import digests, write_sums
from formats.containers import SAFETENSORS
from formats.device import device_name, system, take_device
from formats.files import read_json, write_json
from formats.images import png_name, write_files
from formats.records import commit, versions
from workflow.random_weights.architecture import Network, read_architecture
from workflow.random_weights.folder import write_network, write_pipeline_files

SIDE = 512
DISTINCT = 64  # pictures; a shard repeats them
REPEATS = 20
DOG, SURE = 18, 9.0
PROTOCOL = Protocol(min_side=32, resolution=256)
LIBRARIES = ("numpy", "PIL", "torch", "torchvision", "open_clip")  # by the names of their modules
# Architectures of workflow.random_weights, by kind; open_clip's are its own.
WRITTEN = {
    "open_clip": "",
    "inception_clean": "inception",
    "inception_legacy": "inception",
    "faster_rcnn": "detector",
    "dinov2": "dinov2",
    "grounding_dino": "grounding-dino",
    "owlv2": "owlv2",
}
PUBLISHED: dict[str, Any] = {
    "frechet": {"kind": "inception_clean"},
    "frechet_legacy": {"kind": "inception_legacy"},
    "clip": {"kind": "open_clip", "model": "ViT-B-32-quickgelu"},
    "cmmd": {"kind": "open_clip", "model": "ViT-L-14-336-quickgelu"},
    DETECTOR: {"kind": "faster_rcnn"},
    "dinov2": {"kind": "dinov2"},
    "grounding_dino": {"kind": "grounding_dino"},
    "owlv2": {"kind": "owlv2"},
}


def main(
    extractors: Path | None, images: int, regions: int, compared: int, device: str, workers: int, out: Path
) -> None:
    """Measure, print and write."""
    taken = take_device(device)
    content = read_json(extractors) if extractors else PUBLISHED
    stanzas = {name: stanza for name, stanza in content.get("extractors", content).items() if stanza}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stanzas = {key: write_stanza(key, stanza, folder / key) for key, stanza in stanzas.items()}
        write_pictures(folder / "all.zip", images)
        write_pictures(folder / "few.zip", min(images, compared))
        networks = load_networks(stanzas, taken)
        found = measured(folder, images, regions, networks, workers)
        found["differences"] = differences(folder / "few.zip", min(images, compared), regions, stanzas, networks)
    made: dict[str, Any] = {
        "device": device_name(taken),
        "system": system(taken),
        "commit": commit(),
        "versions": versions(LIBRARIES),
    }
    if taken.type == "cuda":
        made["peak_gpu_gib"] = torch.cuda.max_memory_allocated(taken) / 2**30
    asked = {"images": images, "regions_an_image": regions, "side": SIDE, "workers": workers}
    stated = {key: {k: v for k, v in stanza.items() if k not in ("path", "sha256")} for key, stanza in stanzas.items()}
    write_json(out, made | asked | {"extractors": stated} | found)
    print(out.read_text(encoding="utf-8"), end="")


def write_stanza(key: str, stanza: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The stanza with a file of random weights in the published architecture of its kind; as it is where it has none."""
    kind, model = stanza["kind"], stanza.get("model") or ""
    named = {"name": key} | stanza
    if kind.startswith("small") or model.endswith(".json") or kind not in WRITTEN:
        return named
    if kind == "open_clip":
        config = open_clip.get_model_config(model)
        network = Network("CLIP", config, "model.safetensors", SAFETENSORS, "clip", parameters={})
    else:
        architecture = read_architecture(WRITTEN[kind])
        (network,) = architecture.components.values()
        write_pipeline_files(architecture, folder)
    write_network(network, key, 0, folder)
    if kind == "faster_rcnn":
        state = torch.load(folder / network.file, weights_only=True)
        # Random products would throw boxes out of the image and scores to any label.
        for head in ("rpn.head.bbox_pred", "roi_heads.box_predictor.bbox_pred", "roi_heads.box_predictor.cls_score"):
            state[f"{head}.weight"] *= 0.01
        state["roi_heads.box_predictor.cls_score.bias"][DOG] = SURE
        torch.save(state, folder / network.file)
    write_sums(folder, digests(folder))
    return {field: value for field, value in named.items() if field != "sha256"} | {"path": str(folder / network.file)}


def write_pictures(path: Path, count: int, side: int = SIDE) -> None:
    """A shard of pictures that PNG makes of photos' size: smooth, with noise."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(min(count, DISTINCT)):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "PNG")
        files.append(file.getvalue())
    write_files(path, ((png_name(number), files[number % DISTINCT]) for number in range(count)), {})


def layouts_of(images: int, regions: int) -> list[dict[str, Any]]:
    """Layouts of so many boxes each, of 80 to 300 pixels a side."""
    rng = np.random.default_rng(99)
    rows = []
    for number in range(images):
        sides = rng.uniform(80 / SIDE, 300 / SIDE, (regions, 2))
        corners = rng.uniform(0, 1, (regions, 2)) * (1 - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1).round(6).tolist()
        things = [{"phrase": "dog", "box": box} for box in boxes]
        rows.append({"id": number, "image_id": number, "caption": "a dog", "objects": things})
    return rows


def measured(folder: Path, images: int, regions: int, networks: Networks, workers: int) -> dict[str, Any]:
    """Seconds and rates of all that is timed."""
    layouts = layouts_of(images, regions)
    table = tabulate(layouts, SIDE, PROTOCOL.min_side)
    pictures = images + len(table)
    few = layouts_of(min(images, BATCH), regions)
    write_pictures(folder / "warm.zip", len(few))
    extract(folder / "warm.zip", few, tabulate(few, SIDE, PROTOCOL.min_side), networks, PROTOCOL)
    found: dict[str, Any] = {"pictures": pictures}
    extractors = Networks(networks.extractors)
    spent = _seconds(lambda: extract(folder / "all.zip", layouts, table, extractors, PROTOCOL, workers))
    found["extractors"] = {"seconds": spent, "pictures_a_second": pictures / spent}
    for name, detector in networks.detectors.items():
        work = partial(
            extract, folder / "all.zip", layouts, table[:0], Networks({}, {name: detector}), PROTOCOL, workers
        )
        spent = _seconds(work)
        found[name] = {"seconds": spent, "images_a_second": images / spent}
    prepare = {name: network.prepare for name, network in networks.extractors.items()}
    shard = Pictures(folder / "all.zip", kept_boxes(layouts, table), PROTOCOL, prepare, {})
    spent = _seconds(lambda: [chunk.ids for chunk in load(shard, workers, pinned=False)])
    found["prepared"] = {"seconds": spent, "pictures_a_second": pictures / spent}
    found["alone"] = {name: {"pictures_a_second": rate_alone(network)} for name, network in networks.extractors.items()}
    return found


def rate_alone(network: Extractor) -> float:
    """Pictures a second of one network, whose batch is on the device."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    batch = stacked([network.prepare(picture)] * BATCH).to(network.device)
    repeats = REPEATS if network.device.type == "cuda" else 1

    def work() -> None:
        for _ in range(repeats):
            found = network.encode(batch)
        float(found[0, 0])  # waits for the device

    work()
    return BATCH * repeats / _seconds(work)


def differences(
    shard: Path,
    images: int,
    regions: int,
    stanzas: dict[str, Any],
    networks: Networks,
) -> dict[str, Any]:
    """The device's features against the CPU's, and its detections."""
    layouts = layouts_of(images, regions)
    table = tabulate(layouts, SIDE, PROTOCOL.min_side)
    found = extract(shard, layouts, table, networks, PROTOCOL)
    expected = extract(shard, layouts, table, load_networks(stanzas, CPU), PROTOCOL)
    apart: dict[str, Any] = {}
    for name in networks.extractors:
        gaps = [_relative(found[f"{level}_{name}"], expected[f"{level}_{name}"]) for level in ("image", "region")]
        apart[name] = max(gaps)
    for name in networks.detectors:
        ids, boxes, scores, labels = detection_arrays(name)
        same = all(np.array_equal(found[key], expected[key]) for key in (ids, labels))
        gaps = [np.abs(found[key] - expected[key]).max(initial=0) for key in ((boxes, scores) if same else ())]
        counts = [len(side[ids]) for side in (found, expected)]
        apart[name] = {"counts": counts, "same_labels": same, "largest": float(max(gaps)) if gaps else None}
    return apart


def _relative(found_ND: np.ndarray, expected_ND: np.ndarray) -> float:
    """The largest distance of two pictures' features, as a share of the expected ones' norm."""
    gaps = np.linalg.norm(found_ND - expected_ND, axis=1) / np.linalg.norm(expected_ND, axis=1)
    return float(gaps.max())


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
