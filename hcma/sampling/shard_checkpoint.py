"""Finished batches of an unfinished shard: what a killed job leaves for its next run.

A cluster that has lost sight of a node starts its job again elsewhere, while the first may still run there. Whoever opens
the folder last owns it; the other ends at its next batch.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formats.files import InputError, replacing
from formats.images import png_name, read_files, read_meta, write_files, write_images
from hcma.sampling.counters import Counters

KEY = re.compile("[0-9a-f]{64}")
FORMAT = 3  # of a batch's record; batches of another format are sampled again
OWNER = "owner"


@dataclass(frozen=True)
class ShardCheckpoint:
    """A folder of batch zips, all of one identity: `work`/`key`."""

    folder: Path
    batches: dict[Path, list[int]]
    token: str  # in the file `owner` as long as no other job has opened the folder
    made_by: dict[str, str | None]  # what this run's batches are made by, such as the device

    @property
    def finished(self) -> set[int]:
        """Ids of the layouts whose images are done."""
        return {id for ids in self.batches.values() for id in ids}

    def add(self, ids: Sequence[int], pixels: Any, seconds: float, counters: Counters) -> None:
        """Keep one finished batch, named by its first layout; raises InputError if another job owns the folder."""
        self._check_owner()
        path = self.folder / f"{ids[0]:012d}.zip"
        counts = {str(id): dict(counters.images[row]) for row, id in enumerate(ids)}
        images = zip(map(png_name, ids), pixels.permute(0, 2, 3, 1).numpy(), strict=True)
        write_images(path, images, {"seconds": seconds, "work": counts, "made_by": self.made_by})
        self.batches[path] = list(ids)

    def totals(self) -> tuple[float, dict[str, dict[str, int]]]:
        """Seconds of all batches, those of earlier runs included, and each image's counts."""
        records = [read_meta(path) for path in self.batches]
        images = {id: counts for record in records for id, counts in record["work"].items()}
        return sum(record["seconds"] for record in records), images

    def makers(self) -> dict[str, str | None]:
        """What made the batches, those of earlier runs included; where it was not the same for all, each by name."""
        records = [read_meta(path)["made_by"] for path in self.batches] or [self.made_by]
        found = {name: dict.fromkeys(str(record[name]) for record in records if record[name]) for name in self.made_by}
        return {name: " and ".join(sorted(values)) or None for name, values in found.items()}

    def assemble(self, path: str | Path, ids: Sequence[int], meta: dict[str, Any]) -> None:
        """Write the whole shard in the order of `ids`; its images do not depend on interruptions."""
        self._check_owner()
        where = {id: batch for batch, members in self.batches.items() for id in members}
        loaded: dict[int, bytes] = {}

        def png(id: int) -> bytes:
            if id not in loaded:
                loaded.clear()
                loaded.update(read_files(where[id]))
            return loaded[id]

        write_files(path, ((png_name(id), png(id)) for id in ids), meta)

    def remove(self) -> None:
        """Drop the batches, and the work folder if nothing else is in it; nothing if another job owns the folder."""
        if not self._owned():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def _owned(self) -> bool:
        owner = self.folder / OWNER
        return owner.exists() and owner.read_text() == self.token

    def _check_owner(self) -> None:
        if not self._owned():
            raise InputError(f"{self.folder}: another job has taken over this shard; this one ends")


def open_checkpoint(work: str | Path, identity: dict[str, Any], made_by: dict[str, str | None]) -> ShardCheckpoint:
    """The finished batches in `work` of what `identity` (JSON) describes; batches of anything else are removed.

    The folder is the caller's from now on, whoever had it before. `made_by` is recorded of each batch that is added.
    """
    key = hashlib.sha256(json.dumps(identity | {"format": FORMAT}, sort_keys=True).encode()).hexdigest()
    folder = Path(work) / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in Path(work).iterdir():
        if other != folder and other.is_dir() and KEY.fullmatch(other.name):
            shutil.rmtree(other, ignore_errors=True)  # its job may still run; that ends at its next batch
    token = secrets.token_hex(8)
    with replacing(folder / OWNER) as beside:
        beside.write_text(token)
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    batches = {path: _intact_ids(path) for path in sorted(folder.glob("*.zip"))}
    return ShardCheckpoint(folder, {path: ids for path, ids in batches.items() if ids}, token, made_by)


def _intact_ids(path: Path) -> list[int]:
    """Ids of a batch, or none if it is damaged, say by a power cut: then it is sampled again."""
    try:
        if read_meta(path):
            return [id for id, _ in read_files(path)]
    except InputError:
        pass
    path.unlink(missing_ok=True)
    return []
