"""Images made elsewhere: the right file becomes the right image, or one line says what is wrong and nothing is written."""

import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.datasets import outside
from evaluation.datasets.naming import OutsideRow, Pattern, Table
from evaluation.layouts import write_layouts
from formats.files import InputError
from formats.images import check_images, read_images, read_meta

IDS = [139, 7, 4000000]
CAPTIONS = ["a dog", "a cat / mouse", "a dog"]
ROWS = [
    {"id": number, "image_id": place + 1, "caption": caption, "objects": [], "source_id": f"s-{place}"}
    for place, (number, caption) in enumerate(zip(IDS, CAPTIONS, strict=True))
]
PIXELS = {number: np.random.default_rng(number).integers(1, 256, (8, 10, 3), np.uint8) for number in IDS}


def encoded(pixels: np.ndarray, format: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format, **({"lossless": True} if format == "WEBP" else {}))
    return file.getvalue()


PICTURES = {number: encoded(pixels) for number, pixels in PIXELS.items()}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def words(tmp_path: Path, images: Path, *more: str) -> list[str]:
    """A command line for layouts in two shards."""
    shards = [tmp_path / "layouts/0000.jsonl", tmp_path / "layouts/0001.jsonl"]
    for path, rows in zip(shards, (ROWS[:2], ROWS[2:]), strict=True):
        write_layouts(path, rows)
    paths = ["--layouts", *map(str, shards), "--out", str(tmp_path / "out")]
    return ["--row", "migc", "--images", str(images), "--made-by", "MIGC, seed 1", *more, *paths]


def imported(monkeypatch, tmp_path: Path, images: Path, *more: str) -> dict[int, np.ndarray]:
    monkeypatch.setattr(sys, "argv", ["outside", *words(tmp_path, images, *more)])
    outside.main()
    return {
        number: pixels
        for shard, ids in (("0000", IDS[:2]), ("0001", IDS[2:]))
        for number, pixels in read_images(tmp_path / f"out/{shard}.zip", ids)
    }


def refused(monkeypatch, capsys, tmp_path: Path, images: Path, *more: str) -> list[str]:
    with pytest.raises((SystemExit, InputError)) as raised:
        imported(monkeypatch, tmp_path, images, *more)
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().err.splitlines()
    return lines or [str(raised.value)]


PLACES = {number: place for place, number in enumerate(IDS)}
LAYOUTS_OF_FILES = [
    ([], lambda number: f"{number}.png"),
    ([], lambda number: f"{number:012d}.png"),
    (["--pattern", "{id:07d}.png"], lambda number: f"{number:07d}.png"),
    (["--pattern", "{index:03d}_*/0.png"], lambda number: f"{PLACES[number]:03d}_a dog, 2 cats/0.png"),
    (["--pattern", "{number}_*.png"], lambda number: f"{PLACES[number] + 1}_12.png"),
    (["--pattern", "seed*/{image_id}.png"], lambda number: f"seed9/{PLACES[number] + 1}.png"),
    (["--pattern", "{source_id}.png"], lambda number: f"s-{PLACES[number]}.png"),
]


@pytest.mark.parametrize("kind", ["folder", "zip", "zip_of_a_folder"])
@pytest.mark.parametrize(
    ("options", "name"), LAYOUTS_OF_FILES, ids=[" ".join(o) or "none" for o, _ in LAYOUTS_OF_FILES]
)
def test_every_layout_gets_its_own_picture(monkeypatch, tmp_path, options, name, kind) -> None:
    files = {name(number): picture for number, picture in PICTURES.items()} | {".DS_Store": b"x", "__MACOSX/._a": b"x"}
    if kind == "folder":
        images = put(tmp_path / "images", files)
    else:
        top = "mine/" if kind == "zip_of_a_folder" else ""
        images = zipped(tmp_path / "images.zip", {f"{top}{file}": content for file, content in files.items()})
    found = imported(monkeypatch, tmp_path, images, *options)
    assert all(np.array_equal(found[number], PIXELS[number]) for number in IDS)
    meta = read_meta(tmp_path / "out/0000.zip")
    assert meta["spec"]["made_by"] == "MIGC, seed 1" and "commit" not in meta and "seconds" not in meta
    assert meta["spec"] == read_meta(tmp_path / "out/0001.zip")["spec"]


