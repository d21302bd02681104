"""Features on a device, and the workers that feed it: neither their number nor the chunks they hand over change a byte."""

import pickle
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import __main__ as alone
from evaluation import detectors, features, loader
from evaluation.detectors import whole
from evaluation.extractors import load_extractor
from evaluation.feature_files import FeatureShards
from evaluation.features import load_networks, write_features
from evaluation.layouts import write_layouts
from evaluation.loader import AHEAD, CHUNK, Batches, Pictures, chunked, load
from evaluation.networks import BATCH, faster_rcnn
from evaluation.networks.inception import Resize
from evaluation.protocol import Protocol
from evaluation.regions import regions
from formats.files import InputError, sha256, write_json
from formats.images import OpenImages, png_name, write_files, write_images
from tests.launch import status
from tests.test_evaluation_alone import stanza
from tests.test_plan import planned

NETWORKS = ("frechet", "clip", "detector")


def stanzas() -> dict:
    return {name: stanza(name) for name in NETWORKS}


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """The file of 70 images of two sizes, up to three regions each, their layouts and the table of regions."""
    path, rng = tmp_path_factory.mktemp("shard") / "0000.zip", np.random.default_rng(5)
    sides = [64 if number % 3 else 80 for number in range(70)]
    write_images(path, [(png_name(n), rng.integers(0, 256, (s, s, 3), np.uint8)) for n, s in enumerate(sides)], {})
    boxes = [[0, 0, 0.5, 0.5], [0.25, 0.5, 1, 1], [0.5, 0.5, 0.52, 0.52]]
    layouts = [
        {
            "id": number,
            "image_id": number,
            "caption": f"{number} stars",
            "objects": [{"phrase": "star", "box": box} for box in boxes[: number % 4]],
        }
        for number in range(70)
    ]
    return path, layouts, regions(layouts, 64, 6).query("kept").reset_index(drop=True)


def test_workers_change_no_byte(shard, tmp_path) -> None:
    path, layouts, table = shard
    assert len(table) > BATCH
    for workers in (0, 2):
        write_features(path, layouts, table, load_networks(stanzas()), Protocol(), tmp_path / f"{workers}.npz", workers)
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_features_are_those_of_one_image_after_another(shard, tmp_path) -> None:
    path, layouts, table = shard
    networks = load_networks(stanzas())
    write_features(path, layouts, table, networks, Protocol(), tmp_path / "shard.npz")
    found = FeatureShards([tmp_path / "shard.npz"])
    opened = OpenImages(path, range(70))
    cuts = [opened.pixels(row.id)[: 32 if row.id % 3 else 40, : 32 if row.id % 3 else 40] for row in table.itertuples()]
    first = table.index[table["object"] == 0]
    for name in ("frechet", "clip"):
        alone = [networks.extractors[name].features([opened.pixels(number)])[0] for number in range(70)]
        np.testing.assert_allclose(found.read(f"image_{name}"), alone, rtol=0, atol=2e-6)
        crops = np.stack([networks.extractors[name].features([cuts[place]])[0] for place in first])
        np.testing.assert_allclose(found.read(f"region_{name}")[first], crops, rtol=0, atol=2e-6)


def test_boxes_too_small_to_score_are_not_cut(shard, monkeypatch) -> None:
    path, layouts, table = shard
    cut = []
    monkeypatch.setattr(loader, "crop", lambda image, box: cut.append(box) or image[:8, :8])
    networks = load_networks({name: stanza(name) for name in ("frechet", "clip")})
    features.extract(path, layouts, table, networks, Protocol())
    assert sorted(map(tuple, cut)) == sorted(
        tuple(layouts[row.id]["objects"][row.object]["box"]) for row in table.itertuples()
    )
    assert (0.5, 0.5, 0.52, 0.52) not in set(map(tuple, cut))


def test_each_image_is_read_once(shard, monkeypatch) -> None:
    path, layouts, table = shard
    read, pixels = [], OpenImages.pixels
    monkeypatch.setattr(OpenImages, "pixels", lambda self, number: read.append(number) or pixels(self, number))
    features.extract(path, layouts, table, load_networks(stanzas()), Protocol())
    assert read == list(range(70))


