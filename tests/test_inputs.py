"""Annotations and photos as people have them: right boxes, or one line that names what is wrong; nothing is lost unsaid."""

import io
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from evaluation.datasets import __main__ as datasets
from evaluation.datasets import real
from evaluation.datasets.coco import open_photos
from evaluation.layouts import read_layout_rows
from formats import cli
from formats.files import InputError
from formats.images import read_images
from formats.layouts import read_layouts
from formats.pictures import TURNS, rgb
from tests.coco_sets import DATA, IDS, TALL, change, every, path_of, photos, picture, prepare, turn, write_set

SHARED = Path(__file__).parents[2] / "shared/inputs"


def prepared(root: Path, out: Path, **data: Any) -> tuple[dict[str, list[dict]], dict]:
    """Layouts of every split, which both readers take, and the report."""
    prepare(root, DATA | data, out)
    rows = {name: read_layout_rows(out / f"{name}.jsonl") for name in ("train", "heldout", "test")}
    for name in rows:
        read_layouts(out / f"{name}.jsonl")
    return rows, json.loads((out / "report.json").read_text())


def refused(root: Path, out: Path, pattern: str, **data: Any) -> str:
    with pytest.raises(InputError, match=pattern) as caught:
        prepare(root, DATA | data, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


def pictures(root: Path, out: Path, split: str = "test", **options: Any) -> dict[int, np.ndarray]:
    """The row `real` of a split at 32 px, where a photo's centre square is cut out and not resized: layout id -> pixels."""
    words = {"root": root, "split": split, "layouts": out / f"{split}.jsonl", "size": 32, "out": out / f"{split}.zip"}
    with pytest.MonkeyPatch.context() as patch:
        flags = [word for name, value in (words | options).items() for word in (f"--{name}", str(value))]
        patch.setattr(sys, "argv", ["real", *flags])
        real.main()
    ids = [row["id"] for row in read_layout_rows(out / f"{split}.jsonl")]
    return dict(read_images(out / f"{split}.zip", ids))


def covers_red(root: Path, out: Path, **options: Any) -> None:
    """Each `dog` box of train and test ends within a pixel of the red rectangle, which is in every photo."""
    for split in ("train", "test"):
        seen = pictures(root, out, split, **options)
        for row in read_layout_rows(out / f"{split}.jsonl"):
            colours = seen[row["id"]].astype(int)
            y, x = np.nonzero((colours[..., 0] > 180) & (colours[..., 1:].max(-1) < 90))
            red = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            (box,) = [thing["box"] for thing in row["objects"] if thing["phrase"] == "dog"]
            assert np.abs(np.array(box) * 32 - red).max() <= 1


def good(root: Path, out: Path) -> dict:
    rows, report = prepared(root, out)
    assert [len(of) for of in rows.values()] == [6, 2, 4]
    covers_red(root, out)
    return report


def says(report: dict, what: str) -> None:
    assert any(re.search(what, reason) for split in report["read_as"].values() for reason in split)


def keeps_both(root: Path, out: Path) -> None:
    rows, report = prepared(root, out)
    assert all(len(row["objects"]) == 2 for row in rows["test"])
    assert report["accounts"]["val2014"]["boxes"]["used"] == report["splits"]["test"]["boxes"] == 8
    covers_red(root, out)
    says(report, "ids that repeat")


def is_scaled(root: Path, out: Path) -> None:
    prepared(root, out)
    for row, pixels in zip(read_layout_rows(out / "test.jsonl"), pictures(root, out).values(), strict=True):
        with Image.open(root / f"val2014/COCO_val2014_{row['image_id']:012d}.jpg") as photo:
            deep = np.asarray(photo).astype(float)
        expected = deep[:, 8:40] * 255 / 65535
        assert deep.max() > 255
        assert np.abs(pixels - expected[..., None]).max() <= 0.5
        assert pixels.mean() < 250


def names_no_dog(root: Path, out: Path) -> None:
    rows, _ = prepared(root, out)
    spoilt = [row for of in rows.values() for row in of if "hot-dog" in row["caption"]]
    assert spoilt
    assert all(thing["span"] is None for row in spoilt for thing in row["objects"] if thing["phrase"] == "dog")


# What each folder of inputs must give.
CHECKS: dict[str, Callable[[Path, Path], Any]] = {
    "plain": good,
    "exif6_upright": good,
    "exif6_sizes_as_stored": lambda *at: refused(
        *at, "train2014.json: image 1: .* is 32 x 48, its record says 48 x 32"
    ),
    "sizes_swapped": lambda *at: refused(
        *at, r"image 1: COCO_train2014_000000000001.jpg is 32 x 48, its record says 48 x 32"
    ),
    "photo_stretched": lambda *at: refused(
        *at, "8 of the 8 photos .* is 40 x 40, its record says 32 x 48; .* 8 in all"
    ),
    "size_minus_one": lambda *at: says(
        good(*at), "`width` that is missing or no positive integer, taken from the photo"
    ),
    "size_null": lambda *at: says(good(*at), "`height` that is missing or no positive integer, taken from the photo"),
    "size_text": lambda *at: says(good(*at), "`width` read as an integer"),
    "annotation_ids_restart": keeps_both,
    "image_id_twice": lambda *at: refused(*at, r"id 101 twice, for 'COCO_val2014_000000000101.jpg' .* and 'other.gif'"),
    "image_ids_text": lambda *at: says(good(*at), "images: `id` read as an integer"),
    "image_ids_names": lambda *at: refused(
        *at, r"images\[0\] .* has `id` 'img_1', expected an integer from 0 to 2\^63 - 1"
    ),
    "image_ids_text_in_annotations_only": lambda *at: says(good(*at), "annotations: `image_id` read as an integer"),
    "category_id_text": lambda *at: says(good(*at), "`category_id` read as an integer"),
    "iscrowd_text": lambda *at: says(good(*at), "`iscrowd` read from text"),
    "caption_null": lambda *at: refused(*at, r"captions_\w+.json: annotations\[\d\] \(id \d+\) has `caption` null"),
    "annotation_id_null": lambda *at: says(good(*at), "`id` that is no integer"),
    "category_unused": good,
    "photo_16_bit": is_scaled,
    "caption_hyphen": names_no_dog,
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of spoilt inputs is not beside this checkout")
@pytest.mark.parametrize("name", CHECKS)
def test_every_folder_of_inputs_gives_what_is_expected_of_it(tmp_path, name) -> None:
    assert set(json.loads((SHARED / "expected.json").read_text())) == set(CHECKS)
    CHECKS[name](SHARED / name, tmp_path / "out")


def store(root: Path, orientation: int = 6, record: str = "upright") -> None:
    turn(root, orientation)
    if record == "stored":
        change(root, "instances", every("images", width=TALL[1], height=TALL[0]))


def second_box(content: Any) -> None:
    content["annotations"] += [row | {"category_id": 1, "bbox": [9, 1, 12, 12]} for row in content["annotations"]]
    for number, row in enumerate(content["annotations"]):
        row["id"] = 1 + number // (len(content["annotations"]) // 2)


def sixteen_bits(root: Path) -> None:
    for path in photos(root):
        deep = (picture(int(path.stem[-12:]))[0][..., 1].astype(np.uint16) * 257) ^ 21
        file = io.BytesIO()
        Image.fromarray(deep).save(file, "PNG")
        path.write_bytes(file.getvalue())


def first(part: str, **fields: Any) -> Callable[[Any], None]:
    return lambda content: content[part][0].update(fields)


def stretch(root: Path) -> None:
    for path in photos(root):
        with Image.open(path) as photo:
            wide = photo.resize((40, 40))
        wide.save(path)


def with_ids(number: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for kind in ("instances", "captions"):
            change(root, kind, every("images", id=number))
            change(root, kind, every("annotations", image_id=number))

    return spoil


def in_annotations_only(root: Path) -> None:
    for kind in ("instances", "captions"):
        change(root, kind, every("annotations", image_id=str))


SPOIL: dict[str, tuple[tuple[int, int], Callable[[Path], Any]]] = {
    "plain": ((48, 32), lambda root: None),
    "exif6_upright": (TALL, store),
    "exif6_sizes_as_stored": (TALL, lambda root: store(root, record="stored")),
    "sizes_swapped": (TALL, lambda root: change(root, "instances", every("images", width=48, height=32))),
    "photo_stretched": (TALL, stretch),
    "size_minus_one": ((48, 32), lambda root: change(root, "instances", first("images", width=-1, height=-1))),
    "size_null": ((48, 32), lambda root: change(root, "instances", first("images", width=None, height=None))),
    "size_text": ((48, 32), lambda root: change(root, "instances", first("images", width="48", height="32"))),
    "annotation_ids_restart": ((48, 32), lambda root: change(root, "instances", second_box)),
    "image_id_twice": (
        (48, 32),
        lambda root: change(
            root,
            "instances",
            lambda c: c["images"].append({"id": 101, "width": 20, "height": 60, "file_name": "other.gif"}),
            ("val2014",),
        ),
    ),
    "image_ids_text": ((48, 32), with_ids(str)),
    "image_ids_names": ((48, 32), with_ids("img_{}".format)),
    "image_ids_text_in_annotations_only": ((48, 32), in_annotations_only),
    "category_id_text": ((48, 32), lambda root: change(root, "instances", every("annotations", category_id="18"))),
    "iscrowd_text": ((48, 32), lambda root: change(root, "instances", every("annotations", iscrowd="0"))),
    "caption_null": ((48, 32), lambda root: change(root, "captions", first("annotations", caption=None))),
    "annotation_id_null": ((48, 32), lambda root: change(root, "instances", first("annotations", id=None))),
    "category_unused": (
        (48, 32),
        lambda root: change(root, "instances", lambda c: c["categories"].append({"id": 0, "name": "all things"})),
    ),
    "photo_16_bit": ((48, 32), sixteen_bits),
    "caption_hyphen": ((48, 32), lambda root: change(root, "captions", first("annotations", caption="A hot-dog."))),
}


@pytest.mark.parametrize("name", CHECKS)
def test_inputs_spoilt_here_give_the_same(tmp_path, name) -> None:
    size, spoil = SPOIL[name]
    root = write_set(tmp_path / "set", size)
    spoil(root)
    CHECKS[name](root, tmp_path / "out")


@pytest.fixture
def root(tmp_path) -> Path:
    return write_set(tmp_path / "set")


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photos_are_turned_as_exif_says_or_taken_as_stored(tmp_path, orientation) -> None:
    upright = write_set(tmp_path / "upright")
    turn(upright, orientation)
    good(upright, tmp_path / "a")
    # The same files with annotations made on what is stored: only `ignore` finds the rectangle.
    stored = write_set(tmp_path / "stored")
    for path in photos(stored):
        with Image.open(path) as photo:
            exif = photo.getexif()
            exif[0x0112] = orientation
            photo.save(path, exif=exif)
    prepared(stored, tmp_path / "b", exif="ignore")
    covers_red(stored, tmp_path / "b", exif="ignore")
    if orientation != 3:
        assert refused(stored, tmp_path / "c", "is 32 x 48, its record says 48 x 32").endswith(
            "set data.exif to ignore"
        )


def test_every_orientation_is_pillows(tmp_path) -> None:
    for orientation in range(1, 9):
        folder = tmp_path / str(orientation) / "val2014"
        folder.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = folder / "COCO_val2014_000000000001.jpg"
        Image.fromarray(picture(1)[0]).save(path, exif=exif)
        with Image.open(path) as photo:
            expected = ImageOps.exif_transpose(photo)
        ours = open_photos(folder.parent, "test")
        assert np.array_equal(ours.read(1), expected)
        assert ours.look(1)[1:3] == expected.size
    assert set(TURNS) == set(range(2, 9))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_read_turns_nothing(tmp_path) -> None:
    folder = tmp_path / "val2014"
    folder.mkdir()
    Image.fromarray(picture(1)[0]).save(
        folder / "COCO_val2014_000000000001.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    )
    assert open_photos(tmp_path, "test").read(1).size == (48, 32)


GREY = np.linspace(0, 255, 12).astype(np.uint8).reshape(3, 4)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


@pytest.mark.parametrize(
    "file",
    [
        saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
        saved(Image.fromarray((GREY.astype(np.uint16) * 257).astype(np.int32)), "PPM"),
        saved(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"),
        saved(Image.fromarray(GREY), "GIF"),
        saved(Image.fromarray(GREY).convert("P"), "PNG"),
        saved(Image.fromarray(GREY).convert("RGBA"), "PNG"),
        saved(Image.fromarray(GREY).convert("LA"), "PNG"),
        saved(Image.fromarray(GREY).convert("RGB").convert("CMYK"), "TIFF"),
    ],
)
def test_pictures_of_every_mode_keep_their_greys(file) -> None:
    assert np.abs(np.asarray(rgb(opened(file), upright=False)).astype(int) - GREY[..., None]).max() <= 1


def test_one_bit_is_black_and_white() -> None:
    photo = opened(saved(Image.fromarray(GREY).convert("1"), "PNG"))
    assert set(np.unique(np.asarray(rgb(photo, upright=False)))) == {0, 255}


@pytest.mark.parametrize(
    ("file", "named"),
    [
        (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "values from 0 to 255, expected 0 to 1"),
        (saved(Image.fromarray(np.float32([[0, np.nan]])), "TIFF"), "values from nan to nan, expected 0 to 1"),
        (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "pixels of mode I, expected 8 or 16 bits"),
        (saved(Image.new("RGBA", (4, 3), (9, 9, 9, 128)), "PNG"), "pixels of opacity 128 of 255"),
        (saved(Image.new("L", (4, 3)), "PNG", transparency=0), "pixels of opacity 0 of 255"),
        (
            saved(Image.new("L", (4, 3)), "GIF", save_all=True, append_images=[Image.new("L", (4, 3), 255)]),
            "2 frames, expected one",
        ),
    ],
)
def test_pictures_whose_greys_nobody_knows_are_refused(tmp_path, file, named) -> None:
    with pytest.raises(InputError, match=named):
        rgb(opened(file), upright=False)
    # And before anything else is done, whatever the photo's name says.
    root = write_set(tmp_path / "set")
    photos(root)[0].write_bytes(file)
    refused(root, tmp_path / "out", f"image 1: COCO_train2014_000000000001.jpg has {named}")


def test_a_photo_of_another_name_is_found_by_its_record(root, tmp_path) -> None:
    for path in photos(root):
        other = path.parent / "by hand" / f"{int(path.stem[-12:])}.jpeg"
        other.parent.mkdir(exist_ok=True)
        path.rename(other)
    names = iter(range(1, 9))
    change(
        root, "instances", every("images", file_name=lambda _: f"train2014/by hand/{next(names)}.jpeg"), ("train2014",)
    )
    names = iter(range(101, 105))
    change(root, "instances", every("images", file_name=lambda _: f"by hand\\{next(names)}.jpeg"), ("val2014",))
    for kind in ("captions",):
        change(root, kind, every("images", file_name=None))
    good(root, tmp_path / "folder")
    for split in IDS:
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for path in sorted((root / split / "by hand").iterdir()):
                archive.write(path, f"{split}/by hand/{path.name}")
                path.unlink()
        (root / split / "by hand").rmdir()
        (root / split).rmdir()
    good(root, tmp_path / "zip")


def test_two_images_of_one_photo_are_counted(root, tmp_path) -> None:
    one, other = photos(root)[8:10]
    one.unlink()
    for kind in ("instances", "captions"):
        change(root, kind, first("images", file_name=other.name), ("val2014",))
    _, report = prepared(root, tmp_path / "out")
    assert report["read_as"]["val2014"] == {"photo that an earlier image has as well": {"count": 1, "examples": [102]}}


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "..\\secret.jpg"])
def test_no_record_leads_out_of_the_split(root, tmp_path, name) -> None:
    photos(root)[0].rename(root / "secret.jpg")
    for kind in ("instances", "captions"):
        change(root, kind, first("images", file_name=name), ("train2014",))
    refused(
        root,
        tmp_path / "out",
        r"1 of the 8 photos .*: image 1: train2014 has no COCO\S+1.jpg, and '.*' leads out of it",
    )
    layout = {"id": 1, "image_id": 7, "caption": "", "objects": [], "photo": name}
    (tmp_path / "test.jsonl").write_text(json.dumps(layout))
    with pytest.raises(InputError, match="leads out of it"):
        pictures(root, tmp_path)


def test_photos_that_are_missing_or_damaged_are_named_before_anything_is_written(root, tmp_path) -> None:
    first_one, second, *_ = photos(root)
    first_one.unlink()
    second.write_bytes(b"no photo")
    pattern = (
        "2 of the 8 photos .*: image 1: train2014 has no COCO_train2014_000000000001.jpg; image 2: .* not a readable"
    )
    refused(root, tmp_path / "out", pattern)


def test_preparation_without_photos_is_one_line(root, tmp_path) -> None:
    for path in photos(root):
        path.unlink()
    (root / "val2014").rmdir()
    refused(root, tmp_path / "out", r"neither a folder val2014/ nor val2014\.zip")


HUGE = "1" * 5000
INSTANCES, CAPTIONS = "instances_val2014.json", "captions_val2014.json"


@pytest.mark.parametrize(
    ("kind", "part", "fields", "named"),
    [
        (
            "instances",
            "images",
            {"id": 2**63},
            r"images\[0\] \(id 9223372036854775808\) has `id` 9223372036854775808",
        ),
        ("instances", "images", {"id": -1}, "has `id` -1, expected an integer from 0"),
        ("instances", "images", {"id": 101.5}, "has `id` 101.5, expected"),
        ("instances", "images", {"id": True}, "has `id` true, expected"),
        ("instances", "images", {"file_name": 7}, "has `file_name` 7, expected a file's name as text"),
        ("instances", "annotations", {"image_id": "@huge"}, "has `image_id` .1{20,}.*, expected an integer"),
        ("instances", "annotations", {"image_id": [[101]]}, r"has `image_id` \[\[101\]\], expected"),
        ("instances", "annotations", {"category_id": None}, "has `category_id` null, expected"),
        ("instances", "annotations", {"category_id": float("nan")}, "has `category_id` nan, expected"),
        ("instances", "annotations", {"bbox": [1, 2, float("inf"), 4]}, r"has `bbox` \[1, 2, inf, 4\], expected"),
        ("instances", "annotations", {"bbox": [1, 2, -3, 4]}, r"has `bbox` \[1, 2, -3, 4\], expected"),
        ("instances", "annotations", {"bbox": [1, 2, "@huge", 4]}, "has `bbox`"),
        ("instances", "annotations", {"bbox": {"x": 1}}, "has `bbox`"),
        ("instances", "annotations", {"iscrowd": 2}, "has `iscrowd` 2, expected 0 or 1"),
        ("instances", "categories", {"name": 5}, "has `name` 5, expected a name as text"),
        (
            "captions",
            "annotations",
            {"caption": "half \ud83d"},
            r"has `caption` 'half \\ud83d', expected text of whole",
        ),
        ("captions", "annotations", {"caption": 5}, "has `caption` 5, expected text"),
        (
            "captions",
            "annotations",
            {"caption": " \n"},
            r"has `caption` ' \\n', expected text, since image 101 has no other",
        ),
        ("captions", "annotations", {"id": "a"}, r"annotations\[0\] \(id 'a'\) has `id` 'a', expected an integer"),
    ],
)
def test_fields_that_cannot_be_read_are_named_with_file_record_and_value(
    root, tmp_path, kind, part, fields, named
) -> None:
    change(root, kind, first(part, **fields), ("val2014",))
    path = path_of(root, kind, "val2014")
    path.write_text(path.read_text().replace('"@huge"', HUGE))
    assert len(refused(root, tmp_path / "out", rf"{path.name}: .*{named}")) < 600


def test_the_first_few_faults_are_listed_and_all_counted(root, tmp_path) -> None:
    change(root, "instances", every("annotations", bbox=None), ("train2014",))
    message = refused(
        root, tmp_path / "out", r"annotations\[0\] .*; annotations\[1\] .*; annotations\[2\] .*; and 5 more, 8 in all"
    )
    assert "annotations[3]" not in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "expected COCO's object with `images` and `annotations`, found list"),
        (b"[" * 100_000, r"not JSON of records \(lists or objects nested too deeply\)"),
        (b'{"images": {}, "annotations": []}', "`images` should be a list, found dict"),
        (b'{"images": [null], "annotations": [], "categories": []}', r"images\[0\] is null, expected an object"),
        (b'{"images": [], "images": [], "annotations": []}', "`images` stands twice"),
        (
            b'{"images": [{"id": 1, "id": 2}], "annotations": [], "categories": []}',
            r"images\[0\] \(id 2\) has `id` twice",
        ),
        ('{"images": "é"}'.encode("latin-1"), "not JSON .*utf-8"),
    ],
)
def test_files_that_are_no_annotations_are_one_line(root, tmp_path, text, named) -> None:
    path_of(root, "instances", "val2014").write_bytes(text)
    refused(root, tmp_path / "out", rf"{INSTANCES}: {named}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_in_another_unicode_encoding_is_read(root, tmp_path, encoding) -> None:
    for path in (root / "annotations").iterdir():
        path.write_bytes(path.read_text().encode(encoding))
    good(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "part", "fields", "noted"),
    [
        ("instances", "images", {"id": float}, "images: `id` read as an integer"),
        ("instances", "images", {"width": lambda value: f" {value}.0 "}, "`width` read as an integer"),
        (
            "instances",
            "images",
            {"width": 0, "height": lambda value: [value]},
            "`height` that is missing or no positive",
        ),
        ("instances", "images", {"width": 47.5}, "`width` that is missing or no positive"),
        ("instances", "annotations", {"bbox": lambda box: [str(edge) for edge in box]}, "`bbox` read from text"),
        ("instances", "annotations", {"iscrowd": False}, "`iscrowd` read from text, float or boolean"),
        ("instances", "annotations", {"iscrowd": None}, "no `iscrowd`, read as 0"),
        ("instances", "annotations", {"id": "ann-é"}, "ids that repeat"),
        ("instances", "annotations", {"id": 2**70}, "`id` that is no integer, left out"),
        ("captions", "annotations", {"image_id": "{:012d}".format}, "`image_id` read as an integer"),
        ("instances", "categories", {"id": str}, "categories: `id` read as an integer"),
    ],
)
def test_what_can_be_read_without_doubt_is_read_and_counted(root, tmp_path, kind, part, fields, noted) -> None:
    change(root, kind, every(part, **fields))
    says(good(root, tmp_path / "out"), noted)


