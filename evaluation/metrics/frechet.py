"""The Frechet distance between two sets of features, in float64, by symmetric eigenvalue problems.

scipy's square root of a non-symmetric product goes complex, slow or NaN where covariances are singular; these routes
do not (see the tests for both against it).
"""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import scipy

from evaluation.metrics.arrays import Array, engine
from evaluation.metrics.jackknife import Statistic, Swapped, jackknife, kept
from evaluation.metrics.summary import Moments, Summary

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result


def frechet_distance(
    mean_a: np.ndarray,
    cov_a: np.ndarray,
    mean_b: np.ndarray,
    cov_b: np.ndarray,
    factor_a: np.ndarray | None = None,
    device: str = "cpu",
) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a) + tr(cov_b) - 2 tr((cov_a cov_b)^(1/2)).

    With cov_a = F F^T the last trace is the sum of the roots of the eigenvalues of F^T cov_b F, a symmetric matrix.
    factor_a: F, as `root` gives it, where many are compared with one. device: where the eigenvalues are found.
    """
    factor = root(cov_a) if factor_a is None else factor_a
    cross = engine(device).roots_of_product(factor, cov_b)
    gap = mean_a - mean_b
    return float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def root(cov_DD: np.ndarray) -> np.ndarray:
    """F with F F^T = cov: Cholesky's, or the symmetric root where cov is singular."""
    try:
        return scipy.linalg.cholesky(cov_DD, lower=True)
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(cov_DD, driver="evd")
        return vectors * np.sqrt(values.clip(min=0))


def frechet_of_few(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """The same distance straight from features, exact where samples are fewer than dimensions.

    tr((cov_a cov_b)^(1/2)) is the nuclear norm of A B^T / sqrt((N - 1)(M - 1)) for centred A and B.
    """
    a, b = np.asarray(a_ND, np.float64), np.asarray(b_MD, np.float64)
    gap = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    cross = scipy.linalg.svdvals(a @ b.T).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return float(gap @ gap + (a**2).sum() / (len(a) - 1) + (b**2).sum() / (len(b) - 1) - 2 * cross)


def floor(covariance_DD: np.ndarray, n_a: float, n_b: float) -> float:
    """What the distance of two samples of one Gaussian with this covariance is expected to be, though the truth is 0.

    k tr(C) + (k / 2) (sum_ij l_i l_j / (l_i + l_j) + sum_i l_i / 2) with k = 1 / n_a + 1 / n_b and eigenvalues l.
    """
    return floor_of(scipy.linalg.eigvalsh(covariance_DD, driver="evd"), n_a, n_b)


def floor_of(eigenvalues_D: np.ndarray, n_a: float, n_b: float) -> float:
    """`floor` from the covariance's eigenvalues, where many sizes are asked of one."""
    values = eigenvalues_D.clip(min=0)
    sums = values[:, None] + values[None, :]
    pairs = np.divide(values[:, None] * values[None, :], sums, out=np.zeros_like(sums), where=sums > 0).sum()
    k = 1 / n_a + 1 / n_b
    return float(k * values.sum() + k / 2 * (pairs + values.sum() / 2))


def measure_frechet(measured: "Measured", metric: "Metric") -> "Result":
    """The Frechet distance to `real`, debiased where that is possible, and the floor of sets of these sizes."""
    if not (pair := measured.pair(metric)):
        return None
    a, real = pair
    estimate = asdict(jackknife(leave_out_distance(a, real), a.jackknifed))
    if not bias_is_removable(a, real):
        estimate["debiased"] = None
    return estimate | {"floor": floor(real.whole().mean_and_covariance()[1], a.n, real.n)}


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
        return frechet_distance(*kept_a.mean_and_covariance(), *kept_b.mean_and_covariance(), device=a.device)

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


def swapped_frechet(a: Summary, b: Summary, real: Summary) -> Swapped:
    """A function from which groups are swapped, bool [G], to d(a, real) - d(b, real) with their rows swapped.

    d is the Frechet distance, by the route that `leave_out_distance` takes. Row by row a and b are of the same images.
    """
    target = real.whole()
    if min(a.n, target.n) <= len(target.mean_D) and all(one.complete for one in (a, b, real)):
        return _swapped_few(a, b, real)
    mean, covariance = target.mean_and_covariance()
    on, numbers = engine(real.device), list(a.moments)
    counts_G = np.array([part.n for part in a.moments.values()], float)
    n, inside = counts_G.sum(), np.triu_indices(len(mean))
    # Of a group, half the sum and half the difference of the two rows' scatters: every swap is those with other signs.
    common_T = np.zeros(len(inside[0]))
    half_GT = np.empty((len(numbers), len(common_T)))
    for number, group in enumerate(numbers):
        first_T, second_T = (one.moments[group].scatter_DD[inside] for one in (a, b))
        common_T += (first_T + second_T) / 2
        half_GT[number] = (first_T - second_T) / 2
    means_a, means_b = (np.stack([one.moments[group].mean_D for group in numbers]) for one in (a, b))
    factor, common, half = (on.put(array, np.float64) for array in (root(covariance), common_T, half_GT))
    spread = float(np.trace(covariance))

    def of(scatter_T: Array, means_GD: np.ndarray) -> float:
        mean_D = counts_G @ means_GD / n
        between = on.put((means_GD - mean_D) * np.sqrt(counts_G)[:, None], np.float64)
        cov = (on.full(scatter_T, len(mean)) + between.T @ between) / (n - 1)
        gap = mean - mean_D
        return float(gap @ gap + spread + float(cov.trace()) - 2 * on.roots_of_product(factor, cov))

    def swapped(swap_G: np.ndarray) -> float:
        here = swap_G[numbers]
        gap = on.put(np.where(here, -1.0, 1.0), np.float64) @ half
        first, second = (np.where(mask[:, None], means_b, means_a) for mask in (here, ~here))
        return of(common + gap, first) - of(common - gap, second)

    return swapped


def _swapped_few(a: Summary, b: Summary, real: Summary) -> Swapped:
    def of(one: Summary, other: Summary, swap_G: np.ndarray) -> float:
        rows = np.where(swap_G[one.groups_S][:, None], other.sample_SD, one.sample_SD)
        return frechet_of_few(rows, real.sample_SD)

    return lambda swap_G: of(a, b, swap_G) - of(b, a, swap_G)
