"""Annotations to layouts: every case of COCO is kept, dropped with a reason, or refused by name."""

import json
import os
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from evaluation.datasets import coco, write
from evaluation.datasets.canvas import Frame, canvas
from evaluation.datasets.coco import CocoSet, open_photos
from evaluation.datasets.spans import Words, read_words
from evaluation.datasets.splits import split_ids
from evaluation.layouts import read_layout_rows
from formats.files import InputError
from tests import coco_sets
from tests.coco_sets import prepare
from workflow.miniature.draw import write_split

ROOT = Path(coco_sets.__file__).parents[1]
WORDS = ROOT / "workflow/config/words/miniature.yaml"
DATA = coco_sets.DATA | {
    "size": 64,
    "words": str(WORDS),
    "boxes": {"min_area_frac": 0.01, "max": 3, "drop_crowd": True},
    "train": {"count": 20},
    "heldout": {"count": 5},
    "test": {"count": 10, "seed": 1, "require_boxes": False},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    write_split(root, "train2014", list(range(1, 121)), seed=1)
    write_split(root, "val2014", list(range(200, 260)), seed=1)
    return root


def edited(drawn: Path, tmp_path: Path, name: str, change) -> Path:
    """A copy with one annotation file changed."""
    (tmp_path / "annotations").mkdir()
    for archive in drawn.glob("*.zip"):
        (tmp_path / archive.name).symlink_to(archive)
    for path in (drawn / "annotations").iterdir():
        content = json.loads(path.read_text())
        if path.name == name:
            content = change(content) or content
        (tmp_path / "annotations" / path.name).write_text(json.dumps(content))
    return tmp_path


def test_it_reads_what_pycocotools_reads(drawn) -> None:
    ours = CocoSet(drawn, "val2014", DATA, read_words(WORDS))
    for kind, found in (("instances", ours.instances), ("captions", ours.captions)):
        theirs = COCO(drawn / f"annotations/{kind}_val2014.json")
        assert set(found.images) == set(theirs.imgs)
        for image_id, image in theirs.imgs.items():
            kept = found.images[image_id]
            assert (kept.id, kept.file_name) == (image["id"], image["file_name"])
            assert kind == "captions" or kept[1:3] == (image["width"], image["height"])
            records = theirs.loadAnns(sorted(theirs.getAnnIds(image_id)))
            for record, ours_of_it in zip(records, found.of.get(image_id, []), strict=True):
                keys = ("bbox", "category_id", "iscrowd") if kind == "instances" else ("caption",)
                fields = [ours_of_it.id, ours_of_it.image_id]
                fields += [list(ours_of_it.xywh), *ours_of_it[2:5:2]] if kind == "instances" else [ours_of_it.caption]
                assert fields == [record[key] for key in ("id", "image_id", *keys)]
    assert {row["id"]: row["name"] for row in theirs_categories(drawn)} == ours.instances.names


def theirs_categories(root: Path) -> list[dict]:
    instances = COCO(root / "annotations/instances_val2014.json")
    return instances.loadCats(instances.getCatIds())


def test_the_same_input_gives_the_same_bytes(drawn, tmp_path) -> None:
    for name in ("a", "b"):
        prepare(drawn, DATA, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_splits_do_not_overlap_and_depend_on_the_id_alone(drawn, tmp_path) -> None:
    prepare(drawn, DATA, tmp_path)
    rows = {name: read_layout_rows(tmp_path / f"{name}.jsonl") for name in ("train", "heldout", "test")}
    ids = {name: {row["image_id"] for row in of} for name, of in rows.items()}
    assert [len(of) for of in ids.values()] == [20, 5, 10]
    assert not ids["train"] & ids["heldout"]
    assert min(ids["test"]) >= 200
    first, rest = split_ids(range(1000), 0.8, 1)
    assert (len(first), len(rest)) == (800, 200)
    assert split_ids(reversed(range(1000)), 0.8, 1) == (first, rest)
    assert split_ids(range(1000), 0.8, 2) != (first, rest)


def test_a_larger_reference_begins_with_the_test_sample(drawn, tmp_path) -> None:
    boxes_only = {"test": DATA["test"] | {"require_boxes": True}}
    prepare(drawn, DATA | boxes_only | {"val": {"count": 60}}, tmp_path)
    test, val = (read_layout_rows(tmp_path / f"{name}.jsonl") for name in ("test", "val"))
    assert val[: len(test)] == test
    assert {row["image_id"] for row in val} == set(range(200, 260))
    with pytest.raises(InputError, match=r"data\.val\.count: 61 images asked for, 60 there"):
        prepare(drawn, DATA | {"val": {"count": 61}}, tmp_path)


def test_the_papers_split_has_66226_training_images() -> None:
    assert len(split_ids(range(82_783), 0.8, 0)[0]) == 66_226


def test_a_layout_has_the_caption_of_the_lowest_id_and_its_boxes_largest_first(drawn, tmp_path) -> None:
    prepare(drawn, DATA, tmp_path)
    said: dict[int, list] = {}
    for row in json.loads((drawn / "annotations/captions_val2014.json").read_text())["annotations"]:
        said.setdefault(row["image_id"], []).append((row["id"], row["caption"]))
    for row in read_layout_rows(tmp_path / "test.jsonl"):
        assert (row["id"], row["caption"]) == min(said[row["image_id"]])
        areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (thing["box"] for thing in row["objects"])]
        assert areas == sorted(areas, reverse=True)
        assert len(areas) <= 3


def test_everything_dropped_is_counted_by_reason(drawn, tmp_path) -> None:
    prepare(drawn, DATA, tmp_path)
    for split in json.loads((tmp_path / "report.json").read_text())["splits"].values():
        assert split["boxes"] + sum(reason["count"] for reason in split["dropped"].values()) == split["boxes_read"]


def test_real_cocos_oddities_are_reported(drawn, tmp_path) -> None:
    def spoil(content: dict) -> None:
        first = content["annotations"][0]
        content["annotations"] += [first | {"bbox": [0, 0, 1, 1]}, first | {"id": 10**9, "category_id": 999}]
        content["annotations"] += [first | {"id": 10**9 + 1, "image_id": 10**9}, dict(first)]
        content["images"].append(dict(content["images"][0]))

    root = edited(drawn, tmp_path, "instances_train2014.json", spoil)
    everything = DATA | {"train": {"count": 96}, "heldout": {"count": 24}}
    prepare(root, everything, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    dropped = {reason: found["count"] for reason, found in report["annotations"]["train2014"].items()}
    assert dropped == {
        "annotation listed twice in instances_train2014.json": 1,
        "annotation of an unlisted image in instances_train2014.json": 1,
        "image listed twice in instances_train2014.json": 1,
    }
    assert report["read_as"]["train2014"]["annotation ids that repeat in instances_train2014.json"]["count"] == 1
    unknown = sum(
        report["splits"][s]["dropped"].get("unknown category", {"count": 0})["count"] for s in ("train", "heldout")
    )
    assert unknown == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c.pop("images"), "`images` should be a list"),
        (lambda c: c["annotations"][3].pop("bbox"), r"annotations\[3\] \(id \d+\) has no `bbox`"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"`bbox` \[1, 2, 3\], expected \[x, y, width, height\]"),
        (lambda c: c["categories"][0].update(name="unicorn"), "no words for category 'unicorn'"),
    ],
)
def test_malformed_annotations_are_refused_by_name(drawn, tmp_path, change, named) -> None:
    root = edited(drawn, tmp_path, "instances_val2014.json", lambda content: change(content) and None)
    with pytest.raises(InputError, match=named):
        prepare(root, DATA, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_off_annotation_file_is_refused_by_name(drawn, tmp_path) -> None:
    root = edited(drawn, tmp_path, "", lambda content: None)
    path = root / "annotations/captions_train2014.json"
    path.write_text(path.read_text()[:1000])
    with pytest.raises(InputError, match=r"captions_train2014\.json: not JSON"):
        prepare(root, DATA, tmp_path / "out")


def test_asking_for_more_images_than_there_are_names_the_key(drawn, tmp_path) -> None:
    with pytest.raises(InputError, match=r"data\.test\.count: 61 images asked for, 60 there"):
        prepare(drawn, DATA | {"test": {"count": 61, "seed": 1, "require_boxes": False}}, tmp_path)


def test_boxes_follow_the_centre_square() -> None:
    frame = Frame(640, 480)
    assert frame.box((80, 0, 480, 480)) == (0, 0, 1, 1)
    assert frame.box((0, 0, 80, 480)) is None
    assert frame.box((0, 120, 320, 240)) == (0, 0.25, 0.5, 0.75)


def test_squashed_photos_keep_all_boxes() -> None:
    frame = Frame(640, 480, "squash")
    assert frame.box((0, 0, 80, 480)) == (0, 0, 0.125, 1)
    assert canvas(Image.new("RGB", (640, 480)), 64, "squash").shape == (64, 64, 3)


def test_a_random_caption_is_one_of_the_images_own_and_stays_the_same(drawn, tmp_path) -> None:
    for name in ("a", "b"):
        prepare(drawn, DATA | {"caption": "random"}, tmp_path / name)
    prepare(drawn, DATA, tmp_path / "first")
    rows = {name: read_layout_rows(tmp_path / name / "train.jsonl") for name in ("a", "b", "first")}
    assert rows["a"] == rows["b"]
    assert all(row["caption"] in row["captions"] for row in rows["a"])
    assert [row["id"] for row in rows["a"]] != [row["id"] for row in rows["first"]]


def test_the_canvas_shows_what_the_box_says() -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[30:60, 20:50] = 255
    seen = canvas(Image.fromarray(pixels), 64)
    assert seen[40:, :26].min() > 250
    assert seen[:28].max() < 5
    assert seen[:, 40:].max() < 5


def test_spans_are_whole_words_longest_first() -> None:
    words = Words(
        {
            "dog": {"forms": ["dog", "dogs"], "synonyms": ["puppy"]},
            "hot dog": {"forms": ["hot dog", "hot dogs"], "synonyms": []},
        }
    )
    assert words.spans("A hot dog and a puppy") == {"hot dog": (2, 9), "dog": (16, 21)}
    assert words.spans("A hot dog and a puppy", synonyms=False) == {"hot dog": (2, 9)}
    assert words.spans("dogma") == {}


@pytest.mark.parametrize("caption", ["my BİKE", "my bıke", "my BIKE"])
def test_a_word_is_found_in_whatever_letters_it_is_written(caption: str) -> None:
    words = Words(
        {"bicycle": {"forms": ["bicycle", "bike"], "synonyms": []}, "bus": {"forms": ["bus"], "synonyms": []}}
    )
    assert words.spans(caption) == words.spans(caption, synonyms=False) == {"bicycle": (3, 7)}
    assert words.spans("a buſ") == {"bus": (2, 5)}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[a]", "a: [", "1: {forms: [b], synonyms: []}", "a: {forms: [], synonyms: [b]}"),
        *("a: {forms: b, synonyms: []}", "a: {forms: [''], synonyms: []}", "a: {forms: [b], synonyms: [], not: c}"),
        "a: {forms: [b], synonyms: [], alone: [c]}",
    ],
)
def test_a_table_without_words_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "words.yaml").write_text(text)
    with pytest.raises(InputError, match=r"words\.yaml: (a: )?(expected `category: \{forms|not YAML)"):
        read_words(tmp_path / "words.yaml")


