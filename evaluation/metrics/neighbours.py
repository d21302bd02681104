"""How two sets of features share their k-nearest-neighbour balls: precision, recall, density and coverage."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.kernel import blocks

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

NEIGHBOURS = 5
# Of how many samples the sums over pairs are, and how many there are of `real`.
COUNTS = ("samples", "real_samples", "real_n")


@dataclass(frozen=True)
class Neighbourhood:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


def measure_neighbours(measured: "Measured", metric: "Metric") -> "Result":
    """One of the four, without a standard error; None where a sample has too few rows."""
    found = measured.once(_neighbourhood, metric.extractor, metric.level)
    return found and {"value": found[metric.quantity], **{name: found[name] for name in COUNTS}}


def _neighbourhood(measured: "Measured", extractor: str, level: str) -> "Result":
    if not (pair := measured.summaries(extractor, level)):
        return None
    a, real = pair
    samples = a.sample_SD, real.sample_SD
    if min(map(len, samples)) <= NEIGHBOURS:
        return None
    counts = dict(zip(COUNTS, (len(samples[0]), len(samples[1]), real.n), strict=True))
    return counts | asdict(neighbourhood(*samples))


def neighbourhood(found_ND: np.ndarray, real_MD: np.ndarray, k: int = NEIGHBOURS) -> Neighbourhood:
    """How two sets of features share their k-nearest-neighbour balls, edges included; a sample is no neighbour of itself.

    Raises ValueError where a set has no k neighbours.
    """
    found, real = np.asarray(found_ND, np.float64), np.asarray(real_MD, np.float64)
    if min(len(found), len(real)) <= k:
        raise ValueError(f"{k} neighbours need more samples than {min(len(found), len(real))}")
    found_radius_N, real_radius_M = _radii(found, k), _radii(real, k)
    in_real_balls_N, recalled_M, covered_M = [], np.zeros(len(real), bool), np.zeros(len(real), bool)
    for part, radius_N in zip(blocks(found), blocks(found_radius_N), strict=True):
        distances = _distances(part, real)
        inside_real = distances <= real_radius_M
        in_real_balls_N.append(inside_real.sum(1))
        covered_M |= inside_real.any(0)
        recalled_M |= (distances <= radius_N[:, None]).any(0)
    balls_N = np.concatenate(in_real_balls_N)
    return Neighbourhood(
        float((balls_N > 0).mean()), float(recalled_M.mean()), float(balls_N.mean() / k), float(covered_M.mean())
    )


def _radii(rows_ND: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row to its k-th nearest other row."""
    return np.concatenate([np.partition(_distances(part, rows_ND), k, axis=1)[:, k] for part in blocks(rows_ND)])


def _distances(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    squares = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1) - 2 * a_ND @ b_MD.T
    return np.sqrt(squares.clip(min=0))
