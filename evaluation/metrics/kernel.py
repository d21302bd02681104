"""Kernel distances between two sets of features, KID and CMMD: sums over the pairs of their samples, block by block.

Of sets of more than FEW rows the products of rows are float32, of rows less a common centre, and every sum is float64. A
product of centred rows x and y is off by at most `rounding` |x| |y| (Higham and Mary 2019, rounding errors taken as
independent: all but one product in 10^7). The means over pairs that KID and CMMD are made of are off by far less, since the
errors of many rows cancel: `mean_error` bounds them, and for features like Inception's or CLIP's lies a hundred times below
the last digit that tables show. Fewer rows are summed in float64 throughout.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evaluation.metrics.arrays import Array, Engine, engine
from evaluation.metrics.jackknife import GROUPS, Statistic, Swapped, jackknife, kept
from evaluation.metrics.summary import Summary

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

BLOCK = 1024
# Sets of at most so many rows are summed in float64.
FEW = 4096
# Standard deviations of a sum of rounding errors that are allowed for.
DEVIATIONS = 6


class Rows:
    """A set of features less a centre, where sums are done.

    rows_ND: centred, rounded to the dtype of products. squares_N: their squared lengths. tilts_N: centre . x - |centre|^2 / 2,
    so that x . y is the product of the centred rows and both tilts. features_ND: as they were given.
    """

    def __init__(self, features_ND: np.ndarray, centre_D: np.ndarray, dtype: Any, on: Engine) -> None:
        self.features_ND, self.on, self.dtype = features_ND, on, dtype
        centred = np.empty(features_ND.shape, dtype)
        squares, tilts = np.empty(len(features_ND)), np.empty(len(features_ND))
        for start in range(0, len(features_ND), BLOCK):
            inside = slice(start, start + BLOCK)
            x = np.asarray(features_ND[inside], np.float64)
            tilts[inside] = x @ centre_D - centre_D @ centre_D / 2
            centred[inside] = x - centre_D
            squares[inside] = ((x - centre_D) ** 2).sum(1)
        self.squares_N, self.tilts_N = squares, tilts
        self.rows_ND = on.put(centred, dtype)

    def __len__(self) -> int:
        return len(self.features_ND)

    @property
    def width(self) -> int:
        return self.features_ND.shape[1]

    @property
    def rounding(self) -> float:
        return rounding(self.width, self.dtype)

    def put(self, values_N: np.ndarray) -> Array:
        """One number a row, beside the products."""
        return self.on.put(values_N, self.dtype)


def rounding(width: int, dtype: Any = np.float32) -> float:
    """How far a product of two rows of this width may be off, relative to the product of their lengths."""
    return (DEVIATIONS * width**0.5 + 4) * float(np.finfo(dtype).eps) / 2


def mean_error(kernel: str, a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """How far float32 may take the mean of a kernel over the pairs of two sets, to first order.

    A pair's bound is the kernel's slope times that of its product, and the roundings of the kernel itself. Errors of different
    rows are independent, which takes the root of their number off; those of one row's pairs are taken to be all alike.
    """
    centre = np.asarray(b_MD, np.float64).mean(0)
    lengths = [float(np.sqrt((((rows - centre) ** 2).sum(1)).mean())) for rows in (a_ND, b_MD)]
    product = rounding(len(centre)) * lengths[0] * lengths[1]
    unit = float(np.finfo(np.float32).eps) / 2
    if kernel == "cmmd":
        of_pair = product / 100 + 4 * unit
    else:
        base = (centre @ centre + lengths[0] * lengths[1]) / len(centre) + 1
        of_pair = 3 * base**2 * product / len(centre) + 6 * unit * base**3
    return float(of_pair / np.sqrt(min(len(a_ND), len(b_MD))))


def centred(device: str, *sets: np.ndarray) -> list[Rows]:
    """Sets less the mean of the last: float32 where all have more than FEW rows."""
    dtype = np.float64 if min(map(len, sets)) <= FEW else np.float32
    centre = sets[-1].mean(0, dtype=np.float64)
    return [Rows(features_ND, centre, dtype, engine(device)) for features_ND in sets]


class Visitor(Protocol):
    """What sums products of rows up."""

    def visit(self, start: int, first: int, products_NM: Array) -> None:
        """Products of the rows from `start` on with the rows of the other set from `first` on; not to be changed."""


def visit_products(a: Rows, b: Rows, visitors: Sequence[Visitor]) -> None:
    """Show all products of a's rows with b's to every visitor, block by block; of a set with itself, of every pair once.

    Of a set with itself, a block's rows meet themselves and those after them.
    """
    for start in range(0, len(a), BLOCK):
        first = start if a is b else 0
        products = a.rows_ND[start : start + BLOCK] @ b.rows_ND[first:].T
        for visitor in visitors:
            visitor.visit(start, first, products)


def measure_kid(measured: "Measured", metric: "Metric") -> "Result":
    """KID to `real` with its standard error."""
    return _measured(leave_out_kid, measured, metric)


def measure_cmmd(measured: "Measured", metric: "Metric") -> "Result":
    """CMMD to `real` with its standard error."""
    return _measured(leave_out_cmmd, measured, metric)


def _measured(leave_out: "Callable[[Summary, Summary], Statistic]", measured: "Measured", metric: "Metric") -> "Result":
    if not (pair := measured.pair(metric)):
        return None
    a, real = pair
    return asdict(jackknife(leave_out(a, real), a.jackknifed))


def leave_out_kid(a: Summary, b: Summary) -> Statistic:
    """A function from a group number to the KID of two samples without that group (None: with all).

    KID is the unbiased squared maximum mean discrepancy under the kernel (x . y / D + 1)^3 (Binkowski et al. 2018). All
    pairs of these rows are used, where common implementations average random subsets of them. Raises ValueError for fewer
    than two rows.
    """
    _check_two(a, b)
    sums = _PairSums.of("kid", a, b)

    def without(group: int | None) -> float:
        (n, aa, own_a), (m, bb, own_b), ab = sums.without(group)
        return float((aa - own_a) / (n * (n - 1)) + (bb - own_b) / (m * (m - 1)) - 2 * ab / (n * m))

    return without


def leave_out_cmmd(a: Summary, b: Summary) -> Statistic:
    """A function from a group number to 1000 times the squared discrepancy of CMMD (Jayasumana et al. 2024).

    The kernel is exp(-|x - y|^2 / (2 10^2)) on features of unit length; a row's pair with itself counts, as in its code.
    """
    sums = _PairSums.of("cmmd", a, b)

    def without(group: int | None) -> float:
        (n, aa, _), (m, bb, _), ab = sums.without(group)
        return float(1000 * (aa / n**2 + bb / m**2 - 2 * ab / (n * m)))

    return without


def swapped_kid(a: Summary, b: Summary, real: Summary) -> Swapped:
    """A function from which groups are swapped, bool [G], to KID(a, real) - KID(b, real) with their rows swapped.

    Row by row a and b are of the same images; raises ValueError for fewer than two rows.
    """
    _check_two(a, real)
    sums, n, m = _SwapSums("kid", a, b, real), len(a.sample_SD), len(real.sample_SD)

    def swapped(swap_G: np.ndarray) -> float:
        pairs, own, across = sums.swapped(swap_G)
        return float((pairs - own) / (n * (n - 1)) - 2 * across / (n * m))

    return swapped


def swapped_cmmd(a: Summary, b: Summary, real: Summary) -> Swapped:
    """`swapped_kid` of CMMD."""
    sums, n, m = _SwapSums("cmmd", a, b, real), len(a.sample_SD), len(real.sample_SD)

    def swapped(swap_G: np.ndarray) -> float:
        pairs, _, across = sums.swapped(swap_G)
        return float(1000 * (pairs / n**2 - 2 * across / (n * m)))

    return swapped


def _check_two(a: Summary, b: Summary) -> None:
    n, m = len(a.sample_SD), len(b.sample_SD)
    if min(n, m) < 2:
        raise ValueError(f"KID needs two samples of each set, found {n} and {m}")


def _cubic(products_NM: Array, a: Rows, b: Rows, rows: slice, columns: slice) -> Array:
    """(x . y / D + 1)^3."""
    base = products_NM * (1 / a.width)
    base += a.put(a.tilts_N[rows] / a.width + 0.5)[:, None]
    base += b.put(b.tilts_N[columns] / a.width + 0.5)
    cubes = base * base
    cubes *= base
    return cubes


def _gaussian(products_NM: Array, a: Rows, b: Rows, rows: slice, columns: slice) -> Array:
    """exp(-|x - y|^2 / 200)."""
    exponents = products_NM * 0.01
    exponents -= a.put(a.squares_N[rows] / 200)[:, None]
    exponents -= b.put(b.squares_N[columns] / 200)
    return a.on.exp(exponents.clip(max=0))


KERNELS: dict[str, Callable[[Array, Rows, Rows, slice, slice], Array]] = {"kid": _cubic, "cmmd": _gaussian}


class KernelSums:
    """A kernel summed over the pairs of every two groups, float64 [G, G]."""

    def __init__(self, kernel: str, a: Rows, b: Rows, groups_N: np.ndarray, groups_M: np.ndarray) -> None:
        self.kernel, self.a, self.b = KERNELS[kernel], a, b
        count = max(GROUPS, int(max(groups_N.max(), groups_M.max())) + 1)
        self.in_a, self.in_b = (a.on.put(np.eye(count)[numbers], np.float64) for numbers in (groups_N, groups_M))
        self.sums_GG = np.zeros((count, count))

    def visit(self, start: int, first: int, products_NM: Array) -> None:
        rows, columns = slice(start, start + len(products_NM)), slice(first, len(self.b))
        values = self.a.on.double(self.kernel(products_NM, self.a, self.b, rows, columns))
        members = self.in_a[rows].T
        if self.a is not self.b:
            self.sums_GG += self.a.on.host(members @ (values @ self.in_b[columns]))
            return
        width = len(products_NM)
        self.sums_GG += self.a.on.host(members @ (values[:, :width] @ self.in_b[rows]))
        across = self.a.on.host(members @ (values[:, width:] @ self.in_b[rows.stop :]))
        self.sums_GG += across + across.T


def own_pairs(kernel: str, sample_SD: np.ndarray, groups_S: np.ndarray) -> np.ndarray:
    """A kernel of each row with itself, summed over every group [G]."""
    count = max(GROUPS, int(groups_S.max()) + 1)
    if kernel == "cmmd":
        return np.bincount(groups_S, minlength=count).astype(float)
    squares = np.concatenate([(np.asarray(part, np.float64) ** 2).sum(1) for part in blocks(sample_SD)])
    return np.bincount(groups_S, (squares / sample_SD.shape[1] + 1) ** 3, count)


def within_sums(kernel: str, of: Summary) -> np.ndarray:
    """A kernel summed over the pairs of a row's groups [G, G], as its summary has it or now."""
    if (known := of.known.get(f"{kernel}_within")) is not None:
        return known
    (rows,) = centred(of.device, of.sample_SD)
    found = KernelSums(kernel, rows, rows, of.groups_S, of.groups_S)
    visit_products(rows, rows, [found])
    return found.sums_GG


