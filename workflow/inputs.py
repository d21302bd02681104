"""Where a configuration's data and weights are: in folders that it names, or downloaded into one."""

import hashlib
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.datasets import find_dataset, lacking
from evaluation.datasets.source import lacking_paths
from evaluation.networks import described

if TYPE_CHECKING:
    from workflow.settings import Extractor, Fetch, HubNetwork, Method, Model, SetSource, Settings, Source

FOLDER = "downloads"
SETS = "sets"  # there, of layout sets, by their readers
WEIGHTS = "model.safetensors"  # of a network in a repository of the hub
# By these Snakemake knows what it fills in in a path: {wildcard}, <pathvar>. It has no way to quote them.
FILLED = "{}<>"
LINKS = Path(".snakemake/places")


@dataclass
class Downloads:
    """What has to be downloaded into a folder: a file's path there to its source, a model's name to its place on the hub."""

    folder: str
    files: dict[str, "Source"] = field(default_factory=dict)
    models: dict[str, "Model"] = field(default_factory=dict)

    def licences(self, texts: dict[str, str]) -> dict[str, dict[str, Any]]:
        """{licence: {"text", "of": what is under it}} of everything here."""
        under = [(Path(path).name, entry.licence) for path, entry in self.files.items()]
        under += [(f"{model.hub} ({name})", str(model.licence)) for name, model in self.models.items()]
        needed: dict[str, dict[str, Any]] = {}
        for thing, name in under:
            needed.setdefault(name, {"text": texts[name], "of": []})["of"].append(thing)
        return needed


def place(path: str) -> str:
    """A path of the configuration as programs and Snakemake can take it: none begins with a dash, like an option, or has a
    redundant slash.
    """
    return str(Path(path).absolute() if path.startswith("-") else Path(path))


def linked(path: str) -> str:
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


def unlinked(path: str) -> str:
    """The file of `linked`."""
    beneath = Path(path)
    if LINKS not in beneath.parents:
        return path
    link, *rest = beneath.relative_to(LINKS).parts
    return str((LINKS / link).readlink().joinpath(*rest))


def resolve(settings: "Settings") -> "tuple[Settings, Downloads]":
    """Settings in which every model, extractor and data root has a local path, and what has to be downloaded for that.

    A path of the user's own overrides a source, and is as `place` has it. What is resolved once more stays as it is.
    """
    downloads = Downloads(folder_of(settings.fetch))
    data = settings.data.model_copy(
        update={
            "root": _root(settings, downloads),
            "words": place(settings.data.words),
            "source": _set(settings.data.source, downloads),
            "train": settings.data.train.model_copy(update={"source": _set(settings.data.train.source, downloads)}),
            "test": settings.data.test.model_copy(update={"source": _set(settings.data.test.source, downloads)}),
        }
    )
    models = {name: _model(name, model, downloads, settings.run) for name, model in settings.models.items()}
    extractors = settings.extractors.model_copy(
        update={name: _extractor(name, stanza, downloads) for name, stanza in settings.extractors.given()}
    )
    methods = {name: _outside(method) for name, method in settings.methods.items()}
    found = {"data": data, "models": models, "extractors": extractors, "methods": methods}
    return settings.model_copy(update=found), downloads


def _outside(method: "Method") -> "Method":
    """A row whose own files are as programs and Snakemake can take them."""
    files = {key: place(path) for key in ("names", "bundle") if (path := getattr(method, key))}
    images = {"images": [place(path) for path in method.places]} if method.places else {}
    return method.model_copy(update=files | images) if files or images else method


def _root(settings: "Settings", downloads: Downloads) -> str | None:
    data, dataset = settings.data, settings.data.dataset
    fetched = f"{downloads.folder}/{dataset}"
    if data.files and data.draw is None and data.root in (None, fetched):
        downloads.files |= {f"{dataset}/{name}": source for name, source in data.files.items()}
        return fetched
    return place(data.root) if data.root is not None else None


def _set(source: "SetSource | None", downloads: Downloads) -> "SetSource | None":
    """A layout set whose paths are as programs and Snakemake can take them."""
    if source is None:
        return None
    own = {name: place(path) for name in ("photos", "captions") if (path := getattr(source, name))}
    # What a file is stands in its place: one of another commit is never taken for it.
    fetched = {f"{SETS}/{source.reader}/{_pin(entry)}/{name}": entry for name, entry in (source.files or {}).items()}
    paths = [f"{downloads.folder}/{name}" for name in fetched]
    if fetched and source.path in (None, paths):
        downloads.files |= fetched
        return source.model_copy(update={"path": paths, **own})
    given = place(source.path) if isinstance(source.path, str) else [place(path) for path in source.path or []]
    return source.model_copy(update={"path": given, "files": None, **own})


def _pin(source: "Source") -> str:
    return hashlib.sha256(str(source.identity).encode()).hexdigest()[:12]


def _model(name: str, model: "Model | None", downloads: Downloads, run: str) -> "Model | None":
    if model is None:
        return None
    if model.text_of:
        written = f"results/{run}/weights/{name}"
        return model.model_copy(update={"path": written, "text_of": place(model.text_of)})
    fetched = f"{downloads.folder}/{name}"
    if model.hub and model.path in (None, fetched):
        downloads.models[name] = model.model_copy(update={"path": fetched})
        return downloads.models[name]
    return model.model_copy(update={"path": place(str(model.path)), "hub": None, "revision": None, "licence": None})