def test_shards_of_another_run_are_zips_in_a_folder(monkeypatch, tmp_path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    zipped(images / "0000.zip", {f"{IDS[0]:012d}.png": PICTURES[IDS[0]], "meta.json": b"{}"})
    zipped(images / "0001.zip", {f"{number:012d}.png": PICTURES[number] for number in IDS[1:]})
    found = imported(monkeypatch, tmp_path, images, "--pattern", "*.zip/{id}.png")
    assert all(np.array_equal(found[number], PIXELS[number]) for number in IDS)
    (tmp_path / "out").rename(tmp_path / "first")
    (images / "notes.txt").write_text("x")
    monkeypatch.setattr(sys, "argv", ["outside", *words(tmp_path, images, "--pattern", "*.zip/{id}.png")])
    with pytest.raises(SystemExit):
        outside.main()


def test_a_table_names_the_files(monkeypatch, tmp_path) -> None:
    names = dict(zip(IDS, ["b/x y.png", "a.png", "c.png"], strict=True))
    images = put(tmp_path / "images", {names[number]: picture for number, picture in PICTURES.items()})
    lines = "".join(f"{number},{name}\r\n" for number, name in names.items())
    (tmp_path / "names.csv").write_bytes(b"\xef\xbb\xbf" + f"id,file\r\n{lines}".encode())
    found = imported(monkeypatch, tmp_path, images, "--table", str(tmp_path / "names.csv"))
    assert all(np.array_equal(found[number], PIXELS[number]) for number in IDS)


def test_pictures_of_other_kinds_become_png_of_the_same_pixels(monkeypatch, tmp_path, capsys) -> None:
    grey = np.repeat(PIXELS[7][..., :1], 3, 2)
    files = {"139.webp": encoded(PIXELS[139], "WEBP"), "7.webp": encoded(grey, "PNG", "L")}
    files["4000000.webp"] = encoded(PIXELS[4000000], "BMP")
    found = imported(monkeypatch, tmp_path, put(tmp_path / "images", files), "--pattern", "{id}.webp")
    assert np.array_equal(found[139], PIXELS[139]) and np.array_equal(found[7], grey)
    with zipfile.ZipFile(tmp_path / "out/0000.zip") as archive:
        assert all(archive.read(name).startswith(b"\x89PNG") for name in archive.namelist() if name.endswith(".png"))
    said = capsys.readouterr().out
    assert "1 of mode L, read as RGB" in said and "1 of WEBP, kept as PNG of its pixels" in said


BLACK = encoded(np.zeros((8, 10, 3), np.uint8))
CLEAR = io.BytesIO()
Image.new("RGBA", (10, 8), (9, 9, 9, 0)).save(CLEAR, "PNG")
FAULTS = [
    ({"7.png": None}, [], "1 layouts without a file (7): none of the pattern {id}.png"),
    ({"8.png": PICTURES[7]}, [], "1 files (8.png) of no layout; take them away, or say `surplus: pass_over`"),
    ({"grid.jpg": b"x"}, [], "1 files (grid.jpg) of no layout"),
    ({"deep/er/x.png": b"x"}, [], "of no layout"),
    ({"0007.png": PICTURES[7]}, [], "1 with several files: layout 7: 0007.png, 7.png"),
    ({"7.png": encoded(PIXELS[7][:4])}, [], "1 of another size than 10 x 8, as 2 have: 7.png has 10 x 4"),
    ({}, ["--size", "512", "512"], "3 of another size than 512 x 512: 139.png has 10 x 8"),
    ({"7.png": PICTURES[139]}, [], "1 times one picture for several captions: 139.png = 7.png"),
    ({"7.png": BLACK}, [], "1 black all over, as a failed decoder or a safety checker leaves them: 7.png"),
    ({"7.png": b"<html>"}, [], "1 unreadable: 7.png is damaged or none of PNG, JPEG, WEBP, BMP"),
    ({"7.png": b""}, [], "1 unreadable: 7.png is empty"),
    ({"7.png": PICTURES[7][:-30]}, [], "1 unreadable: 7.png is damaged"),
    ({"7.png": encoded(PIXELS[7], "JPEG", "CMYK")}, [], "1 unreadable: 7.png has mode CMYK, expected RGB of 8 bits"),
    ({"7.png": CLEAR.getvalue()}, [], "1 unreadable: 7.png has pixels of opacity 0 of 255"),
    ({}, ["--pattern", "{index}.png"], "3 layouts without a file"),
    ({}, ["--size", "mixed", "3"], "--size mixed 3: expected WIDTH HEIGHT"),
]


@pytest.mark.parametrize(("change", "options", "line"), FAULTS, ids=[line[:40] for _, _, line in FAULTS])
def test_what_is_wrong_is_one_line_and_nothing_is_written(monkeypatch, capsys, tmp_path, change, options, line) -> None:
    files = {f"{number}.png": picture for number, picture in PICTURES.items()} | change
    images = put(tmp_path / "images", {name: content for name, content in files.items() if content is not None})
    lines = refused(monkeypatch, capsys, tmp_path, images, *options)
    assert any(line in one for one in lines), lines
    assert all("Traceback" not in one for one in lines)


def test_all_kinds_of_faults_are_told_at_once(monkeypatch, capsys, tmp_path) -> None:
    images = put(tmp_path / "images", {"139.png": PICTURES[139], "4000000.png": encoded(PIXELS[139][:3]), "x.png": b""})
    assert len(refused(monkeypatch, capsys, tmp_path, images)) == 3


def test_files_of_no_layout_and_mixed_sizes_are_taken_where_this_is_said(monkeypatch, tmp_path) -> None:
    files = {f"{number}.png": picture for number, picture in PICTURES.items()}
    images = put(
        tmp_path / "images", files | {"7.png": encoded(PIXELS[7][:4]), "grid.png": PICTURES[7], "log.txt": b"x"}
    )
    found = imported(monkeypatch, tmp_path, images, "--size", "mixed", "--surplus", "pass_over")
    assert found[7].shape == (4, 10, 3)
    assert check_images(tmp_path / "out/0000.zip", IDS[:2])[7] == (10, 4)


def test_one_picture_for_layouts_of_one_caption_is_noted(monkeypatch, tmp_path, capsys) -> None:
    files = {f"{number}.png": picture for number, picture in PICTURES.items()} | {"4000000.png": PICTURES[139]}
    imported(monkeypatch, tmp_path, put(tmp_path / "images", files))
    assert "1 times one picture for layouts of one caption" in capsys.readouterr().out


@pytest.mark.parametrize(
    "pattern",
    [
        *("x.png", "{id}{", "{foo}.png", "{id:d}.png", "{id:3d}.png", "{id!r}.png", "{}.png", "{id:09999999d}.png"),
        *("{source_id}*.png", "../{id}.png", "/{id}.png", "{id}/", "C:/{id}.png"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern) -> None:
    with pytest.raises(InputError, match=r"^pattern "):
        Pattern(pattern)


def test_a_number_is_all_the_digits_that_stand_there() -> None:
    rows = [{"id": number, "image_id": 0} for number in range(130)]
    found = Pattern("{id}*.png").assign([f"{number}_x.png" for number in range(130)], rows)
    assert found.files == {number: f"{number}_x.png" for number in range(130)} and not found.others
    assert Pattern("{id:03d}*.png").assign(["0012.png", "012b.png"], rows).files == {12: "012b.png"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2\n", "expected the columns `file` and one of id"),
        ("id,file\nx,a.png\n", "line 2: id is 'x', expected digits"),
        ("id,file\n1,../a.png\n", "line 2: file is '../a.png', expected a name below the folder"),
        ("id,file\n1,/etc/passwd\n", "expected a name below the folder"),
        ("id,file\n1\n", "expected a name below the folder"),
        ("id,file\n", "names no file"),
        ("", "found none"),
        ("id,file\n1,\xff\n", "not a CSV in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, line) -> None:
    (tmp_path / "names.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as raised:
        Table(tmp_path / "names.csv")
    assert line in str(raised.value)


def test_a_table_names_each_layout_and_each_file_once(tmp_path) -> None:
    (tmp_path / "names.csv").write_text(
        "id,file\n139,a.png\n7,a.png\n4000000,b.png\n4000000,c.png\n5,d.png\n139,gone.png\n"
    )
    found = Table(tmp_path / "names.csv").assign(["a.png", "b.png", "c.png", "d.png", "e.png"], ROWS)
    assert found.others == ["d.png", "e.png"]
    said = " | ".join(found.faults)
    assert "layout 4000000: b.png, c.png" in said and "a.png: layouts 139, 7" in said and "gone.png" in said


@pytest.mark.parametrize(
    ("name", "line"),
    [("../7.png", "outside the zip by name"), ("/7.png", "outside the zip"), ("C:\\7.png", "outside the zip")],
)
def test_a_zip_that_leads_outside_is_refused(monkeypatch, capsys, tmp_path, name, line) -> None:
    images = zipped(tmp_path / "images.zip", {"139.png": PICTURES[139], name: PICTURES[7]})
    assert line in refused(monkeypatch, capsys, tmp_path, images)[0]


def test_a_link_in_a_zip_is_refused(monkeypatch, capsys, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        info = zipfile.ZipInfo("7.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "1 (7.png) is no file but a link" in refused(monkeypatch, capsys, tmp_path, tmp_path / "images.zip")[0]


def test_a_program_says_it_in_lines_and_ends_with_1(tmp_path) -> None:
    command = [sys.executable, "-m", "evaluation.datasets.outside", *words(tmp_path, tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/nowhere: no such file or folder\n"


def test_headers_are_looked_at_where_layouts_are_not_there_yet(tmp_path) -> None:
    images = put(tmp_path / "images", {"1.png": PICTURES[7], "2.png": encoded(PIXELS[7][:3]), "3.jpg": b"x"})
    row = OutsideRow("migc", "MIGC, seed 1", images=str(images))
    assert any("2 files of such names for 3 layouts" in line for line in outside.faults_of(row, [], 3))
    assert any("1 of another size" in line for line in outside.faults_of(row, [], 2))
    assert outside.faults_of(replace(row, size="mixed"), [], 2) == []


def test_layouts_that_share_a_photo_are_not_told_apart_by_it() -> None:
    rows = [{"id": 1, "image_id": 9}, {"id": 2, "image_id": 9}, {"id": 3, "image_id": 8}]
    found = Pattern("{image_id}.png").assign(["9.png", "8.png"], rows)
    assert found.files == {3: "8.png"}
    assert found.faults == ["1 image_id of several layouts, so the names do not tell them apart (9)"]


def test_thousands_of_names_are_matched_in_seconds() -> None:
    rows = [{"id": 2 * number, "image_id": number} for number in range(30_000)]
    found = Pattern("*{index:05d}*/0.png").assign([f"x {number:05d} a dog/0.png" for number in range(30_000)], rows)
    assert len(found.files) == 30_000 and not found.faults


def test_a_table_with_a_column_twice_is_refused(tmp_path) -> None:
    (tmp_path / "names.csv").write_text("id,file,file\n7,1.png,2.png\n")
    with pytest.raises(InputError, match=r"names\.csv: the column 'file' stands there several times, expected once"):
        Table(tmp_path / "names.csv")
