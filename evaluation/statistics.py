"""What distances need of many features: moments of every jackknife group, merged shard by shard, and a sample of the rows.

    python -m evaluation.statistics --features features/real/test/*.npz --out statistics/real/test.npz

sums the reference `real` up once for all methods. Shards are read one at a time; in how many shards the features lie
changes the sums in the last digits only.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.feature_files import FeatureShards, first_difference, read_array
from evaluation.frechet import Moments, frechet_distance, frechet_of_few
from evaluation.jackknife import Statistic, groups, kept
from evaluation.kernel import thinned
from formats.cli import run
from formats.files import InputError, replacing

LEVELS = ("image", "region")
# Of the photos of the same layouts, or of those and others.
REFERENCE_SETS = ("same_ids", "full_val")
# Extractors of the configuration that a distance is measured by, and what the distance's metric is called.
DISTANCES = {"frechet": "fid", "frechet_legacy": "fid_legacy", "cmmd": "cmmd"}
# The metrics that are distances, level by level.
DISTANCE_METRICS = [f"{level}_{metric}" for level in LEVELS for metric in (*DISTANCES.values(), "kid")]


@dataclass(frozen=True)
class Summary:
    """The features of one network at one level.

    moments: of each jackknife group that has members. sample_SD: rows in order, all of them where there are few, and the
    jackknife group of each.
    """

    moments: dict[int, Moments]
    sample_SD: np.ndarray
    groups_S: np.ndarray

    @staticmethod
    def of(features_ND: np.ndarray, groups_N: np.ndarray) -> "Summary":
        numbers = np.unique(groups_N).tolist()
        return Summary({g: Moments.of(features_ND[groups_N == g]) for g in numbers}, features_ND, groups_N)

    @property
    def n(self) -> int:
        return sum(part.n for part in self.moments.values())

    @property
    def complete(self) -> bool:
        """Is every row in the sample?"""
        return len(self.sample_SD) == self.n

    def whole(self) -> Moments:
        first, *rest = self.moments.values()
        return sum(rest, first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_reference(FeatureShards(arguments.features), arguments.out)


def summarize(shards: FeatureShards, name: str, level: str) -> Summary:
    """Sum up the features of extractor `name` at a level; a level without rows has no moments."""
    thin = thinned(shards.read(f"{level}_image_ids"))
    moments: dict[int, Moments] = {}
    sample, numbers, start = [], [], 0
    for image_ids, rows in shards.each(f"{level}_image_ids", f"{level}_{name}"):
        part = Summary.of(rows, groups(image_ids))
        moments = moments | {g: moments[g] + more if g in moments else more for g, more in part.moments.items()}
        inside = thin[(thin >= start) & (thin < start + len(rows))] - start
        if len(rows):
            sample.append(rows[inside])
            numbers.append(part.groups_S[inside])
        start += len(rows)
    if not sample:
        return Summary({}, np.zeros((0, 0), np.float32), np.zeros(0, np.int64))
    return Summary(dict(sorted(moments.items())), np.concatenate(sample), np.concatenate(numbers))


def leave_out_distance(a: Summary, b: Summary) -> Statistic:
    """A function from a group number to the Frechet distance of the two sets without that group (None: with all).

    The exact route takes over where either set has no more rows than dimensions and both have all their rows.
    """
    whole_a, whole_b = a.whole(), b.whole()
    few = len(whole_a.mean_D) if a.complete and b.complete else 0

    def distance(group: int | None) -> float:
        kept_a, kept_b = _without(whole_a, a, group), _without(whole_b, b, group)
        if min(kept_a.n, kept_b.n) <= few:
            return frechet_of_few(a.sample_SD[kept(a.groups_S, group)], b.sample_SD[kept(b.groups_S, group)])
        return frechet_distance(*kept_a.mean_and_covariance(), *kept_b.mean_and_covariance())

    return distance


def bias_is_removable(a: Summary, b: Summary) -> bool:
    """Do both sets keep more rows than dimensions, whichever group is left out?

    With fewer, covariances are singular and the Frechet distance's bias is no power series in 1 / n, which is what the
    jackknife removes: of 32 rows of a standard normal in 64 dimensions the debiased distance is 24 on average instead of 0.
    """
    width = len(a.whole().mean_D)
    return all(one.n - max(part.n for part in one.moments.values()) > width for one in (a, b))


def _without(whole: Moments, summary: Summary, group: int | None) -> Moments:
    return whole - summary.moments[group] if group in summary.moments else whole


def identity(shards: FeatureShards) -> dict[str, np.ndarray]:
    """Which images and regions the shards hold, in order."""
    return {name: shards.read(name) for name in ("image_ids", "image_image_ids", "region_ids", "region_objects")}


def write_reference(shards: FeatureShards, out: Path) -> None:
    """Sum up every extractor and level of `shards` into one npz, whole or not at all."""
    arrays = identity(shards)
    for name in (name for name in DISTANCES if name in shards.about):
        for level in LEVELS:
            arrays |= {
                f"{level}_{name}_{part}": array for part, array in _packed(summarize(shards, name, level)).items()
            }
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + np.ascontiguousarray(array).tobytes())
    about = {"about": shards.about, "content": content.hexdigest()}
    with replacing(out) as beside, open(beside, "wb") as file:
        np.savez(file, **(arrays | {"stated": np.array(json.dumps(about))}), allow_pickle=False)


def _packed(summary: Summary) -> dict[str, np.ndarray]:
    """A summary as arrays; of a scatter, which is symmetric, the upper triangle."""
    sample = {"sample": summary.sample_SD, "groups": summary.groups_S}
    if not summary.moments:
        return sample
    parts = list(summary.moments.values())
    upper = np.triu_indices(len(parts[0].mean_D))
    return sample | {
        "numbers": np.array(list(summary.moments)),
        "counts": np.array([part.n for part in parts]),
        "means": np.stack([part.mean_D for part in parts]),
        "scatters": np.stack([part.scatter_DD[upper] for part in parts]),
    }


class Reference:
    """The summed-up reference of a file that `write_reference` wrote; raises InputError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        stated = json.loads(str(self._array("stated")))
        self.about: dict[str, Any] = stated["about"]
        self.content: str = stated["content"]

    def check(self, shards: FeatureShards, reference_set: str = "same_ids") -> None:
        """Raises InputError unless the shards hold the same images and regions, seen by the same networks.

        Of the reference set `full_val` the shards' images are a part.
        """
        if shards.about != self.about:
            gap = first_difference(shards.about, self.about)
            raise InputError(f"{shards.paths[0]}: other networks than {self.path}: {gap}; make both alike")
        if reference_set == "full_val":
            if missing := sorted(set(shards.read("image_ids").tolist()) - set(self._array("image_ids").tolist())):
                raise InputError(f"{shards.paths[0]}: image {missing[0]} is none of those of {self.path}")
            return
        for name, array in identity(shards).items():
            if not np.array_equal(array, self._array(name)):
                raise InputError(f"{shards.paths[0]}: {name} differ from those of {self.path}: not the same layouts")

    def summary(self, name: str, level: str) -> Summary:
        """The summary of one extractor and level."""
        stem = f"{level}_{name}"
        sample, group_of = self._array(f"{stem}_sample"), self._array(f"{stem}_groups")
        if not len(sample):
            return Summary({}, sample, group_of)
        means = self._array(f"{stem}_means")
        numbers, counts, scatters = (self._array(f"{stem}_{part}") for part in ("numbers", "counts", "scatters"))
        moments = {
            int(number): Moments(int(counts[i]), means[i], _full(scatters[i], means.shape[1]))
            for i, number in enumerate(numbers)
        }
        return Summary(moments, sample, group_of)

    def _array(self, name: str) -> np.ndarray:
        return read_array(self.path, name, "the statistics of a reference")


def _full(upper: np.ndarray, width: int) -> np.ndarray:
    matrix = np.zeros((width, width))
    matrix[np.triu_indices(width)] = upper
    return matrix + np.triu(matrix, 1).T


if __name__ == "__main__":
    run(main)
