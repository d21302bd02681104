"""The Frechet distance between two sets of features, in float64, by symmetric eigenvalue problems.

scipy's square root of a non-symmetric product goes complex, slow or NaN where covariances are singular; these routes
do not (see the tests for both against it).
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg


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


def frechet_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray, factor_a: np.ndarray | None = None
) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a) + tr(cov_b) - 2 tr((cov_a cov_b)^(1/2)).

    With cov_a = F F^T the last trace is the sum of the roots of the eigenvalues of F^T cov_b F, a symmetric matrix.
    factor_a: F, as `root` gives it, where many are compared with one.
    """
    factor = root(cov_a) if factor_a is None else factor_a
    values = linalg.eigvalsh(factor.T @ cov_b @ factor, driver="evd", check_finite=True)
    cross = np.sqrt(values.clip(min=0)).sum()
    gap = mean_a - mean_b
    return float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def root(cov_DD: np.ndarray) -> np.ndarray:
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


def floor(covariance_DD: np.ndarray, n_a: float, n_b: float) -> float:
    """What the distance of two samples of one Gaussian with this covariance is expected to be, though the truth is 0.

    k tr(C) + (k / 2) (sum_ij l_i l_j / (l_i + l_j) + sum_i l_i / 2) with k = 1 / n_a + 1 / n_b and eigenvalues l.
    """
    values = linalg.eigvalsh(covariance_DD).clip(min=0)
    sums = values[:, None] + values[None, :]
    pairs = np.divide(values[:, None] * values[None, :], sums, out=np.zeros_like(sums), where=sums > 0).sum()
    k = 1 / n_a + 1 / n_b
    return float(k * values.sum() + k / 2 * (pairs + values.sum() / 2))