def test_words_of_every_miniature_category_are_there() -> None:
    assert set(read_words(WORDS)) == {"circle", "square", "triangle", "star", "ring"}


def test_photos_are_read_from_a_folder_or_a_zip_and_faults_named(drawn, tmp_path) -> None:
    from_zip = open_photos(drawn, "test").read(200)
    with zipfile.ZipFile(drawn / "val2014.zip") as archive:
        archive.extractall(tmp_path)
    assert np.array_equal(from_zip, open_photos(tmp_path, "test").read(200))
    with pytest.raises(InputError, match=r"image 7: val2014 has no COCO_val2014_000000000007\.jpg"):
        open_photos(drawn, "test").read(7)
    (tmp_path / "val2014/COCO_val2014_000000000201.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"image 201: .* not a readable image"):
        open_photos(tmp_path, "test").read(201)


def test_shards_are_the_layouts_in_order(drawn, tmp_path) -> None:
    write(coco.prepare(drawn, DATA), tmp_path, shard_size=4)
    shards = [read_layout_rows(tmp_path / f"test/{shard:04d}.jsonl") for shard in range(3)]
    assert [len(rows) for rows in shards] == [4, 4, 2]
    assert list(chain(*shards)) == read_layout_rows(tmp_path / "test.jsonl")
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [f"{shard:04d}.jsonl" for shard in range(5)]


def test_the_first_layouts_of_a_split_have_shards_of_their_own(drawn, tmp_path) -> None:
    write(coco.prepare(drawn, DATA), tmp_path, 4, {"test": 6})
    shards = [read_layout_rows(path) for path in sorted((tmp_path / "test").iterdir())]
    assert [len(rows) for rows in shards] == [4, 2, 4]
    assert list(chain(*shards)) == read_layout_rows(tmp_path / "test.jsonl")
    assert len(list((tmp_path / "train").iterdir())) == 5


def real_coco() -> Path | None:
    places = [os.environ.get("HCMA_COCO"), ROOT.parent / "shared/coco128"]
    return next((Path(place) for place in places if place and (Path(place) / "annotations").is_dir()), None)


@pytest.mark.skipif(
    real_coco() is None, reason="no folder of real COCO photos; set HCMA_COCO to one in COCO 2014's layout"
)
def test_real_photos_and_boxes_go_through_the_same_preparation(tmp_path) -> None:
    root = real_coco()
    data = DATA | {
        "words": str(ROOT / "workflow/config/words/coco.yaml"),
        "train": {"count": 30},
        "heldout": {"count": 8},
    }
    prepare(root, data | {"boxes": DATA["boxes"] | {"max": 30}}, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())["splits"]["test"]
    assert report["boxes"] > 20
    assert 0.2 < report["share_named"] < 0.95
    rows = read_layout_rows(tmp_path / "test.jsonl")
    photos = open_photos(root, "test")
    assert all(canvas(photos.read(row["image_id"]), 64).shape == (64, 64, 3) for row in rows)
