"""What a metric is: what it is called, needs and shows, how it is computed, and how two rows are compared by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.metrics.jackknife import Swapped
from evaluation.metrics.summary import Summaries, Summary

Level = Literal["image", "region", "box"]
Unit = Literal["image", "box", "label"]
# A metric of a row: value, se, debiased and left_out (jackknife.Estimate), perhaps more; None where there is too little.
Result = dict[str, Any] | None


@dataclass(frozen=True)
class Metric:
    """One metric: `quantity` of a `level`, whole images, regions, or the layout's boxes as a detector sees them.

    extractor: the network, among the configuration's extractors, whose features it needs. head: of a column in a
    table of its own kind; digits: decimals in tables, of the value times `scale`. figure_title: of a panel of its own.

    compute: the metric of a row, from what was summed up of it. swapped: of a distance, from the summaries of two rows and
    of `real` to the function by which the permutation test swaps groups. scores: the column of the scores files of which the
    metric is the mean; unit: what that is a mean over, images, boxes, or the labels of each image, a label by its first box
    ("": images or boxes, as the level says); flips: rows are compared by flipping signs of its differences. What is neither
    swapped nor flipped is compared by Student's t.

    pairs: what it takes of evaluation.metrics.pairs, so that rows' samples meet once.

    headline: in the paper's tables; table: the other table that has it; published: the published metric that it is read as.
    counts: it moves in steps of one image. has_error: with a standard error; what has none is not compared.
    definition: what a table says of it after its head, with {network}, {resolution}, {label_template}, {torch} and {batch} in
    the place of the protocol's.
    """

    quantity: str
    level: Level
    extractor: str
    head: str
    digits: int
    compute: Callable[["Measured", "Metric"], Result]
    swapped: Callable[[Summary, Summary, Summary], Swapped] | None = None
    pairs: str = ""
    scores: str = ""
    unit: Unit | Literal[""] = ""
    flips: bool = False
    higher_is_better: bool = False
    scale: float = 1
    figure_title: str = ""
    headline: bool = False
    table: Literal["", "distances", "adherence"] = ""
    published: str = ""
    counts: bool = False
    has_error: bool = True
    definition: str = "by {network}."

    @property
    def name(self) -> str:
        """The key of metrics files and tables."""
        return self.quantity if self.level == "box" else f"{self.level}_{self.quantity}"

    @property
    def mean_over(self) -> Unit:
        """What the metric is a mean over, where it is one (`scores`)."""
        return self.unit or ("image" if self.level == "image" else "box")

    @property
    def title(self) -> str:
        """The name for people where its level is not said otherwise."""
        return self.figure_title or (self.head if self.level == "box" else f"{self.level.capitalize()} {self.head}")


class Measured:
    """What the metrics of a row are computed from: its summaries, those of the real images if any, and its layouts."""

    def __init__(self, row: Summaries, real: Summaries | None, layouts: list[dict[str, Any]]) -> None:
        self.row, self.real, self.layouts = row, real, layouts
        self._held: dict[tuple[str, str], tuple[Summary, Summary]] = {}
        self._known: dict[Any, Any] = {}

    def summaries(self, extractor: str, level: str) -> tuple[Summary, Summary] | None:
        """Of the row and of `real`; None where there are no real images."""
        if self.real is None:
            return None
        key = extractor, level
        if key not in self._held:
            # Of large networks one pair is gigabytes; metrics are measured pair by pair, and the last goes before the next.
            self._held.clear()
            self._held[key] = self.row.summary(*key), self.real.summary(*key)
        return self._held[key]

    def pair(self, metric: Metric) -> tuple[Summary, Summary] | None:
        """The summaries that a distance needs; None where either is of fewer than two samples, or not there."""
        pair = self.summaries(metric.extractor, metric.level)
        return None if pair is None or min(one.n for one in pair) < 2 else pair

    def once(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """`compute(self, *arguments)`, computed once for all metrics that share it."""
        key = (compute, *arguments)
        if key not in self._known:
            self._known[key] = compute(self, *arguments)
        return self._known[key]
