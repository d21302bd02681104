"""Every metric, once: all that measures, orders, formats, compares, plots or accepts metrics reads METRICS.

A run may have further networks than those whose names have a meaning, and metrics of one's own: `metrics_of` what its files
state are METRICS, what these networks give, and what these metrics are described as.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from evaluation.metrics.adherence import measure_adherence, score_boxes
from evaluation.metrics.clip import measure_clip, score_clip
from evaluation.metrics.frechet import measure_frechet, swapped_frechet
from evaluation.metrics.judge import score_judge
from evaluation.metrics.kernel import measure_cmmd, measure_kid, swapped_cmmd, swapped_kid
from evaluation.metrics.metric import Level, Metric, Unit, mean_of_scores
from evaluation.metrics.neighbours import measure_neighbours
from evaluation.networks import DETECTIONS, DETECTOR, FEATURES, SCORES
from formats import shown
from formats.files import InputError

# Key of what files state under which metrics of one's own are, and there of what each stanza's metrics are described by.
OWN, DESCRIBED = "metrics", "described"


def _of_level(level: Level) -> Iterator[Metric]:
    distance = Metric("fid", level, "frechet", "FD", 2, measure_frechet, swapped=swapped_frechet, table="distances")
    distance = replace(distance, definition=FRECHET)
    published = replace(distance, published=f"{level}_fid")
    yield replace(published, headline=True)
    yield replace(published, quantity="fid_legacy", extractor="frechet_legacy", head="FD, legacy")
    kid = replace(distance, quantity="kid", head="KID x 1000", scale=1000, compute=measure_kid, swapped=swapped_kid)
    yield replace(kid, pairs="kid", definition=KID)
    cmmd = replace(distance, quantity="cmmd", extractor="cmmd", head="CMMD", digits=3, compute=measure_cmmd)
    yield replace(cmmd, swapped=swapped_cmmd, pairs="cmmd", definition=CMMD)
    plain = Metric("", level, "frechet", "", 3, measure_neighbours, higher_is_better=True, table="distances")
    plain = replace(plain, definition=NEIGHBOURS)
    for name in ("precision", "recall", "density", "coverage"):
        head = name.capitalize()
        yield replace(plain, quantity=name, head=head, counts=True, has_error=False, pairs="neighbourhood")
    clip = Metric("clip", level, "clip", "CLIP", 4, measure_clip, higher_is_better=True, headline=True)
    clip = replace(clip, scores="clip", scored=score_clip, flips=True, published=f"{level}_clip")
    yield replace(clip, definition=COSINE)


def _of_boxes(
    quantity: str, head: str, definition: str, figure_title: str = "", scores: str = "", unit: Unit = "box"
) -> Metric:
    metric = Metric(quantity, "box", "detector", head, 3, measure_adherence, higher_is_better=True, counts=True)
    scored = score_boxes(DETECTOR) if scores else None
    metric = replace(metric, figure_title=figure_title, scores=scores, scored=scored, unit=unit, table="adherence")
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
SURELY = "by detections of a score of at least {sure}"
COSINE = 'raw cosine by {network}; a region\'s text is "{label_template}".'


def _of_detector() -> Iterator[Metric]:
    yield _of_boxes("ap", "AP", COCO)
    yield _of_boxes("ap50", "AP50", COCO, "AP50 of the boxes")
    yield _of_boxes("ap75", "AP75", COCO)
    any_of_it = "boxes that any detection of their label overlaps by {overlap}"
    yield _of_boxes("recall50", "Recall", any_of_it, scores="recalled")
    yield _of_boxes("best_iou", "Best IoU", f"mean best overlap of a box {SURELY}", scores="best_iou")
    serving = f"boxes found {SURELY}, each serving one"
    yield _of_boxes("instance_success", "Instances", serving, "Objects found", "success")
    whole = f"images whose boxes are all found {SURELY}"
    yield _of_boxes("image_success", "Images", whole, "Images with all found", "image_success", "image")
    labels = f"labels of an image with the right number {SURELY}"
    yield _of_boxes("count_right", "Counts", labels, "Counts right", "count_right", "label")


METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_of_level("image"), *_of_level("region"), *_of_detector())
}


def _by_features(name: str, about: Mapping[str, Any]) -> Iterator[Metric]:
    """The Frechet distances by a further extractor."""
    levels: tuple[Level, ...] = ("image", "region")
    for level in levels:
        head = f"FD, {about['name']}"
        metric = Metric(f"fd_{name}", level, name, head, 2, measure_frechet, swapped=swapped_frechet, table="distances")
        yield replace(
            metric, figure_title=f"{level.capitalize()} FD", of=about["name"], floored=True, least=about["least"]
        )


def _by_detections(name: str, about: Mapping[str, Any]) -> Iterator[Metric]:
    """Layout adherence by a further detector."""
    for metric in _of_detector():
        further = replace(metric, extractor=name, of=about["name"], before=f"{name}_")
        if metric.scores:
            further = replace(further, scores=f"{name}_{metric.scores}", scored=score_boxes(name))
        yield further


def _by_scores(name: str, about: Mapping[str, Any]) -> Iterator[Metric]:
    """The mean of what a judge says."""
    metric = Metric(name, "image", name, about["name"], 3, mean_of_scores, higher_is_better=True, table="judges")
    yield replace(metric, scores=name, scored=score_judge(name), flips=True)


FURTHER = {FEATURES: _by_features, DETECTIONS: _by_detections, SCORES: _by_scores}


def metrics_of(about: Mapping[str, Any], own: Iterable[Metric] = ()) -> dict[str, Metric]:
    """METRICS, those by the further networks that files state (`about` says what each measures), and metrics of one's own.

    own: the latter, to be computed; without them they are what `about` describes, enough to order, format, compare and show
    them. Raises InputError for two of a name, and for what is described as none.
    """
    stated = {name: one for name, one in about.items() if isinstance(one, Mapping) and "measures" in one}
    further = [metric for name, one in stated.items() for metric in FURTHER[one["measures"]](name, one)]
    found = dict(METRICS)
    for metric in (*further, *(own or _described(about))):
        if metric.name in found:
            where = f"extractors.{metric.extractor}" if metric.extractor in stated else OWN
            raise InputError(f"{where}: the metric {metric.name} is there already; choose another name")
        found[metric.name] = metric
    return found


def _described(about: Mapping[str, Any]) -> Iterator[Metric]:
    for stanza, one in (about.get(OWN) or {}).items():
        described = one.get(DESCRIBED, {})
        if not isinstance(described, Mapping):
            raise InputError(
                f"{OWN}.{stanza} is described as {shown(described)}, expected metrics by name; measure again"
            )
        for name, content in described.items():
            try:
                metric = Metric.of_description(content)
            except (TypeError, KeyError) as error:
                raise InputError(
                    f"{OWN}.{stanza}: {name} is not described as a metric ({error}); measure again"
                ) from None
            if metric.name != name:
                raise InputError(f"{OWN}.{stanza}: {name} is described as {metric.name}; measure again")
            yield metric


def own_names(about: Mapping[str, Any]) -> set[str]:
    """Names of the metrics of one's own that a file describes."""
    return {name for one in (about.get(OWN) or {}).values() for name in one.get(DESCRIBED, {})}


def headline() -> list[Metric]:
    """The metrics of the paper's tables, in their order."""
    return [metric for metric in METRICS.values() if metric.headline]


def in_table(name: str, about: Mapping[str, Any]) -> list[Metric]:
    """The metrics of another table, in its order, of a run whose features state `about`."""
    return [metric for metric in metrics_of(about).values() if metric.table == name]


def metric_of(name: str, known: Mapping[str, Metric] = METRICS) -> Metric:
    """The metric of a name, among those of a run; raises InputError for an unknown one."""
    if name not in known:
        raise InputError(f"{name}: no metric of METRICS, which has {', '.join(known)}")
    return known[name]


def values_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metric -> value, se and left_out, of all that a metrics file measures."""
    found = {name: result for name, result in content["metrics"].items() if result}
    for metric in metrics_of(content.get("protocol", {})).values():
        plain = content["distances"].get(metric.level) or {}
        if not metric.has_error and metric.quantity in plain:
            found[metric.name] = {"value": plain[metric.quantity], "se": None, "left_out": []}
    return found
