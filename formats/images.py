"""A shard of images: a zip of {id:012d}.png and meta.json, read with every check before anything is computed.

Images made elsewhere may be a folder of the same files instead, and need no meta.json. They may lie in one folder of the zip
(or folder), and what operating systems leave beside files is passed over. Nothing in a zip is trusted: names, sizes and
formats are checked before a member is decoded.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from formats import archives, listed
from formats.archives import Archive, Members, members, open_archive, some
from formats.files import InputError, replacing
from formats.pictures import ASIDE, rgb

META = "meta.json"
# PIL would open much more, PostScript included, which it hands to another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
PIXELS = 2**26  # 8192 x 8192
IHDR_DEPTH = 24  # where a PNG states the bits of a channel: PIL opens 16 of them as 8, and says so nowhere
# What PIL raises for a picture that is not whole, beside what a zip does.
DAMAGED = (*archives.DAMAGED, SyntaxError, Image.DecompressionBombError)


def png_name(id: int) -> str:
    """Member name of the image of layout `id`."""
    return f"{id:012d}.png"


def read_images(path: Path, ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (id, uint8 pixels [H, W, 3]) for exactly `ids`, in their order.

    Raises InputError naming the zip, and the member, when an image is missing, unexpected, damaged or not a picture of 8 bits.
    """
    with closing(OpenImages(path, ids)) as images:
        for number in ids:
            yield number, images.pixels(number)


class OpenImages:
    """The images of a shard, opened once, to be read in any order; raises InputError as `read_images` does."""

    def __init__(self, path: Path, ids: Sequence[int]) -> None:
        self._path, self._archive = path, open_archive(path)
        try:
            self._members = _checked(path, self._archive, ids)
        except BaseException:
            self.close()
            raise

    def pixels(self, number: int) -> np.ndarray:
        """uint8 pixels [H, W, 3] of one image."""
        return _pixels_of(self._path, self._archive, self._members, png_name(number))

    def close(self) -> None:
        self._archive.close()


def read_image(path: Path, number: int) -> np.ndarray:
    """uint8 pixels [H, W, 3] of one image, of which alone anything is read; raises InputError as `read_images` does."""
    name = png_name(number)
    with open_archive(path) as archive:
        members = _members(path, archive)
        if name not in members:
            raise InputError(f"{path}: no {name} in it")
        return _pixels_of(path, archive, members, name)


def _pixels_of(path: Path, archive: Archive, members: Members, name: str) -> np.ndarray:
    try:
        return decoded(archive.read(members[name]))
    except DAMAGED as error:
        raise _fault(path, name, error, members) from None


