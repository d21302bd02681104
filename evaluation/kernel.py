"""Kernel and neighbourhood distances between two sets of features: KID, CMMD, precision, recall, density and coverage.

All are sums over the pairs of what they are given, block by block. They are given no more than MOST rows of a set: a larger
one is thinned to the whole images of the smallest hashes, the same for every method (`thinned`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from evaluation.jackknife import GROUPS, Statistic, kept

BLOCK = 2048
MOST = 20_000
NEIGHBOURS = 5


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
# From which jackknife groups of two rows are swapped, bool [G], to the difference of their distances.
Swapped = Callable[[np.ndarray], float]


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
    parts = zip(_blocks(a_ND), _blocks(in_a_NG), strict=True)
    return np.sum([members.T @ (kernel(part, b_MD) @ in_b_MG) for part, members in parts], axis=0)


def _own(kernel: Kernel, rows_ND: np.ndarray) -> np.ndarray:
    """The kernel of each row with itself."""
    return np.array([kernel(row[None], row[None])[0, 0] for row in rows_ND])


def _blocks(rows_ND: np.ndarray) -> Iterator[np.ndarray]:
    return (rows_ND[start : start + BLOCK] for start in range(0, len(rows_ND), BLOCK))


@dataclass(frozen=True)
class Neighbourhood:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


NEIGHBOURHOOD = tuple(field.name for field in fields(Neighbourhood))


def neighbourhood(found_ND: np.ndarray, real_MD: np.ndarray, k: int = NEIGHBOURS) -> Neighbourhood:
    """How two sets of features share their k-nearest-neighbour balls, edges included; a sample is no neighbour of itself.

    Raises ValueError where a set has no k neighbours.
    """
    found, real = np.asarray(found_ND, np.float64), np.asarray(real_MD, np.float64)
    if min(len(found), len(real)) <= k:
        raise ValueError(f"{k} neighbours need more samples than {min(len(found), len(real))}")
    found_radius_N, real_radius_M = _radii(found, k), _radii(real, k)
    in_real_balls_N, recalled_M, covered_M = [], np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, part in enumerate(_blocks(found)):
        distances = _distances(part, real)
        inside_real = distances <= real_radius_M
        in_real_balls_N.append(inside_real.sum(1))
        covered_M |= inside_real.any(0)
        recalled_M |= (distances <= found_radius_N[start * BLOCK : start * BLOCK + len(part), None]).any(0)
    balls_N = np.concatenate(in_real_balls_N)
    return Neighbourhood(
        float((balls_N > 0).mean()), float(recalled_M.mean()), float(balls_N.mean() / k), float(covered_M.mean())
    )


def _radii(rows_ND: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row to its k-th nearest other row."""
    return np.concatenate([np.partition(_distances(part, rows_ND), k, axis=1)[:, k] for part in _blocks(rows_ND)])


def _distances(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    squares = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1) - 2 * a_ND @ b_MD.T
    return np.sqrt(squares.clip(min=0))


def thinned(image_ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Positions, in order, of the rows of those images that have the smallest hashes: whole images, at most MOST rows."""
    if len(image_ids) <= MOST:
        return np.arange(len(image_ids))
    hashes = np.array([hashlib.sha256(f"thin {number}".encode()).hexdigest() for number in image_ids])
    order = np.argsort(hashes, kind="stable")
    return np.sort(order[:MOST][hashes[order[:MOST]] != hashes[order[MOST]]])