def test_crowds_by_any_spelling_are_crowds(root, tmp_path) -> None:
    for value in (1, 1.0, "1", True, "true"):
        change(root, "instances", every("annotations", iscrowd=value))
        rows, report = prepared(root, tmp_path / f"{value!r}")
        assert report["splits"]["test"]["dropped"]["crowd"]["count"] == 4
        assert {region["why"] for row in rows["test"] for region in row["ignored"]} == {"crowd"}


def test_what_the_layout_leaves_out_is_ignored_by_name_and_place(root, tmp_path) -> None:
    def crowded(content: Any) -> None:
        made = {"image_id": content["images"][0]["id"], "category_id": 1, "iscrowd": 0}
        boxes = [[8, 0, 10, 10], [8, 0, 12, 12], [8, 0, 1, 1], [0, 0, 7, 32], [8, 0, 0, 5], [8, 0, 40, 40]]
        crowds = [0, 0, 0, 0, 0, 1]
        content["annotations"] += [
            made | {"id": number, "bbox": box, "iscrowd": crowd}
            for number, (box, crowd) in enumerate(zip(boxes, crowds, strict=True))
        ]
        content["annotations"].append(made | {"id": 99, "bbox": [8, 0, 12, 12], "category_id": 77})

    change(root, "instances", crowded)
    rules = {"min_area_frac": 0.01, "max": 2, "drop_crowd": True}
    rows, report = prepared(root, tmp_path / "out", boxes=rules)
    (row,) = [row for row in rows["test"] if row["image_id"] == 101]
    assert [thing["annotation_id"] for thing in row["objects"]] == [1101, 1]
    assert row["ignored"] == [
        {"phrase": "person", "box": [0.0, 0.0, 1.0, 1.0], "why": "crowd"},
        {"phrase": "person", "box": [0.0, 0.0, 0.3125, 0.3125], "why": "beyond the 2 largest"},
        {"phrase": "person", "box": [0.0, 0.0, 0.03125, 0.03125], "why": "smaller than min_area_frac"},
    ]
    dropped = {reason: found["count"] for reason, found in report["splits"]["test"]["dropped"].items()}
    reasons = ("crowd", "beyond the 2 largest", "smaller than min_area_frac", "outside the canvas", "without area")
    assert dropped == dict.fromkeys((*reasons, "unknown category"), 1)


