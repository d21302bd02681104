"""A row's metrics, and what groups of its images add to its differences from other rows, from summaries alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import METRICS, metrics_of
from evaluation.metrics.jackknife import GROUPS
from evaluation.metrics.metric import KEYS, Measured, Metric, scores_of
from evaluation.metrics.neighbours import COUNTS
from evaluation.metrics.own import SECTION, Own
from evaluation.metrics.pairs import across, within
from evaluation.metrics.permutation import contributions
from evaluation.metrics.summary import FOUND, KNOWN, LEVELS, NO_PHOTOS, Summaries, Summary
from evaluation.networks import DETECTIONS, ROLES, SCORES, networks_in
from formats.files import InputError

# Of further networks, which texts were longer than they read.
CUT = {DETECTIONS: "{}_detection_cut", SCORES: "judge_{}_cut"}


def measure(
    row: Summaries,
    real: Summaries | None,
    layouts: list[dict[str, Any]],
    reference_set: str = "same_ids",
    own: Sequence[Own] = (),
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What a metrics file holds, and the scores of every image and box.

    Without `real` there is no distance. own: metrics of one's own, which the file describes. Raises InputError unless the row
    and the layouts are of the same images, `real` of the same or, as `full_val`, of these and others, and the features were
    made for these metrics.
    """
    check_carried(row, own)
    if real is not None:
        row.check(real, reference_set)
    if [layout["id"] for layout in layouts] != row.read("image_ids").tolist():
        raise InputError(f"{row.path}: images of other layouts than those given")
    counts = {f"n_{level}s": len(row.read(f"{level}_ids")) for level in LEVELS}
    counts |= {f"n_{level}s_text_cut": int(row.read(f"{level}_text_cut").sum()) for level in LEVELS}
    counts |= {"n_regions_found": int(row.read(FOUND).sum())} if row.source.get("crops") else {}
    measured = Measured(row, real, layouts)
    measurable = _measurable(row, own)
    metrics, distances = _metrics(measured, measurable)
    scores = _scores(measured, measurable)
    for network, measures in networks_in(row.about).items():
        if network not in ROLES and measures in CUT:
            counts[f"n_{network}_texts_cut"] = int(row.read(CUT[measures].format(network)).sum())
    asked = {SECTION: {one.name: one.stated() | one.described(metrics) for one in own}} if own else {}
    stated = {
        "protocol": row.about | asked | {"groups": GROUPS, "reference": reference_set if real else NO_PHOTOS},
        "reference": real.content if real else None,
        "source": row.source,
    }
    return counts | {"metrics": metrics, "distances": distances} | stated, scores


def check_carried(row: Summaries, own: Iterable[Own]) -> None:
    """Raises InputError unless the row's features were made for these metrics."""
    for one in own:
        made = row.about.get(SECTION, {}).get(one.name)
        if one.carries and made != one.stated():
            said = f"with {made}" if made else "without it"
            raise InputError(
                f"{row.path}: {SECTION}.{one.name} is {one.stated()}, but its features were made {said}; extract them again"
            )


def _scores(measured: Measured, metrics: Sequence[Metric]) -> pd.DataFrame:
    """id, object (-1: the whole image), image_id and every column that a metric of the row is the mean of, and some more."""
    tables = list({metric.scored: scores_of(measured, metric) for metric in metrics if metric.scored}.values())
    often = Counter(name for table in tables for name in table.columns.difference(KEYS))
    if twice := [name for name, count in often.items() if count > 1]:
        raise InputError(f"column {twice[0]!r} of the scores is written by two metrics; give each a column of its own")
    return reduce(lambda a, b: a.merge(b, "outer", KEYS), tables)


def _metrics(measured: Measured, wanted: Sequence[Metric]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics with a standard error, by name; and of each level those without, and of how many samples they are."""
    # Pair of summaries by pair, since large ones are held one at a time.
    found = {metric: metric.compute(measured, metric) for metric in sorted(wanted, key=_summed)}
    metrics = {metric.name: found[metric] for metric in wanted if metric.has_error}
    distances: dict[str, Any] = {}
    for level in LEVELS:
        plain = {metric: found[metric] for metric in wanted if metric.level == level and not metric.has_error}
        values = {metric.quantity: result["value"] for metric, result in plain.items() if result}
        counts = {name: result[name] for result in plain.values() if result for name in COUNTS if name in result}
        distances[level] = counts | values or None
    return metrics, distances


def group_contributions(
    first: Summaries, others: dict[str, Summaries], real: Summaries, own: Sequence[Own] = ()
) -> dict[str, dict[str, Any]]:
    """Other row -> distance -> what each jackknife group adds to the first row's distance less the other's.

    Raises InputError where two rows are of other images.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in others}
    for name, other in others.items():
        if first.first_gap(other):
            raise InputError(f"{first.path} and {name}: of other images, they cannot be paired")
    distances = [metric for metric in _measurable(first, own) if metric.swapped]
    for of, metrics in groupby(sorted(distances, key=_summed), _summed):
        chosen = list(metrics)
        a, target = first.summary(*of), real.summary(*of)
        if target.moments:  # of which nothing is swapped, and which are gigabytes
            target = replace(target, moments={0: target.whole()})
        able = [metric for metric in chosen if min(a.n, target.n) >= metric.least]
        for name, other in others.items() if able else ():
            b = other.summary(*of)
            for metric in able:
                assert metric.swapped
                found[name][metric.name] = contributions(metric.swapped(a, b, target), list(a.moments))
            del b
        # Of large networks these are gigabytes; they go before the next come.
        del a, target
    return {name: {m.name: parts[m.name] for m in distances if m.name in parts} for name, parts in found.items()}


def pairs_within(network: str, level: str, summary: Summary) -> dict[str, np.ndarray]:
    """What metrics take of the pairs of a row's own samples, for `write_summaries`."""
    return within(summary, _pairs(network, level))


def pairs_across(row: Summaries, real: Summaries) -> dict[str, np.ndarray]:
    """What metrics take of the pairs of a row's samples and those of `real`: the arrays of its file `across`.

    Raises InputError as `measure` does.
    """
    found: dict[str, np.ndarray] = {}
    for network, level in dict.fromkeys(map(_summed, _measurable(row))):
        if wanted := _pairs(network, level):
            a, b = row.sample(network, level), real.sample(network, level)
            if min(len(a.sample_SD), len(b.sample_SD)) >= 2:
                arrays = across(a, b, wanted)
                found |= {f"{level}_{network}_{KNOWN}{name}": array for name, array in arrays.items()}
    return found


def _pairs(network: str, level: str) -> set[str]:
    # Those that ask for pairs are on features of networks whose names have a meaning.
    of = [metric for metric in METRICS.values() if _summed(metric) == (network, level)]
    return {metric.pairs for metric in of if metric.pairs}


def _measurable(row: Summaries, own: Sequence[Own] = ()) -> list[Metric]:
    """The metrics whose network saw the row."""
    known = metrics_of(row.about, [metric for one in own for metric in one.metrics])
    return [metric for metric in known.values() if metric.extractor in row.about]


def _summed(metric: Metric) -> tuple[str, str]:
    return metric.extractor, metric.level
