"""Photos of a COCO root and the one transform from a photo to the square canvas that images are generated on."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from formats import shown
from formats.files import InputError
from formats.pictures import ASIDE, PLAIN, orientation_of, rgb

Box = tuple[float, float, float, float]
EXIF = ("apply", "ignore")


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
                rgb(photo, upright=False)  # refused now, if at all
            (width, height), orientation = photo.size, orientation_of(photo)
            aside = self.exif == "apply" and orientation in ASIDE
            return Seen(name, *((height, width) if aside else (width, height)), orientation)

    def read(self, image_id: int, file_name: str | None = None) -> Image.Image:
        """The photo as RGB; raises InputError naming it when missing, not an image, or not to be had in 8 bits."""
        name = self.find(image_id, file_name)
        with self._opened(image_id, name) as photo:
            return rgb(photo, upright=self.exif == "apply")

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
