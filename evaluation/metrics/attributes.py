"""Attributes by CLIP: does an object look as its layout says, red and not blue?

A region's crop is compared with one text a value, such as "a red object"; it is right where the largest cosine is that of the
object's own value. So InstanceDiffusion judges its colours and textures (its attribute binding), with its own checkpoint and
crops cut to their centre square; here the network and the regions are those of the configuration. Objects that state the
attribute and are scored as regions take part. `NAME_in_place` further asks that the detector finds the object in its box:
COCO-MIG's success of an instance, with CLIP in the place of its masks and hues, and so not that number.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.metrics.adherence import score_boxes
from evaluation.metrics.metric import KEYS, Measured, Metric, Result, mean_of_scores
from evaluation.networks import DETECTOR
from formats.params import expect

if TYPE_CHECKING:
    from evaluation.metrics.own import Shard


@dataclass(frozen=True)
class Params:
    """values: all that are told apart, in the order of the texts; attribute: the key of objects' `attributes` that states one.

    template: the text of a value, which stands at "{value}"; an object's category, else its phrase, at "{label}".
    """

    values: Sequence[str]
    attribute: str = "color"
    template: str = "a {value} object"

    def __post_init__(self) -> None:
        expect("attribute", self.attribute, lambda name: isinstance(name, str) and bool(name.strip()), "a text")
        expect("template", self.template, _is_template, 'text with "{value}", perhaps "{label}", and no other braces')
        expect("values", self.values, _are_values, "a list of at least two different texts")


def _are_values(values: Any) -> bool:
    texts = isinstance(values, list | tuple) and all(isinstance(value, str) and value.strip() for value in values)
    return texts and len({plain(value) for value in values}) == len(values) > 1


def _is_template(text: Any) -> bool:
    try:
        parsed = [field[1:] for field in string.Formatter().parse(text) if field[1] is not None]
    except (TypeError, ValueError):
        return False
    named = {("value", "", None), ("label", "", None)}
    return ("value", "", None) in parsed and named.issuperset(parsed)


def plain(value: Any) -> str:
    """An attribute's value as it is compared: without case and outer blanks."""
    return str(value).strip().casefold()


def metrics(name: str, params: Params) -> Iterator[Metric]:
    """The share of objects that look as they should, and of those that also lie where they should."""
    head = name.replace("_", " ").capitalize()
    metric = Metric(
        name,
        "region",
        "clip",
        head,
        3,
        partial(measure_attribute, name, params),
        scores=f"region_{name}",
        scored=partial(score, name),
        flips=True,
        higher_is_better=True,
        figure_title=f"{head} right",
        table="adherence",
        counts=True,
        note=f"{head}: the share of regions, of objects with such an attribute ({params.attribute}), whose CLIP cosine is "
        f'largest with their own of the texts "{params.template}", of {", ".join(params.values)}.',
    )
    yield metric
    yield Metric(
        f"{name}_in_place",
        "region",
        "detector",
        f"{head} in place",
        3,
        mean_of_scores,
        scores=f"region_{name}_in_place",
        scored=partial(score_in_place, name),
        flips=True,
        higher_is_better=True,
        table="adherence",
        counts=True,
        note=f"{head} in place: the share of the same that are right and found in their box as well.",
    )


def carry(params: Params, shard: "Shard") -> dict[str, np.ndarray]:
    """id, object and image_id of each region whose object has one of the values, the place of its value among them, and its
    cosines with the texts of all values [M, A], float64; and of how many regions objects have another value."""
    places, things = {plain(value): place for place, value in enumerate(params.values)}, shard.things()
    stated = [thing.get("attributes", {}).get(params.attribute) for thing in things]
    rows = [place for place, value in enumerate(stated) if value is not None and plain(value) in places]
    others = sum(value is not None for value in stated) - len(rows)
    texts = [
        params.template.format(value=value, label=things[row].get("category") or things[row]["phrase"])
        for row in rows
        for value in params.values
    ]
    cosines = np.zeros((0, len(params.values)))
    if rows:
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        encoded_TD = unit_rows(shard.texts(list(distinct)))
        of_MA = np.array([distinct[text] for text in texts]).reshape(len(rows), -1)
        seen_MD = unit_rows(shard.arrays["region_clip"][rows])
        cosines = np.einsum("md,mad->ma", seen_MD, encoded_TD[of_MA])
    keys = {f"{key}s": shard.regions[key].to_numpy(np.int64)[rows] for key in KEYS}
    wanted = np.array([places[plain(stated[row])] for row in rows], np.int64)
    return keys | {"wanted": wanted, "cosines": cosines, "others": np.array([others])}


def unit_rows(features_ND: np.ndarray) -> np.ndarray:
    """Features at unit length, float64."""
    wide = np.asarray(features_ND, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def measure_attribute(name: str, params: Params, measured: Measured, metric: Metric) -> Result:
    """The share that is right; None without a region to judge."""
    result, others = mean_of_scores(measured, metric), int(measured.row.carried(name, "others").sum())
    remark = f"{others} regions of objects of another {params.attribute} than {', '.join(params.values)} are left out."
    return result and result | ({"remark": remark} if others else {})


def score(name: str, measured: Measured) -> pd.DataFrame:
    """1 where the object's own value has the largest cosine, alone, else 0: texts that are cut alike tell nothing."""
    arrays = {key: measured.row.carried(name, f"{key}s") for key in KEYS}
    cosines, wanted = measured.row.carried(name, "cosines"), measured.row.carried(name, "wanted")
    own = cosines[np.arange(len(wanted)), wanted]
    right = (cosines >= own[:, None]).sum(1) == 1
    return pd.DataFrame(arrays | {f"region_{name}": right.astype(float)})


def score_in_place(name: str, measured: Measured) -> pd.DataFrame:
    """1 where that holds and the box succeeds, else 0."""
    placed = measured.once(score_boxes(DETECTOR))[[*KEYS, "success"]]
    both = score(name, measured).merge(placed.astype(dict.fromkeys(KEYS, "int64")), "left", KEYS)
    both[f"region_{name}_in_place"] = both[f"region_{name}"] * both["success"].astype(float)
    return both[[*KEYS, f"region_{name}_in_place"]]
