"""Check a configuration before the first job: one line a fault, naming the key and the file it stands in."""

import ast
import csv
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from workflow.scripts.places import FILLED

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"
PUBLISHED = Path(__file__).parents[1] / "config" / "published.csv"
Keys = tuple[str | int, ...]
COMMAND_LINE = "the command line"


class Fault(NamedTuple):
    """What is wrong at `keys`. Where the value there does not decide it alone, `by` has the keys of all that do."""

    keys: Keys
    text: str
    by: tuple[Keys, ...] = ()


class Origin(NamedTuple):
    """Which source gave a value, as its number in the order of merging; of a mapping, the last that added to it."""

    source: int
    below: dict[Any, "Origin"] | None


def faults(
    config: dict[str, Any], files: Sequence[Path], over: Sequence[Path] = (), given: dict[str, Any] | None = None
) -> list[str]:
    """All faults of a configuration, each naming the source whose value won; empty when there are none.

    It was merged as Snakemake does: `files`, which the Snakefile names, and over them what `over`, the files of the command
    line, and `given`, its single values, make together; later ones win.
    """
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    errors = sorted(validator.iter_errors(config), key=lambda error: [str(key) for key in error.absolute_path])
    found = [fault for error in errors for fault in _explained(error)] or _beyond_the_schema(config)
    if not found:
        return []
    names = [*map(str, files), *map(str, over), COMMAND_LINE]
    contents = [*map(_content, files), *map(_content, over), given or {}]
    laid = [_origin(content or {}, number) for number, content in enumerate(contents)]
    origin = reduce(_merged, [*laid[: len(files)], reduce(_merged, laid[len(files) :])])
    sources = (max(_source(origin, keys) for keys in fault.by or (fault.keys,)) for fault in found)
    return [
        f"{names[source]}: {'.'.join(map(str, fault.keys))}: {fault.text}"
        for fault, source in zip(found, sources, strict=True)
    ]


