"""A tally of the work done for each image of a batch: network calls, guidance, what was left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable


class Work:
    """Counts by image (position in the batch) and name; `work[name]` is the batch's total."""

    def __init__(self) -> None:
        self.images: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def add(self, name: str, rows: Iterable[int], amount: int = 1) -> None:
        """Count `amount` of `name` for each of `rows`."""
        for row in rows:
            self.images[int(row)][name] += amount

    def __getitem__(self, name: str) -> int:
        return sum(counts[name] for counts in self.images.values())

    def clear(self) -> None:
        """Forget everything: the next batch begins."""
        self.images.clear()
