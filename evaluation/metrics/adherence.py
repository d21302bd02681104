"""Layout adherence: does a detector find each conditioning box's object where the layout put it?

The conditioning boxes are the ground truth. AP, AP50 and AP75 are pycocotools'. `sure` detections, those with a score of at
least SURE, decide the rest: an instance succeeds when a detection of its label covers it with an intersection over union of
0.5, each detection serving one box, best scores first; an image succeeds when all of its instances do; a count is right when
there are as many sure detections of a label as boxes.

A layout's `ignored` boxes, of what its photo shows besides the objects, are ignore regions, as COCO's crowds are: a detection
of their label that serves no box and lies on one of them by half (for AP: by the threshold) of its own area is no false one.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.metrics.jackknife import Statistic, groups, jackknife, kept, leave_out_mean
from evaluation.metrics.summary import DETECTIONS
from formats.files import InputError

if TYPE_CHECKING:
    from evaluation.metrics.metric import Measured, Metric, Result

SURE = 0.5
OVERLAP = 0.5
SIDE = 1000  # pycocotools takes pixels and treats areas under one as nothing
# The one threshold of intersection over union; None: the mean over 0.50, 0.55, ... 0.95.
AVERAGE_PRECISION = {"ap": None, "ap50": 0.5, "ap75": 0.75}


def measure_adherence(measured: "Measured", metric: "Metric") -> "Result":
    """One of the metrics of layout adherence; None without any box."""
    return measured.once(adherence)[0].get(metric.quantity)


def adherence(measured: "Measured") -> tuple[dict[str, "Result"], pd.DataFrame]:
    """Every metric of layout adherence, none without a box; and the rows of the scores file (`scored`)."""
    detections = {name: measured.row.read(name) for name in DETECTIONS}
    grounded = [by_label(row) for row in measured.layouts if row["objects"]]
    shares, scores = leave_out_shares(grounded, detections)
    if not grounded:
        return {}, scores
    numbers = groups(row["image_id"] for row in grounded)
    precisions = leave_out_precisions(grounded, detections)
    found: dict[str, Result] = {name: asdict(jackknife(one, numbers)) for name, one in precisions.items()}
    return found | {name: asdict(jackknife(*pair)) for name, pair in shares.items()}, scores


def by_label(row: dict[str, Any]) -> dict[str, Any]:
    """A layout whose phrases are what a detector calls them: an object's category, where it has one."""
    named = [thing | {"phrase": thing.get("category") or thing["phrase"]} for thing in row["objects"]]
    return row | {"objects": named}


def check_labels(layouts: Sequence[dict[str, Any]], labels: Sequence[str], name: str) -> None:
    """Raises InputError for an object that the detector has no word for: it could never be found."""
    for row in layouts:
        for thing in by_label(row)["objects"]:
            if thing["phrase"] not in labels:
                raise InputError(
                    f"layout {row['id']}: phrase {thing['phrase']!r} is no label of the detector {name}; give the object a"
                    " `category` that is, or set extractors.detector to null"
                )


