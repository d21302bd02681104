"""Standard errors by the delete-a-group jackknife: groups of images, the same for every method.

A bootstrap adds the Frechet distance's bias a second time; leaving out a twentieth of the images at a time gives a
standard error of the right size, and a debiased value beside it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

GROUPS = 20
# From a group number to a value without that group, from None to the value of all.
Statistic = Callable[[int | None], float]
# From which groups two rows exchange, bool [G], to the difference of their distances.
Swapped = Callable[[np.ndarray], float]


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


def standard_error(left_out: Sequence[float] | np.ndarray) -> float:
    """Of a statistic, from its values without each group; nan for fewer than two groups."""
    count = len(left_out)
    return float(np.sqrt((count - 1) * np.var(left_out))) if count > 1 else float("nan")


def kept(group_numbers: np.ndarray, group: int | None) -> np.ndarray:
    """Which rows remain without a group; None leaves none out."""
    return np.ones(len(group_numbers), bool) if group is None else group_numbers != group


def leave_out_mean(values_N: np.ndarray, groups_N: np.ndarray) -> Statistic:
    """A function from a group number to the mean of the values without that group (None: of all)."""
    return lambda group: float(values_N[kept(groups_N, group)].mean())


def leave_out_ratio(over_N: np.ndarray, under_N: np.ndarray, groups_N: np.ndarray) -> Statistic:
    """Likewise to the sum of one quantity over that of another, which must not be 0."""

    def statistic(group: int | None) -> float:
        inside = kept(groups_N, group)
        return float(over_N[inside].sum() / under_N[inside].sum())

    return statistic


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
