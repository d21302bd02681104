"""What a metric is: what it is called, needs and shows, how it is computed, and how two rows are compared by it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NoReturn, get_args

import numpy as np
import pandas as pd

from evaluation.metrics.jackknife import Swapped, groups, jackknife, kept, leave_out_mean, leave_out_ratio
from evaluation.metrics.summary import Summaries, Summary
from formats.files import InputError

Level = Literal["image", "region", "box"]
Unit = Literal["image", "box", "label"]
# A metric of a row: value, se, debiased and left_out (jackknife.Estimate), perhaps more, such as `remark`, a sentence on what
# it is not over; None where there is too little.
Result = dict[str, Any] | None


@dataclass(frozen=True)
class Metric:
    """One metric: `quantity` of a `level`, whole images, regions, or the layout's boxes as a detector sees them.

    extractor: the network, among the configuration's extractors, that has to have seen the images. head: of a column in a
    table of its own kind; digits: decimals in tables, of the value times `scale`. figure_title: of a panel of its own. of: the
    name of the network, where several give the quantity, and before: what stands before the name then.

    compute: the metric of a row, from what was summed up of it. swapped: of a distance, from the summaries of two rows and
    of `real` to the function by which the permutation test swaps groups. scores: the column of the scores files of which the
    metric is the mean; unit: what that is a mean over, images, boxes, or the labels of each image, a label by its first box
    ("": images or boxes, as the level says); scored: what makes that column, a table of id, object (-1: the whole image),
    image_id and columns such as this; flips: rows are compared by flipping signs of its differences. What is neither swapped
    nor flipped is compared by Student's t.

    pairs: what it takes of evaluation.metrics.pairs, so that rows' samples meet once.

    headline: in the paper's tables; table: the other table that has it; published: the published metric that it is read as.
    floored: its floor and debiased value stand beside it there. least: samples of either set below which it is a dash.
    counts: it moves in steps of one image. has_error: with a standard error; what has none is not compared. definition: what
    a table says of it after its head, with {network}, {resolution}, {label_template}, {torch} and {batch} in the place of the
    protocol's, and of a detector {sure} and {overlap}. note: a sentence under the tables that have it.
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
    scored: Callable[["Measured"], pd.DataFrame] | None = None
    unit: Unit | Literal[""] = ""
    flips: bool = False
    higher_is_better: bool = False
    scale: float = 1
    figure_title: str = ""
    headline: bool = False
    table: Literal["", "distances", "adherence", "judges"] = ""
    published: str = ""
    counts: bool = False
    has_error: bool = True
    of: str = ""
    before: str = ""
    floored: bool = False
    least: int = 2
    definition: str = "by {network}."
    note: str = ""

    @property
    def name(self) -> str:
        """The key of metrics files and tables."""
        return self.before + (self.quantity if self.level == "box" else f"{self.level}_{self.quantity}")

    @property
    def mean_over(self) -> Unit:
        """What the metric is a mean over, where it is one (`scores`)."""
        return self.unit or ("image" if self.level == "image" else "box")

    @property
    def title(self) -> str:
        """The name for people where its level is not said otherwise."""
        return f"{self.bare_title}, {self.of}" if self.of else self.bare_title

    @property
    def bare_title(self) -> str:
        """The same without the network's name."""
        return self.figure_title or (self.head if self.level == "box" else f"{self.level.capitalize()} {self.head}")

    def described(self) -> dict[str, Any]:
        """All of it but what computes, as JSON: enough to order, format, compare and show what was measured elsewhere."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in COMPUTING}
        return plain | {"swapped": self.swapped is not None}

    @staticmethod
    def of_description(content: Mapping[str, Any]) -> "Metric":
        """The metric of a description, which cannot compute; raises TypeError or KeyError for one of another form."""
        if content["level"] not in get_args(Level):
            raise TypeError(f"level {content['level']!r}")
        for key, value in Metric("", "box", "", "", 0, _elsewhere).described().items():
            of_number = key == "scale" and type(content.get(key)) is float
            if type(content.get(key, value)) is not type(value) and not of_number:
                raise TypeError(f"{key} {content[key]!r}")
        return Metric(
            **(dict(content) | {"compute": _elsewhere, "swapped": _elsewhere if content["swapped"] else None})
        )


KEYS = ["id", "object", "image_id"]  # of a row of scores; object -1 is the whole image
COMPUTING = ("compute", "swapped", "scored")


def _elsewhere(*arguments: Any) -> NoReturn:
    raise InputError("a metric of one's own is computed by the programs that are given its configuration (--own)")


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
            # Of large networks one pair is gigabytes: metrics are measured pair by pair, and one is dropped before the next.
            self._held.clear()
            self._held[key] = self.row.summary(*key), self.real.summary(*key)
        return self._held[key]

    def pair(self, metric: Metric) -> tuple[Summary, Summary] | None:
        """The summaries that a distance needs; None where either is of fewer samples than it takes, or not there."""
        pair = self.summaries(metric.extractor, metric.level)
        return None if pair is None or min(one.n for one in pair) < metric.least else pair

    def once(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """`compute(self, *arguments)`, computed once for all metrics that share it."""
        key = (compute, *arguments)
        if key not in self._known:
            self._known[key] = compute(self, *arguments)
        return self._known[key]


def scores_of(measured: Measured, metric: Metric) -> pd.DataFrame:
    """What the metric's `scored` makes; raises InputError unless it is scores with the metric's column, one row a unit.

    A unit is a layout (object -1) or one of its objects.
    """
    assert metric.scored
    table: pd.DataFrame = measured.once(metric.scored)
    if missing := sorted({*KEYS, metric.scores} - set(table.columns)):
        raise InputError(f"{metric.name}: its scores have no column {missing[0]!r}, only {', '.join(table.columns)}")
    found = pd.MultiIndex.from_frame(table[list(KEYS)].astype("int64"))
    if not found.is_unique:
        raise InputError(f"{metric.name}: several scores of {_unit(found[found.duplicated()][0])}, expected one")
    if not (other := found[~found.isin(measured.once(_units))]).empty:
        raise InputError(f"{metric.name}: a score of {_unit(other[0])}, which the layouts do not have")
    return table


def _unit(key: Any) -> str:
    named = dict(zip(KEYS, key, strict=True))
    whole = f"layout {named['id']} (image {named['image_id']})"
    return whole if named["object"] < 0 else f"object {named['object']} of {whole}"


def _units(measured: Measured) -> pd.MultiIndex:
    """Every layout and object that a score can be of."""
    units = [
        (row["id"], place, row["image_id"]) for row in measured.layouts for place in range(-1, len(row["objects"]))
    ]
    return pd.MultiIndex.from_tuples(units, names=KEYS)


def mean_of_scores(measured: Measured, metric: Metric) -> Result:
    """The mean of the metric's column of the scores, the rows of an image together in the jackknife; None without any."""
    table = scores_of(measured, metric).dropna(subset=metric.scores)
    if table.empty:
        return None
    numbers = groups(table["image_id"])
    return asdict(jackknife(leave_out_mean(table[metric.scores].to_numpy(np.float64), numbers), numbers)) | {
        "n": len(table)
    }


def ratio(over_N: np.ndarray, under_N: np.ndarray, image_ids: Any) -> Result:
    """The sum of one quantity over that of another; None where it is over nothing, in all or without a jackknife group."""
    numbers = groups(image_ids)
    present = set(numbers.tolist())
    if any(under_N[kept(numbers, group)].sum() == 0 for group in (None, *(present if len(present) > 1 else ()))):
        return None
    return asdict(jackknife(leave_out_ratio(over_N, under_N, numbers), numbers))
