"""A study: readings of one row, each against the base and other rows, with what other trainings of the same make of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import Metric, headline, metric_of
from evaluation.significance import LEVEL_OF_TEST, MeasuredRow, Swaps, compare_pairs
from evaluation.tables.significance import OPPOSITE, WHAT_IS_TESTED
from evaluation.tables.table import P_VALUE, Cell, Column, Row, Table, View, decimals
from formats.files import InputError
from formats.images import read_meta

SHARES = {"opposed_steps": "Opposed, % of steps", "opposed_layouts": "% of layouts"}


@dataclass(frozen=True)
class Studied:
    """What a study is made of; rows in order, the base first among the readings.

    content: a row's metrics file. compared: of each reading the rows that it is compared with. trainings: metrics files of a
    reading's other trainings, in the order of their seeds. shards: of the readings, each two folders below the row's name, for
    what their meta.json counts.
    """

    base: str
    rows: Mapping[str, MeasuredRow]
    content: Mapping[str, dict[str, Any]]
    labels: Mapping[str, str]
    compared: Mapping[str, Sequence[str]]
    trainings: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    shards: Sequence[Path] = ()


def study_table(study: Studied, metrics: Sequence[str], swaps: Swaps, caveat: str = "") -> Table:
    """The values of every row, then every comparison, a view for each row that readings are compared with.

    Raises InputError for a metric that no row has, for rows that cannot be paired, and for trainings that were measured on
    other images.
    """
    there = {name for content in study.content.values() for name, found in content["metrics"].items() if found}
    if missing := [name for name in metrics if name not in there]:
        raise InputError(
            f"{missing[0]}: no row of the study has this metric, only {', '.join(sorted(there)) or 'none'}"
        )
    known = study.rows[study.base].known
    names = list(metrics) or [metric.name for metric in headline() if metric.name in there]
    for row, others in study.trainings.items():
        _check(study.content[row], others)
    pairs = [(row, other) for row, others in study.compared.items() for other in others]
    shown = {row: _with(found, names) for row, found in study.rows.items()}
    found: dict[tuple[str, str], dict[str, dict[Any, Any]]] = {pair: {} for pair in pairs}
    for line in compare_pairs(shown, pairs, swaps).to_dict("records"):
        found[line["method"], line["against"]][line["metric"]] = line
    opposed = _opposed(study.shards)
    lines = [_values(study, row, names, opposed.get(row, {})) for row in study.rows]
    effects = [_effects(study, pair, of_pair, names) for pair, of_pair in found.items()]
    seeds = max((len(others) for others in study.trainings.values()), default=0) + 1
    return Table(
        f"Study of {_label(study, study.base)}",
        _columns([metric_of(name, known) for name in names], lines),
        [*lines, *effects],
        _notes(seeds, any("opposed_steps" in line for line in lines)),
        [_view_of_values(names, lines), *_views_of_effects(study, names, pairs, len(lines))],
        caveat,
    )


def _with(row: MeasuredRow, names: Sequence[str]) -> MeasuredRow:
    """The row with the metrics of the study alone, over which p-values are corrected one by one."""
    return replace(row, metrics={name: row.metrics.get(name) for name in names})


def _check(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> None:
    for other in others:
        for key in ("split", "n_images", "n_regions", "protocol"):
            if other[key] != first[key]:
                raise InputError(f"{other['method']}: {key} differs from {first['method']}'s, not the training alone")


def _label(study: Studied, row: str) -> str:
    return str(study.labels.get(row, row))


# Lines.


def _values(study: Studied, row: str, names: Sequence[str], opposed: Mapping[str, float]) -> Row:
    line = {"reading": Cell(_label(study, row)), "method": Cell(row), "against": Cell("")}
    others = study.trainings.get(row, ())
    line["trainings"] = Cell(len(others) + 1 if others else None)
    for name in names:
        if found := study.content[row]["metrics"].get(name):
            values = [found["value"], *(one["value"] for other in others if (one := other["metrics"].get(name)))]
            line[f"{name}_value"] = Cell.of(found["value"], found["se"], **_range(values))
    artefacts = study.content[row]["source"]["spec"].get("artefacts", {})
    line |= {key: Cell(one["value"]) for key, one in artefacts.items() if isinstance(one.get("value"), int | float)}
    return line | {key: Cell(share) for key, share in opposed.items()}


def _effects(
    study: Studied, pair: tuple[str, str], found: Mapping[str, Mapping[Any, Any]], names: Sequence[str]
) -> Row:
    """One comparison: of every metric the difference, and its spread over trainings."""
    row, other = pair
    line = {"reading": Cell(_label(study, row)), "method": Cell(row), "against": Cell(other)}
    for name in names:
        if name not in found:
            continue
        one = found[name]
        repeated = _over_trainings(study, pair, name)
        mark, different = OPPOSITE if one["opposite"] == "yes" else "", one["different"] == "yes"
        line[name] = Cell.of(one["difference"], one["se"], mark=mark, bold=different, **_range(repeated))
        line |= {f"{name}_{key}": Cell.of(one[key]) for key in ("debiased", "p", "p_holm")}
        line[f"{name}_different"] = Cell(one["different"])
        line[f"{name}_groups"] = Cell(len(study.content[row]["metrics"][name]["left_out"]))
        if len(repeated) > 1:
            line[f"{name}_trainings"] = Cell.of(np.mean(repeated), np.std(repeated, ddof=1))
    return line


def _over_trainings(study: Studied, pair: tuple[str, str], name: str) -> list[float]:
    """The difference with each training seed, of one alone where a row was trained once; a row of no training is the same with
    all.
    """
    lists = [[study.content[row], *study.trainings.get(row, ())] for row in pair]
    if any(_is_of_one_training(study, row) for row in pair):
        lists = [one[:1] for one in lists]
    count = max(len(one) for one in lists)
    first, second = (one * count if len(one) == 1 else one for one in lists)
    pairs = [(a["metrics"].get(name), b["metrics"].get(name)) for a, b in zip(first, second, strict=True)]
    return [a["value"] - b["value"] for a, b in pairs if a and b]


def _is_of_one_training(study: Studied, row: str) -> bool:
    """Whether a row is a reading without other trainings, or another row that loads something: it may be what is trained."""
    loads = study.content[row]["source"]["spec"]["artefacts"]
    return not study.trainings.get(row) and (row in study.compared or bool(loads))


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)} if len(values) > 1 else {}


def _opposed(shards: Iterable[Path]) -> dict[str, dict[str, float]]:
    """By row, the shares of aligned steps with both gradients, and of layouts with such, in which the two oppose each other."""
    layouts: dict[str, list[tuple[int, int]]] = {}
    for path in shards:
        for counts in read_meta(path).get("work", {}).values():
            if both := counts.get("alignments_of_both"):
                layouts.setdefault(path.parents[1].name, []).append((counts.get("alignments_opposed", 0), both))
    shares = {}
    for row, found in layouts.items():
        few, many = (sum(column) for column in zip(*found, strict=True))
        shares[row] = {
            "opposed_steps": few / many,
            "opposed_layouts": sum(bool(one) for one, _ in found) / len(found),
        }
    return shares


# What is shown.


def _columns(metrics: Sequence[Metric], lines: Sequence[Row]) -> list[Column]:
    columns = [Column("reading", "Reading"), Column("method", shown=False), Column("against", shown=False)]
    for metric in metrics:
        number, signed = decimals(metric.digits), decimals(max(3, metric.digits), "+")
        columns += [
            Column(metric.name, metric.title, signed, metric.scale),
            Column(f"{metric.name}_debiased", number=signed, scale=metric.scale, shown=False),
            Column(f"{metric.name}_p", number=P_VALUE, shown=False),
            Column(f"{metric.name}_p_holm", number=P_VALUE, shown=False),
            Column(f"{metric.name}_different", shown=False),
            Column(f"{metric.name}_groups", number="d", shown=False),
            Column(f"{metric.name}_trainings", number=signed, scale=metric.scale, shown=False),
            Column(f"{metric.name}_value", metric.title, number, metric.scale, shown=False),
        ]
    columns.append(Column("trainings", "Trainings", "d", shown=False))
    columns += [Column(key, key, ".3g", shown=False) for key in _artefacts(lines)]
    return [*columns, *(Column(key, head, ".1f", 100, shown=False) for key, head in SHARES.items())]


def _artefacts(lines: Sequence[Row]) -> list[str]:
    """The artefacts that are numbers, as eta is."""
    known = {"reading", "method", "against", "trainings", *SHARES}
    return list(dict.fromkeys(key for line in lines for key in line if key not in known and not key.endswith("_value")))


def _view_of_values(names: Sequence[str], lines: Sequence[Row]) -> View:
    measured = [f"{name}_value" for name in names]
    further = [key for key in ("trainings", *_artefacts(lines), *SHARES) if any(_has(line, key) for line in lines)]
    return View("Values:", ["reading", *measured, *further], list(range(len(lines))))


def _has(line: Row, key: str) -> bool:
    return line.get(key, Cell()).value is not None


def _views_of_effects(
    study: Studied, names: Sequence[str], pairs: Sequence[tuple[str, str]], offset: int
) -> list[View]:
    """Minus each of the rows that all are compared with, and of pairs of factors minus each of their levels alone."""
    # What a pair is compared with alone is a reading itself.
    common = [other for other in study.rows if other == study.base or other not in study.compared]
    places: dict[str, list[int]] = {}
    for place, (_, other) in enumerate(pairs, offset):
        places.setdefault(other, []).append(place)
    columns = ["reading", *names]
    ordered = [*(other for other in common if other in places), *(other for other in places if other not in common)]
    return [View(f"Minus {_label(study, other)}:", columns, places[other]) for other in ordered]


def _notes(seeds: int, opposed: bool) -> list[str]:
    notes = [
        "Differences of the same images and noise, ± one standard error by the paired jackknife; bold: p < "
        f"{LEVEL_OF_TEST} by Holm's correction over all comparisons of the study, metric by metric. Tests are those of the "
        "table significance: sign flips for CLIP scores, swapped groups of images for distances, Student's t for all others."
    ]
    if seeds > 1:
        notes.append(
            f"In brackets the least and the most over {seeds} trainings, each with its seed, of rows that were trained so "
            "often, against others that were or that load nothing trained: the tests are of the first training alone, and know "
            "nothing of that spread. Mean and standard deviation over trainings are in the CSV."
        )
    if opposed:
        notes.append(
            "Opposed: of the aligned steps of layouts with boxes, those in which the gradients of the two losses point against "
            "each other, and the layouts in which any step does; told by the rules of weighting that know both."
        )
    debiased = (
        f"{OPPOSITE}: the difference of the distances without the bias of a finite sample, in the CSV as debiased, is of the "
        "other sign."
    )
    return [*notes, WHAT_IS_TESTED, debiased]
