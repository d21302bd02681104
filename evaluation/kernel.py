"""Kernel and neighbourhood distances between two sets of features: KID, and precision, recall, density and coverage.

All are sums over pairs, taken block by block; sets larger than MOST are thinned to the MOST with the smallest hashes of
their image, the same for every method.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 2048
MOST = 20_000
NEIGHBOURS = 5


def kid(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3 (Binkowski et al. 2018).

    All pairs are used, where common implementations average random subsets of them. Raises ValueError for fewer than two.
    """
    a, b = np.asarray(a_ND, np.float64), np.asarray(b_MD, np.float64)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(f"KID needs two samples of each set, found {n} and {m}")
    within_a = (_kernel_sum(a, a) - _kernel(a, a).sum()) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _kernel(b, b).sum()) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _kernel(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    """The kernel of each row with the row beside it."""
    return ((a_ND * b_ND).sum(1) / a_ND.shape[1] + 1) ** 3


def _kernel_sum(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    return float(sum(((part @ b_MD.T / a_ND.shape[1] + 1) ** 3).sum() for part in _blocks(a_ND)))


def _blocks(rows_ND: np.ndarray) -> Iterator[np.ndarray]:
    return (rows_ND[start : start + BLOCK] for start in range(0, len(rows_ND), BLOCK))


@dataclass(frozen=True)
class Neighbourhood:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


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
    """Positions, in order, of the MOST rows whose images have the smallest hashes; all of them where there are no more."""
    if len(image_ids) <= MOST:
        return np.arange(len(image_ids))
    hashes = [hashlib.sha256(f"thin {number}".encode()).hexdigest() for number in image_ids]
    return np.sort(np.argsort(hashes, kind="stable")[:MOST])
