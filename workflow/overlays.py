"""How a configuration is merged: the scale on base.yaml, rows that are like others, and the file or option a value is from."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from formats import shown
from formats.params import unknown_name

ROOT = Path(__file__).parents[1]
CONFIGS = Path("workflow/config")
BASE = f"{CONFIGS}/base.yaml"
PUBLISHED = f"{CONFIGS}/published.csv"  # the paper's cells
CLAIMS = f"{CONFIGS}/claims.csv"  # what others have published
Keys = tuple[str | int, ...]
# Sections whose keys are names; null there leaves out what a file below has by that name.
NAMED = ("extractors", "methods", "metrics", "models", "tables")


class Fault(NamedTuple):
    """What is wrong at `keys`. Where the value there does not decide it alone, `by` has the keys of all that do."""

    keys: Keys
    text: str
    by: tuple[Keys, ...] = ()


class Origin(NamedTuple):
    """Which source gave a value, as its number in the order of merging; of a mapping, the last that added to it."""

    source: int
    below: dict[Any, "Origin"] | None


def scale_file(config: Mapping[str, Any]) -> str:
    """The file that lies on base.yaml, from the repository's root; base.yaml again where there is none of that name."""
    return f"{CONFIGS}/{config['scale']}.yaml" if config.get("scale") in _scales() else BASE


def _scales() -> list[str]:
    return sorted(path.stem for path in (ROOT / CONFIGS).glob("*.yaml"))


