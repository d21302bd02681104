"""A picture file of any mode as upright RGB with 8 bits a channel, or the reason why it cannot be."""

import numpy as np
from PIL import ExifTags, Image

from formats.files import InputError

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


def orientation_of(photo: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where nothing is said or nothing that can be read."""
    try:
        found = photo.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if type(found) is int and found in TURNS else 1


def rgb(photo: Image.Image, upright: bool) -> Image.Image:
    """A picture of any mode with 8 bits a channel, turned as EXIF says if `upright`; raises InputError, in words that go behind
    "has", where the file does not say how.

    16 bits are scaled by 255 / 65535; floating point is taken from 0 to 1. Refused are other ranges, transparent pixels,
    whose background nobody knows, and several frames, of which any could be meant.
    """
    turn = TURNS.get(orientation_of(photo)) if upright else None
    found = _eight_bit_rgb(photo)
    return found if turn is None else found.transpose(turn)


def _eight_bit_rgb(photo: Image.Image) -> Image.Image:
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
