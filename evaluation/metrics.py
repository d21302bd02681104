"""One method's numbers: Frechet distance to `real` and CLIP score, of whole images and of regions, and other distances.

    python -m evaluation.metrics --method hcma --split test --features features/hcma/test/*.npz \
        --reference features/real/test/*.npz --out metrics/hcma/test.json

CLIP scores are raw cosines, averaged over images or over regions. Standard errors are delete-a-group jackknives over
images, so the regions of one image stay together. `distances` holds, per level and by the same features, KID, precision,
recall, density and coverage; null where there are too few samples.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.feature_files import read_features
from evaluation.files import InputError, write_json
from evaluation.frechet import floor, leave_out_distance
from evaluation.jackknife import GROUPS, groups, jackknife
from evaluation.kernel import NEIGHBOURS, kid, neighbourhood, thinned
from evaluation.program import run

LEVELS = ("image", "region")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--reference", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found, about = read_features(arguments.features)
    reference, reference_about = read_features(arguments.reference)
    if about != reference_about:
        raise InputError(f"{arguments.features[0]}: made by {about}, the reference by {reference_about}")
    row = {"method": arguments.method, "split": arguments.split}
    write_json(arguments.out, row | measure(found, reference) | {"protocol": about | {"groups": GROUPS}})


def measure(found: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """Counts and the four metrics; raises InputError unless both hold the same images and regions."""
    for key in ("image_ids", "region_ids", "region_objects"):
        if not np.array_equal(found[key], reference[key]):
            raise InputError(f"{key} of the method differ from those of `real`: the rows would not be comparable")
    counts = {f"n_{level}s": len(found[f"{level}_ids"]) for level in LEVELS}
    metrics: dict[str, Any] = {}
    distances = {level: _distances(found, reference, level) for level in LEVELS}
    for level in LEVELS:
        count = counts[f"n_{level}s"]
        metrics[f"{level}_fid"] = _frechet(found, reference, level) if count > 1 else None
        metrics[f"{level}_clip"] = _clip(found, level) if count else None
    return counts | {"metrics": metrics, "distances": distances}


def _distances(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], level: str) -> dict[str, float] | None:
    kept = thinned(found[f"{level}_image_ids"])
    if len(kept) <= NEIGHBOURS:
        return None
    a, b = found[f"{level}_frechet"][kept], reference[f"{level}_frechet"][kept]
    return {"samples": len(kept), "kid": kid(a, b)} | asdict(neighbourhood(a, b))


def _frechet(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], level: str) -> dict[str, Any]:
    a, b = found[f"{level}_frechet"], reference[f"{level}_frechet"]
    numbers = groups(found[f"{level}_image_ids"])
    if len(a) - np.bincount(numbers).max() < 2:
        numbers = np.zeros_like(numbers)  # too few to leave any out: no standard error
    estimate = asdict(jackknife(leave_out_distance(a, b, numbers, numbers), numbers))
    covariance = np.cov(b.astype(np.float64), rowvar=False)
    return estimate | {"floor": floor(np.atleast_2d(covariance), len(a), len(b))}


def _clip(found: dict[str, np.ndarray], level: str) -> dict[str, Any]:
    cosines = cosine(found[f"{level}_clip"], found[f"{level}_text"])
    numbers = groups(found[f"{level}_image_ids"])
    return asdict(jackknife(_leave_out_mean(cosines, numbers), numbers))


def _leave_out_mean(values: np.ndarray, numbers: np.ndarray) -> Callable[[int | None], float]:
    return lambda group: float(values[numbers != group].mean())


def cosine(images_ND: np.ndarray, texts_ND: np.ndarray) -> np.ndarray:
    """Cosine of each image with its own text, float64 [N]."""
    a, b = np.asarray(images_ND, np.float64), np.asarray(texts_ND, np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


if __name__ == "__main__":
    run(main)
