"""A table of the configuration: some rows by some metrics, those of the paper's tables by default, and all that one needs to
make them again.
"""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from evaluation.datasets.source import describe
from evaluation.metrics import Metric, headline, values_of
from evaluation.tables.explained import explained
from evaluation.tables.published import WITHOUT_PHOTOS, labels
from evaluation.tables.significance import WHAT_IS_TESTED
from evaluation.tables.table import Cell, Column, Row, Table, decimals
from formats.files import InputError

MARK = "†"


def headline_table(
    name: str,
    rows: Sequence[str],
    metrics: Sequence[dict[str, Any]],
    specs: Sequence[dict[str, Any]],
    data: dict[str, Any],
    cost: pd.DataFrame,
    significance: pd.DataFrame,
    best: pd.DataFrame,
    mark_against: str,
    published: pd.DataFrame,
    stated: dict[str, str],
    caveat: str = "",
    columns: Sequence[Metric] = (),
    caption: str = "",
) -> Table:
    """The table of that name: of each of `rows` every metric of `columns`, marked, bold, and beside the published value.

    columns: the headline metrics where there are none; caption: the title, instead of the name.

    A row without metrics is one that cannot be run: it shows its published values, and needs some. Published values of
    other rows are left out where there is a caveat, where they would invite a comparison that means nothing. significance,
    best: the frames of those tables. Values that are not distinguishable from those of `mark_against` get a mark.

    Raises InputError when rows were not measured on the same number of images by the same networks.
    """
    columns = columns or headline()
    measured = _alike(metrics)
    own = published[published["table"] == name].set_index("method")
    for row in rows:
        if row not in measured and row not in own.index:
            raise InputError(f"{row}: neither measured nor published")
    called = labels(rows, published, stated, name)
    alike = _pairs(significance[(significance["against"] == mark_against) & (significance["different"] == "no")])
    leading = best[(best["table"] == name) & (best["different"] == "yes")]
    cells = []
    for row in rows:
        beside = own.loc[row].dropna().to_dict() if row in own.index and not (caveat and row in measured) else {}
        found = measured.get(row)
        cells.append(_row(row, called[row], columns, found, beside, alike, _pairs(leading)))
    distances = any(metric.swapped for metric in columns)
    marked = any(cell.mark for row in cells for cell in row.values())
    # Of rows made elsewhere nothing is known, and counts beside a missing one are no integers.
    spent = cost[cost.index.isin(rows)].dropna(subset=["device"])
    counted = spent.convert_dtypes()
    return Table(
        title=caption or title_of(name),
        columns=_columns(columns),
        rows=cells,
        notes=[
            *_protocol(columns, metrics, data),
            *_found_regions(measured, called),
            *made(spent),
            _bold(leading),
            *[_mark(mark_against)] * marked,
            *[f"{WHAT_IS_TESTED} The differences without that bias are in significance.md and best.md."] * distances,
            *_unmeasured([called[row] for row in rows if row not in measured]),
            *tokens(counted, called),
            *cut_prompts(counted, called),
            *other_noise(counted, called),
            *settings(specs),
            *["In brackets: the paper's value."] * (not caveat and any(metric.published for metric in columns)),
        ],
        caveat=caveat,
    )


def title_of(name: str) -> str:
    """`table1` is Table 1."""
    return re.sub(r"(?<=[a-z])(?=\d+$)", " ", name.replace("_", " ")).capitalize()


