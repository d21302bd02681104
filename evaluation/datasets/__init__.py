"""Where layouts come from: one module a data set.

A data set is a module of this package, or any other by its dotted name, with

    faults(settings) -> list of lines           what is missing or wrong in the configuration's section `data`
    prepare(root, settings) -> Prepared         layouts of every split that it has, and what the report says of them
    describe(settings) -> str                   which images, captions and boxes these are: a sentence for the tables' notes

`root` is its folder or file. `prepare` raises InputError for what it cannot read and writes nothing. One with photos also has

    open_photos(root, split, exif) -> Photos    each photo by image id and the layout's `photo`
    PHOTOS = {split: name}                      the folder, or zip of that name, below the root that holds a split's photos

and one whose root is a folder names what else it reads there, and the zip that has to be unpacked there for it, if any:

    ANNOTATIONS = (file, ...)
    ARCHIVE = name
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from formats.files import sha256, write_json
from formats.layouts import Layout, checked, write_layouts
from formats.modules import find_module


@dataclass(frozen=True)
class Prepared:
    """Layouts by split, in the order of their files, and the report: under `splits` what was read and left out of each."""

    layouts: Mapping[str, Sequence[Layout]]
    report: dict[str, Any]


def find_dataset(name: str) -> Any:
    """A data set's module by its name; raises InputError naming those of this package."""
    return find_module("data set", name, __name__, "prepare", known)


def known() -> list[str]:
    """Names of the data sets in this package."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted(name for name in names if hasattr(importlib.import_module(f"{__name__}.{name}"), "prepare"))


def photos_of(dataset: Any) -> Mapping[str, str]:
    """Where a data set has the photos of each split; of those that it has none of, nothing."""
    photos: Mapping[str, str] = getattr(dataset, "PHOTOS", {})
    return photos


def distributed(dataset: Any) -> set[str]:
    """Names of the zips that a data set is distributed in."""
    archive = getattr(dataset, "ARCHIVE", None)
    return {f"{name}.zip" for name in photos_of(dataset).values()} | ({archive} if archive else set())


def lacking(dataset: Any, root: str) -> list[str]:
    """One line if something that a data set reads below its root, beside photos, is not there."""
    missing = [name for name in getattr(dataset, "ANNOTATIONS", ("",)) if not Path(root, name).exists()]
    if not missing:
        return []
    if not missing[0]:
        return [f"{root} is not there; give the data set's file"]
    archive = getattr(dataset, "ARCHIVE", "")
    return [f"{root} has no {missing[0]}; {f'unpack {archive} there' if archive else 'give the folder that has'}"]


def write(prepared: Prepared, out: Path, shard_size: int | None = None, first: Mapping[str, int] | None = None) -> None:
    """Write report.json and {split}.jsonl, with a size also its shards {split}/{number:04d}.jsonl of so many layouts each.

    first: of a split, how many layouts have shards of their own, so that these can be taken without others. Raises LayoutError,
    and writes nothing, if a layout could not be read again.
    """
    splits = {}
    valid = {split: checked(f"{split}.jsonl", layouts) for split, layouts in prepared.layouts.items()}
    for split, layouts in valid.items():
        write_layouts(out / f"{split}.jsonl", layouts)
        apart = min((first or {}).get(split, 0), len(layouts))
        starts = [*range(0, apart, shard_size), *range(apart, len(layouts), shard_size)] if shard_size else []
        for shard, (start, end) in enumerate(pairwise([*starts, len(layouts)])):
            write_layouts(out / split / f"{shard:04d}.jsonl", layouts[start:end])
        splits[split] = prepared.report["splits"][split] | {"sha256": sha256(out / f"{split}.jsonl")}
    write_json(out / "report.json", prepared.report | {"splits": splits})
