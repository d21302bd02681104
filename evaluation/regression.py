"""Hold a run against recorded metrics, with tolerances that were measured: what moved, how far, and what was changed.

    python -m evaluation.regression check --run results/regress --code hcma evaluation --reference reference/miniature.json
    python -m evaluation.regression accept ... --reason "tau is 0.5 now"

`check` prints every metric that moved and every input that differs, and exits with 1 when a metric moved beyond its
tolerance or is missing. `accept` records the run instead, with the reason. Equal code, weights, configuration and seed give
equal numbers up to rounding, which threads, batches and processors do differently. The tolerances are what that was
measured to do, with a margin (RULE; workflow.benchmarks.regress_spread). How far a move is in standard errors of the metric
is printed and decides nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.layouts import read_layout_rows, told
from evaluation.metrics import METRICS, metric_of, metrics_of, values_of
from evaluation.metrics import Metric as Kind
from evaluation.printing import number
from formats.cli import options, run
from formats.files import InputError, read_json, sha256, write_json
from formats.images import read_meta

Metric = dict[str, Any]
CODE = "code: "
LAYOUTS = "layouts/test.jsonl"  # of a run
# Sections of the configuration that decide images and are no row's own, and what of them.
SECTIONS = {
    "data": {"caption", "resize", "exif", "size", "boxes", "split", "draw", "train", "heldout", "test", "val", "words"},
    "alignment": {"model", "train"},
}
# Of a specification: paths, which change no image, and hashes that are listed elsewhere.
UNSTATED = {"method", "model", "artefacts", "weights_sha256", "source"}


# The largest of four moves by rounding is on average 1.5 of its standard deviations, if it is normal: this is more than seven.
FACTOR = 5
# What the tests allow between the evaluation and its oracles: below that even a distance of 0 may move.
ORACLE = 1e-6
RULE = (
    f"{FACTOR} times the largest move by rounding; at least {ORACLE} of the metric's largest value for distances and CLIP "
    "scores, and 1/n_images, a single image that counts or does not, for all metrics that count"
)


@dataclass(frozen=True)
class Run:
    """metrics: row -> metric -> {value, se, ...}; inputs: the run's under "", each row's own under its name.

    known: the metrics that there are, by name; folder and layouts: where its files are, and a hash of its layouts, where it is
    not recorded metrics alone.
    """

    name: str
    metrics: dict[str, dict[str, Metric]]
    inputs: dict[str, dict[str, Any]]
    known: dict[str, Kind] = field(default_factory=lambda: METRICS)
    folder: Path | None = None
    layouts: str | None = None


def read_run(folder: Path, code: Sequence[Path] = (), name: str = "") -> Run:
    """The rows of results/<run> that were measured on the test sample, and the hashes of the program files in `code`; `name`:
    what the run is called, where that is not its folder.

    Raises InputError where there are none.
    """
    paths = sorted(folder.glob("metrics/*/test.json"))
    if not paths:
        raise InputError(f"{folder}: no metrics/*/test.json; finish that run first")
    rows = {path.parent.name: read_json(path) for path in paths}
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    shared = {
        name: {key: value for key, value in config.get(name, {}).items() if key in keys}
        for name, keys in SECTIONS.items()
    }
    return Run(
        name=name or str(folder),
        metrics={name: values_of(content) for name, content in rows.items()},
        inputs={"": flat(shared) | code_hashes(code)}
        | {name: inputs_of(content, _meta(folder, name)) for name, content in rows.items()},
        known={name: one for row in rows.values() for name, one in metrics_of(row.get("protocol", {})).items()},
        folder=folder,
        layouts=_layouts(folder / LAYOUTS),
    )


def _layouts(path: Path) -> str | None:
    """What the layouts of a run are; None where they are not there."""
    rows = [[row["id"], told(row)] for row in read_layout_rows(path)] if path.exists() else None
    return None if rows is None else hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def inputs_of(content: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """What made a row's numbers, as far as its metrics file and the meta.json of its first shard say."""
    source = dict(content["source"])
    stated = source.pop("spec") or {}
    spec = {key: value for key, value in stated.items() if key not in UNSTATED}
    # Values that were measured before, such as eta; what is a file of weights has its hash in the meta.json.
    spec |= {"artefacts": {name: entry["value"] for name, entry in stated.get("artefacts", {}).items()}}
    counts = {name: content[name] for name in ("n_images", "n_regions")}
    made_with = {"device": meta.get("device"), "commit": meta.get("commit")}
    measured = {"evaluation": content["protocol"], "evaluated_with": content.get("made", {}).get("versions")}
    return flat(counts | spec | source | made_with | measured)


def _meta(folder: Path, row: str) -> dict[str, Any]:
    shards, beside = sorted(folder.glob(f"samples/{row}/test/*.zip")), folder / f"meta/{row}.json"
    # A bundle has the record where it has no images.
    return read_meta(shards[0]) if shards else read_json(beside) if beside.exists() else {}


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


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("command", choices=["check", "accept"])
    parser.add_argument("--run", type=Path, required=True, help="folder of a run")
    parser.add_argument("--reference", type=Path, required=True, help="JSON of recorded metrics")
    parser.add_argument("--code", type=Path, nargs="+", required=True, help="folders whose Python files made the run")
    parser.add_argument("--reason", default="", help="of accepting")
    arguments = parser.parse_args()
    found = read_run(arguments.run, arguments.code)
    if arguments.command == "accept":
        accept(found, arguments.reference, arguments.reason)
        return
    reference, tolerance = read_reference(arguments.reference)
    table = moves(found, reference, tolerance)
    print(report(table, changes(reference, found)))
    far = table[table["in_tolerances"] > 1]
    if len(far):
        rows = ", ".join(far["method"].unique())
        raise InputError(f"{len(far)} of {len(table)} metrics moved beyond their tolerance, in these rows: {rows}")


