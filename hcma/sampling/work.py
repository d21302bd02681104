"""A tally of the work done for each image of a batch: network calls, guidance, what was left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch


class Work:
    """Counts by image (position in the batch) and name; `work[name]` is the batch's total."""

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

    def take_over(self, other: "Work", rows: Sequence[int]) -> None:
        """Add the counts of another batch, whose images stand at `rows` here."""
        for place, row in enumerate(rows):
            self._images[row].update(other.images[place])

    def __getitem__(self, name: str) -> int:
        return sum(counts[name] for counts in self.images.values())

    def clear(self) -> None:
        """Forget everything: the next batch begins."""
        self._images.clear()
        self._later.clear()
