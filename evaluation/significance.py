"""Are two rows different, and is a best row really best? Paired differences of rows, for every metric that they have.

All rows are of the same layouts and start from the same noise, so they are compared image by image. CLIP scores: a
permutation test that flips the sign of each image's difference, the regions of an image together. Distances: a permutation
test that swaps the images of each jackknife group between the rows (evaluation.metrics.permutation). All others: the paired
delete-a-group jackknife and Student's t. Standard errors are the paired jackknife's, for distances a little too large where
rows are alike: it counts the quadratic part of a variance twice, which is why no test of distances rests on it. p-values are
Holm's, over all pairs that are compared on the same metric.

Exchanged images say whether two rows are of one distribution, not whether their true distances are equal: of a finite sample
a distance is biased, by more where the distribution is wider, and that bias is a part of what is tested. The difference of
the debiased values, which estimates that of the true distances, is reported beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

from evaluation.metrics import METRICS, Metric, headline, metric_of, metrics_of
from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean, standard_error
from evaluation.metrics.permutation import flip_test, swap_test
from evaluation.metrics.summary import LEVELS
from evaluation.scores import UNIT, read_table
from formats.files import InputError, read_object

LEVEL_OF_TEST = 0.05
COLUMNS = ["metric", "method", "against", "difference", "se", "debiased", "opposite", "p", "p_holm", "different"]

# Unordered pairs of rows -> distance -> what each jackknife group adds to their difference; the tests are two-sided.
Swaps = dict[frozenset[str], dict[str, list[float]]]


@dataclass(frozen=True)
class MeasuredRow:
    """Metrics of one method; the image that each image and each scored region is of; and what means are of.

    scores: of a metric its known values, by image_id, id and object, in that order. known: the metrics that there are, by name.
    """

    method: str
    metrics: dict[str, Any]
    image_ids: dict[str, np.ndarray]
    scores: dict[str, "pd.Series[float]"]
    known: dict[str, Metric] = field(default_factory=lambda: METRICS)


def read_row(metrics: Path, scores: Path) -> MeasuredRow:
    """A row from its metrics and scores files, sorted by image id; metrics need not be in that order.

    Raises InputError for files that are no metrics or no table of scores.
    """
    content = read_object(metrics, "the metrics of a row", "method", "metrics")
    known = metrics_of(content.get("protocol", {}))
    scored = [metric for metric in known.values() if metric.scores and content["metrics"].get(metric.name)]
    columns = {"image_id", "clip", *(metric.scores for metric in scored)}
    table = read_table(scores, columns).set_index([*UNIT]).sort_index()
    boxes = table[table.index.get_level_values("object") >= 0]
    images = table[table.index.get_level_values("object") < 0]
    levels, units = {"image": images, "region": boxes}, {"image": images, "box": boxes, "label": boxes}
    return MeasuredRow(
        method=content["method"],
        metrics=content["metrics"],
        image_ids={level: images_of(rows["clip"].dropna()) for level, rows in levels.items()},
        scores={metric.name: units[metric.mean_over][metric.scores].dropna() for metric in scored},
        known=known,
    )


def images_of(scores: "pd.Series[float]") -> np.ndarray:
    """The image that each score is of."""
    return scores.index.get_level_values("image_id").to_numpy()


def read_swaps(paths: Sequence[Path]) -> Swaps:
    """The pairs of rows of several files; raises InputError for a file that `evaluation.metrics swap` did not write."""
    contents = [read_object(path, "swaps of a row", "method", "against") for path in paths]
    return {
        frozenset((content["method"], other)): found
        for content in contents
        for other, found in content["against"].items()
    }


def compare(rows: dict[str, MeasuredRow], against: Sequence[str], swaps: Swaps) -> pd.DataFrame:
    """One line a metric, row and row it is compared with; a metric that one of them lacks has none.

    Raises InputError for a distance of two rows without swaps.
    """
    return compare_pairs(rows, [(name, other) for other in against for name in rows if name != other], swaps)


def compare_pairs(rows: dict[str, MeasuredRow], pairs: Sequence[tuple[str, str]], swaps: Swaps) -> pd.DataFrame:
    """The same of these pairs alone, the first row minus the second: p-values are Holm's over them, metric by metric."""
    lines: list[dict[str, Any]] = []
    for metric in dict.fromkeys(metric for row in rows.values() for metric in row.metrics):
        # A pair that is printed both ways round is one test, of the way that comes last.
        tested = {frozenset(pair): pair for pair in pairs}
        family = {
            pair: difference(
                metric, rows[name], rows[other], _swapped(metric_of(metric, rows[name].known), pair, swaps)
            )
            for pair, (name, other) in tested.items()
            if rows[name].metrics.get(metric) and rows[other].metrics.get(metric)
        }
        adjusted = dict(zip(family, holm([float(found["p"]) for found in family.values()]), strict=True))
        lines += [
            _line(metric, name, other, family[pair] | {"p_holm": adjusted[pair]}, -1 if tested[pair][0] == other else 1)
            for name, other in pairs
            if (pair := frozenset({name, other})) in family
        ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _swapped(metric: Metric, pair: frozenset[str], swaps: Swaps) -> list[float] | None:
    if not metric.swapped:
        return None
    try:
        return swaps[pair][metric.name]
    except KeyError:
        raise InputError(
            f"{' and '.join(sorted(pair))}: no swaps of {metric.name}; measure them and give --swaps"
        ) from None


def _line(metric: str, method: str, against: str, found: dict[str, float], sign: int) -> dict[str, Any]:
    line = {"metric": metric, "method": method, "against": against} | found
    line |= {key: sign * found[key] for key in ("difference", "debiased")}
    return line | {"opposite": opposite(found["difference"], found["debiased"]), "different": verdict(found["p_holm"])}


def verdict(p_holm: float) -> str:
    """yes, no, or untested, where there is no p-value."""
    return "untested" if np.isnan(p_holm) else "yes" if p_holm < LEVEL_OF_TEST else "no"


def difference(
    metric: str, row: MeasuredRow, other: MeasuredRow, swapped: list[float] | None = None
) -> dict[str, float]:
    """The row's value minus the other's, its standard error, the debiased difference, and the p-value before any correction.

    swapped: of a distance, what each jackknife group adds to the difference. Of a mean over images or boxes both rows count
    where both have a value. Raises InputError unless both rows were measured on the same images.
    """
    for level in LEVELS:
        if not np.array_equal(row.image_ids[level], other.image_ids[level]):
            raise InputError(f"{row.method} and {other.method}: {level}s of other images, they cannot be paired")
    kind, a, b = metric_of(metric, row.known), row.metrics[metric], other.metrics[metric]
    mine, theirs = row.scores.get(metric), other.scores.get(metric)
    if mine is not None and theirs is not None and not mine.index.equals(theirs.index):
        mine, theirs = mine.align(theirs, join="inner")
        if mine.empty:
            return dict.fromkeys(("difference", "se", "debiased", "p"), float("nan"))
        a, b = _mean(mine), _mean(theirs)
    gap = a["value"] - b["value"]
    se = standard_error(np.subtract(a["left_out"], b["left_out"]))
    if kind.flips:
        assert mine is not None and theirs is not None
        p = flip_test(mine.to_numpy() - theirs.to_numpy(), images_of(mine))
    elif swapped is not None:
        p = swap_test(gap, swapped)
    elif not se:
        p = 1.0 if gap == 0 else float("nan")
    else:
        p = float(2 * scipy.special.stdtr(len(a["left_out"]) - 1, -abs(gap) / se))
    return {"difference": gap, "se": se, "debiased": debiased_difference(kind, a, b), "p": p}


def _mean(scores: "pd.Series[float]") -> dict[str, Any]:
    numbers = groups(images_of(scores))
    return asdict(jackknife(leave_out_mean(scores.to_numpy(np.float64), numbers), numbers))


def debiased_difference(metric: Metric, a: dict[str, Any], b: dict[str, Any]) -> float:
    """Of a distance, a's debiased value minus b's; nan of any other metric, and where either has no debiased value.

    It is the mean of the jackknife's pseudo-values (Tukey 1958), whose standard error is that of the plain difference.
    """
    first, second = a.get("debiased"), b.get("debiased")
    if not metric.swapped or first is None or second is None:
        return float("nan")
    return float(first - second)


def opposite(tested: float, debiased: float) -> str:
    """yes where the debiased difference has the other sign than the tested one, else no; nothing where there is none."""
    return "" if np.isnan(debiased) else "yes" if tested * debiased < 0 else "no"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the given order; nan stays and is not counted."""
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = p.copy()
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted.tolist()


def leaders(rows: dict[str, MeasuredRow], swaps: Swaps, metrics: Sequence[Metric] = ()) -> Iterator[dict[Any, Any]]:
    """A line of `compare` for each of the metrics (none: the headline's) that two rows have: the best row as `method`, the
    runner-up as `against`.

    Which two rows lead is known from the data alone, so p-values are Holm's over all pairs of these rows: they hold whichever
    pair is looked at.
    """
    metrics = metrics or headline()
    shown = {
        name: replace(row, metrics={m.name: row.metrics.get(m.name) for m in metrics}) for name, row in rows.items()
    }
    pairs: dict[tuple[str, str, str], dict[Any, Any]] = {
        (line["metric"], line["method"], line["against"]): line
        for line in compare(shown, list(shown), swaps).to_dict("records")
    }
    for metric in metrics:
        values = {name: found["value"] for name, row in shown.items() if (found := row.metrics[metric.name])}
        ranked = sorted(values, key=lambda name: values[name], reverse=metric.higher_is_better)
        if len(ranked) > 1:
            yield dict(pairs[metric.name, ranked[0], ranked[1]])
