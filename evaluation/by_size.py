"""How a row's Frechet distances grow when fewer images are measured: subsets of the jackknife's groups.

    python -m evaluation.by_size --method hcma --features features/hcma/test/*.npz --reference statistics/test.npz \
        --out sizes/hcma/test.csv

A subset is a run of consecutive groups, which hash the image ids, so it is of the same images for every row; a size's
value is the mean over runs that share no image, at most RUNS of them. The same groups of the reference stand against it,
but for the row `real`: its runs are compared with one another, which shows what the floor should be. `floor` is the
expected distance of two samples of these sizes from one distribution.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.feature_files import FeatureShards
from evaluation.frechet import floor
from evaluation.jackknife import GROUPS
from evaluation.printing import write_csv
from evaluation.statistics import LEVELS, REFERENCE_SETS, Reference, Summary, leave_out_distance, summarize
from formats.cli import run

SIZES = (1, 2, 4, 10, 20)
RUNS = 5
COLUMNS = ["method", "level", "n", "fid", "runs", "floor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--reference", type=Path, required=True, help="what evaluation.statistics wrote of `real`")
    parser.add_argument("--reference-set", choices=REFERENCE_SETS, default="same_ids")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shards, reference = FeatureShards(arguments.features), Reference(arguments.reference)
    reference.check(shards, arguments.reference_set)
    lines = []
    for level in LEVELS:
        pair = summarize(shards, "frechet", level), reference.summary("frechet", level)
        found = by_size(*pair, apart=arguments.method == "real")
        lines += [{"method": arguments.method, "level": level} | line for line in found]
    write_csv(arguments.out, pd.DataFrame(lines, columns=COLUMNS))


def by_size(a: Summary, b: Summary, apart: bool = False) -> Iterator[dict[str, float]]:
    """Per subset size: the mean n of a, the mean distance over runs, how many runs, and the floor of such sizes.

    apart: runs of `a` against other runs of `b`, with no group in common.
    """
    if min(a.n, b.n) < 2:
        return
    covariance = b.whole().mean_and_covariance()[1]
    for size in SIZES:
        runs = [range(start, start + size) for start in range(0, GROUPS - size + 1, size)]
        pairs = list(zip(runs[::2], runs[1::2], strict=False) if apart else zip(runs, runs, strict=True))
        parts = [(only(a, one), only(b, other)) for one, other in pairs[:RUNS]]
        parts = [(one, other) for one, other in parts if min(one.n, other.n) >= 2]
        if parts:
            n_a, n_b = (float(np.mean([part[side].n for part in parts])) for side in (0, 1))
            distance = np.mean([leave_out_distance(*part)(None) for part in parts])
            floored = floor(covariance, n_a, n_b)
            yield {"n": n_a, "fid": float(distance), "runs": len(parts), "floor": floored}


def only(summary: Summary, numbers: Sequence[int]) -> Summary:
    """The summary of these groups alone."""
    inside = np.isin(summary.groups_S, numbers)
    moments = {group: part for group, part in summary.moments.items() if group in numbers}
    return Summary(moments, summary.sample_SD[inside], summary.groups_S[inside])


if __name__ == "__main__":
    run(main)
