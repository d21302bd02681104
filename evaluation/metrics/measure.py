"""A row's metrics, and what groups of its images add to its differences from other rows, from summaries alone."""

from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import METRICS, metrics_of
from evaluation.metrics.adherence import adherence
from evaluation.metrics.clip import cosines
from evaluation.metrics.jackknife import GROUPS
from evaluation.metrics.metric import Measured, Metric
from evaluation.metrics.neighbours import COUNTS
from evaluation.metrics.pairs import across, within
from evaluation.metrics.permutation import contributions
from evaluation.metrics.summary import KNOWN, LEVELS, NO_PHOTOS, Summaries, Summary
from evaluation.networks import DETECTIONS, DETECTOR, SCORES, networks_in
from formats.files import InputError

KEYS = ["id", "object", "image_id"]


def measure(
    row: Summaries, real: Summaries | None, layouts: list[dict[str, Any]], reference_set: str = "same_ids"
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What a metrics file holds, and the scores of every image and box.

    Without `real` there is no distance. Raises InputError unless the row and the layouts are of the same images, and `real` of
    the same or, as `full_val`, of these and others.
    """
    if real is not None:
        row.check(real, reference_set)
    if [layout["id"] for layout in layouts] != row.read("image_ids").tolist():
        raise InputError(f"{row.path}: images of other layouts than those given")
    counts = {f"n_{level}s": len(row.read(f"{level}_ids")) for level in LEVELS}
    counts |= {f"n_{level}s_text_cut": int(row.read(f"{level}_text_cut").sum()) for level in LEVELS}
    measured = Measured(row, real, layouts)
    metrics, distances = _metrics(measured)
    scores = cosines(row)
    for network, measures in networks_in(row.about).items():
        if measures == DETECTIONS:
            boxes = measured.once(adherence, network)[1]
            if network != DETECTOR:
                boxes = boxes.drop(columns="phrase").rename(
                    columns={name: f"{network}_{name}" for name in ("best_iou", "recalled", "success")}
                )
                counts[f"n_{network}_texts_cut"] = int(row.read(f"{network}_detection_cut").sum())
            scores = scores.merge(boxes, "outer", KEYS)
        elif measures == SCORES:
            said = pd.DataFrame({"id": row.read("image_ids"), "object": -1, network: row.read(f"judge_{network}")})
            scores = scores.merge(said, "left", ["id", "object"])
            counts[f"n_{network}_texts_cut"] = int(row.read(f"judge_{network}_cut").sum())
    stated = {
        "protocol": row.about | {"groups": GROUPS, "reference": reference_set if real else NO_PHOTOS},
        "reference": real.content if real else None,
        "source": row.source,
    }
    return counts | {"metrics": metrics, "distances": distances} | stated, scores


def _metrics(measured: Measured) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics with a standard error, by name; and of each level those without, and of how many samples they are."""
    wanted = _measurable(measured.row)
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


def group_contributions(first: Summaries, others: dict[str, Summaries], real: Summaries) -> dict[str, dict[str, Any]]:
    """Other row -> distance -> what each jackknife group adds to the first row's distance less the other's.

    Raises InputError where two rows are of other images.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in others}
    for name, other in others.items():
        if first.first_gap(other):
            raise InputError(f"{first.path} and {name}: of other images, they cannot be paired")
    distances = [metric for metric in _measurable(first) if metric.swapped]
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


def _measurable(row: Summaries) -> list[Metric]:
    """The metrics whose network saw the row."""
    return [metric for metric in metrics_of(row.about).values() if metric.extractor in row.about]


def _summed(metric: Metric) -> tuple[str, str]:
    return metric.extractor, metric.level