def merge_faults(config: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the keys by which files and rows lie on one another; all other keys depend on these."""
    if config.get("scale") not in _scales():
        return [Fault(("scale",), f"{unknown_name(str(config.get('scale')), _scales())}: files of {CONFIGS}")]
    if found := list(_not_json(config)):
        return found
    methods = config.get("methods")
    rows = methods if isinstance(methods, Mapping) else {}
    if found := [
        Fault(("methods", name), f"expected a mapping, found {shown(stanza)}")
        for name, stanza in rows.items()
        if not isinstance(stanza, Mapping)
    ]:
        return found
    for name, stanza in rows.items():
        if "like" not in stanza:
            continue
        if (other := _like(rows, name)) is None:
            others = [row for row in rows if row != name]
            found.append(Fault(("methods", name, "like"), unknown_name(str(stanza["like"]), others)))
        elif _like(rows, other) is not None:
            text = f"{other!r} is like {rows[other]['like']!r} itself; name that one"
            found.append(
                Fault(("methods", name, "like"), text, (("methods", name, "like"), ("methods", other, "like")))
            )
    return found


def _not_json(value: Any, keys: Keys = ()) -> Iterator[Fault]:
    """What YAML has and JSON has not, which is what a configuration is written as: dates, and keys that are no text."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if isinstance(key, str):
                yield from _not_json(below, (*keys, key))
            else:
                yield Fault((*keys, key), f"expected text as a key, found {shown(key)}; write it in quotes")
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _not_json(below, (*keys, place))
    elif not isinstance(value, str | int | float | None):
        yield Fault(keys, f"expected text, a number, true, false or null, found {value}; write it in quotes")


def vain_nulls(
    config: Mapping[str, Any],
    over: Sequence[Path],
    given: Mapping[str, Any] | None,
    declared: Mapping[str, Iterable[str]],
) -> list[str]:
    """A line for each null that leaves nothing out: no other source has the name, nor does its section declare it."""
    sources = [*((str(path), content(path)) for path in over), ("the command line", given or {})]
    below = [content(ROOT / path) for path in (BASE, scale_file(config))]
    lines = []
    for section in NAMED:
        known = dict.fromkeys(name for each in below for name in _below(each, section))
        if section == "models":  # a row whose model is null shows published values
            known |= dict.fromkeys(str(row["base"]) for row in _below(config, "methods").values() if "base" in row)
        known |= dict.fromkeys(declared.get(section, ()))
        known |= dict.fromkeys(
            name for _, each in sources for name, one in _below(each, section).items() if one is not None
        )
        lines += [
            f"{source}: {section}.{name}: null, but {unknown_name(str(name), known)}"
            for source, each in sources
            for name, one in _below(each, section).items()
            if one is None and name not in known
        ]
    return lines


def _below(config: Any, section: str) -> Mapping[str, Any]:
    found = config.get(section) if isinstance(config, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def stacked_sets(over: Sequence[Path]) -> list[str]:
    """A line where two files of the command line name layout sets for one split: merged, their files would be read together."""
    first: dict[Keys, tuple[Path, Any]] = {}
    lines = []
    for path in over:
        for keys in (("data", "source"), ("data", "train", "source"), ("data", "test", "source")):
            found: Any = content(path)
            for key in keys:
                found = found.get(key) if isinstance(found, Mapping) else None
            if not isinstance(found, Mapping) or not {"reader", "files"} <= found.keys():
                continue
            named = found["reader"], set(found["files"])
            earlier, of_it = first.setdefault(keys, (path, named))
            if named != of_it:
                lines.append(f"{path}: {'.'.join(keys)}: {earlier} names a layout set too; lay one of them")
    return lines


def merged(over: Sequence[str | Path] = (), given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration that Snakemake makes of files and of single values on its command line."""
    above: Any = reduce(laid, [*map(content, over), given or {}], {})
    config = laid(content(ROOT / BASE), above)
    return dict(laid(laid(config, content(ROOT / scale_file(config))), above))


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its rows' `like` followed, and without the tables that an overlay sets to null."""
    resolved = dict(config)
    if isinstance(methods := config.get("methods"), Mapping):
        resolved["methods"] = {name: _row(methods, name) for name in methods}
    if isinstance(tables := config.get("tables"), Mapping):
        resolved["tables"] = {name: rows for name, rows in tables.items() if rows is not None}
    return resolved


def _row(methods: Mapping[str, Any], name: str) -> Any:
    other = _like(methods, name)
    if other is None:
        return methods[name]
    # Two rows of one name tell nothing, and one that is cropped otherwise has to say so itself.
    inherited = {key: value for key, value in methods[other].items() if key not in ("label", "crops")}
    return laid(inherited, {key: value for key, value in methods[name].items() if key != "like"})


def _like(methods: Mapping[str, Any], name: str) -> str | None:
    """The row that a row is like, if there is such a row."""
    other = methods[name].get("like") if isinstance(methods[name], Mapping) else None
    return other if isinstance(other, str) and other != name and isinstance(methods.get(other), Mapping) else None


def laid(under: Any, over: Any) -> Any:
    """snakemake.utils.update_config, which leaves both as they are: mappings are merged, everything else is replaced."""
    if not isinstance(over, Mapping):
        return over
    if not over:
        return under
    under = under if isinstance(under, Mapping) else {}
    return {**under, **{key: laid(under.get(key, {}), value) for key, value in over.items()}}


def blamed(
    faults: Iterable[Fault],
    config: Mapping[str, Any],
    files: Sequence[Path],
    over: Sequence[Path],
    given: Mapping[str, Any] | None,
) -> list[str]:
    """Faults as lines, each naming the source whose value won; one that rows inherit is the fault of the row that states it."""
    names = [*map(str, files), *map(str, over), "the command line"]
    contents = [*map(content, files), *map(content, over), given or {}]
    origins = [_origin(each or {}, number) for number, each in enumerate(contents)]
    origin = reduce(_merged, [*origins[: len(files)], reduce(_merged, origins[len(files) :])])
    lines = []
    for fault in faults:
        keys, *by = (_stated(config, keys) for keys in (fault.keys, *(fault.by or (fault.keys,))))
        source = max(_source(origin, each) for each in by)
        lines.append(f"{names[source]}: {'.'.join(map(str, keys))}: {fault.text}")
    return list(dict.fromkeys(lines))


def _stated(config: Mapping[str, Any], keys: Keys) -> Keys:
    """The keys at which the value stands: of the row that another is like, or of a text, or a table's list, in the place of a
    mapping.
    """
    other = _like(config["methods"], str(keys[1])) if len(keys) > 2 and keys[0] == "methods" else None
    value: Any = config
    for depth, key in enumerate(keys):
        if isinstance(value, str) or (isinstance(value, list) and isinstance(key, str) and keys[0] == "tables"):
            return keys[:depth]
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif other:
            return ("methods", other, *keys[2:])
        else:
            break
    return keys


def content(path: str | Path) -> Any:
    """As Snakemake reads it: JSON, else YAML."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _origin(value: Any, number: int) -> Origin:
    if not isinstance(value, Mapping):
        return Origin(number, None)
    return Origin(number, {key: _origin(below, number) for key, below in value.items()})


def _merged(under: Origin, over: Origin) -> Origin:
    """snakemake.utils.update_config for origins."""
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
