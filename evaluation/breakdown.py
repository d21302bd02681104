"""Metrics broken down by difficulty: every mean over images, boxes or labels, of those in a band alone, and tested there.

Errors and tests are those of whole rows, on the same jackknife groups: the delete-a-group jackknife, and paired by image the
test that evaluation.significance has for the metric. p-values are Holm's, over all bands and rows, metric by metric.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluation.difficulty import Facet, Layouts, objects_of
from evaluation.metrics import Metric
from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean
from evaluation.metrics.summary import LEVELS
from evaluation.scores import UNIT
from evaluation.significance import MeasuredRow, difference, holm, verdict

MEANS = ["facet", "band", "method", "metric", "value", "se", "images", "n"]
TESTS = ["difference", "difference_se", "p"]
# A row's scores by metric, in the order of the layouts (evaluation.scores).
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Units:
    """Images, or boxes: the place of each one's layout, the id of its image, and its jackknife group."""

    layout_N: np.ndarray
    image_N: np.ndarray
    group_N: np.ndarray

    def of(self, layout_N: np.ndarray) -> "Units":
        """One a given layout, of units that are one a layout."""
        return Units(layout_N, self.image_N[layout_N], self.group_N[layout_N])


def breakdown(
    layouts: Layouts,
    facets: Sequence[Facet],
    metrics: Sequence[Metric],
    rows: Mapping[str, Scores],
    against: str | None,
    least: int,
) -> pd.DataFrame:
    """A line a facet, band, metric and row: value and se, nan of fewer than `least` images; images; n, what it is a mean of.

    Every row but `real` is tested against the row `against` (None: no test). A facet of boxes has no line of a metric that is
    no mean over boxes. Where a metric is known of other images or boxes in one of two rows, those known in both are compared.
    """
    ids = [row["image_id"] for row in layouts]
    images = Units(np.arange(len(layouts)), np.array(ids, np.int64), groups(ids))
    boxes = images.of(np.repeat(images.layout_N, objects_of(layouts)))
    lines = []
    for facet in facets:
        for metric in metrics:
            if facet.per_box and metric.mean_over != "box":
                continue
            units = images if metric.mean_over == "image" else boxes
            place_N = facet.place_N if facet.per_box else facet.place_N[units.layout_N]
            known = {method: np.where(np.isnan(found[metric.name]), -1, place_N) for method, found in rows.items()}
            for place, band in enumerate(facet.bands):
                cell = {method: places_N == place for method, places_N in known.items()}
                found = _cell(metric, units, rows, cell, against, least)
                lines += [{"facet": facet.key, "band": band, "metric": metric.name} | line for line in found]
    table = pd.DataFrame(lines, columns=[*MEANS, *TESTS])
    table["p_holm"] = table.groupby("metric")["p"].transform(lambda p: holm(p.tolist()))
    return table.assign(different=table["p_holm"].map(verdict).where(table["difference"].notna(), ""))


def _cell(
    metric: Metric,
    units: Units,
    rows: Mapping[str, Scores],
    inside: Mapping[str, np.ndarray],
    against: str | None,
    least: int,
) -> Iterator[dict[str, Any]]:
    """The lines of a band, without what they share."""
    measured: dict[str, MeasuredRow] = {}
    counts = {method: len(np.unique(units.layout_N[inside_N])) for method, inside_N in inside.items()}
    for method, inside_N in inside.items():
        if counts[method] >= least:
            measured[method] = _row(method, metric, rows[method][metric.name][inside_N], units, inside_N)
    for method, inside_N in inside.items():
        line: dict[str, Any] = {"method": method, "images": counts[method], "n": int(inside_N.sum())}
        if method in measured:
            result = measured[method].metrics[metric.name]
            line |= {"value": result["value"], "se": result["se"]}
            if against in measured and method not in ("real", against):
                # Where a metric is known of other images or boxes in one row, both count where both are known.
                found = difference(metric.name, measured[method], measured[against])
                line |= {"difference": found["difference"], "difference_se": found["se"], "p": found["p"]}
        yield line


def _row(method: str, metric: Metric, values_M: np.ndarray, units: Units, inside_N: np.ndarray) -> MeasuredRow:
    """A row of which nothing is known but one metric on some images, for `difference`."""
    image_M, group_M = units.image_N[inside_N], units.group_N[inside_N]
    result = asdict(jackknife(leave_out_mean(values_M, group_M), group_M))
    places = [image_M, units.layout_N[inside_N], np.flatnonzero(inside_N)]
    series = pd.Series(values_M, index=pd.MultiIndex.from_arrays(places, names=UNIT)).sort_index()
    return MeasuredRow(
        method,
        {metric.name: result},
        dict.fromkeys(LEVELS, units.image_N),
        {metric.name: series},
        {metric.name: metric},
    )
