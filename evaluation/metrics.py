"""One method's numbers: distances to `real` and CLIP score, of whole images and of regions, and layout adherence.

    python -m evaluation.metrics --method hcma --split test --layouts layouts/test/*.jsonl \
        --features features/hcma/test/*.npz --reference statistics/test.npz \
        --out metrics/hcma/test.json --scores scores/hcma/test.parquet

CLIP scores are raw cosines, averaged over images or over regions. Standard errors are delete-a-group jackknives over
images, so the regions of one image stay together. A Frechet distance has no debiased value where its images are too few.
`distances` holds precision, recall, density and coverage per level, without standard errors, and of how many samples they,
KID and CMMD are: fewer than there are where a set is thinned; null where there are too few samples. `n_{level}s_text_cut`
counts the captions, or regions' texts, that CLIP's context cuts. The scores file has a row an image and a row a box: CLIP
cosine, and where there is a detector the box's best overlap and whether it succeeded.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.adherence import AVERAGE_PRECISION, leave_out_precisions, leave_out_shares
from evaluation.feature_files import FeatureShards
from evaluation.frechet import floor
from evaluation.jackknife import GROUPS, groups, jackknife, leave_out_mean
from evaluation.kernel import NEIGHBOURS, leave_out_cmmd, leave_out_kid, neighbourhood
from evaluation.layouts import read_layouts
from evaluation.statistics import (
    DISTANCES,
    LEVELS,
    REFERENCE_SETS,
    Reference,
    Summary,
    bias_is_removable,
    leave_out_distance,
    summarize,
)
from formats.cli import run
from formats.files import InputError, replacing, write_json
from formats.records import made

Metric = dict[str, Any] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--layouts", type=Path, nargs="+", required=True, help="of the shards")
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--reference", type=Path, required=True, help="what evaluation.statistics wrote of `real`")
    parser.add_argument(
        "--reference-set", choices=REFERENCE_SETS, default="same_ids", help="which photos the reference is of"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    arguments = parser.parse_args()
    shards, reference = FeatureShards(arguments.features), Reference(arguments.reference)
    layouts = [row for path in arguments.layouts for row in read_layouts(path)]
    found, scores = measure(shards, reference, layouts, arguments.reference_set)
    with replacing(arguments.scores) as beside:
        scores.to_parquet(beside, index=False)
    row = {"method": arguments.method, "split": arguments.split}
    protocol = shards.about | {"groups": GROUPS, "reference": arguments.reference_set}
    stated = {"protocol": protocol, "reference": reference.content, "source": shards.source, "made": made()}
    write_json(arguments.out, row | found | stated)


def measure(
    shards: FeatureShards, reference: Reference, layouts: list[dict[str, Any]], reference_set: str = "same_ids"
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Counts, metrics and distances, and the scores of every image and box.

    Raises InputError unless shards and layouts hold the same images, and the reference the same or, as `full_val`, these and
    others.
    """
    reference.check(shards, reference_set)
    if [row["id"] for row in layouts] != shards.read("image_ids").tolist():
        raise InputError(f"{shards.paths[0]}: images of other layouts than those given")
    counts = {f"n_{level}s": len(shards.read(f"{level}_ids")) for level in LEVELS}
    counts |= {f"n_{level}s_text_cut": int(shards.read(f"{level}_text_cut").sum()) for level in LEVELS}
    levels = {level: _cosines(shards, level) for level in LEVELS}
    metrics: dict[str, Metric] = {}
    distances: dict[str, Any] = {}
    for level in LEVELS:
        for name in (name for name in DISTANCES if name in shards.about):
            a, b = summarize(shards, name, level), reference.summary(name, level)
            metrics |= {f"{level}_{metric}": found for metric, found in _distances(name, a, b).items()}
            if name == "frechet":
                distances[level] = _neighbourhood(a, b)
        metrics[f"{level}_clip"] = _clip(levels[level]) if counts[f"n_{level}s"] else None
    scores = pd.concat(levels.values(), ignore_index=True)
    if "detector" in shards.about:
        adherence, boxes = _adherence(shards, layouts)
        metrics |= adherence
        scores = scores.merge(boxes, "outer", ["id", "object", "image_id"])
    return counts | {"metrics": metrics, "distances": distances}, scores


def _distances(name: str, a: Summary, b: Summary) -> dict[str, Metric]:
    """The distances that are measured by an extractor's features."""
    metric = DISTANCES[name]
    if min(a.n, b.n) < 2:
        return dict.fromkeys([metric, "kid"] if name == "frechet" else [metric])
    # With too few to leave any out there is no standard error.
    alone = a.n - max(part.n for part in a.moments.values()) < 2
    numbers = np.zeros(1, int) if alone else np.array(list(a.moments))
    samples = a.sample_SD, b.sample_SD, a.groups_S, b.groups_S
    if name == "cmmd":
        return {metric: asdict(jackknife(leave_out_cmmd(*samples), numbers))}
    estimate = asdict(jackknife(leave_out_distance(a, b), numbers))
    if not bias_is_removable(a, b):
        estimate["debiased"] = None
    estimate["floor"] = floor(b.whole().mean_and_covariance()[1], a.n, b.n)
    if name != "frechet":
        return {metric: estimate}
    return {metric: estimate, "kid": asdict(jackknife(leave_out_kid(*samples), numbers))}


def _neighbourhood(a: Summary, real: Summary) -> dict[str, float] | None:
    samples = a.sample_SD, real.sample_SD
    if min(map(len, samples)) <= NEIGHBOURS:
        return None
    counts = {"samples": len(samples[0]), "real_samples": len(samples[1]), "real_n": real.n}
    return counts | asdict(neighbourhood(*samples))


def _clip(scores: pd.DataFrame) -> dict[str, Any]:
    numbers = groups(scores["image_id"])
    return asdict(jackknife(leave_out_mean(scores["clip"].to_numpy(), numbers), numbers))


def _cosines(shards: FeatureShards, level: str) -> pd.DataFrame:
    """id, object (-1: the whole image), image_id and clip, the cosine with the caption or with the region's text."""
    pairs = shards.each(f"{level}_clip", f"{level}_text")
    table = {"id": shards.read(f"{level}_ids"), "object": -1, "image_id": shards.read(f"{level}_image_ids")}
    if level == "region":
        table["object"] = shards.read("region_objects")
    clip = np.concatenate([cosine(*pair) if len(pair[0]) else np.zeros(0) for pair in pairs])
    return pd.DataFrame(table | {"clip": clip})


def _adherence(shards: FeatureShards, layouts: list[dict[str, Any]]) -> tuple[dict[str, Metric], pd.DataFrame]:
    detections = {
        f"detection_{name}": shards.read(f"detection_{name}") for name in ("ids", "boxes", "scores", "labels")
    }
    grounded = [row for row in layouts if row["objects"]]
    shares, boxes = leave_out_shares(grounded, detections)
    if not grounded:
        return dict.fromkeys([*AVERAGE_PRECISION, *shares]), boxes
    numbers = groups(row["image_id"] for row in grounded)
    precisions = leave_out_precisions(grounded, detections)
    found: dict[str, Metric] = {metric: asdict(jackknife(one, numbers)) for metric, one in precisions.items()}
    return found | {metric: asdict(jackknife(*pair)) for metric, pair in shares.items()}, boxes


def cosine(images_ND: np.ndarray, texts_ND: np.ndarray) -> np.ndarray:
    """Cosine of each image with its own text, float64 [N]."""
    a, b = np.asarray(images_ND, np.float64), np.asarray(texts_ND, np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


if __name__ == "__main__":
    run(main)
