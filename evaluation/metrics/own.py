"""Metrics of one's own: a module and a stanza of the configuration's section `metrics`.

    metrics:
      colour: {module: evaluation.metrics.attributes, params: {values: [red, green, blue]}}

A module has

    Params                                   a dataclass; what it refuses, it refuses with ValueError
    metrics(name, params)                    the entries of METRICS that a stanza of that name makes

and, where the metric needs of a shard what no summary holds, such as texts that its regions are compared with,

    carry(params, shard) -> {key: array}     rows of it, shard after shard: `Summaries.carried(name, key)` reads them
    check(params, layouts, labels)           raises InputError for layouts that it cannot judge, before a network is loaded;
                                             labels: all that the detector can give, None without one that is so bound

Whoever measures is given the stanzas (--own). A metrics file describes those that it holds, so that whatever reads it
(`evaluation.metrics.metrics_of` of its protocol) orders, formats, compares and shows them like any other, without the module.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import DESCRIBED, METRICS, OWN
from evaluation.metrics.metric import Metric
from evaluation.metrics.summary import carried
from formats import shown
from formats.files import InputError, read_json
from formats.modules import imported
from formats.params import check_keys, from_keys

SECTION = OWN  # of the configuration, and of what files state
KEYS = {"module", "params", "version"}
# Of the scores files, before any of one's own.
COLUMNS = {"id", "object", "image_id", "phrase", "recalled", *(metric.scores for metric in METRICS.values())}


@dataclass(frozen=True)
class Shard:
    """What `carry` may see: layouts; regions: of those that are scored id, object, image_id and phrase, in the order of the
    features; arrays: the shard's features by name; texts: strings to CLIP's text features [N, D]."""

    layouts: Sequence[dict[str, Any]]
    regions: pd.DataFrame
    arrays: Mapping[str, np.ndarray]
    texts: Callable[[Sequence[str]], np.ndarray]

    def things(self) -> list[dict[str, Any]]:
        """The object of each region."""
        objects = {row["id"]: row["objects"] for row in self.layouts}
        pairs = zip(self.regions["id"].tolist(), self.regions["object"].tolist(), strict=True)
        return [objects[number][place] for number, place in pairs]


@dataclass(frozen=True)
class Own:
    """One stanza: its name, module and parameters, and the metrics that it makes."""

    name: str
    module: Any
    params: Any
    version: int
    metrics: tuple[Metric, ...]

    def stated(self) -> dict[str, Any]:
        """What decides its numbers, as JSON."""
        stanza = {"module": self.module.__name__, "version": self.version, "params": asdict(self.params)}
        return json.loads(json.dumps(stanza))

    def described(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Those of its metrics that a file holds, for whoever reads the file."""
        return {DESCRIBED: {metric.name: metric.described() for metric in self.metrics if metric.name in measured}}

    @property
    def carries(self) -> bool:
        return hasattr(self.module, "carry")

    def check(self, layouts: Sequence[dict[str, Any]], labels: Sequence[str] | None) -> None:
        """Raises InputError for layouts that it cannot judge."""
        if hasattr(self.module, "check"):
            try:
                self.module.check(self.params, layouts, labels)
            except InputError as error:
                raise InputError(f"{SECTION}.{self.name}: {error}") from None

    def carry(self, shard: Shard) -> dict[str, np.ndarray]:
        """What the module carries of a shard, by the names of summaries."""
        found = self.module.carry(self.params, shard)
        return {carried(self.name, key): array for key, array in found.items()}


def load(stanzas: Any, where: str = SECTION) -> list[Own]:
    """The metrics of stanzas by name, null ones left out; raises InputError naming the stanza and key."""
    if not isinstance(stanzas, Mapping):
        raise InputError(f"{where} is {shown(stanzas)}, expected names with a module each")
    return [_own(name, stanza, f"{where}.{name}") for name, stanza in stanzas.items() if stanza is not None]


def _own(name: Any, stanza: Any, where: str) -> Own:
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(f"{where}: {shown(name)} is not a name of small letters, digits and _")
    if not isinstance(stanza, Mapping) or not isinstance(stanza.get("module"), str):
        raise InputError(f"{where} is {shown(stanza)}, expected a text `module` in it")
    check_keys(dict(stanza), KEYS, where)
    module = _module(stanza["module"], where)
    params = stanza.get("params") or {}
    if not isinstance(params, Mapping):
        raise InputError(f"{where}.params is {shown(params)}, expected a mapping")
    chosen = from_keys(module.Params, dict(params), f"{where}.params")
    metrics = tuple(module.metrics(name, chosen))
    if not metrics or not all(isinstance(metric, Metric) for metric in metrics):
        raise InputError(f"{where}: `metrics` of {stanza['module']} gave {shown(metrics)}, expected some Metric")
    return Own(name, module, chosen, stanza.get("version", 1), metrics)


def _module(name: str, where: str) -> Any:
    module = imported(name)
    if module is None:
        raise InputError(f"{where}.module: no module {name!r}")
    if not is_dataclass(getattr(module, "Params", None)) or not callable(getattr(module, "metrics", None)):
        raise InputError(f"{where}.module: module {name!r} has no dataclass `Params` and no function `metrics`")
    return module


def check_names(owns: Sequence[Own]) -> None:
    """Raises InputError for a metric's name, or a column of the scores, that another has."""
    names, columns = dict.fromkeys(METRICS, "this project"), dict.fromkeys(COLUMNS, "this project")
    for one in owns:
        where = f"{SECTION}.{one.name}"
        for metric in one.metrics:
            if metric.name in names:
                raise InputError(f"{where}: {names[metric.name]} has a metric {metric.name!r}; choose another name")
            names[metric.name] = where
            if metric.scored and columns.setdefault(metric.scores, where) != where:
                raise InputError(f"{where}: {columns[metric.scores]} has the column {metric.scores!r} of the scores")


def add_option(parser: argparse.ArgumentParser) -> None:
    """--own."""
    parser.add_argument(
        "--own", type=Path, help="metrics of one's own: a configuration as JSON, or its section `metrics`"
    )


def chosen(path: Path | None) -> list[Own]:
    """Those of a configuration; none without one."""
    if path is None:
        return []
    owns = load(section(read_json(path)))
    check_names(owns)
    return owns


def section(content: Any) -> Any:
    """The stanzas of a configuration, which may have none, or its section alone."""
    whole = isinstance(content, dict) and not {SECTION, "extractors"}.isdisjoint(content)
    return (content.get(SECTION) or {}) if whole else content
