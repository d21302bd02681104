"""Layout adherence: does a detector find each conditioning box's object where the layout put it?

The conditioning boxes are the ground truth. AP, AP50 and AP75 are pycocotools'. `sure` detections, those with a score that the
detector's Limits call sure, decide the rest: an instance succeeds when a detection of its label covers it with the intersection
over union that they say, each detection serving one box, best scores first; an image succeeds when all of its instances do; a
count is right when there are as many sure detections of a label as boxes.

A layout's `ignored` boxes, of what its photo shows besides the objects, are ignore regions, as COCO's crowds are: a detection
of their label that serves no box and lies on one of them by that overlap (for AP: by the threshold), as a share of its own
area, is no false one.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.metrics.jackknife import Statistic, groups, jackknife, kept, leave_out_mean
from evaluation.networks import DETECTOR, PARTS, USUAL, Limits, detection_arrays, limits_of
from formats.files import InputError

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

SIDE = 1000  # pycocotools takes pixels and treats areas under one as nothing
# The one threshold of intersection over union; None: the mean over 0.50, 0.55, ... 0.95.
AVERAGE_PRECISION = {"ap": None, "ap50": 0.5, "ap75": 0.75}
# Tags that name the two objects of a relation, of which a layout without boxes has no others.
STATED = ("object_1", "object_2")
# Columns of the scores file.
SCORED = ("best_iou", "recalled", "success", "image_success", "count_right")


def measure_adherence(measured: "Measured", metric: "Metric") -> "Result":
    """One of the metrics of layout adherence by a detector; None without any box."""
    return measured.once(adherence, metric.extractor).get(metric.quantity)


def adherence(measured: "Measured", detector: str) -> dict[str, "Result"]:
    """Every metric of layout adherence by a detector, none without a box."""
    grounded, detections, limits = measured.once(detected, detector)
    if not grounded:
        return {}
    numbers = groups(row["image_id"] for row in grounded)
    precisions = leave_out_precisions(grounded, detections, limits.most)
    found: dict[str, Result] = {name: asdict(jackknife(one, numbers)) for name, one in precisions.items()}
    shares = leave_out_shares(*measured.once(matches, detector))
    return found | {name: asdict(jackknife(*pair)) for name, pair in shares.items()}


def detected(measured: "Measured", detector: str) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], Limits]:
    """The layouts with boxes, by what the detector calls their objects, all that it found, and what counts as found."""
    of_it = measured.row.about[detector]
    arrays = zip(PARTS, detection_arrays(detector), strict=True)
    detections = {f"detection_{part}": measured.row.read(name) for part, name in arrays}
    grounded = [row for row in measured.once(called, detector) if row["objects"]]
    return grounded, detections, limits_of(of_it)


def called(measured: "Measured", detector: str = DETECTOR) -> list[dict[str, Any]]:
    """The row's layouts, by what the detector calls their objects."""
    params = measured.row.about[detector].get("params", {})
    return [named(row, params) for row in measured.layouts]


