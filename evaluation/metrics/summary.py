"""A row's features summed up, once for all that is measured of them: the file `summaries/{row}/{split}.npz`.

Of every network and level: the moments of each jackknife group, merged shard by shard, and a sample of the rows. Of CLIP
also the cosine of each image and region with its text; all that detectors found, and what judges say. In how many shards the
features lie changes the sums in the last digits only.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.feature_files import FeatureShards, first_difference, names_of, read_array
from evaluation.metrics.arrays import engine
from evaluation.metrics.jackknife import groups
from evaluation.networks import DETECTIONS, ROLES, SCORES, detection_arrays, networks_in
from formats.files import InputError, replacing

LEVELS = ("image", "region")
# Of the photos of the same layouts, or of those and others.
REFERENCE_SETS = ("same_ids", "full_val")
NO_PHOTOS = "none"  # what stands for them where the layouts have no photos
# Rows of a sample; what sums over pairs takes no more of a set.
MOST = 20_000
# Rows of a group that wait to be summed up.
PART = 2048
# Which images and regions a row is of, in order.
IDENTITY = ("image_ids", "image_image_ids", "region_ids", "region_objects")
# Before the names of Summary.known in a file.
KNOWN = "known_"
Pairs = Callable[[str, str, "Summary"], dict[str, np.ndarray]] | None
# Before the names of what metrics of one's own carry from features.
CARRIED = "metrics/"
# Which regions a detector found, of rows that are cropped where it did.
FOUND = "region_found"


def carried(name: str, key: str) -> str:
    """The name of an array that a metric of one's own carries."""
    return f"{CARRIED}{name}/{key}"


@dataclass(frozen=True)
class Moments:
    """n, mean_D and scatter_DD, the sum of (x - mean)(x - mean)^T: float64, so parts add up to the whole in any order.

    Sums about zero would lose digits where features lie far from it; these do not (Chan, Golub and LeVeque 1979).
    """

    n: int
    mean_D: np.ndarray
    scatter_DD: np.ndarray

    @staticmethod
    def of(features_ND: np.ndarray) -> "Moments":
        x = np.asarray(features_ND, np.float64)
        mean = x.mean(0)
        centred = x - mean
        return Moments(len(x), mean, centred.T @ centred)

    def __add__(self, other: "Moments") -> "Moments":
        n, gap = self.n + other.n, other.mean_D - self.mean_D
        between = np.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, self.mean_D + gap * (other.n / n), self.scatter_DD + other.scatter_DD + between)

    def __sub__(self, part: "Moments") -> "Moments":
        """What is left without a part that was added before."""
        n = self.n - part.n
        gap = (self.mean_D - part.mean_D) * (self.n / n)
        between = np.outer(gap, gap) * (n * part.n / self.n)
        return Moments(n, part.mean_D + gap, self.scatter_DD - part.scatter_DD - between)

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean_D, self.scatter_DD / (self.n - 1)


@dataclass(frozen=True)
class Summary:
    """The features of one network at one level.

    moments: of each jackknife group that has members. sample_SD: rows in order, all of them where there are few, and the
    jackknife group of each. known: sums over pairs of the sample that were made before (evaluation.metrics.pairs), by name;
    what is not there is computed where it is needed. device: where large sums are done.
    """

    moments: dict[int, Moments]
    sample_SD: np.ndarray
    groups_S: np.ndarray
    known: dict[str, np.ndarray] = field(default_factory=dict)
    device: str = "cpu"

    @staticmethod
    def of(features_ND: np.ndarray, groups_N: np.ndarray) -> "Summary":
        numbers = np.unique(groups_N).tolist()
        return Summary({g: Moments.of(features_ND[groups_N == g]) for g in numbers}, features_ND, groups_N)

    @property
    def n(self) -> int:
        return sum(part.n for part in self.moments.values())

    @property
    def jackknifed(self) -> np.ndarray:
        """The groups that a jackknife leaves out; a single one, so no standard error, where too few rows would remain."""
        alone = self.n - max(part.n for part in self.moments.values()) < 2
        return np.zeros(1, int) if alone else np.array(list(self.moments))

    @property
    def complete(self) -> bool:
        """Is every row in the sample?"""
        return len(self.sample_SD) == self.n

    def whole(self) -> Moments:
        first, *rest = self.moments.values()
        return sum(rest, first)