def across_sums(kernel: str, a: Summary, b: Summary) -> np.ndarray:
    """A kernel summed over the pairs of groups of two rows [G, G]."""
    rows, others = centred(a.device, a.sample_SD, b.sample_SD)
    found = KernelSums(kernel, rows, others, a.groups_S, b.groups_S)
    visit_products(rows, others, [found])
    return found.sums_GG


def real_sums(kernel: str, a: Summary, real: Summary) -> np.ndarray:
    """`across_sums` of a row and `real`, as was measured before or now."""
    known = a.known.get(f"{kernel}_across")
    return across_sums(kernel, a, real) if known is None else known


@dataclass(frozen=True)
class _PairSums:
    """Sums over the pairs of every two groups of two sets, so that leaving a group out costs nothing.

    sizes_G: rows of each group; own_G: sums over a row's pairs with itself.
    """

    sizes_a_G: np.ndarray
    sizes_b_G: np.ndarray
    own_a_G: np.ndarray
    own_b_G: np.ndarray
    aa_GG: np.ndarray
    bb_GG: np.ndarray
    ab_GG: np.ndarray

    @staticmethod
    def of(kernel: str, a: Summary, b: Summary) -> "_PairSums":
        count = max(GROUPS, int(max(a.groups_S.max(), b.groups_S.max())) + 1)
        sizes = [np.bincount(one.groups_S, minlength=count) for one in (a, b)]
        own = [own_pairs(kernel, one.sample_SD, one.groups_S) for one in (a, b)]
        pairs = within_sums(kernel, a), within_sums(kernel, b), real_sums(kernel, a, b)
        # Groups that one set has and the other has not.
        return _PairSums(*sizes, *(np.pad(sums, [(0, count - size) for size in sums.shape]) for sums in (*own, *pairs)))

    def without(self, group: int | None) -> tuple[tuple[float, float, float], tuple[float, float, float], float]:
        """(rows, sum over pairs, sum over a row's pairs with itself) of either set, and the sum over pairs across."""
        keep = kept(np.arange(len(self.sizes_a_G)), group)
        inside = np.ix_(keep, keep)
        set_a = float(self.sizes_a_G[keep].sum()), self.aa_GG[inside].sum(), self.own_a_G[keep].sum()
        set_b = float(self.sizes_b_G[keep].sum()), self.bb_GG[inside].sum(), self.own_b_G[keep].sum()
        return set_a, set_b, self.ab_GG[inside].sum()


