"""Kernel distances between two sets of features, KID and CMMD: sums over the pairs of their samples, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.jackknife import GROUPS, Statistic, Swapped, jackknife, kept
from evaluation.metrics.summary import Summary

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

BLOCK = 2048
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def measure_kid(measured: "Measured", metric: "Metric") -> "Result":
    """KID to `real` with its standard error."""
    return _measured(leave_out_kid, measured, metric)


def measure_cmmd(measured: "Measured", metric: "Metric") -> "Result":
    """CMMD to `real` with its standard error."""
    return _measured(leave_out_cmmd, measured, metric)


def _measured(leave_out: Callable[..., Statistic], measured: "Measured", metric: "Metric") -> "Result":
    if not (pair := measured.pair(metric)):
        return None
    a, real = pair
    return asdict(jackknife(leave_out(a.sample_SD, real.sample_SD, a.groups_S, real.groups_S), a.jackknifed))


def swap_kid(a: Summary, b: Summary, real: Summary) -> Swapped:
    """`swapped_kid` of two rows."""
    return swapped_kid(a.sample_SD, b.sample_SD, real.sample_SD, a.groups_S)


def swap_cmmd(a: Summary, b: Summary, real: Summary) -> Swapped:
    """`swapped_cmmd` of two rows."""
    return swapped_cmmd(a.sample_SD, b.sample_SD, real.sample_SD, a.groups_S)


def kid(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """`leave_out_kid` with all rows."""
    return leave_out_kid(a_ND, b_MD, np.zeros(len(a_ND), int), np.zeros(len(b_MD), int))(None)


def leave_out_kid(a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray) -> Statistic:
    """A function from a group number to the KID of the two sets without that group (None: with all).

    KID is the unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3 (Binkowski et al. 2018). All
    pairs of these rows are used, where common implementations average random subsets of them. Raises ValueError for fewer
    than two rows.
    """
    if min(len(a_ND), len(b_MD)) < 2:
        raise ValueError(f"KID needs two samples of each set, found {len(a_ND)} and {len(b_MD)}")
    sums = _PairSums(_cubic, a_ND, b_MD, groups_N, groups_M)

    def without(group: int | None) -> float:
        (n, aa, own_a), (m, bb, own_b), ab = sums.without(group)
        return float((aa - own_a) / (n * (n - 1)) + (bb - own_b) / (m * (m - 1)) - 2 * ab / (n * m))

    return without


def leave_out_cmmd(a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray) -> Statistic:
    """A function from a group number to 1000 times the squared discrepancy of CMMD (Jayasumana et al. 2024).

    The kernel is exp(-|x - y|^2 / (2 10^2)) on features of unit length; a row's pair with itself counts, as in its code.
    """
    sums = _PairSums(_gaussian, a_ND, b_MD, groups_N, groups_M)

    def without(group: int | None) -> float:
        (n, aa, _), (m, bb, _), ab = sums.without(group)
        return float(1000 * (aa / n**2 + bb / m**2 - 2 * ab / (n * m)))

    return without


def swapped_kid(a_ND: np.ndarray, b_ND: np.ndarray, real_MD: np.ndarray, groups_N: np.ndarray) -> Swapped:
    """A function from which groups are swapped, bool [G], to KID(a, real) - KID(b, real) with their rows swapped.

    Row by row a and b are of the same images; raises ValueError for fewer than two rows.
    """
    n, m = len(a_ND), len(real_MD)
    if min(n, m) < 2:
        raise ValueError(f"KID needs two samples of each set, found {n} and {m}")
    sums = _SwapSums(_cubic, a_ND, b_ND, real_MD, groups_N)

    def swapped(swap_G: np.ndarray) -> float:
        pairs, own, real = sums.swapped(swap_G)
        return float((pairs - own) / (n * (n - 1)) - 2 * real / (n * m))

    return swapped


def swapped_cmmd(a_ND: np.ndarray, b_ND: np.ndarray, real_MD: np.ndarray, groups_N: np.ndarray) -> Swapped:
    """`swapped_kid` of CMMD."""
    n, m = len(a_ND), len(real_MD)
    sums = _SwapSums(_gaussian, a_ND, b_ND, real_MD, groups_N)

    def swapped(swap_G: np.ndarray) -> float:
        pairs, _, real = sums.swapped(swap_G)
        return float(1000 * (pairs / n**2 - 2 * real / (n * m)))

    return swapped


def _cubic(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    return (a_ND @ b_MD.T / a_ND.shape[1] + 1) ** 3


def _gaussian(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    squares = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1) - 2 * a_ND @ b_MD.T
    return np.exp(-squares.clip(min=0) / (2 * 10**2))


class _PairSums:
    """A kernel summed over the pairs of every two groups, once, so that leaving a group out costs nothing."""

    def __init__(
        self, kernel: Kernel, a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray
    ) -> None:
        a, b = np.asarray(a_ND, np.float64), np.asarray(b_MD, np.float64)
        count = int(max(groups_N.max(), groups_M.max())) + 1
        in_a, in_b = (np.eye(count)[numbers] for numbers in (groups_N, groups_M))
        self.sizes = in_a.sum(0), in_b.sum(0)
        self.aa, self.bb = _summed(kernel, a, a, in_a, in_a), _summed(kernel, b, b, in_b, in_b)
        self.ab = _summed(kernel, a, b, in_a, in_b)
        self.own_a, self.own_b = (_own(kernel, rows) @ members for rows, members in ((a, in_a), (b, in_b)))

    def without(self, group: int | None) -> tuple[tuple[float, float, float], tuple[float, float, float], float]:
        """(rows, sum over pairs, sum over a row's pairs with itself) of either set, and the sum over pairs across."""
        keep = kept(np.arange(len(self.own_a)), group)
        inside = np.ix_(keep, keep)
        (n, m) = (size[keep].sum() for size in self.sizes)
        set_a = n, self.aa[inside].sum(), self.own_a[keep].sum()
        set_b = m, self.bb[inside].sum(), self.own_b[keep].sum()
        return set_a, set_b, self.ab[inside].sum()


class _SwapSums:
    """A kernel summed over the pairs of every two groups of two sets, once, so that swapping a group costs nothing."""

    def __init__(
        self, kernel: Kernel, a_ND: np.ndarray, b_ND: np.ndarray, real_MD: np.ndarray, groups_N: np.ndarray
    ) -> None:
        a, b, real = (np.asarray(rows, np.float64) for rows in (a_ND, b_ND, real_MD))
        members, everyone = np.eye(GROUPS)[groups_N], np.ones((len(real), 1))
        aa, ab, bb = (_summed(kernel, *rows, members, members) for rows in ((a, a), (a, b), (b, b)))
        self.pairs = np.block([[aa, ab], [ab.T, bb]])
        self.own = np.concatenate([_own(kernel, rows) @ members for rows in (a, b)])
        self.real = np.concatenate([_summed(kernel, rows, real, members, everyone)[:, 0] for rows in (a, b)])

    def swapped(self, swap_G: np.ndarray) -> tuple[float, float, float]:
        """Of a less of b, groups swapped: sums over pairs, over a row's pairs with itself, over pairs with `real`."""
        (pairs_a, own_a, real_a), (pairs_b, own_b, real_b) = (
            (self.pairs[np.ix_(rows, rows)].sum(), self.own[rows].sum(), self.real[rows].sum())
            for rows in (np.concatenate([~swap_G, swap_G]), np.concatenate([swap_G, ~swap_G]))
        )
        return pairs_a - pairs_b, own_a - own_b, real_a - real_b


def _summed(kernel: Kernel, a_ND: np.ndarray, b_MD: np.ndarray, in_a_NG: np.ndarray, in_b_MG: np.ndarray) -> np.ndarray:
    parts = zip(blocks(a_ND), blocks(in_a_NG), strict=True)
    return np.sum([members.T @ (kernel(part, b_MD) @ in_b_MG) for part, members in parts], axis=0)


def _own(kernel: Kernel, rows_ND: np.ndarray) -> np.ndarray:
    """The kernel of each row with itself."""
    return np.array([kernel(row[None], row[None])[0, 0] for row in rows_ND])


def blocks(rows_ND: np.ndarray) -> Iterator[np.ndarray]:
    return (rows_ND[start : start + BLOCK] for start in range(0, len(rows_ND), BLOCK))
