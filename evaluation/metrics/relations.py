"""Relations of named pairs: does the dog stand left of the bicycle, in the boxes that a detector finds?

A layout's pairs are those that its set states in its tags: `relation`, and `object_1` and `object_2`, or without these its only
two objects. Where it states none they follow from its own boxes: of every two objects whose names occur once, the one that lies
left of, right of, above or below the other by the centres of their boxes, on the axis on which these are farther apart, if by
more than `margin` of the canvas. A stated relation that is none of these four is not judged.

Where a pair stands is decided by boxes that the detector is sure of, by `rule`:

    centres   some box of the one and some of the other have centres that stand so, strictly (VISOR)
    edges     the last box of each, in order of score, as an official dictionary by name keeps it: left by the left edges,
              right by the right edges, above and below by the upper or by the lower ones, strictly (HRS)

A pair that is not found is not right. Of VISOR's numbers `NAME_found` is OA, `NAME` is unconditional, `NAME_of_found` is
conditional.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evaluation.metrics.adherence import STATED, by_label, called
from evaluation.metrics.found import NOTHING, centres, found
from evaluation.metrics.metric import Measured, Metric, Result, mean_of_scores, ratio
from formats.files import InputError
from formats.params import expect, is_number

LEFT, RIGHT, ABOVE, BELOW = RELATIONS = ("left", "right", "above", "below")
# What sets call them; other relations, such as "next to", are not judged.
WORDS = {
    LEFT: ("left", "left of", "to the left of", "on the left of"),
    RIGHT: ("right", "right of", "to the right of", "on the right of"),
    ABOVE: ("above", "over", "on", "on top of", "top", "on the top of"),
    BELOW: ("below", "under", "beneath", "underneath", "bottom", "on the bottom of"),
}
RELATION_OF = {word: relation for relation, words in WORDS.items() for word in words}
TAG = "relation"


@dataclass(frozen=True)
class Params:
    """rule: of RULES; margin: of derived relations, a share of the canvas."""

    rule: str = "centres"
    margin: float = 0.1

    def __post_init__(self) -> None:
        expect("rule", self.rule, lambda rule: rule in RULES, f"one of {', '.join(RULES)}")
        expect("margin", self.margin, lambda margin: is_number(margin) and 0 <= margin < 1, "a number from 0, below 1")


class Pair(NamedTuple):
    """`first` stands in the relation to `second`; both are what a detector calls them."""

    relation: str
    first: str
    second: str


def metrics(name: str, params: Params) -> Iterator[Metric]:
    """The share of pairs that stand right, of those found and of all; and that of each relation."""
    head = name.replace("_", " ").capitalize()
    scored = partial(score, params)
    columns = partial(_columns, name, scored)
    of_layouts = {
        "": (
            head,
            "adherence",
            f"{head}: the share of a layout's pairs that stand as it says, by the rule {params.rule}.",
        ),
        "_found": (f"{head}: found", "", ""),
    }
    for ending, (title, table, note) in of_layouts.items():
        yield Metric(
            f"{name}{ending}",
            "image",
            "detector",
            title,
            3,
            mean_of_scores,
            scores=f"{name}{ending}",
            scored=columns,
            flips=True,
            higher_is_better=True,
            figure_title=f"{head} right" * (not ending),
            table=table,  # type: ignore[arg-type]
            counts=True,
            note=note,
        )
    for ending, title, over, under in (
        ("_of_found", "of found", None, "found"),
        *((f"_{relation}", relation, relation, None) for relation in RELATIONS),
    ):
        yield Metric(
            f"{name}{ending}",
            "image",
            "detector",
            f"{head}: {title}",
            3,
            partial(_share, scored, over, under),
            higher_is_better=True,
            counts=True,
        )


def check(params: Params, layouts: Sequence[dict[str, Any]], labels: Sequence[str] | None) -> None:
    """Raises InputError for a stated object that the detector has no word for: it could never be found."""
    for row in layouts if labels is not None else ():
        named = {name for pair in pairs_of(by_label(row), params.margin) for name in pair[1:]}
        if unknown := sorted(named.difference(labels or ())):
            raise InputError(f"layout {row['id']}: object {unknown[0]!r} of its relation is no label of the detector")


def pairs_of(layout: dict[str, Any], margin: float) -> list[Pair]:
    """The pairs that a layout states, else those that follow from its boxes; its phrases are what a detector calls them."""
    things = layout["objects"]
    tags = layout.get("tags", {})
    if TAG in tags:
        named = [tags.get(key) for key in STATED] if STATED[0] in tags else [thing["phrase"] for thing in things]
        relation = RELATION_OF.get(str(tags[TAG]).strip().casefold())
        fits = relation and len(named) == 2 and all(isinstance(name, str) for name in named) and named[0] != named[1]
        return [Pair(str(relation), str(named[0]), str(named[1]))] if fits else []
    often = Counter(thing["phrase"] for thing in things)
    single = [thing for thing in things if often[thing["phrase"]] == 1]
    pairs = []
    for a, b in combinations(single, 2):
        if relation := _derived(a["box"], b["box"], margin):
            pairs.append(Pair(relation, a["phrase"], b["phrase"]))
    return pairs


def _derived(a: Sequence[float], b: Sequence[float], margin: float) -> str:
    """How a lies to b; empty where their centres are not apart by more than the margin."""
    x, y = centres(np.array([a]))[0] - centres(np.array([b]))[0]
    if max(abs(x), abs(y)) <= margin:
        return ""
    if abs(x) >= abs(y):
        return LEFT if x < 0 else RIGHT
    return ABOVE if y < 0 else BELOW


def by_centres(relation: str, a_N4: np.ndarray, b_M4: np.ndarray) -> bool:
    """Whether some centre of `a` and some of `b` stand so."""
    axis, sign = int(relation in (ABOVE, BELOW)), 1 if relation in (RIGHT, BELOW) else -1
    a, b = (sign * centres(boxes)[:, axis] for boxes in (a_N4, b_M4))
    return bool(a.max() > b.min())


def by_edges(relation: str, a_N4: np.ndarray, b_M4: np.ndarray) -> bool:
    """Whether the last of each stand so."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a_N4[-1], b_M4[-1]
    stands = {
        LEFT: ax0 < bx0,
        RIGHT: ax1 > bx1,
        ABOVE: ay0 < by0 or ay1 < by1,
        BELOW: ay0 > by0 or ay1 > by1,
    }
    return bool(stands[relation])


