"""Standard errors by the delete-a-group jackknife: groups of images, the same for every method.

A bootstrap adds the Frechet distance's bias a second time; leaving out a twentieth of the images at a time gives a
standard error of the right size, and a debiased value beside it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

GROUPS = 20
# Left out: a group, several, or None.
Groups = int | tuple[int, ...] | None
Statistic = Callable[[Groups], float]


@dataclass(frozen=True)
class Estimate:
    """A statistic of all images, its standard error, its debiased value, and its values with each group left out."""

    value: float
    se: float | None
    debiased: float | None
    left_out: list[float]


def groups(image_ids: Iterable[int]) -> np.ndarray:
    """Group number 0..19 of each image id, by a hash of the id alone: all regions of an image share its group."""
    return np.array(
        [hashlib.sha256(f"jackknife {number}".encode()).digest()[0] * GROUPS // 256 for number in image_ids]
    )


def standard_error(left_out: Sequence[float] | np.ndarray, bends: Sequence[float] | np.ndarray = ()) -> float:
    """Of a statistic, from its values without each group; nan for fewer than two groups.

    The jackknife counts the quadratic part of a variance more than twice (Efron and Stein 1981). `bends`, of which that
    part can be told, take the surplus away.
    """
    count = len(left_out)
    if count < 2:
        return float("nan")
    variance = (count - 1) * np.var(left_out)
    if len(bends):
        counted = 2 * (count - 2) / count * (count / (count - 1)) ** 4
        centred = (1 - 2 / count) ** 2 + 2 * (count - 1) / count**2
        quadratic = count * (count - 1) / (2 * centred) * np.mean(np.square(bends))
        # At most all of it is quadratic.
        variance = max(variance - (counted - 1) * quadratic, variance / counted)
    return float(np.sqrt(variance))


def kept(group_numbers: np.ndarray, group: Groups) -> np.ndarray:
    """Which rows remain without a group, or several; None leaves none out."""
    return np.isin(group_numbers, () if group is None else group, invert=True)


def leave_out_mean(values_N: np.ndarray, groups_N: np.ndarray) -> Statistic:
    """A function from a group number to the mean of the values without that group (None: of all)."""
    return lambda group: float(values_N[kept(groups_N, group)].mean())


def jackknife(statistic: Statistic, group_numbers: np.ndarray) -> Estimate:
    """`statistic(g)` without group g, `statistic(None)` with all; groups without members are passed over.

    With fewer than two groups there is no standard error.
    """
    value = statistic(None)
    present = sorted({int(number) for number in group_numbers})
    count = len(present)
    if count < 2:
        return Estimate(value, None, None, [])
    left_out = [statistic(number) for number in present]
    mean, se = float(np.mean(left_out)), standard_error(left_out)
    return Estimate(value, se, count * value - (count - 1) * mean, left_out)


def bends(statistic: Statistic, sizes: dict[int, int], estimate: Estimate, reach: int = GROUPS) -> list[float]:
    """Of pairs of groups: what leaving out both does to a statistic beyond what leaving out either does.

    0 for a mean, whatever the groups' sizes; of a distance, the products of two groups' deviations that make up its
    quadratic part. sizes: rows of each group of `estimate`; reach: each is paired with so many of the next, once with any.
    Fewer than four groups have none.
    """
    numbers, total, value = list(sizes), sum(sizes.values()), estimate.value
    if len(numbers) < 4:
        return []
    without = dict(zip(numbers, estimate.left_out, strict=True))
    found = []
    for far in range(1, min(reach, (len(numbers) - 1) // 2) + 1):
        for i, j in zip(numbers, numbers[far:] + numbers[:far], strict=True):
            m, n = sizes[i], sizes[j]
            rest_i, rest_j = total - m, total - n
            both = (rest_j - m) ** 2 * statistic((i, j))
            curve = total**2 * value - rest_i**2 * without[i] - rest_j**2 * without[j] + both
            straight = 2 * m * n * value + n * rest_i * (value - without[i]) + m * rest_j * (value - without[j])
            found.append((curve - straight) / total**2)
    return found