def test_a_box_too_thin_for_six_decimals_is_dropped_with_a_reason(root, tmp_path) -> None:
    change(root, "instances", first("annotations", bbox=[10, 5, 1e-7, 3]))
    rows, report = prepared(root, tmp_path / "out", boxes=DATA["boxes"] | {"min_area_frac": 0})
    assert report["splits"]["test"]["dropped"]["narrower than a millionth of the canvas"]["count"] == 1
    assert sum(len(row["objects"]) for row in rows["test"]) == 3


def test_caption_ids_that_restart_give_layouts_their_images_ids(root, tmp_path) -> None:
    def restart(content: Any) -> None:
        said = content["annotations"]
        content["annotations"] = [row | {"id": k, "caption": f"dog {k}"} for row in said for k in (2, 1, 3)]

    change(root, "captions", restart)
    for caption in ("first", "random"):
        rows, report = prepared(root, tmp_path / caption, caption=caption)
        assert all(row["id"] == row["image_id"] for of in rows.values() for row in of)
        says(report, "ids of layouts are their images'")
        found = {row["caption"] for of in rows.values() for row in of}
        assert found == {"dog 1"} if caption == "first" else len(found) > 1


def test_an_images_next_caption_is_taken_where_one_has_no_word(root, tmp_path) -> None:
    def more(content: Any) -> None:
        content["annotations"] += [row | {"id": row["id"] - 4000, "caption": None} for row in content["annotations"]]

    change(root, "captions", more)
    report = good(root, tmp_path / "out")
    assert report["annotations"]["val2014"]["caption without a word in captions_val2014.json"]["count"] == 4


