"""How a row's Frechet distances grow when fewer images are measured: subsets of the jackknife's groups.

A subset is a union of consecutive groups, hence of the same images for every row; a size's value is the mean over runs that
share no image, at most RUNS of them. They are compared with the same groups of `real`; the runs of the row `real` itself
with one another, which shows what the floor should be. `floor` is the expected distance of two samples of these sizes from
one distribution.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import scipy

from evaluation.metrics import METRICS
from evaluation.metrics.frechet import floor_of, leave_out_distance
from evaluation.metrics.jackknife import GROUPS
from evaluation.metrics.summary import Summaries, Summary

SIZES = (1, 2, 4, 10, 20)
RUNS = 5
COLUMNS = ["method", "level", "n", "fid", "runs", "floor"]


def distances_by_size(method: str, row: Summaries, real: Summaries) -> pd.DataFrame:
    """A line a level and size of each headline Frechet distance."""
    lines = []
    for metric in METRICS.values():
        if metric.quantity == "fid":
            of = metric.extractor, metric.level
            found = by_size(row.summary(*of), real.summary(*of), apart=method == "real")
            lines += [{"method": method, "level": metric.level} | line for line in found]
    return pd.DataFrame(lines, columns=COLUMNS)


def by_size(a: Summary, b: Summary, apart: bool = False) -> Iterator[dict[str, float]]:
    """Per subset size: the mean n of a, the mean distance over runs, how many runs, and the floor of such sizes.

    apart: runs of `a` against other runs of `b`, with no group in common.
    """
    if min(a.n, b.n) < 2:
        return
    spectrum = scipy.linalg.eigvalsh(b.whole().mean_and_covariance()[1], driver="evd")
    for size in SIZES:
        runs = [range(start, start + size) for start in range(0, GROUPS - size + 1, size)]
        pairs = list(zip(runs[::2], runs[1::2], strict=False) if apart else zip(runs, runs, strict=True))
        parts = [(only(a, one), only(b, other)) for one, other in pairs[:RUNS]]
        parts = [(one, other) for one, other in parts if min(one.n, other.n) >= 2]
        if parts:
            n_a, n_b = (float(np.mean([part[side].n for part in parts])) for side in (0, 1))
            distance = np.mean([leave_out_distance(*part)(None) for part in parts])
            floored = floor_of(spectrum, n_a, n_b)
            yield {"n": n_a, "fid": float(distance), "runs": len(parts), "floor": floored}


def only(summary: Summary, numbers: Sequence[int]) -> Summary:
    """The summary of these groups alone."""
    inside = np.isin(summary.groups_S, numbers)
    moments = {group: part for group, part in summary.moments.items() if group in numbers}
    return Summary(moments, summary.sample_SD[inside], summary.groups_S[inside], device=summary.device)
