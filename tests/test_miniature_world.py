"""The drawn world keeps the cases of real COCO, in COCO's own layout, and depends on its seed alone."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from workflow.miniature.captions import captions, named
from workflow.miniature.draw import write_split
from workflow.miniature.world import CATEGORIES, SIDE, SIZES, Scene, Thing, draw, mask, scene


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("coco")
    write_split(out, "train2014", list(range(1, 241)), seed=3)
    return out


def annotations(root: Path, kind: str) -> dict:
    return json.loads((root / "annotations" / f"{kind}_train2014.json").read_text())


def test_pycocotools_reads_it(root: Path) -> None:
    coco = COCO(str(root / "annotations" / "instances_train2014.json"))
    assert len(coco.getImgIds()) == 240
    assert {c["name"] for c in coco.loadCats(coco.getCatIds())} == set(CATEGORIES.values())
    crowd = next(a for a in coco.dataset["annotations"] if a["iscrowd"])
    inside = coco.annToMask(crowd)
    x, y, w, h = (int(v) for v in crowd["bbox"])
    assert inside.sum() == crowd["area"] and inside[y : y + h, x : x + w].sum() == crowd["area"]


def test_it_has_the_cases_of_real_coco(root: Path) -> None:
    rows = annotations(root, "instances")["annotations"]
    boxed = {row["image_id"] for row in rows}
    areas = [row["bbox"][2] * row["bbox"][3] for row in rows if not row["iscrowd"]]
    counts = [sum(row["image_id"] == image for row in rows) for image in boxed]
    assert len(boxed) < 240, "some images have no box"
    assert any(row["iscrowd"] for row in rows) and min(areas) < 0.01 * SIDE**2
    assert 1 in counts and max(counts) >= 5
    sizes = {(image["width"], image["height"]) for image in annotations(root, "instances")["images"]}
    assert any(w > h for w, h in sizes) and any(w < h for w, h in sizes)


def test_captions_say_and_leave_unsaid_as_people_do(root: Path) -> None:
    texts = [row["caption"] for row in annotations(root, "captions")["annotations"]]
    assert len(texts) == 5 * 240
    for word in ("stars", "hoop", "three", "left of", "above", "background", "crowd"):
        assert any(word in text for text in texts), word


def test_a_photo_in_the_zip_is_the_drawn_picture(root: Path) -> None:
    with zipfile.ZipFile(root / "train2014.zip") as archive:
        photo = Image.open(io.BytesIO(archive.read("train2014/COCO_train2014_000000000007.jpg")))
    picture = draw(scene(np.random.default_rng([3, 7])))
    assert np.abs(np.asarray(photo, int) - picture).mean() < 3


def test_an_image_depends_on_seed_and_id_alone(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path, "train2014", [9, 8, 7], seed=3)
    with zipfile.ZipFile(root / "train2014.zip") as a, zipfile.ZipFile(tmp_path / "train2014.zip") as b:
        name = "train2014/COCO_train2014_000000000008.jpg"
        assert a.read(name) == b.read(name)


def test_box_is_where_the_shape_is_drawn() -> None:
    thing = Thing("triangle", "red", 8, 24, 20)
    empty, full = Scene(SIDE, SIDE, "grey", "plain", False, ()), Scene(SIDE, SIDE, "grey", "plain", False, (thing,))
    rows, columns = np.nonzero((draw(empty) != draw(full)).any(axis=2))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == thing.box


@pytest.mark.parametrize("shape", CATEGORIES.values())
@pytest.mark.parametrize("size", SIZES)
def test_shapes_fill_their_box(shape: str, size: int) -> None:
    cover = mask(shape, size)
    assert 0.2 < cover.mean() <= 1
    assert cover.max(0).min() > 0 and (cover.max(1) > 0).mean() > 0.85


def test_named_reads_a_caption_back() -> None:
    said = "three red hoops, a blue star to the left of a green tile and a crowd of purple dots on a grey background"
    assert sorted(named(said)) == sorted([("ring", "red")] * 3 + [("star", "blue"), ("square", "green")])
    rng = np.random.default_rng(1)
    for picture in (scene(rng, square=True) for _ in range(50)):
        kinds = [(thing.shape, thing.colour) for thing in picture.things]
        assert all(kind in kinds for text in captions(picture, rng) for kind in named(text))
