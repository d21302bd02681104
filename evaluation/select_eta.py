r"""Choose eta on held-out data: the smallest that improves on a reference as well as the best one does.

    python -m evaluation.select_eta --reference metrics/gligen_sd/heldout.json \
        --scores scores/gligen_sd/heldout.parquet --candidates metrics/hcma_eta_*/heldout.json \
        --specs methods/hcma_eta_*.json --out calibration.json

A candidate's score is the mean over the headline metrics of its improvement divided by the reference's standard error;
distances improve downwards, CLIP scores upwards. Those standard errors are units, which weigh the metrics; they do not
say how well a score is known, since all rows are of the same images and noise. The smallest eta is chosen whose score
is within one standard error of the best one (the one-standard-error rule): what a few held-out images cannot tell apart
shall not move a latent further. That standard error is of the difference of the two scores, by the delete-a-group jackknife
over images, every group left out of both rows and of all metrics at once, the units held fixed. A single candidate is taken
as it is, without a score, however few the images. Refuses the split `test`.

What makes a choice doubtful is listed in `warnings`, and on stderr: the best candidate, or the chosen one, is at an end of the
sweep, or none is better than the reference by more than the standard error of its score.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import headline
from evaluation.metrics.jackknife import groups, standard_error
from evaluation.significance import read_row
from formats.cli import options, run
from formats.files import InputError, read_json, write_json

SWEEP = "alignment.calibrate.multiples"
MetricsFile = dict[str, Any]  # a metrics file


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument(
        "--scores", type=Path, required=True, help="the reference's, for the images that all rows are of"
    )
    parser.add_argument("--candidates", type=Path, nargs="+", required=True, help="their metrics")
    parser.add_argument("--specs", type=Path, nargs="+", required=True, help="their specifications, in the same order")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    reference = read_json(arguments.reference)
    candidates = {}
    for metrics, spec in zip(map(read_json, arguments.candidates), map(read_json, arguments.specs), strict=True):
        if metrics["method"] != spec["method"]:
            raise InputError(f"metrics of {metrics['method']} beside the specification of {spec['method']}")
        candidates[spec["artefacts"]["eta"]["value"]] = metrics
    image_ids = read_row(arguments.reference, arguments.scores).image_ids
    chosen = choose(reference, candidates, image_ids)
    for text in chosen["warnings"]:
        print(f"warning: {text}", file=sys.stderr)
    write_json(arguments.out, chosen)


def choose(
    reference: MetricsFile, candidates: dict[float, MetricsFile], image_ids: dict[str, np.ndarray]
) -> dict[str, Any]:
    """{"eta": chosen, "split", "n_images", "warnings", "curve": every candidate with its score and metrics}.

    image_ids: of the images and of the regions that all rows were measured on. Of several candidates the curve has `score`,
    the improvement over the reference, and `gains`, by metric; `behind`, the best score minus its own; and the standard
    errors of both. Raises InputError for rows of other images, of too few, or of the split `test`.
    """
    for row in (reference, *candidates.values()):
        if row["split"] == "test":
            raise InputError(f"{row['method']}: measured on the test sample, which must not choose anything")
        if row["split"] != reference["split"] or row["n_images"] != reference["n_images"]:
            raise InputError(f"{row['method']}: measured on other images than {reference['method']}")
    measured = {"split": reference["split"], "n_images": reference["n_images"]}
    if len(candidates) == 1:
        (value,) = candidates
        alone = {"eta": value, "metrics": _values(candidates[value])}
        return {"eta": value} | measured | {"warnings": [], "curve": [alone]}
    scale = Scale.of(reference, list(candidates.values()), image_ids)
    rows = {value: candidates[value] for value in sorted(candidates)}
    best = max(rows.values(), key=lambda row: scale.score(row, reference))
    curve: list[dict[str, Any]] = [{"eta": value} | scale.point(row, best, reference) for value, row in rows.items()]
    chosen = next(point for point in curve if point["behind"] <= point["behind_se"])
    return {"eta": chosen["eta"]} | measured | {"warnings": _warnings(curve, chosen), "curve": curve}


@dataclass(frozen=True)
class Scale:
    """By which improvements are scored, and the jackknife groups by whose left-out values a score is known.

    units: of each metric, what counts as one, negative where less is better. numbers: the groups of its left-out values.
    """

    units: dict[str, float]
    numbers: dict[str, list[int]]

    @staticmethod
    def of(reference: MetricsFile, candidates: Sequence[MetricsFile], image_ids: dict[str, np.ndarray]) -> "Scale":
        """The scale of the reference's standard errors; raises InputError where a row has too few images for any."""
        units, numbers = {}, {}
        for metric in headline():
            measured = [row["metrics"][metric.name] for row in (reference, *candidates)]
            if not all(measured) or not measured[0]["se"]:
                raise InputError(f"{metric.name}: too few held-out images to choose on; raise data.heldout.count")
            units[metric.name] = (1 if metric.higher_is_better else -1) * measured[0]["se"]
            numbers[metric.name] = sorted(set(groups(image_ids[metric.level].tolist()).tolist()))
            if any(len(found["left_out"]) != len(numbers[metric.name]) for found in measured):
                raise InputError(
                    f"{metric.name}: the scores are of other images than the metrics; delete both and run again"
                )
        return Scale(units, numbers)

    def gains(self, row: MetricsFile, other: MetricsFile) -> dict[str, float]:
        """Improvement of a row over another in each metric."""
        pairs = {metric: (row["metrics"][metric], other["metrics"][metric]) for metric in self.units}
        return {metric: (one["value"] - two["value"]) / self.units[metric] for metric, (one, two) in pairs.items()}

    def score(self, row: MetricsFile, other: MetricsFile) -> float:
        """Mean improvement of a row over another."""
        return float(np.mean(list(self.gains(row, other).values())))

    def score_se(self, row: MetricsFile, other: MetricsFile) -> float:
        """Standard error of `score`, by the paired delete-a-group jackknife."""
        without = {number: self.gains(row, other) for own in self.numbers.values() for number in own}
        for metric, unit in self.units.items():
            left_out = np.subtract(row["metrics"][metric]["left_out"], other["metrics"][metric]["left_out"])
            # A group without regions leaves the regions' metrics as they are.
            for number, difference in zip(self.numbers[metric], left_out, strict=True):
                without[number][metric] = difference / unit
        return standard_error([float(np.mean(list(gains.values()))) for gains in without.values()])

    def point(self, row: MetricsFile, best: MetricsFile, reference: MetricsFile) -> dict[str, Any]:
        """What the curve shows of a candidate."""
        return {
            "score": self.score(row, reference),
            "score_se": self.score_se(row, reference),
            "behind": self.score(best, row),
            "behind_se": self.score_se(best, row),
            "gains": self.gains(row, reference),
            "metrics": _values(row),
        }


def _values(row: MetricsFile) -> dict[str, float | None]:
    return {metric.name: (row["metrics"][metric.name] or {}).get("value") for metric in headline()}


def _warnings(curve: list[dict[str, Any]], chosen: dict[str, Any]) -> list[str]:
    """One line for each reason to doubt the choice."""
    found: list[str] = []
    best = max(curve, key=lambda point: point["score"])
    for point, said in ((best, "the best score"), (chosen, "the choice")):
        if point["eta"] in (curve[0]["eta"], curve[-1]["eta"]) and not found:
            end, beyond = ("lower", "smaller") if point["eta"] == curve[0]["eta"] else ("upper", "larger")
            found.append(
                f"{said} stands at the {end} end of the sweep, eta {point['eta']:.3g}, and no {beyond} one was tried;"
                f" widen {SWEEP}"
            )
    if best["score"] <= best["score_se"]:
        by = " by one standard error" if best["score"] > 0 else ""
        found.append(
            f"no candidate is better than the reference{by}: the best score is"
            f" {best['score']:.2f} ± {best['score_se']:.2f}, at eta {best['eta']:.3g}"
        )
    return found


if __name__ == "__main__":
    run(main)
