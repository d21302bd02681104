"""Images of one shard: a zip of {id:012d}.png and meta.json, read with every check before anything is computed.

Images made elsewhere may be a folder of the same files instead, and need no meta.json.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluation.files import InputError, replacing

META = "meta.json"


class _Folder:
    """A folder of images, read as a zip is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def namelist(self) -> list[str]:
        return [path.name for path in self.path.iterdir()]

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def testzip(self) -> None:
        """A folder has no checksums; a damaged image is named when it is decoded."""


def read_images(path: Path, ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (id, uint8 pixels [H, W, 3]) for exactly `ids`, in their order.

    Raises InputError naming the zip, and the member, when an image is missing, unexpected, damaged or not RGB.
    """
    with _open(path) as archive:
        _check_names(path, archive, ids)
        for number in ids:
            yield number, _decode(path, archive, _name(number))


def read_image(path: Path, number: int) -> np.ndarray:
    """uint8 pixels [H, W, 3] of one image, of which alone anything is read; raises InputError as `read_images` does."""
    name = _name(number)
    with _open(path) as archive:
        if name not in archive.namelist():
            raise InputError(f"{path}: no {name} in it")
        return _decode(path, archive, name)


def check_images(path: Path, ids: Sequence[int]) -> None:
    """Raises InputError unless the zip holds exactly the images of `ids` and every member's checksum is right."""
    with _open(path) as archive:
        _check_names(path, archive, ids)
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            raise InputError(f"{path}: damaged ({error}); delete the zip and run again") from None
    if damaged:
        raise InputError(f"{path}: {damaged} is damaged; delete the zip and run again")


def _check_names(path: Path, archive: zipfile.ZipFile | _Folder, ids: Sequence[int]) -> None:
    found, expected = set(archive.namelist()) - {META}, {_name(number) for number in ids}
    if found != expected:
        odd = min(found ^ expected)
        raise InputError(f"{path}: {len(found)} images, expected {len(expected)}; {odd} is one of those that differ")


def read_meta(path: Path) -> dict[str, Any]:
    """The meta.json of a shard; empty where there is none."""
    with _open(path) as archive:
        if META not in archive.namelist():
            return {}
        try:
            return json.loads(archive.read(META))
        except (KeyError, json.JSONDecodeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: no readable {META} ({error})") from None


def write_images(path: Path, images: Iterable[tuple[str, np.ndarray]], meta: dict[str, Any]) -> None:
    """Write (member name, uint8 pixels [H, W, 3]) pairs and `meta` as one zip; equal arguments give equal bytes."""
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, pixels in images:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            archive.writestr(zipfile.ZipInfo(name), file.getvalue())
        archive.writestr(zipfile.ZipInfo(META), json.dumps(meta, indent=2, sort_keys=True) + "\n")


def _name(number: int) -> str:
    return f"{number:012d}.png"


def _open(path: Path) -> zipfile.ZipFile | _Folder:
    if path.is_dir():
        return _Folder(path)
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: damaged or cut off ({error}); delete it and run again") from None


def _decode(path: Path, archive: zipfile.ZipFile | _Folder, name: str) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(archive.read(name)))
        if image.mode != "RGB":
            raise InputError(f"{path}: {name} has mode {image.mode}, expected RGB")
        return np.asarray(image)
    except (zipfile.BadZipFile, zlib.error, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: {name} is damaged ({error}); delete the zip and run again") from None
