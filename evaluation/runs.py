"""Finished runs as what can be compared: every metric of every row, and everything stated about what made them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.kernel import NEIGHBOURHOOD
from formats.files import InputError, read_json, sha256
from formats.images import read_meta

Metric = dict[str, Any]
CODE = "code: "
# Sections of the configuration that decide images and are no row's own.
SECTIONS = ("data", "alignment")
# Of a specification: paths, which change no image, and hashes that stand elsewhere.
UNSTATED = {"method", "model", "alignment", "alignment_sha256", "weights_sha256", "source"}


@dataclass(frozen=True)
class Run:
    """metrics: row -> metric -> {value, se, ...}; inputs: the run's under "", each row's own under its name."""

    name: str
    metrics: dict[str, dict[str, Metric]]
    inputs: dict[str, dict[str, Any]]


def read_run(folder: Path, code: Sequence[Path] = ()) -> Run:
    """The rows of results/<run> that were measured on the test sample, and the hashes of the program files in `code`.

    Raises InputError where there are none.
    """
    paths = sorted(folder.glob("metrics/*/test.json"))
    if not paths:
        raise InputError(f"{folder}: no metrics/*/test.json; finish that run first")
    rows = {path.parent.name: read_json(path) for path in paths}
    sections = {name: folder / "config" / f"{name}.json" for name in SECTIONS}
    shared = {name: read_json(path) for name, path in sections.items() if path.exists()}
    return Run(
        name=str(folder),
        metrics={name: metrics_of(content) for name, content in rows.items()},
        inputs={"": flat(shared) | code_hashes(code)}
        | {name: inputs_of(content, _meta(folder, name)) for name, content in rows.items()},
    )


def metrics_of(content: dict[str, Any]) -> dict[str, Metric]:
    """All that a metrics file measures; precision, recall, density and coverage have no standard error."""
    found = {name: metric for name, metric in content["metrics"].items() if metric}
    for level, numbers in content["distances"].items():
        for name in (name for name in NEIGHBOURHOOD if name in (numbers or {})):
            found[f"{level}_{name}"] = {"value": numbers[name], "se": None, "left_out": []}
    return found


def inputs_of(content: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """What made a row's numbers, as far as its metrics file and the meta.json of its first shard say."""
    source = dict(content["source"])
    spec = {key: value for key, value in (source.pop("spec") or {}).items() if key not in UNSTATED}
    counts = {name: content[name] for name in ("n_images", "n_regions")}
    made_with = {"device": meta.get("device"), "commit": meta.get("commit")}
    measured = {"evaluation": content["protocol"], "evaluated_with": content.get("made", {}).get("versions")}
    return flat(counts | spec | source | made_with | measured)


def _meta(folder: Path, row: str) -> dict[str, Any]:
    shards = sorted(folder.glob(f"samples/{row}/test/*.zip"))
    return read_meta(shards[0]) if shards else {}


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; what is null is left out."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found


def code_hashes(roots: Iterable[Path]) -> dict[str, str]:
    """`code: {path}` -> hash, of the Python files under each root, or of a root that is a file."""
    files = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*.py")))]
    return {f"{CODE}{path.as_posix()}": sha256(path) for path in files}


def changes(first: Run, second: Run) -> list[str]:
    """One line for every input that differs, with the rows that it differs in; one for all files of code."""
    rows: dict[str, list[str]] = {}
    code: list[str] = []
    for name in (name for name in first.inputs if name in second.inputs):
        before, after = first.inputs[name], second.inputs[name]
        for key in (key for key in before | after if before.get(key) != after.get(key)):
            if key.startswith(CODE):
                code.append(key.removeprefix(CODE))
            else:
                line = f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}"
                rows.setdefault(line, []).append(name)
    found = [line if names == [""] else f"{line} ({', '.join(names)})" for line, names in rows.items()]
    return found + [f"code: {', '.join(code)}"] * bool(code)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    # A hash is known by its beginning.
    return text[:12] if len(text) == hashlib.sha256().digest_size * 2 and text.isalnum() else text