@dataclass(frozen=True)
class Counting:
    """What a network takes of an image: four numbers; a byte in a file for each time that it was asked."""

    path: Path

    def __call__(self, image):
        with open(self.path, "ab") as file:
            file.write(b".")
        return image[:2, :2]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_more_is_read_ahead_than_the_workers_may_hold(tmp_path, workers) -> None:
    images = [(png_name(number), np.full((4, 4, 3), 9, np.uint8)) for number in range(CHUNK * 20)]
    write_images(tmp_path / "a.zip", images, {})
    boxes: dict[int, list] = {number: [] for number in range(CHUNK * 20)}
    chunks = load(
        Pictures(tmp_path / "a.zip", boxes, Protocol(), {"n": Counting(tmp_path / "read")}, {}), workers, False
    )
    next(chunks)
    time.sleep(1.0 if workers else 0)
    ahead = 1 + AHEAD * workers
    assert (tmp_path / "read").stat().st_size <= ahead * CHUNK
    assert sum(len(chunk.ids) for chunk in chunks) == CHUNK * 19
    assert (tmp_path / "read").stat().st_size == CHUNK * 20


def test_a_chunk_has_few_pictures_or_one_image() -> None:
    rng = np.random.default_rng(3)
    counts = {number: int(rng.integers(0, 31)) for number in range(200)}
    chunks = chunked(counts)
    assert [number for chunk in chunks for number in chunk] == list(counts)
    assert all(len(chunk) == 1 or sum(1 + counts[number] for number in chunk) <= CHUNK for chunk in chunks)
    assert chunked({}) == []


@pytest.mark.parametrize("sizes", [[1] * 70, [40, 40], [BATCH, BATCH], [3, 100, 1], [5], []])
def test_batches_do_not_depend_on_the_chunks(sizes) -> None:
    whole, batches = torch.arange(sum(sizes)), Batches()
    found = [batch for part in whole.split(sizes) for batch in batches.add(part)] + list(batches.rest())
    expected = list(whole.split(BATCH)) if len(whole) else []
    assert [batch.tolist() for batch in found] == [batch.tolist() for batch in expected]
    assert list(batches.rest()) == []


def test_what_workers_do_reaches_those_that_start_anew(shard) -> None:
    path, _, _ = shard
    prepare = {"clip": load_extractor(stanza("clip")).prepare, "clean": Resize("clean"), "legacy": Resize("legacy")}
    pictures = Pictures(
        path, {number: [(0, [0, 0, 0.5, 0.5])] for number in range(70)}, Protocol(), prepare, {"detector": whole}
    )
    found, expected = pickle.loads(pickle.dumps(pictures))[1], pictures[1]
    assert found.ids == expected.ids
    for level in ("images", "regions"):
        for name, stack in getattr(expected, level).items():
            assert torch.equal(getattr(found, level)[name], stack)
    assert all(map(torch.equal, found.seen["detector"], expected.seen["detector"]))


def test_a_workers_fault_is_the_same_line(tmp_path) -> None:
    rng = np.random.default_rng(5)
    write_images(tmp_path / "whole.zip", [(png_name(0), rng.integers(0, 256, (64, 64, 3), np.uint8))], {})
    write_files(tmp_path / "damaged.zip", [(png_name(0), b"no picture")], {})
    faults = []
    for workers in (0, 2):
        pictures = Pictures(tmp_path / "damaged.zip", {0: []}, Protocol(), {}, {})
        with pytest.raises(InputError) as found:
            list(load(pictures, workers, False))
        faults.append(str(found.value))
    assert faults[0] == faults[1]
    assert "000000000000.png is damaged" in faults[0]
    assert "\n" not in faults[0]


def test_a_network_is_on_the_device_that_it_was_given() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    for name in ("frechet", "clip"):
        network = load_extractor(
            stanza(name), torch.device("meta")
        )  # shapes without values: what is on another device fails
        assert network.device.type == "meta"
        found = network.encode(torch.from_numpy(network.prepare(picture))[None])
        assert found.device.type == "meta"
        assert found.dtype == torch.float32


