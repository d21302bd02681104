"""Are two rows different? Paired differences of every row against some of them, for every metric of the tables.

    python -m evaluation.compare --against hcma gligen_sd --out tables/significance \
        --row metrics/hcma/test.json scores/hcma/test.parquet --row metrics/sd14/test.json scores/sd14/test.parquet ... \
        --swaps swaps/hcma.json swaps/gligen_sd.json ...

writes significance.csv and significance.md. All rows are of the same layouts and start from the same noise, so they are
compared image by image, on every metric that they have. CLIP scores: a permutation test that flips the sign of each
image's difference, the regions of an image together. Distances: a permutation test that swaps the images of each jackknife
group between the rows, by what evaluation.swaps measured. All others: the paired delete-a-group jackknife and Student's t.
Standard errors are the paired jackknife's, for distances a little too large where rows are alike: it counts the quadratic
part of a variance twice, which is why no test of distances rests on it. p-values are Holm's, over all pairs that are
compared on the same metric.

Exchanged images say whether two rows are of one distribution, not whether their true distances are equal: of a finite sample
a distance is biased, by more where the distribution is wider, and that bias is a part of what is tested. The difference of
the debiased values, which estimates that of the true distances, stands beside it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from evaluation.jackknife import standard_error
from evaluation.printing import number, write_csv
from evaluation.statistics import DISTANCE_METRICS, LEVELS
from formats.cli import run
from formats.files import InputError, read_object, write_text

LEVEL_OF_TEST = 0.05
FLIPS = 10_000
CHUNK = 500
OPPOSITE = "‡"
WHAT_IS_TESTED = (
    "Of a distance the null hypothesis is that the images of the two rows are exchangeable, that is, of one distribution. It "
    "is tested through the distance of a finite sample, which is biased by more where a distribution is wider, so that two "
    "rows of equal true distance but different distributions can be told apart."
)
DEBIASED = (
    "Debiased: the difference of the distances without that bias, by the jackknife: the estimate of the difference itself, "
    f"with the same standard error; {OPPOSITE}: of the other sign than the tested difference; -: no distance, or too few "
    "images to remove the bias."
)

# Two rows -> distance -> what each jackknife group adds to their difference; which of the two is less, no test asks.
Swaps = dict[frozenset[str], dict[str, list[float]]]


@dataclass(frozen=True)
class Row:
    """A method's metrics file, and the CLIP cosines of its images and of its regions with the image each belongs to."""

    method: str
    metrics: dict[str, Any]
    cosines: dict[str, np.ndarray]
    image_ids: dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=Path, nargs=2, action="append", required=True, help="metrics, scores")
    parser.add_argument("--swaps", type=Path, nargs="*", default=[], help="what evaluation.swaps wrote of these rows")
    parser.add_argument("--against", nargs="*", default=[], help="methods that the others are compared with")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    rows = {row.method: row for row in (read_row(*paths) for paths in arguments.row)}
    if unknown := [name for name in arguments.against if name not in rows]:
        raise InputError(f"--against {unknown[0]}: not among the rows, {', '.join(rows)}")
    table = compare(rows, arguments.against, read_swaps(arguments.swaps))
    write_csv(arguments.out.with_suffix(".csv"), table)
    write_text(arguments.out.with_suffix(".md"), markdown(table))


def read_row(metrics: Path, scores: Path) -> Row:
    """The parts of a row that comparisons need, in the order of the images' ids, in which metrics need not have left them.

    Raises InputError for files that are no metrics or no table of scores.
    """
    content = read_object(metrics, "the metrics of a row", "method", "metrics")
    try:
        table = pd.read_parquet(scores)[["image_id", "id", "object", "clip"]].dropna()
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{scores}: not a table of scores ({error}); delete it and run again") from None
    table = table.sort_values(["image_id", "id", "object"])
    levels = {"image": table[table["object"] < 0], "region": table[table["object"] >= 0]}
    return Row(
        method=content["method"],
        metrics=content["metrics"],
        cosines={level: rows["clip"].to_numpy() for level, rows in levels.items()},
        image_ids={level: rows["image_id"].to_numpy() for level, rows in levels.items()},
    )


