"""Photos in a folder or a zip, found by image id, checked by their headers, and read as upright RGB."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from PIL import Image, UnidentifiedImageError

from formats import shown
from formats.files import InputError
from formats.pictures import ASIDE, PLAIN, orientation_of, rgb

EXIF = ("apply", "ignore")


class Seen(NamedTuple):
    """What a photo's header says: its name in the folder, its sides in pixels as `read` gives it, how it is stored."""

    name: str
    width: int
    height: int
    orientation: int


class Photos:
    """Photos of the folder `root/folder` or of `root/folder.zip`, whose members' names begin with `folder/`.

    With `exif` "apply" a photo is turned upright as its EXIF orientation says; "ignore" takes the stored picture.
    """

    layout = "one of them"  # what `root` must hold, as a message says it

    def __init__(self, root: Path, folder: str, exif: str = "apply") -> None:
        self.name, self.folder, self.exif, archive = folder, root / folder, exif, root / f"{folder}.zip"
        if not self.folder.is_dir() and not archive.is_file():
            raise InputError(f"{root}: neither a folder {folder}/ nor {folder}.zip; data.root must hold {self.layout}")
        try:
            self.archive = None if self.folder.is_dir() else zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise InputError(f"{archive}: not a readable zip ({error}); fetch or draw it again") from None

    def usual(self, image_id: int) -> str | None:
        """The name that a photo has by its id, where the data set has such names."""
        return None

    def find(self, image_id: int, file_name: str | None = None) -> str:
        """Where in the folder a photo is: under its usual name or, where that is not there, its record's `file_name`.

        Raises InputError where neither is there, and for a name that leads out of the folder.
        """
        usual = self.usual(image_id)
        if usual and self.has(usual):
            return usual
        lacking = f"image {image_id}: {self.name} has no {usual or shown(file_name)}"
        own = PurePosixPath((file_name or "").replace("\\", "/"))
        if own.is_absolute() or ".." in own.parts:
            raise InputError(f"{lacking}, and {shown(file_name)} leads out of it")
        # Some records name the photo from the root on.
        for name in (own, own.relative_to(self.name) if self.name in own.parts[:1] else own):
            if file_name and self.has(str(name)):
                return str(name)
        other = f" and no {shown(file_name)}" if usual and file_name and file_name != usual else ""
        raise InputError(f"{lacking}{other}")

    def has(self, name: str) -> bool:
        """Whether a photo of this name is there."""
        if self.archive:
            return f"{self.name}/{name}" in self.archive.NameToInfo
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
        return self.archive.open(f"{self.name}/{name}") if self.archive else open(self.folder / name, "rb")
