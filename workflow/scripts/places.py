"""Where a configuration's data and weights are: in folders that it names, or fetched into one."""

import copy
import hashlib
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.datasets import find_dataset, lacking

FOLDER = "downloads"
# By these Snakemake knows what it fills in in a path: {wildcard}, <pathvar>. It has no way to quote them.
FILLED = "{}<>"
LINKS = Path(".snakemake/places")


@dataclass
class Fetched:
    """What has to be fetched: a file's path in the folder to its source, a model to its place on the hub."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def licences(self, texts: dict[str, str]) -> dict[str, dict[str, Any]]:
        """{licence: {"text", "of": what is under it}} of everything here."""
        things = {Path(path).name: entry for path, entry in self.files.items()}
        things |= {f"{entry['hub']} ({name})": entry for name, entry in self.models.items()}
        needed: dict[str, dict[str, Any]] = {}
        for thing, entry in things.items():
            name = entry["licence"]
            needed.setdefault(name, {"text": texts[name], "of": []})["of"].append(thing)
        return needed


def place(path: str) -> str:
    """A path of the configuration as programs and Snakemake can take it: none begins with a dash, like an option, or has a
    redundant slash.
    """
    return str(Path(path).absolute() if path.startswith("-") else Path(path))


def stated(path: str) -> str:
    """A file of the user's own as a rule may state it: through a link where its folders' names hold what Snakemake fills in."""
    parts = Path(path).parts
    odd = [number for number, part in enumerate(parts, 1) if set(part) & set(FILLED)]
    if not odd:
        return path
    target = Path(*parts[: odd[-1]]).absolute()
    link = LINKS / f"{re.sub(r'[^A-Za-z0-9]+', '_', target.name)}-{hashlib.sha256(bytes(target)).hexdigest()[:12]}"
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # of the same target, whose hash is in its name
        link.symlink_to(target)
    return str(link.joinpath(*parts[odd[-1] :]))


def unstated(path: str) -> str:
    """The file of `stated`."""
    beneath = Path(path)
    if LINKS not in beneath.parents:
        return path
    link, *rest = beneath.relative_to(LINKS).parts
    return str((LINKS / link).readlink().joinpath(*rest))


def settle(config: dict[str, Any]) -> tuple[dict[str, Any], Fetched]:
    """A configuration in which every source is replaced by the place its files will have, and what to fetch for it.

    A path of one's own always goes before a source, and is as `place` has it.
    """
    settled, fetched = copy.deepcopy(config), Fetched()
    folder = folder_of(config)
    data, models, extractors = settled["data"], settled["models"], settled["extractors"]
    data |= {key: place(data[key]) for key in ("root", "words") if data[key] is not None}
    source = data.pop("source", None)
    if source and data["root"] is None and data["draw"] is None:
        dataset = data.get("dataset", "coco")
        data["root"] = f"{folder}/{dataset}"
        fetched.files |= {f"{dataset}/{name}": entry for name, entry in source.items()}
    for name, entry in models.items():
        own = entry.get("path") if isinstance(entry, dict) else entry
        if own:
            models[name] = place(own)
        elif entry is not None:
            models[name] = f"{folder}/{name}"
            fetched.models[name] = {key: entry[key] for key in ("hub", "revision", "licence")}
    for stanza in filter(None, extractors.values()):
        stanza |= {key: place(stanza[key]) for key in ("path", "model") if stanza.get(key)}
        source = stanza.pop("source", None)
        if source and stanza["path"] is None:
            file = _place(source, fetched)
            stanza |= {"path": f"{folder}/{file}", "sha256": source["sha256"]}
            fetched.files[file] = source
        elif source:
            # A file of one's own is the published one unless the stanza says otherwise.
            stanza.setdefault("sha256", source["sha256"])
    return settled, fetched


def _place(source: dict[str, Any], fetched: Fetched) -> str:
    """Where an extractor's file goes: under its own name, as far as a rule may state it, unless another file has that."""
    name = re.sub(r"[^\w.+-]", "_", source["urls"][0].rpartition("/")[2]) or "weights"
    taken = fetched.files.get(f"extractors/{name}")
    other = taken is not None and taken["sha256"] != source["sha256"]
    return f"extractors/{source['sha256'][:12]}-{name}" if other else f"extractors/{name}"


def folder_of(config: dict[str, Any]) -> str:
    """Where fetched files are kept."""
    return place(config.get("fetch", {}).get("folder", FOLDER))


def unusable(config: dict[str, Any], made: str) -> list[str]:
    """One line for every folder or file of the user's own that is not as it has to be; below `made` is the run's work."""
    root, dataset = config["data"]["root"], find_dataset(config["data"].get("dataset", "coco"))
    found = [f"data.root: {fault}, or set data.root to null" for fault in lacking(dataset, root)] if root else []
    for name, entry in config["models"].items():
        path = entry.get("path") if isinstance(entry, dict) else entry
        if not path or path.startswith(made):
            continue
        if not Path(path).is_dir():
            found.append(f"models.{name}: no such folder: {path}")
        elif not Path(path, "SHA256SUMS").is_file():
            seal = f"python -m workflow.scripts.seal {shlex.quote(place(path))}"
            found.append(f"models.{name}: {path} has no SHA256SUMS; if its files are right, write it once: {seal}")
    for name, stanza in config["extractors"].items():
        path = (stanza or {}).get("path")
        if not path or path.startswith(made):
            continue
        if not Path(path).is_file():
            found.append(f"extractors.{name}: no such file: {path}")
        elif not (stanza.get("sha256") or stanza.get("source") or Path(path).with_name("SHA256SUMS").is_file()):
            found.append(f"extractors.{name}: {path}: give its sha256, or a SHA256SUMS beside it")
    return found