def _extractor(name: str, stanza: "Extractor", downloads: Downloads) -> "Extractor":
    own: dict[str, Any] = {"model": place(stanza.model)} if stanza.model else {}
    if stanza.hub:
        folder = f"extractors/{name}"
        weights = f"{downloads.folder}/{folder}/{WEIGHTS}"
        if stanza.path in (None, weights):
            downloads.models[folder] = network_of(stanza, f"{downloads.folder}/{folder}")
            return stanza.model_copy(update=own | {"path": weights})
        nowhere = dict.fromkeys(("hub", "revision", "licence"))
        return stanza.model_copy(update=own | nowhere | {"path": place(str(stanza.path))})
    if not stanza.source:
        return stanza.model_copy(update=own | {"path": place(stanza.path) if stanza.path else None})
    file = _file_of(stanza.source, downloads)
    fetched = f"{downloads.folder}/{file}"
    if stanza.path in (None, fetched):
        downloads.files[file] = stanza.source
        return stanza.model_copy(update=own | {"path": fetched, "sha256": stanza.source.sha256})
    # A file of one's own is the published one unless the stanza says otherwise.
    own |= {"path": place(str(stanza.path)), "sha256": stanza.sha256 or stanza.source.sha256}
    return stanza.model_copy(update=own | {"source": None})


def network_of(stanza: "Extractor", folder: str) -> "HubNetwork":
    """The repository of a network that measures, which is fetched into a folder."""
    from workflow.settings import HubNetwork

    return HubNetwork(path=folder, hub=stanza.hub, revision=stanza.revision, licence=stanza.licence, text_of=None)


def _file_of(source: "Source", downloads: Downloads) -> str:
    """Where an extractor's file goes: under its own name, as far as a rule may state it, unless another file has that."""
    name = re.sub(r"[^\w.+-]", "_", source.urls[0].rpartition("/")[2]) or "weights"
    taken = downloads.files.get(f"extractors/{name}")
    other = taken is not None and taken.sha256 != source.sha256
    return f"extractors/{str(source.sha256)[:12]}-{name}" if other else f"extractors/{name}"


def folder_of(fetch: "Fetch | None") -> str:
    """Where downloads are kept."""
    return place(fetch.folder if fetch else FOLDER)


def unusable(settings: "Settings", made: str) -> list[str]:
    """One line for every folder or file of the user's own that is not as it has to be; below `made` is the run's work."""
    root, dataset = settings.data.root, find_dataset(settings.data.dataset)
    found = [f"data.root: {fault}, or set data.root to null" for fault in lacking(dataset, root)] if root else []
    data = settings.data
    for key, source in (("data", data.source), ("data.train", data.train.source), ("data.test", data.test.source)):
        if source is not None:
            found += lacking_paths(source.model_dump(), f"{key}.source" if key != "data" else "data.source")
    if not Path(settings.data.words).is_file():
        found.append(f"data.words: no such file: {settings.data.words}")
    found += _of_another_run(settings, made)
    for name, model in settings.models.items():
        path = (model.text_of or model.path) if model else None
        if not path or path.startswith(made):
            continue
        if not Path(path).is_dir():
            found.append(f"models.{name}: no such folder: {path}")
        elif not Path(path, "SHA256SUMS").is_file():
            seal = f"python -m workflow.fetch seal {shlex.quote(place(path))}"
            found.append(f"models.{name}: {path} has no SHA256SUMS; if its files are right, write it once: {seal}")
    for name, method in settings.methods.items():
        places = [(f"methods.{name}.images", path) for path in method.places]
        places += [(f"methods.{name}.{key}", path) for key in ("names", "bundle") if (path := getattr(method, key))]
        own = {f"artefacts.{key}": path for key, path in method.artefacts.items() if Path(path).is_absolute()}
        places += [(f"methods.{name}.{key}", path) for key, path in own.items()]
        found += [f"{key}: no such file or folder: {path}" for key, path in places if not Path(path).exists()]
    for name, stanza in settings.extractors.given():
        if not stanza.path or stanza.path.startswith(made):
            continue
        network = described(stanza.kind)
        if not Path(stanza.path).is_file():
            found.append(f"extractors.{name}: no such file: {stanza.path}")
        elif network and network.folder and not Path(stanza.path).with_name("SHA256SUMS").is_file():
            seal = f"python -m workflow.fetch seal {shlex.quote(str(Path(stanza.path).parent))}"
            found.append(
                f"extractors.{name}: {stanza.path} has no SHA256SUMS beside it; if the files there are right, write it once:"
                f" {seal}"
            )
        elif not (stanza.sha256 or stanza.source or Path(stanza.path).with_name("SHA256SUMS").is_file()):
            found.append(f"extractors.{name}: {stanza.path}: give its sha256, or a SHA256SUMS beside it")
    return found


def _of_another_run(settings: "Settings", made: str) -> list[str]:
    """One line if models or networks are to be another run's work, which no rule of this one makes, and are not there."""
    paths = {f"models.{name}": model.text_of or model.path for name, model in settings.models.items() if model}
    paths |= {f"extractors.{name}": stanza.path for name, stanza in settings.extractors.given()}
    others = {key: path for key, path in paths.items() if path and path.startswith(made)}
    lost = [
        key for key, path in others.items() if not path.startswith(f"{made}{settings.run}/") and not Path(path).exists()
    ]
    if not lost:
        return []
    first, more = others[lost[0]], f" and {len(lost) - 1} more" * (len(lost) > 1)
    return [
        f"{lost[0]}{more}: {first} is not there, and of another run than {settings.run!r}, which makes nothing outside"
        f" {made}{settings.run}/; give `run` the other's name, or put these paths below that folder"
    ]