def read_reference(path: Path) -> tuple[Run, dict[str, dict[str, float]]]:
    """The run that was recorded, and how far each metric of each row may move; raises InputError where neither is."""
    content = read_json(path)
    try:
        return Run(str(path), content["metrics"], content["inputs"]), content["spread"]["tolerance"]
    except KeyError as key:
        raise InputError(f"{path}: no {key}; record it with make regress-accept and make regress-spread") from None


def accept(found: Run, path: Path, reason: str) -> None:
    """Record the run; raises InputError without a reason. What was measured of the spread stays."""
    if not reason.strip():
        raise InputError("accepting needs a reason, which is kept with the reference: REASON='...'")
    known = read_json(path) if path.exists() else {"history": []}
    commits = {inputs["commit"] for inputs in found.inputs.values() if "commit" in inputs}
    entry = {"reason": reason.strip(), "commit": ", ".join(sorted(commits))}
    numbers = {
        row: {name: {"value": metric["value"], "se": metric["se"]} for name, metric in metrics.items()}
        for row, metrics in found.metrics.items()
    }
    history = [*known["history"], entry]
    write_json(path, known | {"history": history, "metrics": numbers, "inputs": found.inputs})


def moves(found: Run, reference: Run, tolerance: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One line a recorded metric: its value there and now, the move, and that in standard errors and in tolerances.

    Raises InputError for a row or metric that only one of them has, that is of another number of images, or whose
    tolerance was never measured.
    """
    _expect_same(set(found.metrics), set(reference.metrics), "row", found, reference)
    lines = []
    for method, metrics in reference.metrics.items():
        _expect_same(set(found.metrics[method]), set(metrics), f"metric of {method}", found, reference)
        for name in ("n_images", "n_regions"):
            now, then = (run.inputs[method][name] for run in (found, reference))
            if now != then:
                raise InputError(f"{method}: {name} is {now} in {found.name}, but {then} in {reference.name}")
        for metric, before in metrics.items():
            limit = tolerance.get(method, {}).get(metric)
            if limit is None:
                raise InputError(
                    f"{method} {metric}: no measured tolerance in {reference.name}; run make regress-spread"
                )
            lines.append({"method": method, "metric": metric} | _move(found.metrics[method][metric], before, limit))
    return pd.DataFrame(lines)


def tolerances(base: Run, moved: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """row -> metric -> how far it may move; `moved` is the farthest that rounding was measured to move it. See RULE."""
    largest: dict[str, float] = {}
    for metrics in base.metrics.values():
        for metric, found in metrics.items():
            largest[metric] = max(largest.get(metric, 0.0), abs(found["value"]))
    return {
        row: {
            metric: max(
                FACTOR * far,
                1 / base.inputs[row]["n_images"] if metric_of(metric, base.known).counts else ORACLE * largest[metric],
            )
            for metric, far in metrics.items()
        }
        for row, metrics in moved.items()
    }


def _expect_same(found: set[str], expected: set[str], kind: str, run: Run, reference: Run) -> None:
    if missing := sorted(expected - found):
        raise InputError(f"{run.name}: no {kind} {missing[0]}, which {reference.name} has")
    if more := sorted(found - expected):
        raise InputError(f"{reference.name}: no {kind} {more[0]}, which {run.name} has; if it is meant to, accept it")


def _move(now: Metric, before: Metric, limit: float) -> dict[str, float | None]:
    move = now["value"] - before["value"]
    return {
        "reference": before["value"],
        "now": now["value"],
        "move": move,
        "in_se": move / before["se"] if before["se"] else None,
        "tolerance": limit,
        # One image of 48 is 1/48, whichever way the difference of two shares is rounded.
        "in_tolerances": round(abs(move) / limit, 6),
    }


def report(table: pd.DataFrame, changed: list[str]) -> str:
    """What moved, farthest first, and which inputs changed."""
    moved = table[table["move"] != 0].sort_values("in_tolerances", ascending=False, kind="stable")
    lines = [f"{len(moved)} of {len(table)} metrics moved:" if len(moved) else f"None of {len(table)} metrics moved."]
    if len(moved):
        lines.append(f"{'row':18} {'metric':18} {'reference':>11} {'now':>11} {'SE':>9} {'tolerances':>11}")
    for row in moved.to_dict("records"):
        reference, now, in_se = number(row["reference"], 5), number(row["now"], 5), number(row["in_se"], 3, sign="+")
        numbers = f"{reference:>11} {now:>11} {in_se:>9} {number(row['in_tolerances'], 2):>11}"
        lines.append(
            f"{row['method']:18} {row['metric']:18} {numbers}{'  REGRESSION' if row['in_tolerances'] > 1 else ''}"
        )
    lines += (
        ["Changed inputs, reference -> now:", *(f"  {line}" for line in changed)] if changed else ["No input changed."]
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
