"""The Frechet distance between two sets of features, in float64, by symmetric eigenvalue problems.

scipy's square root of a non-symmetric product goes complex, slow or NaN where covariances are singular; these routes
do not (see the tests for both against it).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg


@dataclass(frozen=True)
class Moments:
    """Sums that can be added and subtracted: n, sum of x_D and sum of x_D x_D^T about a fixed origin."""

    n: int
    total_D: np.ndarray
    outer_DD: np.ndarray

    @staticmethod
    def of(features_ND: np.ndarray) -> "Moments":
        x = np.asarray(features_ND, np.float64)
        return Moments(len(x), x.sum(0), x.T @ x)

    def without(self, other: "Moments") -> "Moments":
        return Moments(self.n - other.n, self.total_D - other.total_D, self.outer_DD - other.outer_DD)

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.total_D / self.n
        return mean, (self.outer_DD - self.n * np.outer(mean, mean)) / (self.n - 1)


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a) + tr(cov_b) - 2 tr((cov_a cov_b)^(1/2)).

    With cov_a = F F^T the last trace is the sum of the roots of the eigenvalues of F^T cov_b F, a symmetric matrix.
    """
    factor = _factor(cov_a)
    values = linalg.eigvalsh(factor.T @ cov_b @ factor, driver="evd", check_finite=True)
    root = np.sqrt(values.clip(min=0)).sum()
    gap = mean_a - mean_b
    return float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def _factor(cov_DD: np.ndarray) -> np.ndarray:
    """F with F F^T = cov: Cholesky's, or the symmetric root where cov is singular."""
    try:
        return linalg.cholesky(cov_DD, lower=True)
    except linalg.LinAlgError:
        values, vectors = linalg.eigh(cov_DD, driver="evd")
        return vectors * np.sqrt(values.clip(min=0))


def frechet_of_few(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """The same distance straight from features, exact where samples are fewer than dimensions.

    tr((cov_a cov_b)^(1/2)) is the nuclear norm of A B^T / sqrt((N - 1)(M - 1)) for centred A and B.
    """
    a, b = np.asarray(a_ND, np.float64), np.asarray(b_MD, np.float64)
    gap = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    cross = linalg.svdvals(a @ b.T).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return float(gap @ gap + (a**2).sum() / (len(a) - 1) + (b**2).sum() / (len(b) - 1) - 2 * cross)


def leave_out_distance(
    a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray
) -> Callable[[int | None], float]:
    """A function from a group number to the distance between the two sets without that group (None: with all).

    Moments of the groups are summed once about b's mean, so that float64 keeps its digits, and subtracted; the exact
    route takes over when either set has fewer rows than dimensions.
    """
    origin = np.asarray(b_MD, np.float64).mean(0)
    a, b = np.asarray(a_ND, np.float64) - origin, np.asarray(b_MD, np.float64) - origin
    whole_a, whole_b = Moments.of(a), Moments.of(b)

    def distance(group: int | None) -> float:
        if min((groups_N != group).sum(), (groups_M != group).sum()) <= a.shape[1]:
            return frechet_of_few(a[groups_N != group], b[groups_M != group])
        if group is None:
            return frechet_distance(*whole_a.mean_and_covariance(), *whole_b.mean_and_covariance())
        kept_a = whole_a.without(Moments.of(a[groups_N == group]))
        kept_b = whole_b.without(Moments.of(b[groups_M == group]))
        return frechet_distance(*kept_a.mean_and_covariance(), *kept_b.mean_and_covariance())

    return distance


def floor(covariance_DD: np.ndarray, n_a: int, n_b: int) -> float:
    """What the distance of two samples of one Gaussian with this covariance is expected to be, though the truth is 0.

    k tr(C) + (k / 2) (sum_ij l_i l_j / (l_i + l_j) + sum_i l_i / 2) with k = 1 / n_a + 1 / n_b and eigenvalues l.
    """
    values = linalg.eigvalsh(covariance_DD).clip(min=0)
    sums = values[:, None] + values[None, :]
    pairs = np.divide(values[:, None] * values[None, :], sums, out=np.zeros_like(sums), where=sums > 0).sum()
    k = 1 / n_a + 1 / n_b
    return float(k * values.sum() + k / 2 * (pairs + values.sum() / 2))
