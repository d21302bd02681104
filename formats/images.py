"""A shard of images: a zip of {id:012d}.png and meta.json, read with every check before anything is computed.

Images made elsewhere may be a folder of the same files instead, and need no meta.json. They may lie in one folder of the zip
(or folder), and what operating systems leave beside files is passed over. Nothing in a zip is trusted: names, sizes and
formats are checked before a member is decoded.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from formats import SHOWN, listed
from formats.files import InputError, replacing
from formats.pictures import ASIDE, rgb

META = "meta.json"
# What file managers leave beside files; AppleDouble's `._*` as well.
LITTER_FILES = {".ds_store", ".localized", "thumbs.db", "ehthumbs.db", "desktop.ini"}
LITTER_FOLDERS = {"__macosx", ".spotlight-v100", ".trashes", ".fseventsd", "@eadir"}
# PIL would open much more, PostScript included, which it hands to another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
PIXELS = 2**26  # 8192 x 8192
BYTES = 2**28  # of a file: more than PIXELS take uncompressed

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    OverflowError,
    NotImplementedError,
    Image.DecompressionBombError,
)


class _Folder:
    """A folder of images, read as a zip is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infolist(self) -> list[zipfile.ZipInfo]:
        """Files of the folder and of the folders in it, no deeper; a folder further down counts as a file."""
        inside = (entry.iterdir() if entry.is_dir() else [entry] for entry in self.path.iterdir())
        return [self._info(path) for entries in inside for path in entries]

    def _info(self, path: Path) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(path.relative_to(self.path).as_posix())
        info.file_size = path.stat().st_size
        return info

    def close(self) -> None:
        pass

    def read(self, info: zipfile.ZipInfo) -> bytes:
        return (self.path / info.filename).read_bytes()


Archive = zipfile.ZipFile | _Folder
Members = dict[str, zipfile.ZipInfo]


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
        self._path, self._archive = path, _open(path)
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
    with _open(path) as archive:
        members = _members(path, archive)
        if name not in members:
            raise InputError(f"{path}: no {name} in it")
        return _pixels_of(path, archive, members, name)


def _pixels_of(path: Path, archive: Archive, members: Members, name: str) -> np.ndarray:
    try:
        return _pixels(archive.read(members[name]))
    except DAMAGED as error:
        raise _fault(path, name, error, members) from None


def read_files(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (id, bytes of the file) for all images of a shard, in its own order; checksums are verified, nothing is decoded.

    Raises InputError naming the member that is damaged, or is no image of a layout.
    """
    with _open(path) as archive:
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
    with _open(path) as archive:
        members = _checked(path, archive, ids)
        for number in ids:
            name = png_name(number)
            try:
                image = _opened(archive.read(members[name]))
                sizes[number] = _upright_size(image)
                if (image.format, image.mode) == ("PNG", "RGB"):
                    image.verify()  # its checksums; nothing is decoded
                else:
                    _pixels(archive.read(members[name]))
            except DAMAGED as error:
                faults.append(f"{name} {_reason(error)}")
    if faults:
        raise InputError(f"{path}: {listed(faults)}; {_advice(members)}")
    return sizes


def read_meta(path: Path) -> dict[str, Any]:
    """The meta.json of a shard; empty where there is none."""
    with _open(path) as archive:
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
    write_files(path, ((name, _png(pixels)) for name, pixels in images), meta)


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


def _png(pixels_HW3: np.ndarray) -> bytes:
    if pixels_HW3.dtype != np.uint8 or pixels_HW3.shape[2:] != (3,):
        raise TypeError(f"expected uint8 pixels of shape (H, W, 3), found {pixels_HW3.dtype} {pixels_HW3.shape}")
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG", compress_level=6)
    return file.getvalue()


def _open(path: Path) -> Archive:
    if path.is_dir():
        return _Folder(path)
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: damaged or cut off, or not a zip ({error}); a run's own: delete it and run again"
        ) from None


def _members(path: Path, archive: Archive) -> Members:
    """Files by name, without litter and without the one folder that all may lie in; raises InputError for what is not read."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    named = [(info.filename.replace("\\", "/"), info) for info in infos]  # some programs write Windows' separators
    named = [(name, info) for name, info in named if not _is_litter(name)]
    tops = {name.rpartition("/")[0] for name, _ in named}
    if len(tops) == 1 and "/" not in (top := tops.pop()) and top:
        named = [(name.removeprefix(f"{top}/"), info) for name, info in named]
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise InputError(f"{path}: {_some(twice)} there more than once")
    if locked := sorted(name for name, info in named if info.flag_bits & 1):
        raise InputError(f"{path}: {_some(locked)} encrypted; expected a zip without a password")
    if large := sorted(name for name, info in named if info.file_size > BYTES):
        raise InputError(f"{path}: {_some(large)} larger than {BYTES >> 20} MiB")
    return dict(named)


def _is_litter(name: str) -> bool:
    *folders, file = name.lower().split("/")
    return file in LITTER_FILES or file.startswith("._") or not LITTER_FOLDERS.isdisjoint(folders)


def _checked(path: Path, archive: Archive, ids: Sequence[int]) -> Members:
    """The members, which are images of `ids` and no others; nothing of them has been read."""
    members, expected = _members(path, archive), {png_name(number) for number in ids}
    found = set(members) - {META}
    faults = []
    if missing := sorted(expected - found):
        faults.append(f"{_some(missing)} missing")
    if more := sorted(found - expected):
        faults.append(f"{_some(more)} not expected")
    if faults:
        raise InputError(f"{path}: {len(found)} files for {len(expected)} layouts; {' and '.join(faults)}")
    return members


def _some(names: Sequence[str]) -> str:
    """ "3 (a, b, ...) are": the first few names, their count and the verb."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more}) {'is' if len(names) == 1 else 'are'}"


def _opened(content: bytes) -> Image.Image:
    """A picture whose pixels are not read yet; raises InputError for one that cannot become 8-bit RGB without loss."""
    if not content:
        raise InputError("is empty")
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > PIXELS:
        raise InputError(f"has {image.width} x {image.height} pixels, more than {PIXELS:,}")
    if image.mode not in ("RGB", "RGBA", "P", "PA", "L", "LA", "1"):
        raise InputError(f"has mode {image.mode}, expected RGB of 8 bits")
    return image


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as EXIF wants the picture seen; unlike Image.getexif this decodes nothing."""
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return image.size if exif.get(ExifTags.Base.Orientation, 1) not in ASIDE else (image.height, image.width)


def _pixels(content: bytes) -> np.ndarray:
    image = _opened(content)
    try:
        return np.asarray(rgb(image, upright=True))
    except InputError as error:
        raise InputError(f"has {error}") from None


def _fault(path: Path, name: str, error: Exception, members: Members) -> InputError:
    return InputError(f"{path}: {name} {_reason(error)}; {_advice(members)}")


def _reason(error: Exception) -> str:
    """What is the matter with a member, in words that go behind its name."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"is damaged or none of {', '.join(FORMATS)}"
    return f"is damaged ({str(error) or type(error).__name__})"


def _advice(members: Members) -> str:
    """What to do about it: a shard of a run, which has a meta.json, is made again."""
    return "delete the zip and run again" if META in members else "replace it by a whole picture"
