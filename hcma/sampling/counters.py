"""The work of sampling: what a method says an image will take, and a tally of what each image of a batch took."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel

Range = tuple[int, int]  # least and most


@dataclass(frozen=True)
class Passes:
    """What one image takes, as its method says before it is sampled; ranges where that depends on the image.

    calls     of the network on the image with and without its caption, which see no boxes
    grounded  further ones that see the boxes (GLIGEN's tokens)
    each_box  further ones, without boxes, for each box of the image
    guided    passes of the U-Net forward to the last attention map and back, of an image whose caption names a box
    guided_grounded  further ones that see the boxes
    layers    a U-Net's layers whose maps these passes read, those of gated attention where boxes are seen
    encoded   images that the autoencoder encodes for an image with a box
    other     calls of networks that the method brings along, under the names by which `Counters` counts them
    """

    calls: int
    grounded: int = 0
    each_box: int = 0
    guided: Range = (0, 0)
    guided_grounded: Range = (0, 0)
    layers: Callable[[UNet2DConditionModel], Sequence[str]] | None = None
    encoded: int = 0
    other: Mapping[str, int] = field(default_factory=dict)

    def counts(self, boxes: Range) -> dict[str, Range]:
        """Bounds of the `Counters` of an image with so many boxes that its caption names."""
        whole = self.calls + self.grounded
        forwards = (2 * (whole + self.each_box * boxes[0]), 2 * (whole + self.each_box * boxes[1]))
        least, most = (self.guided[end] + self.guided_grounded[end] for end in (0, 1))
        guided = {"guidance_forwards": (least, most), "guidance_backwards": (0, most)}
        return {"unet_forwards": forwards} | guided | {name: (count, count) for name, count in self.other.items()}


class Counters:
    """Counts by image (position in the batch) and name; `counters[name]` is the batch's total."""

    def __init__(self) -> None:
        self._images: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._later: defaultdict[str, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)

    @property
    def images(self) -> defaultdict[int, Counter[str]]:
        """The counts of each image; what was added for later is fetched from its device now."""
        self.settle()
        return self._images

    def settle(self) -> None:
        """Fetch what was added for later from its device, which this may wait for and takes memory of."""
        for name, added in self._later.items():
            rows, amounts = (torch.cat(parts).tolist() for parts in zip(*added, strict=True))
            for row, amount in zip(rows, amounts, strict=True):
                # A share of 1 is counted as a million, an integer as itself.
                if counted := round(1e6 * amount) if isinstance(amount, float) else amount:
                    self._images[row][name] += counted
        self._later.clear()

    def add(self, name: str, rows: Iterable[int], amount: int = 1) -> None:
        """Count `amount` of `name` for each of `rows`."""
        for row in rows:
            self._images[int(row)][name] += amount

    def add_later(self, name: str, rows_R: torch.Tensor, amounts_R: torch.Tensor) -> None:
        """Count amounts, one a row, without waiting for the device they are on: integers, or shares in parts per million."""
        self._later[name].append((rows_R, amounts_R))

    def take_over(self, other: "Counters", rows: Sequence[int]) -> None:
        """Add the counts of another batch, whose images stand at `rows` here."""
        for place, row in enumerate(rows):
            self._images[row].update(other.images[place])

    def __getitem__(self, name: str) -> int:
        return sum(counts[name] for counts in self.images.values())

    def clear(self) -> None:
        """Forget everything: the next batch begins."""
        self._images.clear()
        self._later.clear()
