"""Features on disk, read back without the networks that made them, one array at a time."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from formats.files import InputError


class FeatureShards:
    """A method's shards: `about` names the networks that made them, `source` what made the images; both agree in all.

    Raises InputError naming a shard that is not readable, or was made otherwise than the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.about, self.source = self._stated(self.paths[0])
        for path in self.paths[1:]:
            about, source = self._stated(path)
            if about != self.about:
                gap = first_difference(about, self.about)
                raise InputError(f"{path}: other networks than {paths[0]}: {gap}; delete both and run again")
            if source != self.source:
                gap = first_difference(source, self.source)
                raise InputError(f"{path}: images made with {gap} in {paths[0]}; sample both alike")

    @property
    def networks(self) -> list[str]:
        """The extractors whose features they hold, of images and of regions."""
        return [name for name in self.about if f"image_{name}" in self.names]

    @property
    def names(self) -> list[str]:
        """Of their arrays."""
        return names_of(self.paths[0], "features")

    def each(self, *names: str) -> Iterator[list[np.ndarray]]:
        """The arrays of these names, shard by shard; raises InputError where one is not finite."""
        for path in self.paths:
            yield [self._array(path, name) for name in names]

    def read(self, name: str) -> np.ndarray:
        """One array, all shards after one another; a shard without regions has features of no width."""
        return joined([array for (array,) in self.each(name)])

    def _stated(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        about, source = (json.loads(str(self._array(path, name))) for name in ("about", "source"))
        return about, source

    def _array(self, path: Path, name: str) -> np.ndarray:
        array = read_array(path, name, "features")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: {name} is not finite")
        return array


def read_array(path: Path, name: str, content: str) -> np.ndarray:
    """One array of an npz; raises InputError that says what the file should be."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not readable as {content} ({error}); delete it and run again") from None


def names_of(path: Path, content: str) -> list[str]:
    """The names of an npz's arrays; raises InputError that says what the file should be."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return list(arrays.files)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not readable as {content} ({error}); delete it and run again") from None


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Rows after one another; features of no rows have no width."""
    return np.concatenate([array for array in arrays if len(array)] or arrays[:1])


def first_difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The first key whose values differ, with both."""
    key = next(key for key in (*found, *expected) if found.get(key) != expected.get(key))
    return f"{key} {found.get(key)}, but {expected.get(key)}"