def match(layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a box (id, object, image_id, phrase, best_iou, recalled, success), one an image and label (count_right).

    best_iou is the best overlap with a sure detection of the label, recalled whether any detection of it reaches OVERLAP.
    """
    boxes, counts = [], []
    of_image = dict(_by_image(detections))
    for row in layouts:
        found = of_image.get(row["id"], pd.DataFrame(columns=["label", "score", "box"]))
        things = pd.DataFrame(row["objects"], columns=["phrase", "box"]).reset_index(names="object")
        for phrase, wanted in things.groupby("phrase", sort=False):
            seen = found[found["label"] == phrase].sort_values("score", ascending=False, kind="stable")
            iou = overlaps(_stacked(wanted["box"]), _stacked(seen["box"]))
            sure = int((seen["score"] >= SURE).sum())
            won = _assigned(iou[:, :sure])
            excused = _excused(row, str(phrase), _stacked(seen["box"])[:sure]) - set(won.values())
            for place, number in enumerate(wanted["object"]):
                best = float(iou[place, :sure].max(initial=0))
                recalled = bool(iou[place].max(initial=0) >= OVERLAP)
                boxes.append([row["id"], number, row["image_id"], phrase, best, recalled, place in won])
            counts.append([row["id"], row["image_id"], phrase, sure - len(excused) == len(wanted)])
    columns = ["id", "object", "image_id", "phrase", "best_iou", "recalled", "success"]
    return pd.DataFrame(boxes, columns=columns), pd.DataFrame(
        counts, columns=["id", "image_id", "phrase", "count_right"]
    )


def _by_image(detections: dict[str, np.ndarray]) -> Iterator[tuple[int, pd.DataFrame]]:
    table = pd.DataFrame({"id": detections["detection_ids"], "label": detections["detection_labels"]})
    table = table.assign(score=detections["detection_scores"], box=list(detections["detection_boxes"]))
    for number, rows in table.groupby("id"):
        yield int(str(number)), rows


def _stacked(boxes: "pd.Series[Any]") -> np.ndarray:
    return np.array([list(box) for box in boxes], np.float64).reshape(-1, 4)


def _excused(row: dict[str, Any], phrase: str, boxes_N4: np.ndarray) -> set[int]:
    """Places of the boxes that lie on a region of the label that is ignored, by OVERLAP of their own area."""
    regions = [region["box"] for region in row.get("ignored", []) if region["phrase"] == phrase]
    inside_NM = _intersections(boxes_N4, np.array(regions, np.float64).reshape(-1, 4))
    share_N = inside_NM.max(1, initial=0) / np.maximum(_areas(boxes_N4), np.finfo(float).tiny)
    return set(np.flatnonzero(share_N >= OVERLAP).tolist())


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


def _assigned(iou_NM: np.ndarray) -> dict[int, int]:
    """Box -> the detection that takes it: in order of score each takes the free box that it covers best, if by OVERLAP."""
    taken: dict[int, int] = {}
    for number, column in enumerate(iou_NM.T):
        free = [place for place in range(len(column)) if place not in taken and column[place] >= OVERLAP]
        if free:
            taken[max(free, key=lambda place: column[place])] = number
    return taken


def leave_out_precisions(layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray]) -> dict[str, Statistic]:
    """Each of AVERAGE_PRECISION -> its value by pycocotools without a jackknife group's images (None: with all)."""
    evaluated = _coco_eval(layouts, detections)
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


def _coco_eval(layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray]) -> Any:
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
        evaluated.params.maxDets = [100]
        evaluated.evaluate()
    return evaluated


def _annotation(
    index: int, number: dict[str, int], image: int, label: str, box: Sequence[float], score: float, crowd: int = 0
) -> dict[str, Any]:
    x0, y0, x1, y1 = (SIDE * edge for edge in box)
    size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": crowd}
    return {"id": index, "image_id": image, "category_id": number[label], "score": score} | size


def leave_out_shares(
    layouts: Sequence[dict[str, Any]], detections: dict[str, np.ndarray]
) -> tuple[dict[str, tuple[Statistic, np.ndarray]], pd.DataFrame]:
    """metric -> (its value without a jackknife group, the groups it is over), and the rows of the scores file (`scored`)."""
    boxes, counts = match(layouts, detections)
    images = boxes.groupby(["id", "image_id"])["success"].all().reset_index()
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
    return shares, scored(boxes, images, counts)


def scored(boxes: pd.DataFrame, images: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """A row a box, and one an image with boxes (object -1): every column is known on the rows that its metric is the mean of.

    image_success is of the images' rows, count_right of the first box of each label; all others are of every box.
    """
    first = boxes.drop_duplicates(["id", "phrase"])[["id", "phrase", "object"]]
    known = first.merge(counts[["id", "phrase", "count_right"]])[["id", "object", "count_right"]]
    wholes = images.rename(columns={"success": "image_success"}).assign(object=-1)
    return pd.concat([boxes.merge(known, "left", ["id", "object"]), wholes], ignore_index=True)
