"""Choose a method's setting on held-out data: the smallest that improves on a reference as well as the best one does.

    python -m evaluation.choose --key eta --reference metrics/gligen_sd/heldout.json \
        --candidates metrics/hcma_eta_*/heldout.json --specs methods/hcma_eta_*.json --out calibration.json

A candidate's score is the mean over the four metrics of its improvement divided by the reference's standard error;
distances improve downwards, CLIP scores upwards. The smallest setting within one standard error of the best score is
chosen (the one-standard-error rule): what a few held-out images cannot tell apart shall not move a latent further. A single
candidate is taken as it is, without a score, however few the images. Refuses the split `test`.
"""

import argparse
from pathlib import Path
from typing import Any

from evaluation.files import InputError, read_json, write_json
from evaluation.program import run
from evaluation.tables import METRICS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", required=True, help="name of the setting among the specifications' params")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--candidates", type=Path, nargs="+", required=True, help="their metrics")
    parser.add_argument("--specs", type=Path, nargs="+", required=True, help="their specifications, in the same order")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    reference = read_json(arguments.reference)
    candidates = {}
    for metrics, spec in zip(map(read_json, arguments.candidates), map(read_json, arguments.specs), strict=True):
        if metrics["method"] != spec["method"]:
            raise InputError(f"metrics of {metrics['method']} beside the specification of {spec['method']}")
        candidates[spec["params"][arguments.key]] = metrics
    write_json(arguments.out, choose(arguments.key, reference, candidates))


def choose(key: str, reference: dict[str, Any], candidates: dict[float, dict[str, Any]]) -> dict[str, Any]:
    """{key: chosen value, "split", "curve": every candidate with its score and metrics}."""
    for row in (reference, *candidates.values()):
        if row["split"] == "test":
            raise InputError(f"{row['method']}: measured on the test sample, which must not choose anything")
        if row["split"] != reference["split"] or row["n_images"] != reference["n_images"]:
            raise InputError(f"{row['method']}: measured on other images than {reference['method']}")
    measured = {"split": reference["split"], "n_images": reference["n_images"]}
    if len(candidates) == 1:
        (value,) = candidates
        return {key: value} | measured | {"curve": [{key: value, "metrics": _values(candidates[value])}]}
    curve = [{key: value} | _score(reference, candidates[value]) for value in sorted(candidates)]
    best = max(point["score"] for point in curve)
    chosen = next(point for point in curve if point["score"] >= best - 1)
    return {key: chosen[key]} | measured | {"curve": curve}


def _values(row: dict[str, Any]) -> dict[str, float | None]:
    return {metric: (row["metrics"][metric] or {}).get("value") for metric in METRICS}


def _score(reference: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    gains = {}
    for metric in METRICS:
        before, after = reference["metrics"][metric], row["metrics"][metric]
        if not before or not after or not before["se"]:
            raise InputError(f"{metric}: too few held-out images to choose on; raise data.heldout.count")
        sign = -1 if metric.endswith("fid") else 1
        gains[metric] = sign * (after["value"] - before["value"]) / before["se"]
    return {"score": sum(gains.values()) / len(gains), "gains": gains, "metrics": _values(row)}


if __name__ == "__main__":
    run(main)