RULES: dict[str, Callable[[str, np.ndarray, np.ndarray], bool]] = {"centres": by_centres, "edges": by_edges}


def score(params: Params, measured: Measured) -> pd.DataFrame:
    """One row a pair: id, image_id, relation, found and right, 0 or 1."""
    seen, rows = measured.once(found), []
    for layout in measured.once(called):
        boxes = seen.get(layout["id"], NOTHING)
        for pair in pairs_of(layout, params.margin):
            a, b = boxes.of(pair.first), boxes.of(pair.second)
            both = len(a) > 0 < len(b)
            right = both and RULES[params.rule](pair.relation, a, b)
            rows.append([layout["id"], layout["image_id"], pair.relation, float(both), float(right)])
    table = pd.DataFrame(rows, columns=["id", "image_id", "relation", "found", "right"])
    return table.astype({"id": "int64", "image_id": "int64", "found": float, "right": float})


def _columns(name: str, scored: Callable[[Measured], pd.DataFrame], measured: Measured) -> pd.DataFrame:
    """Of every layout with pairs the shares that are right and that are found."""
    table = measured.once(scored)
    shares = table.groupby(["id", "image_id"], sort=False)[["right", "found"]].mean().reset_index().assign(object=-1)
    return shares.rename(columns={"right": name, "found": f"{name}_found"})


def _share(
    scored: Callable[[Measured], pd.DataFrame],
    relation: str | None,
    under: str | None,
    measured: Measured,
    metric: Metric,
) -> Result:
    """The share of pairs, of one relation or of those that are found, that are right."""
    table = measured.once(scored)
    if relation:
        table = table[table["relation"] == relation]
    below = table[under].to_numpy(float) if under else np.ones(len(table))
    return ratio(table["right"].to_numpy(float), below, table["image_id"])
