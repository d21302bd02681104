"""Regions where a detector finds their objects: what is cut then, that rows stay paired, and where it is said."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import crops, detected_regions, features
from evaluation.crops import kept_boxes
from evaluation.detected_regions import large_enough
from evaluation.feature_files import FeatureShards
from evaluation.layouts import write_layouts
from evaluation.metrics.adherence import found_boxes, overlaps
from evaluation.metrics.measure import measure
from evaluation.metrics.summary import Summaries, write_summaries
from evaluation.networks import Limits
from evaluation.regions import regions
from formats import cli
from formats.files import write_json
from tests.dag import ROOT, jobs_by_rule, snakemake
from tests.test_plan import planned
from workflow.miniature.captions import captions
from workflow.miniature.world import SIDE, draw, scene
from workflow.overlays import merged, resolved
from workflow.settings import SettingsError, read

WEIGHTS = ROOT / "weights/miniature"
SMALL = {"kind": "small_features", "name": "f", "path": str(WEIGHTS / "features/model.safetensors")}
CLIP = {"kind": "open_clip", "name": "c", "model": str(WEIGHTS / "clip/config.json")}
NETWORKS = {
    "frechet": SMALL,
    "clip": CLIP | {"path": str(WEIGHTS / "clip/open_clip.safetensors")},
    "detector": {"kind": "small_detector", "name": "d", "path": str(WEIGHTS / "detector/model.safetensors")},
}
LEFT, RIGHT, TOP = [0.0, 0.5, 0.3, 0.8], [0.6, 0.5, 0.9, 0.8], [0.0, 0.0, 0.3, 0.3]


def detections(*found: tuple[int, str, list[float], float]) -> dict[str, np.ndarray]:
    ids, labels, boxes, scores = zip(*found, strict=True)
    return {
        "detection_ids": np.array(ids),
        "detection_labels": np.array(labels),
        "detection_boxes": np.array(boxes, np.float32),
        "detection_scores": np.array(scores, np.float32),
    }


def test_an_object_in_its_place_has_its_own_box_whatever_is_surer_elsewhere() -> None:
    row = {"id": 1, "objects": [{"phrase": "star", "box": LEFT}, {"phrase": "star", "box": RIGHT}]}
    seen = detections((1, "star", TOP, 0.95), (1, "star", LEFT, 0.9), (1, "star", RIGHT, 0.9))
    found = found_boxes([row], seen, Limits())
    assert found[1, 0] == pytest.approx(LEFT)
    assert found[1, 1] == pytest.approx(RIGHT)
    one = found_boxes(
        [row | {"objects": row["objects"][:1]}], detections((1, "star", RIGHT, 0.91), (1, "star", LEFT, 0.9))
    )
    assert one[1, 0] == pytest.approx(LEFT)


def test_what_is_outside_or_too_small_is_not_found() -> None:
    boxes = [[-0.2, 0.0, 0.5, 0.5], [1.1, 0.0, 1.3, 0.5], [0.2, 0.2, 0.21, 0.9], [0.5, 0.5, 0.59, 0.59]]
    seen = detections(*((1, "star", box, 0.9) for box in boxes))
    found = large_enough(seen, 64, 6)
    np.testing.assert_allclose(found["detection_boxes"], [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.59, 0.59]], rtol=1e-6)
    assert len(found["detection_labels"]) == len(large_enough(seen, 64, 7)["detection_ids"]) + 1 == 2


def test_what_is_left_goes_to_the_free_object_that_it_covers_best_however_far_away() -> None:
    rows = [
        {"id": 1, "objects": [{"phrase": "star", "box": LEFT}, {"phrase": "star", "box": RIGHT}]},
        {"id": 2, "objects": [{"phrase": "star", "box": LEFT}, {"phrase": "ring", "box": LEFT}]},
        {"id": 3, "objects": [{"phrase": "star", "box": LEFT}]},
    ]
    seen = detections(
        (1, "star", RIGHT, 0.6),
        (1, "star", TOP, 0.9),  # the better one, on neither: the first free object's
        (2, "star", TOP, 0.4),  # not sure
        (2, "ring", TOP, 0.7),
        (2, "ring", LEFT, 0.6),  # in its place, so the surer one is of no object
    )
    found = found_boxes(rows, seen, Limits())
    assert found.keys() == {(1, 0), (1, 1), (2, 1)}
    for place, box in {(1, 0): TOP, (1, 1): RIGHT, (2, 1): LEFT}.items():
        assert found[place] == pytest.approx(box)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory) -> Path:
    """Layouts, and pictures of them that have everything on the other side; a third without anything."""
    folder, rng, rows = tmp_path_factory.mktemp("mirrored"), np.random.default_rng(3), []
    for name in ("mine", "real"):
        (folder / name).mkdir()
    while len(rows) < 24:
        picture = scene(rng, square=True)
        if not picture.things:
            continue
        number = len(rows) + 1
        objects = [{"phrase": t.shape, "box": [round(edge / SIDE, 6) for edge in t.box]} for t in picture.things]
        rows.append({"id": number, "image_id": number, "caption": captions(picture, rng)[0], "objects": objects})
        pixels = draw(picture)
        Image.fromarray(pixels).save(folder / "real" / f"{number:012d}.png")
        mine = np.full_like(pixels, 128) if number % 3 == 0 else pixels[:, ::-1]
        Image.fromarray(mine).save(folder / "mine" / f"{number:012d}.png")
    write_layouts(folder / "layouts.jsonl", rows)
    write_json(folder / "config.json", {"extractors": NETWORKS})
    regions(rows, SIDE, 6).to_parquet(folder / "regions.parquet")
    words = ("--images", "mine", "--extractors", "config.json", "--out", "moved.parquet", "--size=64", "--min-side=6")
    run(detected_regions, folder, *words)
    return folder


def run(program: object, folder: Path, *words: str, table: str = "regions.parquet") -> None:
    """A program on files of a folder."""
    given = ["--layouts", "layouts.jsonl", "--regions", table, *words]
    paths = [word if word.startswith("--") else str(folder / word) for word in given]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *paths])
        cli.run(program.main)  # type: ignore[attr-defined]


def test_a_region_is_where_its_object_is_in_the_rows_own_image(mirrored) -> None:
    rows = features.read_layout_rows(mirrored / "layouts.jsonl")
    ids = [row["id"] for row in rows]
    before, moved = (crops.read_regions(mirrored / name, ids) for name in ("regions.parquet", "moved.parquet"))
    pd.testing.assert_frame_equal(moved[before.columns], before)
    layouts, own = kept_boxes(rows, before), kept_boxes(rows, moved)
    found = dict(zip(zip(moved["id"], moved["object"], strict=True), moved["found"], strict=True))
    near = []
    for row in rows:
        for (place, box), (_, mine) in zip(layouts[row["id"]], own[row["id"]], strict=True):
            if not found[row["id"], place]:
                assert mine == box
                continue
            # Of two objects with one label either may be the one.
            alike = [one["box"] for one in row["objects"] if one["phrase"] == row["objects"][place]["phrase"]]
            there = np.array([[1 - x1, y0, 1 - x0, y1] for x0, y0, x1, y1 in alike])
            near.append(overlaps(there, np.array([mine])).max())
    assert not any(known for (number, _), known in found.items() if number % 3 == 0)
    assert len(near) > 20
    assert np.mean(np.array(near) > 0.5) > 0.9


def test_crops_features_and_metrics_are_of_those_regions(mirrored, tmp_path) -> None:
    found = {}
    for name, table in (("at_layout", "regions.parquet"), ("detected", "moved.parquet")):
        words = ("--images", "mine", "--extractors", "config.json", "--out", f"{name}.npz")
        run(features, mirrored, *words, table=table)
        run(crops, mirrored, "--images", "mine", "--out", f"{name}.zip", table=table)
        write_summaries(FeatureShards([mirrored / f"{name}.npz"]), tmp_path / f"{name}.npz")
        rows = features.read_layout_rows(mirrored / "layouts.jsonl")
        found[name] = Summaries(tmp_path / f"{name}.npz"), measure(Summaries(tmp_path / f"{name}.npz"), None, rows)[0]
    (plain, plain_metrics), (detected, metrics) = found.values()
    assert detected.first_gap(plain) == ""
    assert detected.about == plain.about
    assert detected.source == plain.source | {"crops": "detected"}
    table = pd.read_parquet(mirrored / "moved.parquet")
    assert metrics["n_regions_found"] == table["found"].sum() < metrics["n_regions"] == len(table)
    assert "n_regions_found" not in plain_metrics
    value = {
        name: one["metrics"]["region_clip"]["value"] for name, one in zip(found, (plain_metrics, metrics), strict=True)
    }
    assert value["detected"] > value["at_layout"] + 0.1, (
        "what a label names is seen where it is, not where it should be"
    )
    assert metrics["metrics"]["image_clip"] == plain_metrics["metrics"]["image_clip"]
    # An exported crop is the one that was scored.
    first = table[table["found"]].iloc[0]
    name = f"{first['id']:012d}-{first['object']:02d}-{first['phrase']}"
    with Image.open(mirrored / "mine" / f"{first['id']:012d}.png") as image:
        expected = crops.crop(np.asarray(image.convert("RGB")), first["box"])
    with zipfile.ZipFile(mirrored / "detected.zip") as archive, archive.open(f"{name}.png") as cut:
        np.testing.assert_array_equal(np.asarray(Image.open(cut)), expected)


ROW = {"sd14_detected": {"like": "sd14", "crops": "detected"}}
TABLES = {"table1": {"rows": ["real", "sd14", "sd14_detected", "gligen_sd", "hcma"]}}


def test_the_graph_finds_the_regions_of_such_rows_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = planned(methods=ROW, tables=TABLES)
    assert plan.regions("sd14_detected", "test", "0000") == "results/miniature/regions/sd14_detected/test/0000.parquet"
    assert (
        plan.regions("sd14", "test", "0000")
        == plan.regions("real", "test", "0000")
        == plan.path.regions("test", "0000")
    )
    # The images are those of the row that it is like.
    assert plan.method_key("sd14_detected") == plan.method_key("sd14")
    write_json(tmp_path / "config.json", {"methods": ROW, "tables": TABLES, "run": "test-detected"})
    done = snakemake("-n", "--configfile", str(tmp_path / "config.json"))
    assert done.returncode == 0, done.stderr
    assert jobs_by_rule(done.stdout + done.stderr)["detect_regions"] == len(plan.shards("test"))


def test_a_row_says_in_its_name_that_it_is_cropped_so() -> None:
    with pytest.raises(SettingsError, match=r"methods\.sd14\.crops: 'detected' is for a row whose name says so"):
        read(merged(given={"methods": {"sd14": {"crops": "detected"}}}), [])
    like = ROW | {"other": {"like": "sd14", "crops": "detected"}}
    assert resolved({"methods": {"sd14": {"crops": "detected"}, "other": {"like": "sd14"}}})["methods"]["other"] == {}
    with pytest.raises(SettingsError, match=r"methods\.other\.crops"):
        read(merged(given={"methods": like}), [])


def test_without_a_detector_it_is_refused_before_the_first_job() -> None:
    with pytest.raises(SettingsError, match=r"methods.sd14_detected.crops.*'detected' needs extractors.detector"):
        read(merged(given={"methods": ROW, "tables": TABLES, "extractors": {"detector": None}}), [])
