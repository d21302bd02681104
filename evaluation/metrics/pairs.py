"""What is summed over the pairs of samples, once: of a row alone beside its summary, of a row and `real` when it is measured.

All metrics on one network's features take their sums from the same products of rows.
"""

from collections.abc import Collection

import numpy as np

from evaluation.metrics.kernel import KERNELS, KernelSums, Visitor, centred, visit_products
from evaluation.metrics.neighbours import NEIGHBOURS, Balls, Nearest, as_array, squared_radii
from evaluation.metrics.summary import Summary

BALLS = "neighbourhood"
# What a metric may ask for: a kernel, or neighbours.
SUMS = (*KERNELS, BALLS)


def within(of: Summary, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Of a row alone, by the names of Summary.known; wanted: of SUMS."""
    if not wanted:
        return {}
    (rows,) = centred(of.device, of.sample_SD)
    kernels = {name: KernelSums(name, rows, rows, of.groups_S, of.groups_S) for name in KERNELS if name in wanted}
    nearest = Nearest(rows, NEIGHBOURS) if BALLS in wanted and len(rows) > NEIGHBOURS else None
    visitors: list[Visitor] = [*kernels.values(), *([nearest] if nearest else [])]
    visit_products(rows, rows, visitors)
    found = {f"{name}_within": sums.sums_GG for name, sums in kernels.items()}
    return found | ({"squared_radii": nearest.squared_radii()} if nearest else {})


def across(a: Summary, real: Summary, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Of a row and `real`, by the names of Summary.known; wanted: of SUMS."""
    if not wanted:
        return {}
    rows, others = centred(a.device, a.sample_SD, real.sample_SD)
    kernels = {name: KernelSums(name, rows, others, a.groups_S, real.groups_S) for name in KERNELS if name in wanted}
    enough = BALLS in wanted and min(len(rows), len(others)) > NEIGHBOURS
    balls = Balls(rows, others, squared_radii(a), squared_radii(real)) if enough else None
    visitors: list[Visitor] = [*kernels.values(), *([balls] if balls else [])]
    visit_products(rows, others, visitors)
    found = {f"{name}_across": sums.sums_GG for name, sums in kernels.items()}
    return found | ({BALLS: as_array(balls.neighbourhood(NEIGHBOURS))} if balls else {})