def test_ids_that_fit_nowhere_are_told_as_such_and_never_as_a_count(root, tmp_path) -> None:
    change(root, "captions", every("images", id=lambda number: number + 900, file_name=None), ("train2014",))
    change(root, "captions", every("annotations", image_id=lambda number: number + 900), ("train2014",))
    refused(
        root, tmp_path / "out", "none of its 8 images with a caption is in instances_train2014.json: .* 901, there 1"
    )
    root = write_set(tmp_path / "other")
    change(root, "instances", every("annotations", image_id=lambda number: number + 900), ("train2014",))
    refused(root, tmp_path / "out", "none of 8 annotations is of an image listed there: .* `image_id` 901, .* `id` 1")


def test_two_names_of_an_id_are_refused(root, tmp_path) -> None:
    change(root, "captions", first("images", file_name="other.jpg"), ("val2014",))
    refused(
        root, tmp_path / "out", "differ in `file_name`: image 101 is 'COCO_val2014_000000000101.jpg' and 'other.jpg'"
    )
    root = write_set(tmp_path / "other")
    change(root, "instances", lambda content: content["categories"].append({"id": 18, "name": "cat"}), ("val2014",))
    refused(root, tmp_path / "out", "`categories` has id 18 twice, for 'dog' and 'cat'")


