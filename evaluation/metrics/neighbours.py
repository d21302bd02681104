"""How two sets of features share their k-nearest-neighbour balls: precision, recall, density and coverage.

Distances come from the products of evaluation.metrics.kernel, float32 for large sets. Those that lie nearer to a ball's edge
than rounding can take them are measured again in float64, from the features themselves, and so are the edges: what is counted
is what float64 counts.
"""

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metrics.arrays import Array
from evaluation.metrics.kernel import BLOCK, Rows, centred, visit_products
from evaluation.metrics.summary import Summary

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

NEIGHBOURS = 5
# Rows beyond the k nearest that are measured again, since one of them may be the k-th.
SPARE = 3
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
    samples = len(a.sample_SD), len(real.sample_SD)
    if min(samples) <= NEIGHBOURS:
        return None
    known = a.known.get("neighbourhood")
    found = neighbourhood_of(a, real) if known is None else Neighbourhood(*map(float, known))
    return dict(zip(COUNTS, (*samples, real.n), strict=True)) | asdict(found)


def neighbourhood(found_ND: np.ndarray, real_MD: np.ndarray, k: int = NEIGHBOURS) -> Neighbourhood:
    """How two sets of features share their k-nearest-neighbour balls, edges included; a sample is no neighbour of itself.

    Raises ValueError where a set has no k neighbours.
    """
    if min(len(found_ND), len(real_MD)) <= k:
        raise ValueError(f"{k} neighbours need more samples than {min(len(found_ND), len(real_MD))}")
    found, real = (Summary({}, rows, np.zeros(len(rows), int)) for rows in (found_ND, real_MD))
    return neighbourhood_of(found, real, k)


def neighbourhood_of(a: Summary, real: Summary, k: int = NEIGHBOURS) -> Neighbourhood:
    """`neighbourhood` of two samples."""
    rows, others = centred(a.device, a.sample_SD, real.sample_SD)
    balls = Balls(rows, others, squared_radii(a, k), squared_radii(real, k))
    visit_products(rows, others, [balls])
    return balls.neighbourhood(k)


