"""Every metric, once: all that measures, orders, formats, compares, plots or accepts metrics reads METRICS.

A metric on features that are there takes an entry here and a line in docs/metrics.md.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from evaluation.metrics.adherence import OVERLAP, SURE, measure_adherence
from evaluation.metrics.clip import measure_clip
from evaluation.metrics.frechet import measure_frechet, swapped_frechet
from evaluation.metrics.kernel import measure_cmmd, measure_kid, swap_cmmd, swap_kid
from evaluation.metrics.metric import Level, Metric, Unit
from evaluation.metrics.neighbours import measure_neighbours
from formats.files import InputError


def _of_level(level: Level) -> Iterator[Metric]:
    distance = Metric("fid", level, "frechet", "FD", 2, measure_frechet, swapped=swapped_frechet, table="distances")
    distance = replace(distance, definition=FRECHET)
    published = replace(distance, published=f"{level}_fid")
    yield replace(published, headline=True)
    yield replace(published, quantity="fid_legacy", extractor="frechet_legacy", head="FD, legacy")
    kid = replace(distance, quantity="kid", head="KID x 1000", scale=1000, compute=measure_kid, swapped=swap_kid)
    yield replace(kid, pairs="kid", definition=KID)
    cmmd = replace(distance, quantity="cmmd", extractor="cmmd", head="CMMD", digits=3, compute=measure_cmmd)
    yield replace(cmmd, swapped=swap_cmmd, pairs="cmmd", definition=CMMD)
    plain = Metric("", level, "frechet", "", 3, measure_neighbours, higher_is_better=True, table="distances")
    plain = replace(plain, definition=NEIGHBOURS)
    for name in ("precision", "recall", "density", "coverage"):
        head = name.capitalize()
        yield replace(plain, quantity=name, head=head, counts=True, has_error=False, pairs="neighbourhood")
    clip = Metric("clip", level, "clip", "CLIP", 4, measure_clip, higher_is_better=True, headline=True)
    yield replace(clip, scores="clip", flips=True, published=f"{level}_clip", definition=COSINE)


def _of_boxes(
    quantity: str, head: str, definition: str, figure_title: str = "", scores: str = "", unit: Unit = "box"
) -> Metric:
    metric = Metric(quantity, "box", "detector", head, 3, measure_adherence, higher_is_better=True, counts=True)
    metric = replace(metric, figure_title=figure_title, scores=scores, unit=unit, table="adherence")
    return replace(metric, definition=f"{definition}, by {{network}}.")


# What tables say of metrics that share a sentence.
FRECHET = (
    "Frechet distance to `real` between features of {network}; whole images {resolution}. Features by torch {torch} in "
    "batches of {batch}."
)
KID = "kernel distance (x . y / D + 1)^3 to `real`, over all pairs, unbiased, between features of {network}."
CMMD = "maximum mean discrepancy to `real` between features of {network}."
NEIGHBOURS = (
    "by 5 nearest neighbours among features of {network}; values depend on the number of samples, and are not tested, for "
    "want of an error."
)
COCO = "as COCO defines it, with the layouts' boxes as ground truth"
SURELY = f"by detections of a score of at least {SURE}"
COSINE = 'raw cosine by {network}; a region\'s text is "{label_template}".'


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *_of_level("image"),
        *_of_level("region"),
        _of_boxes("ap", "AP", COCO),
        _of_boxes("ap50", "AP50", COCO, "AP50 of the boxes"),
        _of_boxes("ap75", "AP75", COCO),
        _of_boxes(
            "recall50", "Recall", f"boxes that any detection of their label overlaps by {OVERLAP}", scores="recalled"
        ),
        _of_boxes("best_iou", "Best IoU", f"mean best overlap of a box {SURELY}", scores="best_iou"),
        _of_boxes(
            "instance_success", "Instances", f"boxes found {SURELY}, each serving one", "Objects found", "success"
        ),
        _of_boxes(
            "image_success",
            "Images",
            f"images whose boxes are all found {SURELY}",
            "Images with all found",
            "image_success",
            "image",
        ),
        _of_boxes(
            "count_right",
            "Counts",
            f"labels of an image with the right number {SURELY}",
            "Counts right",
            "count_right",
            "label",
        ),
    )
}


def headline() -> list[Metric]:
    """The metrics of the paper's tables, in their order."""
    return [metric for metric in METRICS.values() if metric.headline]


def in_table(name: str) -> list[Metric]:
    """The metrics of another table, in its order."""
    return [metric for metric in METRICS.values() if metric.table == name]


def metric_of(name: str) -> Metric:
    """The metric of a name; raises InputError for an unknown one."""
    if name not in METRICS:
        raise InputError(f"{name}: no metric of METRICS, which has {', '.join(METRICS)}")
    return METRICS[name]


def values_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metric -> value, se and left_out, of all that a metrics file measures."""
    found = {name: result for name, result in content["metrics"].items() if result}
    for metric in METRICS.values():
        plain = content["distances"].get(metric.level) or {}
        if not metric.has_error and metric.quantity in plain:
            found[metric.name] = {"value": plain[metric.quantity], "se": None, "left_out": []}
    return found
