"""What each jackknife group's images add to the difference of two rows' distances to `real`.

    python -m evaluation.swaps --row hcma features/hcma/test/*.npz --row sd14 features/sd14/test/*.npz ... \
        --reference statistics/test.npz --out swaps/hcma.json

compares the first row with each of the others. Of rows a and b and a distance d, let D = d(a) - d(b), and D(g) the same after
a group's images have changed places between the rows. Swapping all of them turns D's sign, so D has no quadratic part in
what is swapped: to third order, and exactly for KID and CMMD, it is a sum over groups of c_g = (D - D(g)) / 2, each of
which a swap gives the other sign. Where the rows are alike, random signs of the c_g are thus what swapping images at
random would give, without an estimate of any variance. evaluation.compare flips them.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluation.feature_files import FeatureShards
from evaluation.files import InputError, write_json
from evaluation.frechet import frechet_distance, frechet_of_few, root
from evaluation.jackknife import Statistic, kept
from evaluation.kernel import swapped_cmmd, swapped_kid
from evaluation.program import run
from evaluation.statistics import DISTANCES, LEVELS, REFERENCE_SETS, Reference, Summary, identity, summarize

Rows = dict[str, FeatureShards]


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
    """Other row -> metric -> what each group adds to the first row's distance less the other's.

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


def contributions(swapped: Statistic, numbers: list[int]) -> list[float]:
    """Half of what swapping each of the groups takes from a difference; none of fewer than two groups."""
    whole = swapped(None)
    return [(whole - swapped(number)) / 2 for number in numbers] if len(numbers) > 1 else []


def differences(name: str, a: Summary, b: Summary, real: Summary) -> Iterator[tuple[str, Statistic]]:
    """The distances by an extractor's features, each with a function as `swapped_frechet` gives it."""
    samples = a.sample_SD, b.sample_SD, real.sample_SD, a.groups_S
    yield DISTANCES[name], swapped_cmmd(*samples) if name == "cmmd" else swapped_frechet(a, b, real)
    if name == "frechet":
        yield "kid", swapped_kid(*samples)


def swapped_frechet(a: Summary, b: Summary, real: Summary) -> Statistic:
    """A function from a group number to d(a, real) - d(b, real) with that group's rows swapped (None: as they are).

    d is the Frechet distance, by the route that `leave_out_distance` takes. Row by row a and b are of the same images.
    """
    whole_a, whole_b, target = a.whole(), b.whole(), real.whole()
    if min(whole_a.n, target.n) <= len(target.mean_D):
        return _swapped_few(a, b, real)
    mean, covariance = target.mean_and_covariance()
    factor = root(covariance)

    def swapped(group: int | None) -> float:
        sides = whole_a, whole_b
        if group is not None:
            part_a, part_b = a.moments[group], b.moments[group]
            sides = whole_a - part_a + part_b, whole_b - part_b + part_a
        of_a, of_b = (frechet_distance(mean, covariance, *side.mean_and_covariance(), factor) for side in sides)
        return of_a - of_b

    return swapped


def _swapped_few(a: Summary, b: Summary, real: Summary) -> Statistic:
    def swapped(group: int | None) -> float:
        stays = kept(a.groups_S, group)[:, None]
        sides = np.where(stays, a.sample_SD, b.sample_SD), np.where(stays, b.sample_SD, a.sample_SD)
        of_a, of_b = (frechet_of_few(side, real.sample_SD) for side in sides)
        return of_a - of_b

    return swapped


if __name__ == "__main__":
    run(main)