def squared_radii(of: Summary, k: int = NEIGHBOURS) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, float64 [N], as its summary has it or now."""
    if (known := of.known.get("squared_radii")) is not None and k == NEIGHBOURS:
        return known
    (rows,) = centred(of.device, of.sample_SD)
    nearest = Nearest(rows, k)
    visit_products(rows, rows, [nearest])
    return nearest.squared_radii()


def _slack(of: Rows, among: Rows) -> np.ndarray:
    """How far the squared distances of each row to any of the others may be off [N]."""
    return of.rounding * (of.squares_N + among.squares_N.max())


def _squares(products_NM: Array, a: Rows, b: Rows, rows: slice, columns: slice) -> Array:
    """Squared distances."""
    squares = products_NM * -2
    squares += a.put(a.squares_N[rows])[:, None]
    squares += b.put(b.squares_N[columns])
    return squares


def _measured_again(a: Rows, b: Rows, rows_P: np.ndarray, columns_P: np.ndarray) -> np.ndarray:
    """Squared distances of single pairs [P] in float64, from features as they were given."""
    found = np.empty(len(rows_P))
    for part in _parts(len(rows_P)):
        gap = a.features_ND[rows_P[part]].astype(np.float64) - b.features_ND[columns_P[part]]
        found[part] = np.einsum("pd,pd->p", gap, gap)
    return found


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


class Nearest:
    """The nearest others of each row of a set: k and SPARE candidates, by products, then the k-th in float64."""

    def __init__(self, rows: Rows, k: int) -> None:
        self.rows, self.k = rows, k
        self.count = min(k + SPARE, len(rows) - 1)
        self.squares_NC = np.full((len(rows), self.count), np.inf)
        self.places_NC = np.zeros((len(rows), self.count), int)

    def visit(self, start: int, first: int, products_NM: Array) -> None:
        here, there = slice(start, start + len(products_NM)), slice(first, len(self.rows))
        squares = _squares(products_NM, self.rows, self.rows, here, there)
        self.rows.on.fill_diagonal(squares, np.inf)
        limits = self._limits(squares, here, 1)
        rows, columns = self.rows.on.where(squares <= self.rows.put(limits)[:, None])
        self._offer(rows + start, columns + first, self.rows.on.at(squares, rows, columns))
        # The block's own rows have met one another; those after them meet the block here alone.
        later = squares[:, len(products_NM) :]
        if later.shape[1]:
            limits = self._limits(later, slice(here.stop, there.stop), 0)
            rows, columns = self.rows.on.where(later <= self.rows.put(limits))
            self._offer(columns + here.stop, rows + start, self.rows.on.at(later, rows, columns))

    def _limits(self, squares_NM: Array, of: slice, axis: int) -> np.ndarray:
        """What a candidate may be at most: the worst there is, or where some row has too few, the count-th of these."""
        worst = self.squares_NC[of].max(1)
        if np.isfinite(worst).all() or squares_NM.shape[axis] < self.count:
            return worst
        return np.minimum(worst, self.rows.on.kth(squares_NM, self.count, axis))

    def _offer(self, rows_P: np.ndarray, places_P: np.ndarray, squares_P: np.ndarray) -> None:
        """Keep the best candidates of each row."""
        real = np.isfinite(squares_P)
        rows_P, places_P, squares_P = rows_P[real], places_P[real], squares_P[real]
        order = np.lexsort((squares_P, rows_P))
        rows_P, places_P, squares_P = rows_P[order], places_P[order], squares_P[order]
        of, begins, number_P = np.unique(rows_P, return_index=True, return_inverse=True)
        rank_P = np.arange(len(rows_P)) - begins[number_P]
        best = rank_P < self.count
        squares = np.full((len(of), 2 * self.count), np.inf)
        places = np.zeros(squares.shape, int)
        squares[:, : self.count], places[:, : self.count] = self.squares_NC[of], self.places_NC[of]
        squares[number_P[best], self.count + rank_P[best]] = squares_P[best]
        places[number_P[best], self.count + rank_P[best]] = places_P[best]
        chosen = np.argsort(squares, axis=1, kind="stable")[:, : self.count]
        self.squares_NC[of] = np.take_along_axis(squares, chosen, 1)
        self.places_NC[of] = np.take_along_axis(places, chosen, 1)

    def squared_radii(self) -> np.ndarray:
        """Of each row, float64 [N]."""
        numbers = np.repeat(np.arange(len(self.rows)), self.count)
        again = _measured_again(self.rows, self.rows, numbers, self.places_NC.ravel()).reshape(self.places_NC.shape)
        radii = np.partition(again, self.k - 1, axis=1)[:, self.k - 1]
        # A row that is no candidate could be nearer than the k-th where rounding is larger than the gap to the last candidate.
        farthest = self.squares_NC.max(1) - _slack(self.rows, self.rows)
        doubtful = (farthest < radii) & (radii > 0) & (self.count < len(self.rows) - 1)
        for row in np.flatnonzero(doubtful):
            radii[row] = self._searched(int(row))
        return radii

    def _searched(self, row: int) -> float:
        """The k-th distance of a row among all others, by float64 alone."""
        others = np.delete(np.arange(len(self.rows)), row)
        squares = _measured_again(self.rows, self.rows, np.full(len(others), row), others)
        return float(np.partition(squares, self.k - 1)[self.k - 1])


class Balls:
    """Which rows of a set lie in the balls of another's, and which of the other's lie in this one's."""

    def __init__(self, a: Rows, b: Rows, squared_radii_N: np.ndarray, squared_radii_M: np.ndarray) -> None:
        self.a, self.b, self.radii_N, self.radii_M = a, b, squared_radii_N, squared_radii_M
        self.slack_N, self.slack_M = _slack(a, b), _slack(b, a)
        self.balls_N = np.zeros(len(a), int)
        self.covered_M, self.recalled_M = np.zeros(len(b), bool), np.zeros(len(b), bool)

    def visit(self, start: int, first: int, products_NM: Array) -> None:
        rows, columns = slice(start, start + len(products_NM)), slice(first, len(self.b))
        squares = _squares(products_NM, self.a, self.b, rows, columns)
        inside = squares <= self.b.put(self.radii_M + self.slack_M)
        of_a, of_b = self._decided(squares, inside, start, self.radii_M, self.slack_M, 1)
        self.balls_N += np.bincount(of_a, minlength=len(self.a))
        self.covered_M[of_b] = True
        inside = squares <= self.a.put((self.radii_N + self.slack_N)[rows])[:, None]
        _, of_b = self._decided(squares, inside, start, self.radii_N, self.slack_N, 0)
        self.recalled_M[of_b] = True

    def _decided(
        self, squares_NM: Array, inside_NM: Array, start: int, radii: np.ndarray, slack: np.ndarray, whose: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of both rows of the pairs that are inside a ball, of those that may be; whose: 0 for a's balls, 1 for b's."""
        rows, columns = self.a.on.where(inside_NM)
        squares = self.a.on.at(squares_NM, rows, columns).astype(np.float64)
        rows = rows + start
        edge, width = radii[(rows, columns)[whose]], slack[(rows, columns)[whose]]
        near = squares > edge - width
        squares[near] = _measured_again(self.a, self.b, rows[near], columns[near])
        kept = squares <= edge
        return rows[kept], columns[kept]

    def neighbourhood(self, k: int) -> Neighbourhood:
        precision, density = (self.balls_N > 0).mean(), self.balls_N.mean() / k
        return Neighbourhood(
            float(precision), float(self.recalled_M.mean()), float(density), float(self.covered_M.mean())
        )


def as_array(found: Neighbourhood) -> np.ndarray:
    """The four numbers [4]."""
    return np.array(astuple(found))