def _content(path: Path) -> Any:
    """As Snakemake reads it: JSON, else YAML."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _origin(content: Any, number: int) -> Origin:
    if not isinstance(content, Mapping):
        return Origin(number, None)
    return Origin(number, {key: _origin(value, number) for key, value in content.items()})


def _merged(under: Origin, over: Origin) -> Origin:
    """snakemake.utils.update_config for origins: mappings are merged, everything else is replaced."""
    if over.below is None:
        return over
    if not over.below:
        return under
    below = dict(under.below or {})
    for key, value in over.below.items():
        below[key] = _merged(below[key], value) if key in below else value
    return Origin(over.source, below)


def _source(origin: Origin, keys: Keys) -> int:
    """Who gave the value at `keys`, or where there is none, the last who added to the mapping that lacks it."""
    for key in keys:
        if origin.below is None or key not in origin.below:
            break
        origin = origin.below[key]
    return origin.source


def _explained(error: ValidationError) -> Iterable[Fault]:
    keys: Keys = tuple(error.absolute_path)
    # A name that may not be: the mapping is where it stands, and who wrote the name is who gave its value.
    by: tuple[Keys, ...] = ((*keys, str(error.instance)),) if "propertyNames" in error.schema_path else ()
    rule: Any = error.validator_value
    found: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(schema["properties"])
        for key in sorted(set(found) - set(known)):
            yield Fault((*keys, key), f"unknown key; known are {', '.join(known)}")
    elif error.validator == "required":
        for key in sorted(set(rule) - set(found)):
            yield Fault((*keys, key), "missing")
    elif error.validator == "type":
        yield Fault(keys, f"expected {rule}, found {error.instance!r}")
    elif error.validator == "enum":
        yield Fault(keys, f"{error.instance!r} is not one of {', '.join(map(repr, rule))}", by)
    elif error.validator == "anyOf":
        yield Fault(keys, f"give one of {', '.join(name for option in rule for name in option['required'])}")
    else:
        yield Fault(keys, error.message, by)


def _beyond_the_schema(config: dict[str, Any]) -> list[Fault]:
    """References between keys, and modules that must exist."""
    found: list[Fault] = []
    methods, models = config["methods"], config["models"]
    absent = {name for name, place in models.items() if place is None}
    for name, stanza in methods.items():
        found += _module_fault(name, stanza["module"])
        if stanza["base"] not in models:
            found.append(
                Fault(("methods", name, "base"), f"{stanza['base']!r} is not one of models: {', '.join(models)}")
            )
    for table, rows in config["tables"].items():
        for row in rows:
            if row not in methods and row != "real":
                found.append(Fault(("tables", table), f"{row!r} is not one of methods: real, {', '.join(methods)}"))
            elif row != "real" and methods[row]["base"] in absent and row not in _published(table):
                text = (
                    f"{row!r} cannot be run, since models.{methods[row]['base']} is null, and has no published values"
                )
                found.append(Fault(("tables", table), text, (("tables", table), ("models", methods[row]["base"]))))
    alignment = config["alignment"]
    for key, known in (("base", models), ("method", methods), ("reference", methods)):
        if alignment[key] not in known:
            found.append(Fault(("alignment", key), f"{alignment[key]!r} is not one of {', '.join(known)}"))
        elif (base := alignment[key] if key == "base" else methods[alignment[key]]["base"]) in absent:
            text = f"{alignment[key]!r} has no model folder: it is null under models"
            found.append(Fault(("alignment", key), text, (("alignment", key), ("models", base))))
    if not found and not {"alignment", "eta"} <= set(methods[alignment["method"]].get("artefacts", {})):
        text = f"{alignment['method']!r} is not a method with the artefacts `alignment` and `eta`"
        by = (("alignment", "method"), ("methods", alignment["method"], "artefacts"))
        found.append(Fault(("alignment", "method"), text, by))
    found += _reading_faults(alignment, {name for name in models if name not in absent})
    heldout = config["data"]["heldout"]["count"]
    for key in ("count", "images"):
        if (asked := alignment["calibrate"].get(key, 0)) > heldout:
            text = f"{asked}, but data.heldout.count is {heldout}"
            keys: Keys = ("alignment", "calibrate", key)
            found.append(Fault(keys, text, (keys, ("data", "heldout", "count"))))
    found += _path_faults(config)
    return found + _data_faults(config["data"]) + _evaluation_faults(config) + _fetch_faults(config)


def _path_faults(config: dict[str, Any]) -> list[Fault]:
    """Paths that no line of a log can hold, and folders for rules' outputs in whose names Snakemake would fill something in."""
    found: list[Fault] = []
    for keys, path in _paths(config):
        made = keys in (("fetch", "folder"), ("pretrain", "work"))
        if odd := sorted(set(path) & set("\0\n\r" + (FILLED if made else ""))):
            text = f"{path!r} holds {odd[0]!r}, which cannot be taken there; rename the folder, or give a link to it"
            found.append(Fault(keys, text))
    return found


