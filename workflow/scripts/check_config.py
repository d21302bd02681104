"""Check a configuration before the first job: one line a fault, naming the key and the file it stands in."""

import ast
import csv
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"
PUBLISHED = Path(__file__).parents[1] / "config" / "published.csv"
Keys = tuple[str | int, ...]


def faults(config: dict[str, Any], files: Sequence[Path]) -> list[str]:
    """All faults of a configuration that was merged from `files`, later ones winning; empty when there are none."""
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    errors = sorted(validator.iter_errors(config), key=lambda error: [str(key) for key in error.absolute_path])
    found = [fault for error in errors for fault in _explained(error)] or _beyond_the_schema(config)
    return [f"{_file(keys, files)}: {'.'.join(map(str, keys))}: {text}" for keys, text in found]


def _explained(error: ValidationError) -> Iterable[tuple[Keys, str]]:
    keys: Keys = tuple(error.absolute_path)
    rule: Any = error.validator_value
    found: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(schema["properties"])
        for key in sorted(set(found) - set(known)):
            yield (*keys, key), f"unknown key; known are {', '.join(known)}"
    elif error.validator == "required":
        for key in sorted(set(rule) - set(found)):
            yield (*keys, key), "missing"
    elif error.validator == "type":
        yield keys, f"expected {rule}, found {error.instance!r}"
    elif error.validator == "enum":
        yield keys, f"{error.instance!r} is not one of {', '.join(map(repr, rule))}"
    elif error.validator == "anyOf":
        yield keys, f"give one of {', '.join(name for option in rule for name in option['required'])}"
    else:
        yield keys, error.message


def _beyond_the_schema(config: dict[str, Any]) -> list[tuple[Keys, str]]:
    """References between keys, and modules that must exist."""
    found: list[tuple[Keys, str]] = []
    methods, models = config["methods"], config["models"]
    absent = {name for name, place in models.items() if place is None}
    for name, stanza in methods.items():
        found += _module_fault(name, stanza["module"])
        if stanza["base"] not in models:
            found.append((("methods", name, "base"), f"{stanza['base']!r} is not one of models: {', '.join(models)}"))
    for table, rows in config["tables"].items():
        for row in rows:
            if row not in methods and row != "real":
                found.append((("tables", table), f"{row!r} is not one of methods: real, {', '.join(methods)}"))
            elif row != "real" and methods[row]["base"] in absent and row not in _published(table):
                text = (
                    f"{row!r} cannot be run, since models.{methods[row]['base']} is null, and has no published values"
                )
                found.append((("tables", table), text))
    alignment = config["alignment"]
    for key, known in (("base", models), ("method", methods), ("reference", methods)):
        if alignment[key] not in known:
            found.append((("alignment", key), f"{alignment[key]!r} is not one of {', '.join(known)}"))
        elif (alignment[key] if key == "base" else methods[alignment[key]]["base"]) in absent:
            found.append((("alignment", key), f"{alignment[key]!r} has no model folder: it is null under models"))
    if not found and not methods[alignment["method"]].get("aligned"):
        found.append((("alignment", "method"), f"{alignment['method']!r} is not a method with `aligned: true`"))
    found += _reading_faults(alignment, {name for name in models if name not in absent})
    heldout = config["data"]["heldout"]["count"]
    for key in ("count", "images"):
        if (asked := alignment["calibrate"].get(key, 0)) > heldout:
            found.append((("alignment", "calibrate", key), f"{asked}, but data.heldout.count is {heldout}"))
    return found + _data_faults(config["data"]) + _fetch_faults(config)


def _reading_faults(alignment: dict[str, Any], there: set[str]) -> list[tuple[Keys, str]]:
    """The text encoder must be there, and the noise loss must have something to train."""
    found: list[tuple[Keys, str]] = []
    text, train = alignment.get("text", {}).get("model", "backbone"), alignment["train"]
    if text not in there | {"backbone"}:
        known = ", ".join(["backbone", *sorted(there)])
        found.append((("alignment", "text", "model"), f"{text!r} is not one of {known}"))
    noise = train.get("objective", "align") == "align+noise"
    trained, second_order = train.get("train_denoiser", "none") != "none", train.get("second_order", False)
    for key, is_set in (("train_denoiser", trained), ("second_order", second_order)):
        if is_set and not noise:
            found.append((("alignment", "train", key), f"{train[key]!r} needs objective: align+noise"))
    if noise and not (trained or second_order):
        text = "the noise loss would train nothing: set train_denoiser to fuser or unet, or second_order to true"
        found.append((("alignment", "train", "objective"), text))
    return found


def _published(table: str) -> set[str]:
    """Methods of which the paper's table has values."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        return {row["method"] for row in csv.DictReader(file) if f"table{row['table']}" == table}


def _data_faults(data: dict[str, Any]) -> list[tuple[Keys, str]]:
    given = [key for key in ("root", "draw", "source") if data.get(key) is not None]
    # Whoever names a folder has no need to take the source out of the file below.
    if given in (["root"], ["draw"], ["source"], ["root", "source"]):
        return []
    return [(("data", "root"), "give either data.root or data.draw, and null for the other")]


def _fetch_faults(config: dict[str, Any]) -> list[tuple[Keys, str]]:
    """Whatever may be fetched needs the section `fetch`, a licence named there, and a checksum."""
    entries: dict[Keys, dict[str, Any]] = {
        ("data", "source", name): entry for name, entry in (config["data"].get("source") or {}).items()
    }
    entries |= {("models", name): entry for name, entry in config["models"].items() if isinstance(entry, dict)}
    for name, stanza in config["extractors"].items():
        if stanza and stanza.get("source"):
            entries["extractors", name, "source"] = stanza["source"]
        elif stanza and stanza["path"] is None:
            return [(("extractors", name, "path"), "give either a path or a source")]
    if entries and "fetch" not in config:
        return [(("fetch",), "missing, and needed by sources")]
    known = config.get("fetch", {}).get("licences", {})
    found: list[tuple[Keys, str]] = []
    for keys, entry in entries.items():
        if entry.get("licence", entry.get("path")) is None:
            found.append((keys, "give either path, or hub, revision and licence"))
        elif "licence" in entry and entry["licence"] not in known:
            found.append(((*keys, "licence"), f"{entry['licence']!r} is not one of fetch.licences: {', '.join(known)}"))
    if wrong := sorted(set(config.get("fetch", {}).get("accept", [])) - set(known)):
        found.append((("fetch", "accept"), f"{wrong[0]!r} is not one of fetch.licences: {', '.join(known)}"))
    return found


def _module_fault(name: str, module: str) -> list[tuple[Keys, str]]:
    keys: Keys = ("methods", name, "module")
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return [(keys, f"no module {module!r}")]
    # Read, not imported: importing torch here would cost every dry run seconds.
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    names = {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    missing = [needed for needed in ("Params", "generate") if needed not in names]
    return [(keys, f"module {module!r} has no {' and no '.join(missing)}")] if missing else []


def _file(keys: Keys, files: Sequence[Path]) -> str:
    """The last file that holds the longest beginning of `keys`."""
    contents = [(path, yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}) for path in files]
    for length in range(len(keys), 0, -1):
        for path, content in reversed(contents):
            if _holds(content, keys[:length]):
                return str(path)
    return str(files[-1]) if files else "the command line"


def _holds(content: Any, keys: Keys) -> bool:
    for key in keys:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
