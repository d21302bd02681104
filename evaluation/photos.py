"""Photos of a COCO root and the one transform from a photo to the square canvas that images are generated on."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluation.files import InputError

Box = tuple[float, float, float, float]


class Photos:
    """Photos of one split, from the folder `root/split` or from `root/split.zip` as COCO distributes it."""

    def __init__(self, root: Path, split: str) -> None:
        self.split, self.folder, archive = split, root / split, root / f"{split}.zip"
        if not self.folder.is_dir() and not archive.is_file():
            raise InputError(
                f"{root}: neither a folder {split}/ nor {split}.zip; data.root must hold COCO 2014's layout"
            )
        try:
            self.archive = None if self.folder.is_dir() else zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise InputError(f"{archive}: not a readable zip ({error}); fetch or draw it again") from None

    def read(self, image_id: int) -> Image.Image:
        """The photo COCO_{split}_{id:012d}.jpg as RGB; raises InputError naming it when missing or not an image."""
        name = f"COCO_{self.split}_{image_id:012d}.jpg"
        try:
            file = io.BytesIO(self.archive.read(f"{self.split}/{name}")) if self.archive else self.folder / name
            return Image.open(file).convert("RGB")
        except (KeyError, FileNotFoundError):
            raise InputError(f"image {image_id}: {self.split} has no {name}") from None
        except (UnidentifiedImageError, OSError, zipfile.BadZipFile) as error:
            raise InputError(f"image {image_id}: {name} is not a readable image ({error})") from None


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