class _SwapSums:
    """Sums over the pairs of every two groups of two sets, so that swapping a group costs nothing."""

    def __init__(self, kernel: str, a: Summary, b: Summary, real: Summary) -> None:
        ab = across_sums(kernel, a, b)
        self.pairs = np.block([[within_sums(kernel, a), ab], [ab.T, within_sums(kernel, b)]])
        self.own = np.concatenate([own_pairs(kernel, one.sample_SD, one.groups_S) for one in (a, b)])
        self.real = np.concatenate([real_sums(kernel, one, real).sum(1) for one in (a, b)])

    def swapped(self, swap_G: np.ndarray) -> tuple[float, float, float]:
        """Of a less of b, groups swapped: sums over pairs, over a row's pairs with itself, over pairs with `real`."""
        (pairs_a, own_a, real_a), (pairs_b, own_b, real_b) = (
            (self.pairs[np.ix_(rows, rows)].sum(), self.own[rows].sum(), self.real[rows].sum())
            for rows in (np.concatenate([~swap_G, swap_G]), np.concatenate([swap_G, ~swap_G]))
        )
        return pairs_a - pairs_b, own_a - own_b, real_a - real_b


def blocks(rows_ND: np.ndarray) -> Iterator[np.ndarray]:
    return (rows_ND[start : start + BLOCK] for start in range(0, len(rows_ND), BLOCK))
