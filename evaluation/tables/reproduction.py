"""What of the published tables a run reproduces: every value, and every difference that the paper's claims rest on.

A published Frechet distance is compared with both of ours, where both were measured: the paper does not say how it resized,
and GLIGEN's values are by pytorch-fid. A caveat says why the run is none that could reproduce anything: then the numbers are
shown side by side without a verdict.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from evaluation.metrics import METRICS
from evaluation.significance import LEVEL_OF_TEST, opposite, verdict
from evaluation.tables.significance import DEBIASED, WHAT_IS_TESTED, without_bias
from evaluation.tables.table import Cell, Column, Row, Table, View, decimals

# The published values have errors of their own, which are not published: taken to be as large as ours.
LIMIT = 1.96 * math.sqrt(2)
READINGS = [metric for metric in METRICS.values() if metric.published]
COLUMNS = [
    Column("name", "Value"),
    Column("metric", "Metric"),
    Column("ours", "Ours", decimals(4)),
    Column("debiased", "Debiased", decimals(4, "+")),
    Column("published", "Published", decimals(4)),
    Column("in_errors", "In our standard errors", decimals(1, "+")),
    Column("verdict"),
    *(Column(key, shown=False) for key in ("method", "minus", "opposite")),
]


def reproduction_table(
    metrics: Sequence[dict[str, Any]], published: pd.DataFrame, significance: pd.DataFrame, caveat: str = ""
) -> Table:
    """A line a published value, and a line a published difference between two rows of one table, that was measured.

    `minus` is empty for a value. `in_errors` is ours minus the published in our standard errors.
    """
    measured = {row["method"]: row for row in metrics}
    tables = [rows.set_index("method") for _, rows in published.groupby("table", sort=False)]
    lines = [
        line
        for rows in tables
        for line in (*_values(rows, measured), *_differences(rows, significance))
        if line["method"].value in measured
    ]
    # Tables share rows: HCMA and GLIGEN are published, and measured, once.
    distinct: dict[tuple[Any, ...], Row] = {}
    for line in lines:
        distinct.setdefault(tuple(line[key].value for key in ("method", "minus", "metric")), line)
    kept = list(distinct.values())
    if caveat:
        kept = [line | {"verdict": Cell("meaningless")} for line in kept]
    plain, paired = (
        [place for place, line in enumerate(kept) if bool(line["minus"].value) == is_pair] for is_pair in (False, True)
    )
    shown = [column.key for column in COLUMNS if column.shown]
    warning = f"**This comparison is meaningless and says nothing about the paper.** {caveat}" * bool(caveat)
    views = [
        View(warning, [key for key in shown if key != "debiased"], plain),
        View("", shown, paired, {"name": "Difference"}),
    ]
    return Table("Against the published values", COLUMNS, kept, _notes(kept, metrics), views)


def _values(rows: pd.DataFrame, measured: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for method in (str(name) for name in rows.index if name in measured):
        values: dict[Any, Any] = rows.loc[method].to_dict()
        for metric in READINGS:
            found = measured[method]["metrics"].get(metric.name)
            if found and (line := _line(found["value"], found["se"], values[metric.published])):
                agrees = abs(float(line["in_errors"].value or 0)) < LIMIT
                yield _names(method, "", metric.name) | line | {"verdict": Cell("agrees" if agrees else "differs")}


def _differences(rows: pd.DataFrame, significance: pd.DataFrame) -> Iterator[Row]:
    """Of two rows the later in the table minus the earlier, as the papers put their own method last."""
    place = {str(name): number for number, name in enumerate(rows.index)}
    readings = {metric.name: metric.published for metric in READINGS}
    known = significance[significance["metric"].isin(readings)]
    for row in known[known["method"].isin(place) & known["against"].isin(place)].to_dict("records"):
        earlier, later = sorted((row["method"], row["against"]), key=place.__getitem__)
        sign = 1 if later == row["method"] else -1
        ours, debiased = sign * row["difference"], sign * row["debiased"]
        name = readings[row["metric"]]
        if line := _line(ours, row.get("difference_se"), rows.loc[later, name] - rows.loc[earlier, name]):
            coded = {"debiased": debiased, "opposite": opposite(ours, debiased)}
            line |= {"debiased": without_bias(coded), "opposite": Cell(coded["opposite"])}
            yield _names(later, earlier, row["metric"]) | line | {"verdict": Cell(_sign_and_size(line, row["p_holm"]))}


def _names(method: str, minus: str, metric: str) -> Row:
    name = " - ".join(filter(None, (method, minus)))
    return {key: Cell(text) for key, text in {"name": name, "method": method, "minus": minus, "metric": metric}.items()}


def _line(ours: float, error: float | None, published: float) -> Row | None:
    if pd.isna(ours) or pd.isna(published) or error is None or not error > 0:
        return None
    return {
        "ours": Cell.of(ours, error),
        "published": Cell.of(published),
        "in_errors": Cell.of((ours - published) / error),
        "opposite": Cell(""),
    }


def _sign_and_size(line: Row, p_holm: float) -> str:
    ours, published, far = (float(line[key].value or 0) for key in ("ours", "published", "in_errors"))
    size = "size agrees" if abs(far) < LIMIT else "size differs"
    if verdict(p_holm) != "yes":
        return f"sign cannot be told, {size}"
    return f"{'same' if ours * published > 0 else 'opposite'} sign, {size}"


def _notes(lines: Sequence[Row], metrics: Sequence[dict[str, Any]]) -> list[str]:
    images = sorted({row["n_images"] for row in metrics})
    compared = {line["metric"].value for line in lines}
    missing = [metric.name for metric in READINGS if metric.name != metric.published and metric.name not in compared]
    unread = f" Not measured here (`extractors.frechet_legacy`): {', '.join(missing)}." * bool(missing)
    return [
        f"Ours of {', '.join(map(str, images))} images a row; the paper's of 30000. Agrees: nearer than {LIMIT:.2f} of our "
        "standard errors, the published value being taken to have an error as large as ours, since the paper gives none.",
        "Differences are paired by image, of two rows the later in the table minus the earlier; ours has a sign where "
        f"Holm's p is below {LEVEL_OF_TEST}. Lower is better for fid, higher for clip.",
        WHAT_IS_TESTED,
        DEBIASED,
        "The paper does not say how its networks' input was resized. fid: by the extractor `frechet`, as in the tables (at the "
        "paper's scale clean-fid's resize); fid_legacy: by `frechet_legacy`, pytorch-fid's resize, which GLIGEN's published "
        f"distances were measured with.{unread}",
    ]