def read_swaps(paths: Sequence[Path]) -> Swaps:
    """The pairs of rows of several files; raises InputError for a file that evaluation.swaps did not write."""
    contents = [read_object(path, "swaps of a row", "method", "against") for path in paths]
    return {
        frozenset((content["method"], other)): found
        for content in contents
        for other, found in content["against"].items()
    }


COLUMNS = ["metric", "method", "against", "difference", "se", "debiased", "opposite", "p", "p_holm", "different"]


def compare(rows: dict[str, Row], against: Sequence[str], swaps: Swaps) -> pd.DataFrame:
    """One line a metric, row and row it is compared with; a metric that one of them lacks has none.

    Raises InputError for a distance of two rows without swaps.
    """
    lines: list[dict[str, Any]] = []
    for metric in dict.fromkeys(metric for row in rows.values() for metric in row.metrics):
        # A pair of two that are both compared with is one test, whichever way round it is printed.
        pairs = {frozenset((name, other)): (name, other) for other in against for name in rows if name != other}
        family = {
            pair: difference(metric, rows[name], rows[other], _swapped(metric, pair, swaps))
            for pair, (name, other) in pairs.items()
            if rows[name].metrics.get(metric) and rows[other].metrics.get(metric)
        }
        adjusted = dict(zip(family, holm([float(found["p"]) for found in family.values()]), strict=True))
        lines += [
            _line(metric, pairs[pair], (name, other), family[pair] | {"p_holm": adjusted[pair]})
            for other in against
            for name in rows
            if (pair := frozenset((name, other))) in family and name != other
        ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _swapped(metric: str, pair: frozenset[str], swaps: Swaps) -> list[float] | None:
    if metric not in DISTANCE_METRICS:
        return None
    try:
        return swaps[pair][metric]
    except KeyError:
        raise InputError(f"{' and '.join(sorted(pair))}: no swaps of {metric}; measure them and give --swaps") from None


def _line(metric: str, tested: tuple[str, str], printed: tuple[str, str], found: dict[str, float]) -> dict[str, Any]:
    sign = 1 if tested == printed else -1
    line = {"metric": metric, "method": printed[0], "against": printed[1]} | found
    line |= {key: sign * found[key] for key in ("difference", "debiased")}
    return line | {"opposite": opposite(found["difference"], found["debiased"]), "different": verdict(found["p_holm"])}


def verdict(p_holm: float) -> str:
    """yes, no, or untested, where there is no p-value."""
    return "untested" if np.isnan(p_holm) else "yes" if p_holm < LEVEL_OF_TEST else "no"


def difference(metric: str, row: Row, other: Row, swapped: list[float] | None = None) -> dict[str, float]:
    """The row's value minus the other's, its standard error, the debiased difference, and the p-value before any correction.

    swapped: of a distance, what each jackknife group adds to the difference. Raises InputError unless both rows were measured
    on the same images.
    """
    for level in LEVELS:
        if not np.array_equal(row.image_ids[level], other.image_ids[level]):
            raise InputError(f"{row.method} and {other.method}: {level}s of other images, they cannot be paired")
    a, b = row.metrics[metric], other.metrics[metric]
    gap = a["value"] - b["value"]
    se = standard_error(np.subtract(a["left_out"], b["left_out"]))
    level = metric.removesuffix("_clip")
    if level in LEVELS:
        p = flip_test(row.cosines[level] - other.cosines[level], row.image_ids[level])
    elif swapped is not None:
        p = swap_test(gap, swapped)
    elif not se:
        p = 1.0 if gap == 0 else float("nan")
    else:
        p = float(2 * stats.t.sf(abs(gap) / se, len(a["left_out"]) - 1))
    return {"difference": gap, "se": se, "debiased": debiased_difference(metric, a, b), "p": p}


def debiased_difference(metric: str, a: dict[str, Any], b: dict[str, Any]) -> float:
    """Of a distance, a's debiased value minus b's; nan of any other metric, and where either has no debiased value.

    It is the mean of the jackknife's pseudo-values (Tukey 1958), whose standard error is that of the plain difference.
    """
    first, second = a.get("debiased"), b.get("debiased")
    if metric not in DISTANCE_METRICS or first is None or second is None:
        return float("nan")
    return float(first - second)


def opposite(tested: float, debiased: float) -> str:
    """yes where the debiased difference has the other sign than the tested one, else no; nothing where there is none."""
    return "" if np.isnan(debiased) else "yes" if tested * debiased < 0 else "no"


def swap_test(gap: float, parts: Sequence[float]) -> float:
    """Two-sided p-value of a difference from what each group adds to it, by `flip_test`; nan of no groups."""
    if not parts:
        return float("nan")
    # Where nothing differs, no swap is less extreme; what rounding left in the groups must not say otherwise.
    return flip_test(np.array(parts), np.arange(len(parts))) if gap else 1.0


def flip_test(differences_N: np.ndarray, image_ids_N: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference under random signs, one an image: (1 + as extreme) / (1 + FLIPS)."""
    _, place_N = np.unique(image_ids_N, return_inverse=True)
    sums_I = np.bincount(place_N, weights=differences_N)
    rng = np.random.default_rng(seed)
    observed, extreme = abs(sums_I.sum()), 0
    # Rounding must not make a flip that changes nothing, as where all differences are 0, look less extreme.
    limit = observed * (1 - 1e-12)
    for _ in range(FLIPS // CHUNK):
        signs = rng.integers(0, 2, (CHUNK, len(sums_I)), dtype=np.int8) * 2.0 - 1
        extreme += int((np.abs(signs @ sums_I) >= limit).sum())
    return (1 + extreme) / (1 + FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the given order; nan stays and is not counted."""
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = p.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted.tolist()


def markdown(table: pd.DataFrame) -> str:
    """The comparisons, one block a row compared with."""
    parts = ["**Paired differences**\n"]
    for against, rows in table.groupby("against", sort=False):
        parts += [
            f"Row minus {against}:\n",
            "| Method | Metric | Difference | Debiased | p | p (Holm) | |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        for line in rows.to_dict("records"):
            parts.append(f"| {line['method']} | {line['metric']} | {numbers(line)} | {stated(line['different'])} |")
        parts.append("")
    parts.append(
        f"- Paired by image: {FLIPS:,} random sign flips of the images' differences for CLIP scores; as many random swaps of "
        "groups of images between the two rows for distances; delete-a-group jackknife and Student's t for all others. ± one "
        "standard error, by the paired jackknife. Holm's correction over all pairs, metric by metric; level "
        f"{LEVEL_OF_TEST}.\n- {WHAT_IS_TESTED}\n- {DEBIASED}\n"
    )
    return "\n".join(parts)


def numbers(line: dict[Any, Any]) -> str:
    """Difference, debiased difference, p and corrected p of a line as four cells; no error where there is none."""
    difference = number(line["difference"], se=line["se"], sign="+")
    return f"{difference} | {without_bias(line)} | {small(line['p'])} | {small(line['p_holm'])}"


def without_bias(line: dict[Any, Any]) -> str:
    """The debiased difference of a line with its mark; a dash where there is none."""
    return number(line["debiased"], sign="+") + (OPPOSITE if line["opposite"] == "yes" else "")


def stated(different: str) -> str:
    """A verdict in words: nothing where two rows differ."""
    return {"yes": "", "no": "not distinguishable", "untested": "not tested"}[different]


def small(p: float) -> str:
    """A p-value as the tables print it; a dash for none."""
    return "-" if np.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"


if __name__ == "__main__":
    run(main)
