"""Samples on disk: one zip a shard, holding {id:012d}.png for every layout and a meta.json."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hcma.sampling import InputError
from hcma.sampling.atomic import replacing

META = "meta.json"


class ShardError(InputError):
    """A zip of images is damaged or holds other images than expected; the message names the file and the member."""


def png_name(id: int) -> str:
    """Member name of the image of layout `id`."""
    return f"{id:012d}.png"


def write_images(path: str | Path, ids: Sequence[int], pixels: Iterable[Any], meta: dict[str, Any]) -> None:
    """Write uint8 pixels_3HW (tensors or arrays), one for each id, and `meta` as one zip; it appears whole or not."""
    write_members(path, ((id, _png(image)) for id, image in zip(ids, pixels, strict=True)), meta)


def write_members(path: str | Path, pngs: Iterable[tuple[int, bytes]], meta: dict[str, Any]) -> None:
    """`write_images` for images that are PNG files already; the bytes depend on nothing but the arguments."""
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for id, png in pngs:
            archive.writestr(_member(png_name(id)), png)
        archive.writestr(_member(META), json.dumps(meta, indent=2, sort_keys=True) + "\n")


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16
    return member


def _png(pixels_3HW: Any) -> bytes:
    pixels = np.asarray(pixels_3HW)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != 3:
        raise TypeError(f"expected uint8 pixels of shape (3, H, W), found {pixels.dtype} {pixels.shape}")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG", compress_level=6)
    return file.getvalue()


def read_images(path: str | Path, ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (id, uint8 pixels_HW3) for exactly `ids`, in their order.

    Raises ShardError before the first image when the zip holds other images than `ids`, and at the image whose bytes
    are damaged.
    """
    for id, png in read_members(path, ids):
        try:
            image = Image.open(io.BytesIO(png))
            if image.mode != "RGB":
                raise ShardError(f"{path}: {png_name(id)} has mode {image.mode}, expected RGB")
            yield id, np.asarray(image)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ShardError(f"{path}: {png_name(id)} is not a readable PNG ({error})") from None


def read_members(path: str | Path, ids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """`read_images` without decoding: (id, PNG bytes), their checksums verified."""
    with _open(path) as archive:
        found, expected = set(archive.namelist()) - {META}, {png_name(id) for id in ids}
        if found != expected:
            missing, more = sorted(expected - found), sorted(found - expected)
            example = f"missing {missing[0]}" if missing else f"not expected {more[0]}"
            raise ShardError(f"{path}: {len(found)} images, expected {len(expected)}; {example}")
        for id in ids:
            yield id, _read(archive, png_name(id))


def read_meta(path: str | Path) -> dict[str, Any]:
    """The meta.json of a zip of images."""
    with _open(path) as archive:
        return json.loads(_read(archive, META))


def member_ids(path: str | Path) -> list[int]:
    """Ids of the images in a zip, in its own order."""
    with _open(path) as archive:
        return [int(name.removesuffix(".png")) for name in archive.namelist() if name != META]


def _open(path: str | Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ShardError(f"{path}: not a complete zip ({error})") from None


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        raise ShardError(f"{archive.filename}: {name} is damaged or missing ({error})") from None
