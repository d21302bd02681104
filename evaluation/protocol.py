"""What the paper leaves open about its measurement: how regions are cut and named, and at what size whole images are seen.

Programs that cut or see regions take the same options; `about` of their features states them, so that features of different
protocols never meet.
"""

import argparse
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from formats import listed
from formats.cli import integer_from
from formats.files import InputError

RESIZES = ("squash", "short_side_center_crop")
PADS = ("none", "mean")
# Where a row's regions are cut: at the layout's boxes, or where a detector finds the objects.
CROPS = ("layout", "detected")
# Extractors of the paper's Frechet distances: they see whole images at the protocol's resolution.
FRECHET = ("frechet", "frechet_legacy")


@dataclass(frozen=True)
class Protocol:
    """min_side: pixels of the canvas, which is the real image's; max_per_image: only so many regions of an image, largest
    first (None: all).

    resize: what of a region becomes the network's square input, all of it or its centre square; pad: `mean` makes it
    square beforehand, with a border of its mean colour. resolution: pixels at which Frechet networks see whole images
    (None: their own).
    """

    label_template: str = "{label}"
    min_side: int = 1
    max_per_image: int | None = None
    resize: str = "squash"
    pad: str = "none"
    resolution: int | None = None

    def about(self) -> dict[str, Any]:
        """What the features' `about` states."""
        rules = asdict(self)
        template, resolution = rules.pop("label_template"), rules.pop("resolution")
        return {"label_template": template, "regions": rules, "resolution": resolution}


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option a field of Protocol."""
    default = Protocol()
    parser.add_argument(
        "--label-template",
        type=_template,
        default=default.label_template,
        help='text a region is compared with, its phrase at "{label}"',
    )
    parser.add_argument(
        "--min-side",
        type=integer_from(0),
        default=default.min_side,
        help="regions with a shorter side in the real image are not scored (pixels)",
    )
    parser.add_argument(
        "--max-per-image", type=integer_from(1), help="regions of an image that are scored, largest first (all)"
    )
    parser.add_argument("--region-resize", choices=RESIZES, default=default.resize, help="a region to a square")
    parser.add_argument("--region-pad", choices=PADS, default=default.pad, help="a region to a square beforehand")
    parser.add_argument(
        "--resolution", type=integer_from(1), help="pixels at which Frechet networks see whole images (their own)"
    )


def _template(text: str) -> str:
    """A template that names the label and nothing else; what `str.format` reads otherwise is no template."""
    try:
        text.encode()  # bytes of the command line that are no UTF-8 come as halves of surrogate pairs
        fields = [field[1:] for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError:
        fields = []
    if not fields or any(field != ("label", "", None) for field in fields):
        expected = 'text with "{label}" where the phrase goes, and no other braces'
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return text


def chosen(arguments: argparse.Namespace) -> Protocol:
    """The protocol of parsed options."""
    return Protocol(
        label_template=arguments.label_template,
        min_side=arguments.min_side,
        max_per_image=arguments.max_per_image,
        resize=arguments.region_resize,
        pad=arguments.region_pad,
        resolution=arguments.resolution,
    )


def framed(crop_HW3: np.ndarray, protocol: Protocol) -> np.ndarray:
    """A region as it is handed to a network, which squashes it to its square input: uint8 [h, w, 3]."""
    if protocol.pad == "mean":
        return _padded(crop_HW3)
    if protocol.resize == "short_side_center_crop":
        height, width = crop_HW3.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return crop_HW3[top : top + side, left : left + side]
    return crop_HW3


def _padded(crop_HW3: np.ndarray) -> np.ndarray:
    height, width = crop_HW3.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.empty((side, side, 3), np.uint8)
    square[:] = crop_HW3.mean((0, 1)).round()
    square[top : top + height, left : left + width] = crop_HW3
    return square


def check_resolution(images: Path, sizes: Mapping[int, tuple[int, int]], resolution: int | None) -> None:
    """Raises InputError that lists the first images, by layout id, that `at_resolution` would have to enlarge."""
    if resolution is None:
        return
    small = [f"image {number} has {min(size)} px" for number, size in sizes.items() if min(size) < resolution]
    if small:
        raise InputError(f"{images}: resolution {resolution}: {listed(small)}; a smaller image is not enlarged")


def at_resolution(image_HW3: np.ndarray, resolution: int | None) -> np.ndarray:
    """A whole image as Frechet networks are handed it, by PIL's antialiased bicubic; raises InputError for a smaller one."""
    side = min(image_HW3.shape[:2])
    if resolution is None or image_HW3.shape[:2] == (resolution, resolution):
        return image_HW3
    if side < resolution:
        raise InputError(f"resolution {resolution}: an image has {side} px; a smaller image is not enlarged")
    return np.asarray(Image.fromarray(image_HW3).resize((resolution, resolution), Image.Resampling.BICUBIC))
