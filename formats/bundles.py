"""A bundle: a finished run as one zip, for somebody else to hold theirs against or to take rows from.

Members have the names that they have below the run's folder; `bundle.json` says of which run they are, and which rows it has;
SHA256SUMS, as the program `sha256sum` writes it, lists every other member. A bundle is read without trust: it has exactly the
listed members, and what is used of one is held against its SHA-256 first.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formats.archives import DAMAGED, NOT_WHOLE, members, some
from formats.checksums import SUMS, as_sums, sums_of
from formats.files import InputError, replacing, sha256

ABOUT = "bundle.json"
FORMAT = 1
LARGEST = 2**35  # bytes of a member: far more than a row's summary takes at the largest networks
RATIO = 200  # a member of more than so many times its compressed size, and a MiB, is no run's
TEXTS = (".json", ".jsonl", ".csv", ".md", ".tex", ".svg", ".html")  # what compression is worth its time for
CHUNK = 1 << 20


@dataclass(frozen=True)
class BundledRow:
    """What a bundle says of one of its rows; made_by: of one that its run did not sample itself."""

    made_by: str | None
    images: bool


class Bundle:
    """An open bundle; raises InputError for a file that is none, has other members than it lists, or an unreadable list."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise InputError(f"{path}: a folder, expected a bundle (a zip)") from None
        except DAMAGED as error:
            raise InputError(f"{path}: damaged or cut off, or not a zip ({error}); get the bundle again") from None
        try:
            self._members = self._checked()
            self.sums = sums_of(self._plain(SUMS).decode("utf-8", errors="replace"), f"{path}, {SUMS}")
            self._expect_listed()
            about = self._about()
        except BaseException:
            self.close()
            raise
        self.run: str = about["run"]
        self.commit: str | None = about["commit"]
        self.rows: dict[str, BundledRow] = about["rows"]

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()

    def row(self, name: str) -> BundledRow:
        """One of its rows; raises InputError where it has no such row."""
        if name not in self.rows:
            raise InputError(f"{self.path}: no row {name!r} in it; it has {', '.join(self.rows) or 'none'}")
        return self.rows[name]

    def names(self, beginning: str = "") -> list[str]:
        """Names of the members that begin so, in order."""
        return sorted(name for name in self.sums if name.startswith(beginning))

    def read(self, name: str) -> bytes:
        """One member, which is as it was when the bundle was made; raises InputError where it is not."""
        content = self._plain(name)
        self._expect(name, hashlib.sha256(content).hexdigest())
        return content

    def unpack(self, names: Iterable[str], folder: Path) -> None:
        """Write members below a folder, each whole and as it was, or not at all; raises InputError naming one that is not."""
        for name in names:
            digest = hashlib.sha256()
            with replacing(folder / name) as beside, open(beside, "wb") as file:
                try:
                    with self._archive.open(self._member(name)) as member:
                        while chunk := member.read(CHUNK):
                            digest.update(chunk)
                            file.write(chunk)
                except NOT_WHOLE as error:  # a full disk is none of the bundle's faults
                    raise self._changed(name, str(error)) from None
                self._expect(name, digest.hexdigest())

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        found = members(self.path, self._archive, LARGEST)
        for needed in (SUMS, ABOUT):
            if needed not in found:
                raise InputError(f"{self.path}: no {needed} in it, so not a bundle of a run, or not a whole one")
        swollen = sorted(n for n, info in found.items() if info.file_size > RATIO * info.compress_size + CHUNK)
        if swollen:
            raise InputError(f"{self.path}: {some(swollen)} more than {RATIO} times as large as in the zip")
        return found

    def _expect_listed(self) -> None:
        there = self._members.keys() - {SUMS}
        faults = []
        if missing := sorted(self.sums.keys() - there):
            faults.append(f"{some(missing)} missing")
        if more := sorted(there - self.sums.keys()):
            faults.append(f"{some(more)} not listed in {SUMS}")
        if faults:
            raise InputError(f"{self.path}: {' and '.join(faults)}; get the bundle again")

    def _about(self) -> dict[str, Any]:
        try:
            found = json.loads(self.read(ABOUT))
            if found["format"] != FORMAT:
                raise InputError(f"{self.path}: {ABOUT} is of format {found['format']!r}, this reads {FORMAT}")
            rows = {name: BundledRow(**row) for name, row in found["rows"].items()}
            for row in rows.values():
                if not (isinstance(row.made_by, str | None) and type(row.images) is bool):
                    raise TypeError(f"a row is {row}")
            return {"run": str(found["run"]), "commit": found["commit"], "rows": rows}
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{self.path}: {ABOUT} does not say of which run it is ({error})") from None

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise InputError(f"{self.path}: no {name} in it")
        return self._members[name]

    def _plain(self, name: str) -> bytes:
        member = self._member(name)
        try:
            return self._archive.read(member)
        except DAMAGED as error:
            raise self._changed(name, str(error)) from None

    def _expect(self, name: str, digest: str) -> None:
        if digest != self.sums[name]:
            raise self._changed(name, f"sha256 is {digest[:12]}, {SUMS} says {self.sums[name][:12]}")

    def _changed(self, name: str, why: str) -> InputError:
        return InputError(f"{self.path}: {name} was changed after the bundle was made ({why}); get the bundle again")


def write_bundle(
    path: Path, run: str, commit: str | None, rows: Mapping[str, BundledRow], files: Mapping[str, Path | bytes]
) -> None:
    """Write files, or contents, by their names in the bundle, as one zip, whole or not at all.

    The zip depends on nothing but the arguments.
    """
    about = {"format": FORMAT, "run": run, "commit": commit, "rows": {name: vars(row) for name, row in rows.items()}}
    contents = {ABOUT: (json.dumps(about, indent=2) + "\n").encode(), **files}
    digests = {name: _sha256(content) for name, content in contents.items()}
    with replacing(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        archive.writestr(_info(SUMS), as_sums(digests))
        for name, content in contents.items():
            info = _info(name)
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size  # by which zipfile knows whether it needs the format of large files
            with open(content, "rb") as file, archive.open(info, "w") as member:
                shutil.copyfileobj(file, member, CHUNK)


def _sha256(content: Path | bytes) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(TEXTS) or name == SUMS else zipfile.ZIP_STORED
    return info