def _alike(metrics: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    first = metrics[0]
    for row in metrics:
        for key in ("n_images", "n_regions", "protocol", "split", "reference"):
            if row[key] != first[key]:
                raise InputError(f"{row['method']}: {key} is {row[key]}, but {first['method']} has {first[key]}")
    return {row["method"]: row for row in metrics}


def _pairs(lines: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(lines["method"], lines["metric"], strict=True))


def _columns(metrics: Sequence[Metric]) -> list[Column]:
    floors = [
        Column(f"{metric.name}_floor", number=decimals(metric.digits), shown=False)
        for metric in metrics
        if metric.swapped
    ]
    return [
        Column("method", shown=False),
        Column("label", "Method"),
        *(Column(metric.name, metric.title, decimals(metric.digits), metric.scale) for metric in metrics),
        *floors,
        *(Column(name, number="d", shown=False) for name in ("n_images", "n_regions")),
    ]


def _row(
    name: str,
    label: str,
    metrics: Sequence[Metric],
    row: dict[str, Any] | None,
    published: dict[Any, Any],
    alike: set[tuple[str, str]],
    leading: set[tuple[str, str]],
) -> Row:
    cells = {"method": Cell(name), "label": Cell(label)}
    values = values_of(row) if row else {}
    for metric in metrics:
        found, pair = values.get(metric.name, {}), (name, metric.name)
        cells[metric.name] = Cell(
            found.get("value"),
            found.get("se"),
            mark=MARK if pair in alike else "",
            bold=pair in leading,
            published=published.get(metric.published),
        )
        cells[f"{metric.name}_floor"] = Cell(found.get("floor"))
    return cells | {name: Cell(row[name] if row else 0) for name in ("n_images", "n_regions")}


def _mark(against: str) -> str:
    return (
        f"{MARK}: not distinguishable from {against} (paired by image, Holm-corrected over all pairs, p >= 0.05); every "
        "difference with its p-value is in significance.md."
    )


def _bold(leading: pd.DataFrame) -> str:
    note = (
        "Bold: the best of its column without `real`, where it can be told from the runner-up (paired by image, "
        "Holm-corrected over all pairs of the table's rows, p < 0.05); a column without bold has no certain best. The "
        "p-values are in best.md."
    )
    if other := leading.loc[leading["opposite"] == "yes", "metric"].tolist():
        note += f" Without the bias of finite samples the runner-up is the better one by {', '.join(other)}."
    return note


def _protocol(columns: Sequence[Metric], metrics: Sequence[dict[str, Any]], data: dict[str, Any]) -> list[str]:
    """The sentences a reader needs to know what the columns are, and to make them again."""
    made, first = metrics[0]["protocol"], metrics[0]
    distances = [metric for metric in columns if metric.swapped]
    known = {metric: (first["metrics"].get(metric.name) or {}).get("floor") for metric in distances}
    floors = [f"{metric.name} {floor:.{metric.digits}f}" for metric, floor in known.items() if floor is not None]
    unmeasured = [metric.title for metric in columns if metric.extractor not in made]
    return [
        *[WITHOUT_PHOTOS] * (first["reference"] is None and bool(distances)),
        *explained(columns, made),
        *[f"Not measured, for want of a network: {', '.join(unmeasured)}."] * bool(unmeasured),
        *cut_texts(first),
        *describe(data),
        _regions(made["regions"]),
        *_reference(first),
        f"{first['n_images']} images and {first['n_regions']} regions a row; ± one standard error "
        f"(delete-a-group jackknife over images, at most {made['groups']} groups).",
        *_floors(floors) * bool(distances),
        *_versions(metrics),
    ]


def _floors(floors: Sequence[str]) -> list[str]:
    if not floors:
        return ["No distance could be measured."]
    return [f"Two samples of this size from one distribution are expected to differ by: {', '.join(floors)}."]


def _reference(row: dict[str, Any]) -> list[str]:
    """Which photos `real` is of; nothing where there are none."""
    if row["reference"] is None:
        return []
    return [f"`real`: {REFERENCES[row['protocol']['reference']]} (statistics sha256 {row['reference'][:12]})."]


def cut_texts(row: dict[str, Any]) -> list[str]:
    """How many captions and regions' texts were truncated for the CLIP score; empty if none was."""
    limit = row["protocol"]["clip"].get("context")
    kinds = {"image": "captions", "region": "regions' texts"}
    return [
        f"{cut} of {row[f'n_{level}s']} {kind} are longer than {limit} tokens and were cut for the CLIP score."
        for level, kind in kinds.items()
        if (cut := row.get(f"n_{level}s_text_cut"))
    ]


REFERENCES = {
    "same_ids": "the photos of the same layouts",
    "full_val": "all photos of the layouts `val`, of which the rows' are a part; its own row is measured against them too",
}


def _regions(rule: dict[str, Any]) -> str:
    """How regions are cut."""
    most = f", the {rule['max_per_image']} largest of an image" if rule["max_per_image"] else ""
    shape = "squashed to the network's input"
    if rule["pad"] == "mean":
        shape = "padded to a square with its mean colour and resized to the network's input"
    elif rule["resize"] == "short_side_center_crop":
        shape = "of which the centre square is resized to the network's input"
    return (
        f"Regions: boxes of at least {rule['min_side']} px a side{most}, also of rows that do not see boxes. A region is the "
        f"box's pixels at the image's own resolution, rounded outwards, {shape}."
    )


def _found_regions(measured: dict[str, dict[str, Any]], called: dict[str, str]) -> list[str]:
    """Of rows that are cropped where a detector finds the objects, how many it found."""
    found = {row: metrics for row, metrics in measured.items() if "n_regions_found" in metrics}
    counts = [f"{called[row]} {one['n_regions_found']} of {one['n_regions']}" for row, one in found.items()]
    if not counts:
        return []
    detector = next(iter(found.values()))["protocol"]["detector"]["name"]
    return [
        f"Cropped where {detector} finds the object in the row's own image, at the layout's box where it does not: "
        f"{', '.join(counts)} regions found."
    ]


def made(cost: pd.DataFrame) -> list[str]:
    """At which commit and on which device the rows were sampled; rows of another commit or device are named."""
    if cost.empty:
        return []
    rows: dict[str, list[str]] = {}
    for name, row in cost.fillna("unknown").iterrows():
        rows.setdefault(f"commit {row['commit']} on {row['device']}", []).append(str(name))
    parts = list(rows) if len(rows) == 1 else [f"{part}: {', '.join(names)}" for part, names in rows.items()]
    return [f"Sampled at {'; '.join(parts)}."]


def _versions(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """What software sampled the rows: one sentence for all rows that share it."""
    rows: dict[str, list[str]] = {}
    for row in metrics:
        if versions := row["source"].get("versions"):
            made_with = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
            rows.setdefault(made_with, []).append(row["method"])
    if len(rows) == 1:
        return [f"Made with {made_with}." for made_with in rows]
    return [f"Made with {made_with}: {', '.join(names)}." for made_with, names in rows.items()]


def _unmeasured(names: Sequence[str]) -> list[str]:
    return [f"Not run, for want of weights; the published values alone: {', '.join(names)}."] if names else []


def tokens(cost: pd.DataFrame, called: dict[str, str]) -> list[str]:
    """How many boxes and images the rows that are guided by the caption's words leave alone."""
    guided = cost[cost["boxes"] > 0]
    sentences = []
    for key, rows in guided.groupby(["boxes", "boxes_without_token", "images_without_token", "images"]):
        boxes, unnamed, plain, images = key
        names = ", ".join(called[str(row)] for row in rows.index)
        sentences.append(
            f"Guided by the words of the caption: {names}. {unnamed} of {boxes} boxes have no word there "
            f"and are left out; {plain} of {images} images have none at all and are not guided."
        )
    return sentences


def cut_prompts(cost: pd.DataFrame, called: dict[str, str]) -> list[str]:
    """How many captions the rows' own text encoders saw only the beginning of; nothing where they saw all of all."""
    cut = cost[cost["truncated_captions"] > 0]
    return [
        f"{count} of {images} captions are longer than the text encoder takes and were cut for sampling: "
        f"{', '.join(called[str(row)] for row in rows.index)}."
        for (count, images), rows in cut.groupby(["truncated_captions", "images"])
    ]


def other_noise(cost: pd.DataFrame, called: dict[str, str]) -> list[str]:
    """Which rows start from noise of their own; nothing where all start from the comparison's."""
    names = [called[str(row)] for row in cost.index[cost["other_first_noise"] > 0]]
    return [f"Not from the noise of the other rows, but from their model's own: {', '.join(names)}."] if names else []


def settings(specs: Sequence[dict[str, Any]]) -> list[str]:
    """Each row's settings, those that differ from its module's defaults, and where the defaults are from."""
    return [
        f"{spec['method']}: {spec['base']}{_hashes(spec)}, {_listed(spec['sampling'])}"
        + (f"; {_listed(spec['params'] | _values(spec))}" if spec["params"] or _values(spec) else "")
        + (f"; otherwise {spec['source']}" if spec.get("source") else "")
        + "."
        for spec in specs
    ]


def _hashes(spec: dict[str, Any]) -> str:
    """The weights of a row: of its model, and of the artefacts that are no single value."""
    artefacts = spec.get("artefacts", {}).items()
    known = {"sha256": spec.get("weights_sha256")}
    known |= {name: entry["sha256"] for name, entry in artefacts if entry["value"] is None}
    hashes = [f"{name} {digest[:12]}" for name, digest in known.items() if digest]
    return f" ({', '.join(hashes)})" if hashes else ""


def _values(spec: dict[str, Any]) -> dict[str, Any]:
    """Artefacts that are single values, such as a step size that was calibrated."""
    artefacts = spec.get("artefacts", {})
    return {name: entry["value"] for name, entry in artefacts.items() if entry["value"] is not None}


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in ("", None))
