"""The canvas: the square that images are generated on; where a photo's boxes, and its pixels, become the canvas's."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from formats.layouts import Box

FRAMES = ("center_crop", "squash", "letterbox")
DECIMALS = 6  # of an edge in a file of layouts


@dataclass(frozen=True)
class Frame:
    """What of a `width` x `height` photo (pixels) becomes the canvas: its centred square, all of it squashed, or all of it
    in the middle of a square (letterbox).
    """

    width: int
    height: int
    resize: str = "center_crop"

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the part seen, in whole photo pixels."""
        if self.resize == "squash":
            return 0, 0, self.width, self.height
        side = max(self.width, self.height) if self.resize == "letterbox" else min(self.width, self.height)
        return (self.width - side) // 2, (self.height - side) // 2, side, side

    def box(self, xywh: tuple[float, float, float, float]) -> Box | None:
        """An xywh pixel box of the photo as xyxy in the unit square of the canvas, clipped; None when nothing is left."""
        left, top, width, height = self.seen
        x, y, w, h = xywh
        edges = ((x - left) / width, (y - top) / height, (x + w - left) / width, (y + h - top) / height)
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in edges)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def rounded(box: Box | None) -> Box | None:
    """A box as layouts hold it; None where six decimals leave nothing of it."""
    if box is None:
        return None
    x0, y0, x1, y1 = (round(edge, DECIMALS) for edge in box)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def canvas(photo: Image.Image, size: int, resize: str = "center_crop") -> np.ndarray:
    """A photo on the canvas: uint8 [size, size, 3].

    Cropped first and then resized with an antialiased Lanczos filter; a part of `size` pixels is only cropped. What of a
    letterbox is not the photo is black.
    """
    left, top, width, height = Frame(*photo.size, resize).seen
    part = photo.crop((left, top, left + width, top + height))
    if part.size != (size, size):
        part = part.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(part)
