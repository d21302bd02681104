"""A method's specification: everything that decides its images beside the layout, as one JSON file."""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from formats.checksums import folder_sha256
from formats.files import InputError, read_json, sha256
from formats.params import check_keys, from_keys


class SpecError(InputError):
    """A method's specification cannot be used; the message names the file or method, and the key."""


@dataclass(frozen=True)
class Artefact:
    """A file that a method was given beside its model, or a folder with SHA256SUMS: what a run trained or measured.

    `value` is the number or text that a JSON file has under the artefact's own name, such as a step size that was calibrated.
    """

    path: str
    sha256: str
    value: Any = None


@dataclass(frozen=True)
class Spec:
    """`module` holds Params and generate; `model` is the model folder; hashes are of the files it was written for; `artefacts`
    go to the module's `load`; `source` says, for the tables, where the module's defaults are from."""

    method: str
    module: str
    model: str
    base: str = ""
    weights_sha256: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    artefacts: dict[str, Artefact] = field(default_factory=dict)
    version: int = 1
    source: str = ""


def read_spec(path: str | Path) -> Spec:
    """Read methods/{method}.json; raises InputError naming unknown, missing and mistyped keys."""
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise SpecError(f"{path}: expected an object, found {json.dumps(row)[:60]}")
    required = {key.name for key in fields(Spec) if key.default is MISSING and key.default_factory is MISSING}
    check_keys(row, {key.name for key in fields(Spec)}, str(path))
    if missing := sorted(required - set(row)):
        raise SpecError(f"{path}: missing key {missing[0]!r}")
    for key in ("sampling", "params", "artefacts"):
        if not isinstance(row.get(key, {}), dict):
            raise SpecError(f"{path}: {key!r} must be an object, found {row[key]!r}")
    for key in sorted(required):
        if not isinstance(row[key], str):
            raise SpecError(f"{path}: {key!r} must be text, found {row[key]!r}")
    artefacts = row.get("artefacts", {})
    for name, entry in artefacts.items():
        if not isinstance(entry, dict):
            raise SpecError(f"{path}: 'artefacts': {name!r} must be an object, found {entry!r}")
        artefacts[name] = from_keys(Artefact, entry, f"{path}, artefacts, {name}")
    return Spec(**row)


def read_artefact(name: str, path: str) -> Artefact:
    """What a specification says of an artefact; raises InputError for a file that is not there or a .json that is not JSON."""
    digest, value = artefact_sha256(path), None
    if path.endswith(".json"):
        content = read_json(Path(path))
        found = content.get(name) if isinstance(content, dict) else None
        value = found if isinstance(found, int | float | str) else None
    return Artefact(path, digest, value)


def artefact_sha256(path: str) -> str:
    """SHA-256 of a file, or of a folder's SHA256SUMS; raises InputError where there is none."""
    if Path(path).is_dir():
        return folder_sha256(path)
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    return sha256(path)


def as_json(spec: Spec) -> dict[str, Any]:
    """The JSON object of a specification."""
    return asdict(spec)
