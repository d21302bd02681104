"""A shard's pictures as networks take them: read, cut and resized once, in this process or in workers, a few at a time.

A GPU computes features of a picture in less time than a core reads and resizes it, so that work is handed to as many worker
processes as there are cores. Nothing depends on their number: what is prepared comes back in the shard's order, and batches are
made up here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from evaluation.crops import crop
from evaluation.extractors import stacked
from evaluation.networks import BATCH
from evaluation.protocol import FRECHET, Protocol, at_resolution, framed
from formats.files import InputError
from formats.images import OpenImages

# Images and regions that are handed over at once, if not a single image has more; and how many of those a worker is ahead.
CHUNK = 16
AHEAD = 2

Prepare = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """Some images in the shard's order, and all regions of theirs: by network, what it takes of each [N, S, S, 3].

    `seen`: by detector or judge, the images [H, W, 3] as it takes them; `black`: those that are black all over.
    """

    ids: list[int]
    black: list[int]
    images: dict[str, torch.Tensor]
    regions: dict[str, torch.Tensor]
    seen: dict[str, list[torch.Tensor]]

    def pin_memory(self) -> "Chunk":
        """The same in memory that a GPU copies from without waiting; torch's DataLoader calls it."""
        images, regions = (
            {name: stack.pin_memory() for name, stack in stacks.items()} for stacks in (self.images, self.regions)
        )
        seen = {name: [image.pin_memory() for image in some] for name, some in self.seen.items()}
        return Chunk(self.ids, self.black, images, regions, seen)


class Pictures(Dataset[Any]):
    """The chunks of a shard, any of which may be asked for; each process that does opens the shard for itself.

    boxes: layout id -> (object, box in the unit square) of what is cut from its image. prepare: a function a network of
    features, and `watch` one a detector or judge, which see whole images alone. A fault of the shard is not raised but given in
    a chunk's place, since what a worker raises arrives with its traceback in the message.
    """

    def __init__(
        self,
        images: Path,
        boxes: Mapping[int, Sequence[tuple[int, list[float]]]],
        protocol: Protocol,
        prepare: Mapping[str, Prepare],
        watch: Mapping[str, Prepare],
    ) -> None:
        self._images, self._boxes, self._protocol = images, boxes, protocol
        self._prepare, self._watch = dict(prepare), dict(watch)
        self._chunks = chunked({number: len(some) for number, some in boxes.items()})
        self._open: OpenImages | None = None

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, place: int) -> Chunk | Exception:
        try:
            if self._open is None:
                self._open = OpenImages(self._images, list(self._boxes))
            return self._chunk(self._open, self._chunks[place])
        except (InputError, OSError) as error:
            return error

    def _chunk(self, opened: OpenImages, ids: list[int]) -> Chunk:
        pixels = {number: opened.pixels(number) for number in ids}
        sized = [at_resolution(image, self._protocol.resolution) for image in pixels.values()]
        whole = list(pixels.values())
        cuts = [framed(crop(pixels[number], box), self._protocol) for number in ids for _, box in self._boxes[number]]
        return Chunk(
            ids,
            [number for number, image in pixels.items() if not image.any()],
            {name: self._prepared(name, sized if name in FRECHET else whole) for name in self._prepare},
            {name: self._prepared(name, cuts) for name in self._prepare} if cuts else {},
            {name: [torch.from_numpy(np.array(see(image))) for image in whole] for name, see in self._watch.items()},
        )

    def _prepared(self, name: str, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        return stacked([self._prepare[name](picture) for picture in pictures])

    def close(self) -> None:
        """Close the shard, if this process opened it."""
        if self._open is not None:
            self._open.close()
            self._open = None


def chunked(regions: Mapping[int, int]) -> list[list[int]]:
    """Ids of images in order, by their numbers of regions: as many a list as have CHUNK pictures together, and at least one."""
    chunks: list[list[int]] = []
    held = CHUNK
    for number, count in regions.items():
        if held + 1 + count > CHUNK:
            chunks.append([])
            held = 0
        chunks[-1].append(number)
        held += 1 + count
    return chunks


def load(pictures: Pictures, workers: int, pinned: bool) -> Iterator[Chunk]:
    """The shard's chunks in order, prepared by so many processes, by this one if 0; at most AHEAD a process are in memory.

    Raises InputError for a fault of the shard, and for a worker that was ended from outside.
    """
    loader = DataLoader(
        pictures,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=as_it_is,
        pin_memory=pinned,
    )
    try:
        for chunk in loader:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"--workers {workers}: a worker process ended before its work was done ({str(error).splitlines()[0]});"
            " expected memory for all of them, in /dev/shm too: take fewer, or 0"
        ) from None
    finally:
        pictures.close()


def as_it_is(chunk: Any) -> Any:
    """What a worker hands over, unchanged."""
    return chunk


class Batches:
    """Prepared pictures in order, handed in by the chunk and out by the batch of BATCH, the last of what is left."""

    def __init__(self) -> None:
        self._parts: list[torch.Tensor] = []

    def add(self, stack: torch.Tensor) -> Iterator[torch.Tensor]:
        """The batches that are full with the pictures of `stack`."""
        self._parts.append(stack)
        while sum(map(len, self._parts)) >= BATCH:
            batch, *rest = self._joined().tensor_split([BATCH])
            self._parts = [part for part in rest if len(part)]
            yield batch

    def rest(self) -> Iterator[torch.Tensor]:
        """What is left, if anything."""
        if self._parts:
            yield self._joined()
            self._parts = []

    def _joined(self) -> torch.Tensor:
        return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts)
