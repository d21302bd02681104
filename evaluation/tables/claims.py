"""What a run measured beside every value that anybody has claimed of the same row and metric, first and second hand apart.

Claims contradict each other: they are of other sets, numbers of images, base models and resolutions, which stand beside each.
So there is no verdict, but how far a value is from ours in our standard errors, under every reading that was measured.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from evaluation.tables.headline import REFERENCES
from evaluation.tables.published import HANDS
from evaluation.tables.reproduction import READINGS
from evaluation.tables.table import Cell, Column, Row, Table, View, decimals

DOUBTED = "‡"
IDENTITY = ("row", "minus", "of", "stated", "protocol", "source")
COLUMNS = [
    Column("name", "Row"),
    Column("metric", "Measured as"),
    Column("ours", "Ours", decimals(4)),
    Column("stated", "Claimed"),
    Column("in_errors", "In our standard errors", decimals(1, "+")),
    Column("set", "Set"),
    Column("images", "Images", ",d"),
    Column("base", "Base"),
    Column("resolution", "Pixels"),
    Column("protocol", "How"),
    Column("source", "Source"),
    Column("claimed", number=decimals(4), shown=False),
    *(Column(key, shown=False) for key in ("row", "minus", "method", "of", "hand", "contradicted", "note")),
]


def claims_table(
    metrics: Sequence[dict[str, Any]], claims: pd.DataFrame, significance: pd.DataFrame, caveat: str = ""
) -> Table:
    """A line a claim and reading of its metric, of the rows that were measured; of a difference that of paired rows.

    claims: of `published.read_claims`. in_errors is ours minus the claimed in our standard errors.
    """
    measured = {row["method"]: row["metrics"] for row in metrics}
    order = {name: place for place, name in enumerate(measured)}, {one.published: n for n, one in enumerate(READINGS)}
    known = claims[claims["row"].isin(order[0]) & claims["metric"].isin(order[1])].to_dict("records")
    known.sort(key=lambda claim: (order[0][claim["row"]], order[1][claim["metric"]]))
    lines = [line for claim in known for line in _lines(claim, measured, significance)]
    shown = [column.key for column in COLUMNS if column.shown]
    warning = f"**This comparison is meaningless and says nothing about any paper.** {caveat}\n\n" * bool(caveat)
    places = {hand: [number for number, line in enumerate(lines) if line["hand"].value == hand] for hand in HANDS}
    views = [View(f"{warning}First hand:", shown, places["first"]), View("Second hand:", shown, places["second"])]
    return Table("Against every claim", COLUMNS, lines, list(_notes(lines, claims, metrics)), views)


def _lines(claim: dict[Any, Any], measured: dict[str, dict[str, Any]], significance: pd.DataFrame) -> Iterator[Row]:
    for metric in (one for one in READINGS if one.published == claim["metric"]):
        found = (
            _difference(claim, metric.name, significance) if claim["minus"] else measured[claim["row"]].get(metric.name)
        )
        if not found:
            continue
        se, name = found["se"], " - ".join(filter(None, (claim["row"], claim["minus"])))
        far = (found["value"] - claim["value"]) / se if se else None
        texts = {key: claim[key] for key in ("row", "minus", "method", "hand", "contradicted", "note", "set", "base")}
        texts |= {key: claim[key] for key in ("resolution", "protocol", "source")}
        yield {key: Cell(text) for key, text in texts.items()} | {
            "name": Cell(name),
            "metric": Cell(metric.name),
            "of": Cell(claim["metric"]),
            "ours": Cell.of(found["value"], se),
            "stated": Cell(claim["stated"], mark=DOUBTED * bool(claim["contradicted"])),
            "claimed": Cell(claim["value"]),
            "in_errors": Cell.of(far),
            "images": Cell.of(None if pd.isna(claim["images"]) else int(claim["images"])),
        }


def _difference(claim: dict[Any, Any], metric: str, significance: pd.DataFrame) -> dict[str, float] | None:
    """Of paired rows, whichever way round they were compared."""
    known = significance[significance["metric"] == metric]
    for row, other, sign in ((claim["row"], claim["minus"], 1), (claim["minus"], claim["row"], -1)):
        for line in known[(known["method"] == row) & (known["against"] == other)].to_dict("records"):
            return {"value": sign * line["difference"], "se": line.get("difference_se")}
    return None


def _notes(lines: Sequence[Row], claims: pd.DataFrame, metrics: Sequence[dict[str, Any]]) -> Iterator[str]:
    protocol = metrics[0].get("protocol", {})
    if protocol:
        size = f"{protocol['resolution']} px" if protocol["resolution"] else "their own resolution"
        against = REFERENCES.get(protocol["reference"], "none")
        images = sorted({f"{row['n_images']:,}" for row in metrics})
        yield (
            f"Ours: {' and '.join(images)} images a row, whole images at {size} (`evaluation.resolution`), against: {against} "
            "(`evaluation.reference`). Another reading of either is another run."
        )
    yield (
        "fid and fid_legacy: the two resizes of the Frechet network, by `extractors.frechet` and `extractors.frechet_legacy`. "
        "A claim has no error: the distance to ours is in our standard errors alone, and says nothing where set, number of "
        "images, base or resolution are others."
    )
    if any(line["contradicted"].value for line in lines):
        reasons = dict.fromkeys(
            f"{line['stated'].value} ({line['source'].value}): {line['contradicted'].value}"
            for line in lines
            if line["contradicted"].value
        )
        yield f"{DOUBTED}: contradicted. {'; '.join(reasons)}."
    rest = len(claims) - len({tuple(line[key].value for key in IDENTITY) for line in lines})
    yield f"{rest} of {len(claims)} claims are of rows or metrics that this run has not; docs/claims.md has them all."