def test_too_few_images_say_why(root, tmp_path) -> None:
    change(root, "captions", lambda content: content["annotations"].pop(), ("val2014",))
    named = r"data\.test\.count: 4 images asked for, 3 there \(of 4 in instances_val2014.json, 1 without a caption\)"
    refused(root, tmp_path / "out", named)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.pop("split"), r"data\.split\.train_fraction is missing; data\.split\.seed is missing"),
        (lambda data: data.update(exif="turn"), "data.exif is 'turn', expected apply or ignore"),
        (lambda data: data["test"].update(count="4"), "data.test.count is '4', expected an integer of at least 1"),
        (lambda data: data.update(val={"count": 0}), "data.val.count is 0, expected"),
        (lambda data: data.update(boxes=[]), "data.boxes.min_area_frac is missing, expected a number from 0 to 1"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(root, tmp_path, monkeypatch, capsys, change, named) -> None:
    data = json.loads(json.dumps(DATA))
    change(data)
    (tmp_path / "data.json").write_text(json.dumps(data))
    flags = ["coco", "--root", root, "--config", tmp_path / "data.json", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["datasets", *map(str, flags)])
    with pytest.raises(SystemExit, match="1"):
        cli.run(datasets.main)
    error = capsys.readouterr().err
    assert re.search(named.replace("missing;", "missing, expected a number from 0 to 1;"), error)
    assert error.count("\n") == 1
