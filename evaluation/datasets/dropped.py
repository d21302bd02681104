"""What data preparation left out, counted by reason with examples, and how well captions name the boxes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from evaluation.datasets.spans import Words
from formats import shown
from formats.layouts import Layout

EXAMPLES = 20


class Tally:
    """Counts by reason, each with the names of the first few."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Any]] = {}

    def add(self, reason: str, name: Any) -> None:
        self.counts[reason] += 1
        if len(self.examples.setdefault(reason, [])) < EXAMPLES:
            self.examples[reason].append(name if name is None or isinstance(name, int) else shown(name))

    def as_dict(self) -> dict[str, Any]:
        return {
            reason: {"count": count, "examples": self.examples[reason]} for reason, count in sorted(self.counts.items())
        }


class Report:
    """Counts of one split; nothing is dropped, nor read as something else, without a reason that stands here."""

    def __init__(self) -> None:
        self.boxes = 0
        self.dropped = Tally()
        self.noted = Tally()

    def drop(self, reason: str, name: Any) -> None:
        """Count one item left out, `name` being its annotation or image id."""
        self.dropped.add(reason, name)

    def note(self, reason: str, name: Any) -> None:
        """Count one item that was kept and read as the reason says."""
        self.noted.add(reason, name)

    def summary(self, layouts: Sequence[Layout], words: Words) -> dict[str, Any]:
        """Counts of images and boxes, the share of boxes that captions name, and the drops."""
        objects = [thing for layout in layouts for thing in layout.objects]
        plain = sum(_named_without_synonyms(layout, words) for layout in layouts)
        named = sum(thing.span is not None for thing in objects)
        return {
            "images": len(layouts),
            "images_without_boxes": sum(not layout.objects for layout in layouts),
            "boxes_read": self.boxes,
            "boxes": len(objects),
            "boxes_named": named,
            "share_named": round(named / max(len(objects), 1), 4),
            "share_named_without_synonyms": round(plain / max(len(objects), 1), 4),
            "images_with_no_named_box": sum(all(t.span is None for t in layout.objects) for layout in layouts),
            "dropped": self.dropped.as_dict(),
        }


def _named_without_synonyms(layout: Layout, words: Words) -> int:
    spans = words.spans(layout.caption, synonyms=False)
    return sum(thing.phrase in spans for thing in layout.objects)