def test_half_precision_is_stated_and_not_mixed_with_another(shard, tmp_path) -> None:
    path, layouts, table = shard
    made = {}
    for precision in ("float32", "bfloat16"):
        chosen = stanzas() | {name: stanza(name) | {"precision": precision} for name in ("clip", "detector")}
        write_features(path, layouts, table, load_networks(chosen), Protocol(), tmp_path / f"{precision}.npz")
        made[precision] = FeatureShards([tmp_path / f"{precision}.npz"])
    whole, half = made["float32"], made["bfloat16"]
    assert "precision" not in whole.about["clip"]
    assert half.about["clip"]["precision"] == half.about["detector"]["precision"] == "bfloat16"
    gap = np.abs(whole.read("image_clip") - half.read("image_clip")).max()
    assert 1e-5 < gap < 0.05
    assert half.read("image_clip").dtype == half.read("image_text").dtype == np.float32
    assert np.array_equal(whole.read("image_frechet"), half.read("image_frechet"))
    with pytest.raises(InputError, match=r"other networks than .*: clip .*bfloat16"):
        FeatureShards([tmp_path / "float32.npz", tmp_path / "bfloat16.npz"])


def test_a_frechet_distance_is_of_float32(capsys) -> None:
    with pytest.raises(InputError, match=r"extractors\.frechet: precision bfloat16, expected float32"):
        load_networks(stanzas() | {"frechet": stanza("frechet") | {"precision": "bfloat16"}})
    with pytest.raises(InputError, match="precision 'float8' is not one of float32, bfloat16"):
        load_extractor(stanza("clip") | {"precision": "float8"})
    with pytest.raises(InputError, match=r"extractors\.frechet\.precision: 'bfloat16', expected 'float32'"):
        planned(extractors={"frechet": {"precision": "bfloat16"}})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_one_line(shard, tmp_path, capsys, monkeypatch) -> None:
    path, layouts, _ = shard
    write_layouts(tmp_path / "layouts.jsonl", layouts)
    regions(layouts, 64, 6).to_parquet(tmp_path / "regions.parquet")
    write_json(tmp_path / "extractors.json", stanzas())
    common = ["--layouts", tmp_path / "layouts.jsonl", "--images", path, "--extractors", tmp_path / "extractors.json"]
    common += ["--device", "cuda", "--out", tmp_path / "out"]
    for main, more in ((features.main, ["--regions", tmp_path / "regions.parquet"]), (alone.main, ["--real", path])):
        monkeypatch.setattr("sys.argv", ["program", *map(str, [*common, *more])])
        assert status(main) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: --device cuda: cannot be used here")
    assert not (tmp_path / "out").exists()


def test_images_of_one_size_share_a_batch() -> None:
    images = [torch.zeros(shape) for shape in ((4, 4, 3), (4, 6, 3), (4, 4, 3), (4, 4, 3), (4, 6, 3))]
    assert detectors.alike(images, 2) == [[0, 2], [3], [1, 4]]
    assert detectors.alike(images, 1) == [[0], [2], [3], [1], [4]]
    assert detectors.together(torch.device("cpu")) == 1
    assert detectors.together(torch.device("cuda")) > 1


def test_a_batch_changes_no_detection(tmp_path, monkeypatch) -> None:
    from torchvision.models import detection

    small = partial(detection.fasterrcnn_resnet50_fpn_v2, min_size=64, max_size=96)
    monkeypatch.setattr(detection, "fasterrcnn_resnet50_fpn_v2", small)
    torch.manual_seed(0)
    network = small(weights=None, weights_backbone=None, num_classes=91)
    torch.nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias[18], 4.0)  # mostly sure of a dog
    torch.save(network.state_dict(), tmp_path / "w.pth")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*side, 3), np.uint8) for side in ((48, 64), (64, 64), (48, 64), (64, 64))]
    one = {"kind": "faster_rcnn", "name": "r", "path": str(tmp_path / "w.pth"), "sha256": sha256(tmp_path / "w.pth")}
    alone = detectors.load_detector(one).detect(images)
    monkeypatch.setattr(faster_rcnn, "together", lambda device: 8)
    together = detectors.load_detector(one).detect(images)
    for found, expected in zip(together, alone, strict=True):
        assert len(expected.labels) > 5
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.scores_N, expected.scores_N, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.boxes_N4, expected.boxes_N4, rtol=0, atol=1e-4)