def thinned(image_ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Positions, in order, of the rows of those images that have the smallest hashes: whole images, at most MOST rows."""
    if len(image_ids) <= MOST:
        return np.arange(len(image_ids))
    hashes = np.array([hashlib.sha256(f"thin {number}".encode()).hexdigest() for number in image_ids])
    order = np.argsort(hashes, kind="stable")
    return np.sort(order[:MOST][hashes[order[:MOST]] != hashes[order[MOST]]])


def summarize(shards: FeatureShards, network: str, level: str) -> Summary:
    """Sum up the features of a network at a level; a level without rows has no moments."""
    thin = thinned(shards.read(f"{level}_image_ids"))
    moments: dict[int, Moments] = {}
    waiting: dict[int, list[np.ndarray]] = {}
    sample, numbers, start = [], [], 0
    for image_ids, rows in shards.each(f"{level}_image_ids", f"{level}_{network}"):
        inside = thin[(thin >= start) & (thin < start + len(rows))] - start
        start += len(rows)
        if not len(rows):
            continue
        groups_N = groups(image_ids)
        sample.append(rows[inside])
        numbers.append(groups_N[inside])
        for group in np.unique(groups_N).tolist():
            waiting.setdefault(group, []).append(rows[groups_N == group])
            # Adding moments costs as much as summing a thousand rows up: few large parts, of bounded memory.
            if sum(map(len, waiting[group])) >= PART:
                _merge(moments, group, waiting.pop(group))
    if not sample:
        return Summary({}, np.zeros((0, 0), np.float32), np.zeros(0, np.int64))
    for group in sorted(waiting):
        _merge(moments, group, waiting.pop(group))
    return Summary(dict(sorted(moments.items())), np.concatenate(sample), np.concatenate(numbers))


def _merge(moments: dict[int, Moments], group: int, parts: list[np.ndarray]) -> None:
    more = Moments.of(np.concatenate(parts))
    moments[group] = moments[group] + more if group in moments else more


def cosine(images_ND: np.ndarray, texts_ND: np.ndarray) -> np.ndarray:
    """Cosine of each image with its own text, float64 [N]."""
    a, b = np.asarray(images_ND, np.float64), np.asarray(texts_ND, np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def write_summaries(shards: FeatureShards, out: Path, pairs: Pairs = None) -> None:
    """Sum up all features of a row into one npz, whole or not at all.

    pairs: from a network, a level and a summary to the arrays that are known of it (Summary.known); without, they are computed
    where they are needed.
    """
    arrays = {name: shards.read(name) for name in (*IDENTITY, "region_image_ids")}
    known: dict[str, np.ndarray] = {}
    for level in LEVELS:
        cosines = shards.each(f"{level}_clip", f"{level}_text")
        arrays[f"{level}_cosines"] = np.concatenate(
            [cosine(*pair) if len(pair[0]) else np.zeros(0) for pair in cosines]
        )
        arrays[f"{level}_text_cut"] = shards.read(f"{level}_text_cut")
        for network in shards.networks:
            summary = summarize(shards, network, level)
            arrays |= _packed(summary, f"{level}_{network}")
            if pairs and len(summary.sample_SD):
                found = pairs(network, level, Summary({}, summary.sample_SD, summary.groups_S))
                known |= {f"{level}_{network}_{KNOWN}{name}": array for name, array in found.items()}
            del summary
    for network, measured in networks_in(shards.about).items():
        if measured == DETECTIONS:
            names = detection_arrays(network) + ([f"{network}_detection_cut"] if network not in ROLES else [])
            arrays |= {name: shards.read(name) for name in names}
        elif measured == SCORES:
            arrays |= {name: shards.read(name) for name in (f"judge_{network}", f"judge_{network}_cut")}
    further = [name for name in shards.names if name.startswith(CARRIED) or name == FOUND]
    arrays |= {name: shards.read(name) for name in further}
    # What is known of pairs follows from the rest, and differs in its last digits between devices.
    stated = {"about": shards.about, "source": shards.source, "content": _digest(arrays)}
    with replacing(out) as beside, open(beside, "wb") as file:
        np.savez(file, **(arrays | known | {"stated": np.array(json.dumps(stated))}), allow_pickle=False)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def _packed(summary: Summary, stem: str) -> dict[str, np.ndarray]:
    """A summary as arrays; of a scatter, which is symmetric, the upper triangle."""
    sample = {f"{stem}_sample": summary.sample_SD, f"{stem}_groups": summary.groups_S}
    if not summary.moments:
        return sample
    parts = list(summary.moments.values())
    upper = np.triu_indices(len(parts[0].mean_D))
    return sample | {
        f"{stem}_numbers": np.array(list(summary.moments)),
        f"{stem}_counts": np.array([part.n for part in parts]),
        f"{stem}_means": np.stack([part.mean_D for part in parts]),
        f"{stem}_scatters": np.stack([part.scatter_DD[upper] for part in parts]),
    }


class Summaries:
    """A file that `write_summaries` wrote; raises InputError where it is none.

    about: the networks, protocol and versions that made the features; source: what made the images; content: the SHA-256 of
    all arrays but what is known of pairs. across: the file of sums over pairs of the row's samples and those of `real`, which
    its summaries then know too. device: where large sums are done.
    """

    def __init__(self, path: Path, across: Path | None = None, device: str = "cpu") -> None:
        self.path, self.across, self.device = path, across, device
        stated = json.loads(str(self.read("stated")))
        self.about: dict[str, Any] = stated["about"]
        self.source: dict[str, Any] = stated["source"]
        self.content: str = stated["content"]

    def read(self, name: str) -> np.ndarray:
        """One array."""
        return read_array(self.path, name, "the summaries of a row")

    def carried(self, name: str, key: str) -> np.ndarray:
        """What a metric of one's own carried from features; raises InputError where they were made without it."""
        return self.read(carried(name, key))

    def read_across(self, name: str) -> np.ndarray:
        """One array of the sums over pairs of the row and `real`."""
        assert self.across
        return read_array(self.across, name, "sums over the pairs of a row and the photos")

    def check(self, real: "Summaries", reference_set: str = "same_ids") -> None:
        """Raises InputError unless `real` holds the same images and regions, through the same networks.

        Of the reference set `full_val` the row's images are a part.
        """
        if self.about != real.about:
            gap = first_difference(self.about, real.about)
            raise InputError(f"{self.path}: other networks than {real.path}: {gap}; make both alike")
        if self.across and self.read_across("of").tolist() != [self.content, real.content]:
            raise InputError(
                f"{self.across}: sums of other summaries than {self.path} and {real.path}; measure the row again"
            )
        if reference_set == "full_val":
            if missing := sorted(set(self.read("image_ids").tolist()) - set(real.read("image_ids").tolist())):
                raise InputError(f"{self.path}: image {missing[0]} is none of those of {real.path}")
            return
        if name := self.first_gap(real):
            raise InputError(f"{self.path}: {name} differ from those of {real.path}: not the same layouts")

    def first_gap(self, other: "Summaries") -> str:
        """The first array of IDENTITY that differs; empty where both are of the same images and regions."""
        return next((name for name in IDENTITY if not np.array_equal(self.read(name), other.read(name))), "")

    def sample(self, network: str, level: str) -> Summary:
        """The summary of one network and level without its moments, which are large."""
        stem = f"{level}_{network}"
        sample, group_of = self.read(f"{stem}_sample"), self.read(f"{stem}_groups")
        return Summary({}, sample, group_of, self._known(f"{stem}_{KNOWN}") if len(sample) else {}, self.device)

    def summary(self, network: str, level: str) -> Summary:
        """The summary of one network and level."""
        stem, found = f"{level}_{network}", self.sample(network, level)
        if not len(found.sample_SD):
            return found
        means = self.read(f"{stem}_means")
        numbers, counts, scatters = (self.read(f"{stem}_{part}") for part in ("numbers", "counts", "scatters"))
        moments = {
            int(number): Moments(int(counts[i]), means[i], engine("cpu").full(scatters[i], means.shape[1]))
            for i, number in enumerate(numbers)
        }
        return replace(found, moments=moments)

    def _known(self, stem: str) -> dict[str, np.ndarray]:
        """The arrays of both files whose names begin so, by the rest of their names."""
        found = {
            name: self.read(name) for name in names_of(self.path, "the summaries of a row") if name.startswith(stem)
        }
        if self.across:
            names = names_of(self.across, "sums over the pairs of a row and the photos")
            found |= {name: self.read_across(name) for name in names if name.startswith(stem)}
        return {name.removeprefix(stem): array for name, array in found.items()}
