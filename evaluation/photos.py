"""Photos of a COCO root and the one transform from a photo to the square canvas that images are generated on."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from evaluation.files import InputError
from formats import shown

Box = tuple[float, float, float, float]
EXIF = ("apply", "ignore")
# What turns a stored picture upright, by its EXIF orientation (TIFF 6.0's tag 274); 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ASIDE = {5, 6, 7, 8}  # those that exchange width and height
# Modes of at most 8 bits a channel, none of which is opacity.
PLAIN = {"1", "L", "RGB", "CMYK", "YCbCr"}


class Seen(NamedTuple):
    """What a photo's header says: its name in the split's folder, its sides in pixels as `read` gives it, how it is stored."""

    name: str
    width: int
    height: int
    orientation: int


class Photos:
    """Photos of one split, from the folder `root/split` or from `root/split.zip` as COCO distributes it.

    With `exif` "apply" a photo is turned upright as its EXIF orientation says; "ignore" takes the stored picture.
    """

    def __init__(self, root: Path, split: str, exif: str = "apply") -> None:
        self.split, self.folder, self.exif, archive = split, root / split, exif, root / f"{split}.zip"
        if not self.folder.is_dir() and not archive.is_file():
            raise InputError(
                f"{root}: neither a folder {split}/ nor {split}.zip; data.root must hold COCO 2014's layout"
            )
        try:
            self.archive = None if self.folder.is_dir() else zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise InputError(f"{archive}: not a readable zip ({error}); fetch or draw it again") from None

    def usual(self, image_id: int) -> str:
        """COCO's name of a photo."""
        return f"COCO_{self.split}_{image_id:012d}.jpg"

    def find(self, image_id: int, file_name: str | None = None) -> str:
        """Where in the split's folder a photo is: under its usual name or, where that is not there, its record's `file_name`.

        Raises InputError where neither is there, and for a name that leads out of the folder.
        """
        usual = self.usual(image_id)
        if self._has(usual):
            return usual
        own = PurePosixPath((file_name or "").replace("\\", "/"))
        if own.is_absolute() or ".." in own.parts:
            raise InputError(f"image {image_id}: {self.split} has no {usual}, and {shown(file_name)} leads out of it")
        # Some records name the photo from the root on.
        for name in (own, own.relative_to(self.split) if self.split in own.parts[:1] else own):
            if file_name and self._has(str(name)):
                return str(name)
        other = f" and no {shown(file_name)}" if file_name and file_name != usual else ""
        raise InputError(f"image {image_id}: {self.split} has no {usual}{other}")

    def _has(self, name: str) -> bool:
        if self.archive:
            return f"{self.split}/{name}" in self.archive.NameToInfo
        return os.path.isfile(self.folder / name)

    def look(self, image_id: int, file_name: str | None = None) -> Seen:
        """A photo's size, from its header alone where that says that `read` can read it; raises InputError as `read`."""
        name = self.find(image_id, file_name)
        with self._opened(image_id, name) as photo:
            if photo.mode not in PLAIN or "transparency" in photo.info or getattr(photo, "n_frames", 1) > 1:
                rgb(photo)  # refused now, if at all
            (width, height), orientation = photo.size, _orientation(photo)
            aside = self.exif == "apply" and orientation in ASIDE
            return Seen(name, *((height, width) if aside else (width, height)), orientation)

    def read(self, image_id: int, file_name: str | None = None) -> Image.Image:
        """The photo as RGB; raises InputError naming it when missing, not an image, or not to be had in 8 bits."""
        name = self.find(image_id, file_name)
        with self._opened(image_id, name) as photo:
            turn = TURNS.get(_orientation(photo)) if self.exif == "apply" else None
            return rgb(photo) if turn is None else rgb(photo).transpose(turn)

    @contextmanager
    def _opened(self, image_id: int, name: str) -> Iterator[Image.Image]:
        try:
            with self._stream(name) as file, Image.open(file) as photo:
                yield photo
        except UnidentifiedImageError:
            raise InputError(f"image {image_id}: {name} is not a readable image (of no known format)") from None
        except InputError as error:
            raise InputError(f"image {image_id}: {name} has {error}") from None
        # On a damaged file decoders raise what they come upon, struct.error, IndexError and SyntaxError among it.
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(f"image {image_id}: {name} is not a readable image ({reason})") from None

    def _stream(self, name: str) -> IO[bytes]:
        return self.archive.open(f"{self.split}/{name}") if self.archive else open(self.folder / name, "rb")


def _orientation(photo: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where nothing is said or nothing that can be read."""
    try:
        found = photo.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if type(found) is int and found in TURNS else 1


def rgb(photo: Image.Image) -> Image.Image:
    """A picture of any mode with 8 bits a channel; raises InputError where the file does not say how.

    16 bits are scaled by 255 / 65535; floating point is taken from 0 to 1. Refused are other ranges, transparent pixels,
    whose background nobody knows, and several frames, of which any could be meant.
    """
    # A camera's MPO holds the photo first, and then previews of it.
    if photo.format != "MPO" and (frames := getattr(photo, "n_frames", 1)) > 1:
        raise InputError(f"{frames} frames, expected one")
    if photo.mode in PLAIN and "transparency" not in photo.info:
        return photo.convert("RGB")
    if photo.mode.startswith("I;16") or (photo.mode == "I" and photo.format in ("PNG", "PPM")):
        return _eight_bits(np.asarray(photo), 65535)
    if photo.mode == "F":
        return _eight_bits(np.asarray(photo), 1)
    if photo.mode in ("P", "PA", "RGBA", "RGBa", "LA", "La") or "transparency" in photo.info:
        whole = photo.convert("RGBA")
        if (least := int(np.asarray(whole)[..., 3].min())) < 255:
            raise InputError(
                f"pixels of opacity {least} of 255, expected none that are transparent; save it without alpha"
            )
        return whole.convert("RGB")
    raise InputError(f"pixels of mode {photo.mode}, expected 8 or 16 bits a channel; save it with 8")


def _eight_bits(values_HW: np.ndarray, white: int) -> Image.Image:
    least, most = float(values_HW.min()), float(values_HW.max())
    if not (least >= 0 and most <= white):
        raise InputError(f"values from {least:g} to {most:g}, expected 0 to {white}; save it with 8 bits")
    return Image.fromarray(np.rint(values_HW * (255 / white)).astype(np.uint8)).convert("RGB")


@dataclass(frozen=True)
class Frame:
    """What of a `width` x `height` photo (pixels) becomes the canvas: its centred square, or all of it, squashed."""

    width: int
    height: int
    resize: str = "center_crop"

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the part seen, in whole photo pixels."""
        if self.resize == "squash":
            return 0, 0, self.width, self.height
        side = min(self.width, self.height)
        return (self.width - side) // 2, (self.height - side) // 2, side, side

    def box(self, xywh: tuple[float, float, float, float]) -> Box | None:
        """COCO's xywh pixel box as xyxy in the unit square of the canvas, clipped; None when nothing is left."""
        left, top, width, height = self.seen
        x, y, w, h = xywh
        edges = ((x - left) / width, (y - top) / height, (x + w - left) / width, (y + h - top) / height)
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in edges)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def canvas(photo: Image.Image, size: int, resize: str = "center_crop") -> np.ndarray:
    """A photo on the canvas: uint8 [size, size, 3].

    Cropped first and then resized with an antialiased Lanczos filter; a part of `size` pixels is only cropped.
    """
    left, top, width, height = Frame(*photo.size, resize).seen
    part = photo.crop((left, top, left + width, top + height))
    if part.size != (size, size):
        part = part.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(part)