def read_files(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (id, bytes of the file) for all images of a shard, in its own order; checksums are verified, nothing is decoded.

    Raises InputError naming the member that is damaged, or is no image of a layout.
    """
    with open_archive(path) as archive:
        members = _members(path, archive)
        for name in members:
            if name != META:
                if not re.fullmatch(r"[0-9]{12,}\.png", name):
                    raise InputError(f"{path}: {name} is not expected")
                try:
                    yield int(name.removesuffix(".png")), archive.read(members[name])
                except DAMAGED as error:
                    raise _fault(path, name, error, members) from None


def check_images(path: Path, ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Width and height of every image; decodes only what is not the usual PNG.

    Raises InputError unless there are exactly the images of `ids`, every checksum is right, and every header is of a picture
    that can be read.
    """
    sizes, faults = {}, []
    with open_archive(path) as archive:
        members = _checked(path, archive, ids)
        for number in ids:
            name = png_name(number)
            try:
                image = opened(archive.read(members[name]))
                sizes[number] = upright_size(image)
                if (image.format, image.mode) == ("PNG", "RGB"):
                    image.verify()  # its checksums; nothing is decoded
                else:
                    decoded(archive.read(members[name]))
            except DAMAGED as error:
                faults.append(f"{name} {reason(error)}")
    if faults:
        raise InputError(f"{path}: {listed(faults)}; {_advice(members)}")
    return sizes


def read_meta(path: Path) -> dict[str, Any]:
    """The meta.json of a shard; empty where there is none."""
    with open_archive(path) as archive:
        members = _members(path, archive)
        if META not in members:
            return {}
        try:
            meta = json.loads(archive.read(members[META]))
        except (*DAMAGED, RecursionError) as error:
            raise InputError(f"{path}: no readable {META} ({error})") from None
    if not isinstance(meta, dict):
        raise InputError(f"{path}: {META} holds a {type(meta).__name__}, expected an object")
    return meta


def write_images(path: str | Path, images: Iterable[tuple[str, np.ndarray]], meta: dict[str, Any]) -> None:
    """Write (member name, uint8 pixels [H, W, 3]) pairs and `meta` as one zip; it appears whole or not at all."""
    write_files(path, ((name, png(pixels)) for name, pixels in images), meta)


def write_files(path: str | Path, files: Iterable[tuple[str, bytes]], meta: dict[str, Any]) -> None:
    """`write_images` for images that are files already; the bytes depend on nothing but the arguments."""
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(_member(name), content)
        archive.writestr(_member(META), json.dumps(meta, indent=2, sort_keys=True) + "\n")


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16
    return member


def png(pixels_HW3: np.ndarray) -> bytes:
    """uint8 pixels [H, W, 3] as a PNG file."""
    if pixels_HW3.dtype != np.uint8 or pixels_HW3.shape[2:] != (3,):
        raise TypeError(f"expected uint8 pixels of shape (H, W, 3), found {pixels_HW3.dtype} {pixels_HW3.shape}")
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG", compress_level=6)
    return file.getvalue()


def _members(path: Path, archive: Archive) -> Members:
    """The members, without the one folder that all may lie in; raises InputError for what is not read."""
    found = members(path, archive)
    tops = {name.rpartition("/")[0] for name in found}
    if len(tops) == 1 and "/" not in (top := tops.pop()) and top:
        return {name.removeprefix(f"{top}/"): info for name, info in found.items()}
    return found


def _checked(path: Path, archive: Archive, ids: Sequence[int]) -> Members:
    """The members, which are images of `ids` and no others; nothing of them has been read."""
    members, expected = _members(path, archive), {png_name(number) for number in ids}
    found = set(members) - {META}
    faults = []
    if missing := sorted(expected - found):
        faults.append(f"{some(missing)} missing")
    if more := sorted(found - expected):
        faults.append(f"{some(more)} not expected")
    if faults:
        raise InputError(f"{path}: {len(found)} files for {len(expected)} layouts; {' and '.join(faults)}")
    return members


def opened(content: bytes) -> Image.Image:
    """A picture whose pixels are not read yet; raises InputError for one that cannot become 8-bit RGB without loss."""
    if not content:
        raise InputError("is empty")
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > PIXELS:
        raise InputError(f"has {image.width} x {image.height} pixels, more than {PIXELS:,}")
    if image.mode not in ("RGB", "RGBA", "P", "PA", "L", "LA", "1"):
        raise InputError(f"has mode {image.mode}, expected RGB of 8 bits")
    if image.format == "PNG" and content[IHDR_DEPTH] == 16:
        raise InputError("has 16 bits a channel, expected RGB of 8 bits")
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as EXIF wants the picture seen; unlike Image.getexif this decodes nothing."""
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return image.size if exif.get(ExifTags.Base.Orientation, 1) not in ASIDE else (image.height, image.width)


def decoded(content: bytes) -> np.ndarray:
    """uint8 pixels [H, W, 3] of a picture file, upright; raises InputError or one of DAMAGED."""
    image = opened(content)
    try:
        return np.asarray(rgb(image, upright=True))
    except InputError as error:
        raise InputError(f"has {error}") from None


def _fault(path: Path, name: str, error: Exception, members: Members) -> InputError:
    return InputError(f"{path}: {name} {reason(error)}; {_advice(members)}")


def reason(error: Exception) -> str:
    """What is the matter with a member, in words that go behind its name."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"is damaged or none of {', '.join(FORMATS)}"
    return f"is damaged ({str(error) or type(error).__name__})"


def _advice(members: Members) -> str:
    """What to do about it: a shard of a run, which has a meta.json, is made again."""
    return "delete the zip and run again" if META in members else "replace it by a whole picture"
