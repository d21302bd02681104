"""What each jackknife group's images add to the difference of two rows' distances to `real`.

    python -m evaluation.swaps --row hcma features/hcma/test/*.npz --row sd14 features/sd14/test/*.npz ... \
        --reference statistics/test.npz --out swaps/hcma.json

compares the first row with each of the others. Of rows a and b and a distance d, let D = d(a) - d(b), and D(s) the same after
the images of those groups whose sign in s is -1 have changed places between the rows. Swapping all of them turns D's sign,
so D(s) has no quadratic part: to third order, and exactly for KID and CMMD, it is the sum of s_g c_g over the groups. Where
the rows are alike, random signs of the c_g are thus what swapping images at random would give, without an estimate of any
variance. evaluation.compare flips them.

The c_g are those by which the sum is D(s), whatever the order, for the twenty rows s of a Hadamard matrix and their
opposites (Plackett and Burman 1946). Its first row swaps nothing: the c_g of all twenty add up to D. A group without
images has nothing to swap; what the design gives it is of third order and another group's, and it is left out: flipped as if
it were its own, it would make p-values smaller than any swap of so few images can.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from evaluation.feature_files import FeatureShards
from evaluation.frechet import frechet_distance, frechet_of_few, root
from evaluation.jackknife import GROUPS
from evaluation.kernel import Swapped, swapped_cmmd, swapped_kid
from evaluation.statistics import DISTANCES, LEVELS, REFERENCE_SETS, Reference, Summary, identity, summarize
from formats.cli import run
from formats.files import InputError, write_json

Rows = dict[str, FeatureShards]
# Groups with images: with fewer, no difference could be significant, 1 in 2^(groups - 1) signs being as extreme as it.
FEWEST = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", nargs="+", action="append", required=True, help="a method, its shards of features")
    parser.add_argument("--reference", type=Path, required=True, help="what evaluation.statistics wrote of `real`")
    parser.add_argument("--reference-set", choices=REFERENCE_SETS, default="same_ids")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = {method: FeatureShards(list(map(Path, paths))) for method, *paths in arguments.row}
    reference = Reference(arguments.reference)
    for shards in rows.values():
        reference.check(shards, arguments.reference_set)
    write_json(arguments.out, {"method": arguments.row[0][0], "against": against_others(rows, reference)})


def against_others(rows: Rows, reference: Reference) -> dict[str, dict[str, list[float]]]:
    """Other row -> metric -> what each group adds to the first row's distance less the other's; nothing of fewer than FEWEST.

    Raises InputError where two rows are of other images.
    """
    (first, shards), *others = rows.items()
    found: dict[str, dict[str, list[float]]] = {other: {} for other, _ in others}
    for other, theirs in others:
        if any(not np.array_equal(array, identity(theirs)[name]) for name, array in identity(shards).items()):
            raise InputError(f"{first} and {other}: of other images, they cannot be paired")
    for name in (name for name in DISTANCES if name in shards.about):
        for level in LEVELS:
            a, real = summarize(shards, name, level), reference.summary(name, level)
            for other, theirs in others if min(a.n, real.n) >= 2 else []:
                for metric, swapped in differences(name, a, summarize(theirs, name, level), real):
                    found[other][f"{level}_{metric}"] = contributions(swapped, list(a.moments))
    return found


def contributions(swapped: Swapped, present: Sequence[int]) -> list[float]:
    """What each of the groups that are present adds to a difference; nothing of fewer than FEWEST."""
    if len(present) < FEWEST:
        return []
    signs_SG = design()
    found_S = np.array([swapped(signs_G < 0) for signs_G in signs_SG])
    return (signs_SG[:, present].T @ found_S / GROUPS).tolist()


@cache
def design() -> np.ndarray:
    """Signs of GROUPS groups in as many swaps [S, G], orthogonal, the first without a swap: Paley's matrix (1933)."""
    prime = GROUPS - 1
    squares = {number**2 % prime for number in range(1, prime)}
    character = np.array([0] + [1 if number in squares else -1 for number in range(1, prime)])
    signs, numbers = np.ones((GROUPS, GROUPS)), np.arange(prime)
    signs[1:, 1:] = character[(numbers[:, None] - numbers) % prime] - np.eye(prime)
    return signs


def differences(name: str, a: Summary, b: Summary, real: Summary) -> Iterator[tuple[str, Swapped]]:
    """The distances by an extractor's features, each with a function as `swapped_frechet` gives it."""
    samples = a.sample_SD, b.sample_SD, real.sample_SD, a.groups_S
    yield DISTANCES[name], swapped_cmmd(*samples) if name == "cmmd" else swapped_frechet(a, b, real)
    if name == "frechet":
        yield "kid", swapped_kid(*samples)


def swapped_frechet(a: Summary, b: Summary, real: Summary) -> Swapped:
    """A function from which groups are swapped, bool [G], to d(a, real) - d(b, real) with their rows swapped.

    d is the Frechet distance, by the route that `leave_out_distance` takes. Row by row a and b are of the same images.
    """
    target = real.whole()
    if min(a.n, target.n) <= len(target.mean_D) and all(one.complete for one in (a, b, real)):
        return _swapped_few(a, b, real)
    mean, covariance = target.mean_and_covariance()
    factor = root(covariance)

    def of(one: Summary, other: Summary, swap_G: np.ndarray) -> float:
        first, *rest = ((other if swap_G[group] else one).moments[group] for group in one.moments)
        return frechet_distance(mean, covariance, *sum(rest, first).mean_and_covariance(), factor)

    return lambda swap_G: of(a, b, swap_G) - of(b, a, swap_G)


def _swapped_few(a: Summary, b: Summary, real: Summary) -> Swapped:
    def of(one: Summary, other: Summary, swap_G: np.ndarray) -> float:
        rows = np.where(swap_G[one.groups_S][:, None], other.sample_SD, one.sample_SD)
        return frechet_of_few(rows, real.sample_SD)

    return lambda swap_G: of(a, b, swap_G) - of(b, a, swap_G)


if __name__ == "__main__":
    run(main)