def matches(measured: "Measured", detector: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`match` of a row, by a detector."""
    return match(*measured.once(detected, detector))


@cache
def score_boxes(detector: str) -> Callable[["Measured"], pd.DataFrame]:
    """What makes `scored` by a detector; of further ones the columns have its name before them."""
    return partial(_score_boxes, detector)


def _score_boxes(detector: str, measured: "Measured") -> pd.DataFrame:
    found = scored(*measured.once(matches, detector))
    if detector == DETECTOR:
        return found
    return found.drop(columns="phrase").rename(columns={name: f"{detector}_{name}" for name in SCORED})


def named(row: dict[str, Any], params: Any) -> dict[str, Any]:
    """A layout whose phrases are what a detector of these parameters calls its objects.

    params: an object or a mapping; without `ask` it has labels of its own, which are categories.
    """
    ask = params.get("ask") if isinstance(params, Mapping) else getattr(params, "ask", None)
    return row if ask == "phrase" else by_label(row)


def asked(row: dict[str, Any], params: Any) -> list[str]:
    """What a detector is asked for of a layout, each phrase once: its objects, and those that its stated relation names."""
    stated = [row.get("tags", {}).get(tag) for tag in STATED]
    phrases = [*(thing["phrase"] for thing in named(row, params)["objects"]), *stated]
    return list(dict.fromkeys(phrase for phrase in phrases if isinstance(phrase, str) and phrase))


def by_label(row: dict[str, Any]) -> dict[str, Any]:
    """A layout whose phrases are its objects' categories, where they have one."""
    things = [thing | {"phrase": thing.get("category") or thing["phrase"]} for thing in row["objects"]]
    return row | {"objects": things}


def check_labels(layouts: Sequence[dict[str, Any]], labels: Sequence[str], name: str, key: str = DETECTOR) -> None:
    """Raises InputError for an object that the detector `key` has no word for: it could never be found."""
    for row in layouts:
        for thing in by_label(row)["objects"]:
            if thing["phrase"] not in labels:
                raise InputError(
                    f"layout {row['id']}: phrase {thing['phrase']!r} is no label of the detector {name}; give the object a"
                    f" `category` that is, or set extractors.{key} to null"
                )


def match(
    layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray], limits: Limits = USUAL
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a box (id, object, image_id, phrase, best_iou, recalled, success), one an image and label (id, image_id, phrase,
    wanted, counted, count_right).

    best_iou is the best overlap with a sure detection of the label, recalled whether any detection of it overlaps enough;
    wanted and counted are the numbers of boxes and of sure detections that are not excused.
    """
    boxes, counts = [], []
    of_image = dict(_by_image(detections))
    for row in layouts:
        for phrase, wanted, seen in _by_phrase(row, of_image):
            iou = overlaps(_stacked(wanted["box"]), _stacked(seen["box"]))
            sure = int((seen["score"] >= limits.sure).sum())
            won = _assigned(iou[:, :sure], limits.overlap)
            on_ignored = _excused(row, phrase, _stacked(seen["box"])[:sure], limits.overlap)
            excused = on_ignored - set(won.values())
            for place, number in enumerate(wanted["object"]):
                best = float(iou[place, :sure].max(initial=0))
                recalled = bool(iou[place].max(initial=0) >= limits.overlap)
                boxes.append([row["id"], number, row["image_id"], phrase, best, recalled, place in won])
            counted = sure - len(excused)
            counts.append([row["id"], row["image_id"], phrase, len(wanted), counted, counted == len(wanted)])
    columns = ["id", "object", "image_id", "phrase", "best_iou", "recalled", "success"]
    return pd.DataFrame(boxes, columns=columns), pd.DataFrame(
        counts, columns=["id", "image_id", "phrase", "wanted", "counted", "count_right"]
    )


def found_boxes(
    layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray], limits: Limits = USUAL
) -> dict[tuple[int, int], list[float]]:
    """(layout id, object) -> the box of a sure detection of its label.

    An object that succeeds in `match` has the box of that detection; the others have what is left, the best first, each the
    one that covers it best, however far away.
    """
    of_image, found = dict(_by_image(detections)), {}
    for row in layouts:
        for _, wanted, seen in _by_phrase(row, of_image):
            boxes = _stacked(seen.loc[seen["score"] >= limits.sure, "box"])
            iou = overlaps(_stacked(wanted["box"]), boxes)
            taken = _assigned(iou, limits.overlap)
            iou[list(taken)], iou[:, list(taken.values())] = -1, -1
            for place, number in (taken | _assigned(iou, 0)).items():
                found[row["id"], int(wanted["object"].iloc[place])] = boxes[number].tolist()
    return found


def _by_phrase(
    row: dict[str, Any], of_image: Mapping[int, pd.DataFrame]
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Of each phrase of a layout its objects, and the detections of that label, best first."""
    found = of_image.get(row["id"], pd.DataFrame(columns=["label", "score", "box"]))
    things = pd.DataFrame(row["objects"], columns=["phrase", "box"]).reset_index(names="object")
    for phrase, wanted in things.groupby("phrase", sort=False):
        seen = found[found["label"] == phrase].sort_values("score", ascending=False, kind="stable")
        yield str(phrase), wanted, seen


def _by_image(detections: dict[str, np.ndarray]) -> Iterator[tuple[int, pd.DataFrame]]:
    table = pd.DataFrame({"id": detections["detection_ids"], "label": detections["detection_labels"]})
    table = table.assign(score=detections["detection_scores"], box=list(detections["detection_boxes"]))
    for number, rows in table.groupby("id"):
        yield int(str(number)), rows


def _stacked(boxes: "pd.Series[Any]") -> np.ndarray:
    return np.array([list(box) for box in boxes], np.float64).reshape(-1, 4)


def _excused(row: dict[str, Any], phrase: str, boxes_N4: np.ndarray, overlap: float) -> set[int]:
    """Places of the boxes that lie on a region of the label that is ignored, by that share of their own area."""
    regions = [region["box"] for region in row.get("ignored", []) if region["phrase"] == phrase]
    inside_NM = _intersections(boxes_N4, np.array(regions, np.float64).reshape(-1, 4))
    share_N = inside_NM.max(1, initial=0) / np.maximum(_areas(boxes_N4), np.finfo(float).tiny)
    return set(np.flatnonzero(share_N >= overlap).tolist())


def overlaps(a_N4: np.ndarray, b_M4: np.ndarray) -> np.ndarray:
    """Intersection over union of every two xyxy boxes [N, M]."""
    inside = _intersections(a_N4, b_M4)
    union = _areas(a_N4)[:, None] + _areas(b_M4)[None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def _intersections(a_N4: np.ndarray, b_M4: np.ndarray) -> np.ndarray:
    low = np.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    high = np.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    return (high - low).clip(min=0).prod(-1)


def _areas(boxes_N4: np.ndarray) -> np.ndarray:
    return (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(-1)


def _assigned(iou_NM: np.ndarray, overlap: float) -> dict[int, int]:
    """Box -> the detection that takes it: in order of score each takes the free box that it covers best, if by enough."""
    taken: dict[int, int] = {}
    for number, column in enumerate(iou_NM.T):
        free = [place for place in range(len(column)) if place not in taken and column[place] >= overlap]
        if free:
            taken[max(free, key=lambda place: column[place])] = number
    return taken


def leave_out_precisions(
    layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray], most: int = Limits.most
) -> dict[str, Statistic]:
    """Each of AVERAGE_PRECISION -> its value by pycocotools without a jackknife group's images (None: with all)."""
    evaluated = _coco_eval(layouts, detections, most)
    every, results = list(evaluated.params.imgIds), evaluated.evalImgs
    group_of = {row["id"]: int(groups([row["image_id"]])[0]) for row in layouts}
    inside_of = np.array([group_of[number] for number in every])

    @cache
    def by_threshold(group: int | None) -> np.ndarray:
        inside = kept(inside_of, group)
        evaluated.evalImgs = [row for place, row in enumerate(results) if inside[place % len(every)]]
        evaluated.params.imgIds = evaluated._paramsEval.imgIds = np.array(every)[inside].tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluated.accumulate()
        return evaluated.eval["precision"][:, :, :, 0, 0]

    def statistic(overlap: float | None) -> Statistic:
        chosen = slice(None) if overlap is None else np.isclose(evaluated.params.iouThrs, overlap)
        return lambda group: _mean_of_known(by_threshold(group)[chosen])

    return {metric: statistic(overlap) for metric, overlap in AVERAGE_PRECISION.items()}


def _mean_of_known(precision: np.ndarray) -> float:
    """pycocotools writes -1 for labels without a box."""
    return float(precision[precision > -1].mean())


def _coco_eval(layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray], most: int) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({thing["phrase"] for row in layouts for thing in row["objects"]})
    number = {label: place + 1 for place, label in enumerate(labels)}
    truth, found = COCO(), COCO()
    shared = {"images": [{"id": row["id"]} for row in layouts], "categories": [{"id": n} for n in number.values()]}
    wanted = [
        (row["id"], thing["phrase"], thing["box"], 1.0, crowd)
        for row in layouts
        for crowd, things in enumerate((row["objects"], row.get("ignored", [])))
        for thing in things
        if thing["phrase"] in number
    ]
    columns = (detections[f"detection_{name}"].tolist() for name in ("ids", "labels", "boxes", "scores"))
    seen = [row for row in zip(*columns, strict=True) if row[1] in number]
    for index, rows in ((truth, wanted), (found, seen)):
        index.dataset = shared | {"annotations": [_annotation(i, number, *row) for i, row in enumerate(rows, 1)]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluated = COCOeval(truth, found, "bbox")
        evaluated.params.areaRng, evaluated.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluated.params.maxDets = [most]
        evaluated.evaluate()
    return evaluated


def _annotation(
    index: int, number: dict[str, int], image: int, label: str, box: Sequence[float], score: float, crowd: int = 0
) -> dict[str, Any]:
    x0, y0, x1, y1 = (SIDE * edge for edge in box)
    size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": crowd}
    return {"id": index, "image_id": image, "category_id": number[label], "score": score} | size


def leave_out_shares(boxes: pd.DataFrame, counts: pd.DataFrame) -> dict[str, tuple[Statistic, np.ndarray]]:
    """metric -> (its value without a jackknife group, the groups it is over), of what `match` found."""
    images = _found_images(boxes)
    columns: dict[str, tuple[pd.DataFrame, str]] = {
        "recall50": (boxes, "recalled"),
        "best_iou": (boxes, "best_iou"),
        "instance_success": (boxes, "success"),
        "image_success": (images, "success"),
        "count_right": (counts, "count_right"),
    }
    shares = {}
    for metric, (table, column) in columns.items():
        numbers = groups(table["image_id"])
        shares[metric] = leave_out_mean(table[column].to_numpy(np.float64), numbers), numbers
    return shares


def _found_images(boxes: pd.DataFrame) -> pd.DataFrame:
    """Images with boxes, and whether all of theirs are found."""
    return boxes.groupby(["id", "image_id"])["success"].all().reset_index()


def scored(boxes: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Of what `match` found a row a box, and one an image with boxes (object -1): every column is known on the rows that its
    metric is the mean of.

    image_success is of the images' rows, count_right of the first box of each label; all others are of every box.
    """
    first = boxes.drop_duplicates(["id", "phrase"])[["id", "phrase", "object"]]
    known = first.merge(counts[["id", "phrase", "count_right"]])[["id", "object", "count_right"]]
    wholes = _found_images(boxes).rename(columns={"success": "image_success"}).assign(object=-1)
    return pd.concat([boxes.merge(known, "left", ["id", "object"]), wholes], ignore_index=True)