def _paths(config: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    """Every path that the configuration gives, by its keys."""
    single: list[Keys] = [("reference",), ("data", "root"), ("data", "words"), ("fetch", "folder")]
    single += [("pretrain", "work"), ("pretrain", "out")]
    single += [("models", name) for name in config["models"]]
    single += [("models", name, "path") for name in config["models"]]
    single += [("extractors", name, key) for name in config["extractors"] for key in ("path", "model")]
    for keys in single:
        value: Any = config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            yield keys, value


def _reading_faults(alignment: dict[str, Any], there: set[str]) -> list[Fault]:
    """The text encoder must be there, and the noise loss must have something to train."""
    found: list[Fault] = []
    text, train = alignment.get("text", {}).get("model", "backbone"), alignment["train"]
    if text not in there | {"backbone"}:
        known = ", ".join(["backbone", *sorted(there)])
        found.append(Fault(("alignment", "text", "model"), f"{text!r} is not one of {known}"))
    noise = train.get("objective", "align") == "align+noise"
    trained, second_order = train.get("train_denoiser", "none") != "none", train.get("second_order", False)
    for key, is_set in (("train_denoiser", trained), ("second_order", second_order)):
        if is_set and not noise:
            text = f"{train[key]!r} needs objective: align+noise"
            keys: Keys = ("alignment", "train", key)
            found.append(Fault(keys, text, (keys, ("alignment", "train", "objective"))))
    if noise and not (trained or second_order):
        text = "the noise loss would train nothing: set train_denoiser to fuser or unet, or second_order to true"
        by = tuple(("alignment", "train", key) for key in ("objective", "train_denoiser", "second_order"))
        found.append(Fault(("alignment", "train", "objective"), text, by))
    return found


def _published(table: str) -> set[str]:
    """Methods of which the paper's table has values."""
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        return {row["method"] for row in csv.DictReader(file) if f"table{row['table']}" == table}


def _data_faults(data: dict[str, Any]) -> list[Fault]:
    given = [key for key in ("root", "draw", "source") if data.get(key) is not None]
    # Whoever names a folder has no need to take the source out of the file below.
    if given in (["root"], ["draw"], ["source"], ["root", "source"]):
        return []
    by = tuple(("data", key) for key in given or ("root", "draw"))
    return [Fault(("data", "root"), "give either data.root or data.draw, and null for the other", by)]


def _evaluation_faults(config: dict[str, Any]) -> list[Fault]:
    """Readings of the protocol that contradict each other, and seeds that do not begin with the tables' own."""
    found: list[Fault] = []
    regions, data, seed = config["regions"], config["data"], config["sampling"]["seed"]
    if regions["pad"] != "none" and regions["resize"] != "squash":
        text = f"{regions['resize']!r} has no use for pad {regions['pad']!r}; choose one"
        found.append(Fault(("regions", "resize"), text, (("regions", "resize"), ("regions", "pad"))))
    asked = (data.get("val") or {}).get("count", 0)
    if config["evaluation"]["reference"] == "full_val" and asked < data["test"]["count"]:
        text = f"'full_val' needs data.val.count of at least data.test.count, {data['test']['count']}; found {asked}"
        by = (("evaluation", "reference"), ("data", "val", "count"), ("data", "test", "count"))
        found.append(Fault(("evaluation", "reference"), text, by))
    if (resolution := config["evaluation"]["resolution"] or 0) > data["size"]:
        text = f"{resolution}, above data.size, {data['size']}"
        found.append(Fault(("evaluation", "resolution"), text, (("evaluation", "resolution"), ("data", "size"))))
    if (seeds := config.get("seeds", [seed]))[0] != seed:
        text = f"begins with {seeds[0]}, expected sampling.seed, {seed}: the tables' rows are of it"
        found.append(Fault(("seeds",), text, (("seeds",), ("sampling", "seed"))))
    return found


def _fetch_faults(config: dict[str, Any]) -> list[Fault]:
    """Whatever may be fetched needs the section `fetch`, a licence named there, and a checksum."""
    entries: dict[Keys, dict[str, Any]] = {
        ("data", "source", name): entry for name, entry in (config["data"].get("source") or {}).items()
    }
    entries |= {("models", name): entry for name, entry in config["models"].items() if isinstance(entry, dict)}
    for name, stanza in config["extractors"].items():
        if stanza and stanza.get("source"):
            entries["extractors", name, "source"] = stanza["source"]
        elif stanza and stanza["path"] is None:
            return [Fault(("extractors", name, "path"), "give either a path or a source")]
    if entries and "fetch" not in config:
        return [Fault(("fetch",), "missing, and needed by sources")]
    known = config.get("fetch", {}).get("licences", {})
    found: list[Fault] = []
    for keys, entry in entries.items():
        if entry.get("licence", entry.get("path")) is None:
            found.append(Fault(keys, "give either path, or hub, revision and licence"))
        elif "licence" in entry and entry["licence"] not in known:
            text = f"{entry['licence']!r} is not one of fetch.licences: {', '.join(known)}"
            found.append(Fault((*keys, "licence"), text))
    if wrong := sorted(set(config.get("fetch", {}).get("accept", [])) - set(known)):
        found.append(Fault(("fetch", "accept"), f"{wrong[0]!r} is not one of fetch.licences: {', '.join(known)}"))
    return found


def _module_fault(name: str, module: str) -> list[Fault]:
    keys: Keys = ("methods", name, "module")
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return [Fault(keys, f"no module {module!r}")]
    # Read, not imported: importing torch here would cost every dry run seconds.
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    names = {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    missing = [needed for needed in ("Params", "generate") if needed not in names]
    return [Fault(keys, f"module {module!r} has no {' and no '.join(missing)}")] if missing else []
