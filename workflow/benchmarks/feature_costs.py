"""What features, detections and distances of a run cost: networks are timed on the evaluation's device, distances were before.

Networks have random weights in their published architectures, as `feature_rates` writes them, so that nothing is fetched first;
reading and resizing are timed on one core.
"""

import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.detectors import load_detector
from evaluation.extractors import load_extractor, stacked
from evaluation.judges import load_judge
from evaluation.networks import BATCH, DETECTIONS, FEATURES, SCORES, measured_by
from formats.device import device_name
from formats.images import OpenImages
from workflow.benchmarks.feature_rates import write_pictures, write_stanza
from workflow.benchmarks.rounds import fastest
from workflow.plan import REAL, Plan

# Scored regions of an image, and processor seconds of the distances: measured with 30,000 images and 99,000 regions of 2,048
# dimensions by `make bench-scale`: 312 seconds a row (summed up, measured, by sample size) and 206 a pair of rows.
REGIONS = 3.3
A_ROW, A_PAIR = 312 / 30_000, 206 / 30_000
# What an open-vocabulary detector is asked for; more phrases cost little beside the image.
PHRASES = ["person", "dog", "car"]


@dataclass(frozen=True)
class Evaluation:
    """What a run evaluates: images whose features are taken; the test sample, rows and pairs of rows on it; a job's workers."""

    images: int
    test: int
    rows: int
    pairs: int
    workers: int


def evaluation_of(plan: Plan) -> Evaluation:
    """All that a plan evaluates, the photos included."""
    heldout = plan.settings.alignment.calibrate.images or plan.count("heldout")
    photos = sum(
        count for split, count in (("test", plan.count("test")), ("heldout", heldout)) if plan.has_photos(split)
    )
    if plan.path.summary(REAL, "val") in plan.real_summary("test"):
        photos += plan.count("val")
    rows = [*plan.methods, *plan.repeats]
    return Evaluation(
        images=sum(sampled.images for sampled in plan.sampled) + len(plan.imported) * plan.count("test") + photos,
        test=plan.count("test"),
        rows=len(rows) + plan.has_photos("test"),
        pairs=sum(len(plan.partners(row)) for row in plan.methods),
        workers=plan.evaluation_threads * plan.evaluation_gpus,
    )


def time_networks(stanzas: dict[str, Any], device: torch.device, side: int) -> dict[str, Any]:
    """Seconds of a picture by network, `computed` on the device and `prepared` on a core, how many `pictures` of an image it
    sees, and seconds of an image's `reading`.

    Pictures have `side` pixels; a region, which has fewer, is taken for one.
    """
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed = {}
        for key, stanza in ((key, stanza) for key, stanza in stanzas.items() if stanza):
            measures = measured_by(stanza["kind"])
            if not (made := with_weights(key, stanza, folder / key)):
                continue
            seconds = TIMED[measures](made, device, picture)
            timed[key] = seconds | {"pictures": 1 + REGIONS if measures == FEATURES else 1}
            shutil.rmtree(folder / key, ignore_errors=True)
        write_pictures(folder / "shard.zip", 1, side)
        with closing(OpenImages(folder / "shard.zip", [0])) as images:
            reading = fastest(lambda: images.pixels(0))
    untimed = sorted(stanzas.keys() - timed.keys())
    return {
        "device": device_name(device),
        "type": device.type,
        "networks": timed,
        "untimed": untimed,
        "reading": reading,
    }


def with_weights(key: str, stanza: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """A stanza with random weights in its published architecture; None of another network whose weights are not there."""
    made = write_stanza(key, stanza, folder)
    return made if not made.get("path") or Path(made["path"]).is_file() else None


def time_extractor(stanza: dict[str, Any], device: torch.device, picture_HW3: np.ndarray) -> dict[str, float]:
    """Seconds of a picture, in a batch of as many as the evaluation has on a GPU, of fewer on a CPU, where it matters less."""
    network, batch = load_extractor(stanza, device), BATCH if device.type == "cuda" else BATCH // 4
    inputs = stacked([network.prepare(picture_HW3)] * batch)
    # Reading a value waits for the device.
    computed = fastest(lambda: float(network.encode(inputs)[0, 0])) / batch
    return {"computed": computed, "prepared": fastest(lambda: network.prepare(picture_HW3))}


def time_detector(stanza: dict[str, Any], device: torch.device, picture_HW3: np.ndarray) -> dict[str, float]:
    """Seconds of an image, likewise; on a CPU of one alone."""
    detector, batch = load_detector(stanza, device), BATCH if device.type == "cuda" else 1
    images = [torch.from_numpy(np.array(detector.prepare(picture_HW3)))] * batch
    computed = fastest(lambda: detector.find(images, [PHRASES] * batch)) / batch
    return {"computed": computed, "prepared": fastest(lambda: detector.prepare(picture_HW3))}


def time_judge(stanza: dict[str, Any], device: torch.device, picture_HW3: np.ndarray) -> dict[str, float]:
    """Seconds of an image with its caption, in a batch as an extractor's."""
    judge, batch = load_judge(stanza, device), BATCH if device.type == "cuda" else BATCH // 4
    inputs = stacked([judge.prepare(picture_HW3)] * batch)
    computed = fastest(lambda: float(judge.score(inputs, ["a dog beside a car"] * batch)[0])) / batch
    return {"computed": computed, "prepared": fastest(lambda: judge.prepare(picture_HW3))}


TIMED = {FEATURES: time_extractor, DETECTIONS: time_detector, SCORES: time_judge}


def an_image(timed: dict[str, Any], workers: int) -> float:
    """Seconds of an image with its regions, through all networks: on a GPU those of whichever lets the other wait."""
    computed, prepared = 0.0, timed["reading"]
    for each in timed["networks"].values():
        computed += each["pictures"] * each["computed"]
        prepared += each["pictures"] * each["prepared"]
    return max(computed, prepared / max(workers, 1)) if timed["type"] == "cuda" else computed + prepared


def note(run: Evaluation, timed: dict[str, Any]) -> str:
    """A sentence on what the evaluation of a run costs."""
    features = run.images * an_image(timed, run.workers) / 3600
    distances = run.test * (run.rows * A_ROW + run.pairs * A_PAIR) / 3600
    untimed = ", ".join(timed.get("untimed", []))
    without = f" (without {untimed}, whose weights are not here)" if untimed else ""
    return (
        f"Evaluation: {features:.3g} hours on one {timed['device']} for features and detections of {run.images:,} images"
        f" at {REGIONS} regions each{without}, and {distances:.3g} processor hours for distances of {run.rows} rows and"
        f" {run.pairs} pairs, as measured before (312 s a row and 206 s a pair at 30,000 images)."
    )
