"""Layout adherence against hand-made scenes and pycocotools' own summary."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.detectors import Detections, load_detector
from evaluation.metrics.adherence import check_labels, leave_out_precisions, leave_out_shares, match, overlaps
from evaluation.metrics.jackknife import groups
from evaluation.networks.small_detector import SmallDetector, decode
from formats.files import InputError

LEFT, RIGHT, OFF = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.1, 0.0, 0.6, 0.5]


def layout(number: int, *things: tuple[str, list[float]]) -> dict:
    objects = [{"phrase": phrase, "box": box} for phrase, box in things]
    return {"id": number, "image_id": 10 * number, "objects": objects}


def detections(*rows: tuple[int, str, list[float], float]) -> dict[str, np.ndarray]:
    ids, labels, boxes, scores = zip(*rows, strict=True) if rows else ([], [], np.zeros((0, 4)), [])
    return {
        "detection_ids": np.array(ids, np.int64),
        "detection_labels": np.array(labels, np.str_),
        "detection_boxes": np.array(boxes, np.float32),
        "detection_scores": np.array(scores, np.float32),
    }


def values(rows: list[dict], found: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: statistic(None) for name, (statistic, _) in leave_out_shares(*match(rows, found)).items()}


def test_overlaps_are_intersections_over_unions() -> None:
    found = overlaps(np.array([LEFT, RIGHT]), np.array([LEFT, OFF, [0.0, 0.0, 1.0, 1.0]]))
    assert found == pytest.approx(np.array([[1, 0.4 / 0.6, 0.25], [0, 0, 0.25]]))
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == 0


def test_perfect_detections_score_one_everywhere() -> None:
    rows = [layout(1, ("star", LEFT), ("ring", RIGHT)), layout(2, ("star", RIGHT))]
    found = detections((1, "star", LEFT, 0.9), (1, "ring", RIGHT, 0.8), (2, "star", RIGHT, 0.7))
    assert values(rows, found) == dict.fromkeys(values(rows, found), 1.0)
    assert leave_out_precisions(rows, found)["ap"](None) == pytest.approx(1)


def test_nothing_found_scores_zero() -> None:
    rows = [layout(1, ("star", LEFT))]
    assert set(values(rows, detections()).values()) == {0.0}
    assert leave_out_precisions(rows, detections())["ap50"](None) == 0


def test_a_detection_serves_one_box_and_unsure_ones_only_recall() -> None:
    rows = [layout(1, ("star", LEFT), ("star", OFF))]
    boxes, counts = match(rows, detections((1, "star", LEFT, 0.9), (1, "star", OFF, 0.4)))
    assert boxes["success"].tolist() == [True, False]
    assert boxes["recalled"].tolist() == [True, True]
    assert boxes["best_iou"].tolist() == pytest.approx([1, 0.4 / 0.6])
    assert counts["count_right"].tolist() == [False]


def test_another_label_in_the_box_is_a_miss() -> None:
    found = values([layout(1, ("star", LEFT))], detections((1, "ring", LEFT, 0.9)))
    assert set(found.values()) == {0.0}


def test_an_image_succeeds_when_all_of_its_boxes_do() -> None:
    rows = [layout(1, ("star", LEFT), ("ring", RIGHT)), layout(2, ("ring", LEFT))]
    found = values(rows, detections((1, "star", LEFT, 0.9), (2, "ring", LEFT, 0.9)))
    assert found["instance_success"] == pytest.approx(2 / 3)
    assert found["image_success"] == pytest.approx(1 / 2)


def random_scenes(count: int) -> tuple[list[dict], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows, seen = [], []
    for number in range(count):
        boxes = [sorted_box(rng) for _ in range(3)]
        rows.append(layout(number, *((str(rng.choice(["star", "ring"])), box) for box in boxes)))
        for thing in rows[-1]["objects"] * 2:
            shaken = np.clip(np.array(thing["box"]) + rng.normal(0, 0.04, 4), 0, 1)
            seen.append(
                (number, str(rng.choice([thing["phrase"], "ring"])), shaken.tolist(), float(rng.uniform(0.1, 1)))
            )
    return rows, detections(*seen)


def sorted_box(rng: np.random.Generator) -> list[float]:
    x, y = rng.uniform(0, 0.5, 2)
    w, h = rng.uniform(0.2, 0.5, 2)
    return [float(x), float(y), float(x + w), float(y + h)]


def test_precision_is_torchmetrics() -> None:
    from torchmetrics.detection import MeanAveragePrecision

    rows, found = random_scenes(12)
    names = {"star": 0, "ring": 1}
    theirs = MeanAveragePrecision(box_format="xyxy", backend="pycocotools")
    for row in rows:
        mine = found["detection_ids"] == row["id"]
        theirs.update(
            [
                {
                    "boxes": torch.tensor(1000 * found["detection_boxes"][mine]),
                    "scores": torch.tensor(found["detection_scores"][mine]),
                    "labels": torch.tensor([names[label] for label in found["detection_labels"][mine]]),
                }
            ],
            [
                {
                    "boxes": torch.tensor([thing["box"] for thing in row["objects"]]) * 1000,
                    "labels": torch.tensor([names[thing["phrase"]] for thing in row["objects"]]),
                }
            ],
        )
    with contextlib.redirect_stdout(io.StringIO()):
        expected = theirs.compute()
    ours = leave_out_precisions(rows, found)
    for key, metric in (("map", "ap"), ("map_50", "ap50"), ("map_75", "ap75")):
        assert ours[metric](None) == pytest.approx(float(expected[key]), abs=1e-6)
        assert 0 < float(expected[key]) < 1


def test_leaving_a_group_out_is_the_precision_of_the_rest() -> None:
    rows, found = random_scenes(12)
    group_of = groups(row["image_id"] for row in rows)
    group = int(group_of[4])
    kept = [row for row, number in zip(rows, group_of, strict=True) if number != group]
    inside = np.isin(found["detection_ids"], [row["id"] for row in kept])
    rest = {name: array[inside] for name, array in found.items()}
    statistic = leave_out_precisions(rows, found)["ap50"]
    whole = statistic(None)
    assert statistic(group) == pytest.approx(leave_out_precisions(kept, rest)["ap50"](None))
    assert statistic(None) == whole != statistic(group)


def test_a_phrase_without_a_label_is_named() -> None:
    with pytest.raises(InputError, match="layout 7: phrase 'dog' is no label of the detector d"):
        check_labels([layout(7, ("dog", LEFT))], ["star"], "d")


def test_maps_are_decoded_into_boxes_around_their_peaks() -> None:
    logits, edges = torch.full((1, 2, 16, 16), -9.0), torch.zeros(1, 4, 16, 16)
    logits[0, 1, 4, 8], logits[0, 1, 4, 9] = 3.0, 2.0  # a neighbour that is less sure is the same object
    edges[0, :, 4, 8] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    (found,) = decode(logits, edges, ["star", "ring"])
    assert found.labels == ["ring"]
    x, y = 8.5 / 16, 4.5 / 16
    assert found.boxes_N4 == pytest.approx(np.array([[x - 0.1, y - 0.2, x + 0.3, y + 0.4]]))
    assert found.scores_N == pytest.approx([1 / (1 + np.exp(-3))])


def test_the_shipped_detector_finds_what_is_drawn() -> None:
    from workflow.miniature.world import draw, scene

    detector = load_detector(
        {"kind": "small_detector", "name": "d", "path": "weights/miniature/detector/model.safetensors"}
    )
    rng = np.random.default_rng(77)
    scenes = [scene(rng, square=True) for _ in range(40)]
    rows = [
        layout(i, *((t.shape, [edge / 64 for edge in t.box]) for t in picture.things if t.size > 8))
        for i, picture in enumerate(scenes)
    ]
    seen = detector.detect([draw(picture) for picture in scenes])
    found = [
        (i, *row)
        for i, one in enumerate(seen)
        for row in zip(one.labels, one.boxes_N4.tolist(), one.scores_N, strict=True)
    ]
    assert values([row for row in rows if row["objects"]], detections(*found))["instance_success"] > 0.9


def test_torchvisions_detector_takes_part(tmp_path) -> None:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    torch.manual_seed(0)
    network = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91)
    torch.nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias[18], 9.0)  # always sure of a dog
    torch.save(network.state_dict(), tmp_path / "w.pth")
    from formats.files import sha256

    stanza = {"kind": "faster_rcnn", "name": "r", "path": str(tmp_path / "w.pth"), "sha256": sha256(tmp_path / "w.pth")}
    detector = load_detector(stanza)
    (found,) = detector.detect([np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)])
    assert isinstance(found, Detections)
    assert set(found.labels) == {"dog"}
    assert (found.boxes_N4 >= 0).all()
    assert (found.boxes_N4 <= 1).all()
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"w\.pth: not fasterrcnn"):
        load_detector(stanza | {"sha256": sha256(tmp_path / "w.pth")})


def test_a_detector_has_few_parameters() -> None:
    assert sum(p.numel() for p in SmallDetector(5).parameters()) < 120_000


SMALL, CROWD = [0.6, 0.0, 0.7, 0.1], [0.5, 0.5, 1.0, 1.0]


def ignoring(row: dict, *things: tuple[str, list[float]]) -> dict:
    return row | {"ignored": [{"phrase": phrase, "box": box, "why": "crowd"} for phrase, box in things]}


def test_detections_on_ignored_regions_are_no_false_ones() -> None:
    plain = layout(1, ("star", LEFT))
    # On the small star, inside the crowd, and across the crowd's edge with half of itself outside and a little more.
    surplus = [SMALL, [0.6, 0.6, 0.8, 0.8], [0.39, 0.6, 0.6, 0.8]]
    seen = [(1, "star", LEFT, 0.6), *((1, "star", box, 0.9) for box in surplus)]
    row = ignoring(plain, ("star", SMALL), ("star", CROWD), ("ring", [0.3, 0.5, 0.6, 0.9]))
    for shown, ap, count_right in ((seen[:3], 1.0, True), (seen, 0.5, False)):
        found = detections(*shown)
        assert leave_out_precisions([row], found)["ap50"](None) == pytest.approx(ap)
        assert values([row], found)["count_right"] == count_right
    # As false ones they come before the true one: precision at its recall is one of as many as there are detections.
    assert leave_out_precisions([plain], detections(*seen))["ap50"](None) == pytest.approx(1 / 4)
    assert values([plain], detections(*seen))["count_right"] == 0


def test_a_box_that_is_found_on_an_ignored_region_counts_as_found() -> None:
    row = ignoring(layout(1, ("star", RIGHT)), ("star", CROWD))
    found = detections((1, "star", RIGHT, 0.9), (1, "star", RIGHT, 0.8))
    assert values([row], found) == dict.fromkeys(values([row], found), 1.0)
    assert leave_out_precisions([row], found)["ap"](None) == pytest.approx(1)


def test_precision_with_ignored_regions_is_pycocotools_with_crowds() -> None:
    rows, found = random_scenes(12)
    rng = np.random.default_rng(5)
    rows = [ignoring(row, *(("star", sorted_box(rng)), ("ring", sorted_box(rng)), ("square", LEFT))) for row in rows]
    names = {"star": 1, "ring": 2}
    truth = COCO()
    shared = {"images": [{"id": row["id"]} for row in rows], "categories": [{"id": 1}, {"id": 2}]}
    things = [
        (row["id"], names[thing["phrase"]], thing["box"], crowd)
        for row in rows
        for crowd, key in enumerate(("objects", "ignored"))
        for thing in row[key]
        if thing["phrase"] in names
    ]
    records = []
    for number, (image, category, (x0, y0, x1, y1), crowd) in enumerate(things, 1):
        box, area = [1000 * x0, 1000 * y0, 1000 * (x1 - x0), 1000 * (y1 - y0)], 1e6 * (x1 - x0) * (y1 - y0)
        records.append(
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}
        )
    truth.dataset = shared | {"annotations": records}
    columns = [found[f"detection_{name}"].tolist() for name in ("ids", "labels", "boxes", "scores")]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        seen = truth.loadRes(
            [
                {
                    "image_id": image,
                    "category_id": names[label],
                    "bbox": [1000 * x0, 1000 * y0, 1000 * (x1 - x0), 1000 * (y1 - y0)],
                    "score": score,
                }
                for image, label, (x0, y0, x1, y1), score in zip(*columns, strict=True)
            ]
        )
        theirs = COCOeval(truth, seen, "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    ours = leave_out_precisions(rows, found)
    assert [ours[metric](None) for metric in ("ap", "ap50", "ap75")] == pytest.approx(
        theirs.stats[:3].tolist(), abs=1e-9
    )
    plain = leave_out_precisions([row | {"ignored": []} for row in rows], found)
    assert ours["ap50"](None) > plain["ap50"](None) + 0.001
