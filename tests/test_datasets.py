"""A data set is one module: a second one, and one without photos, go through the same programs without another line of code."""

import ast
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import datasets as package
from evaluation.datasets import Prepared, find_dataset, known, lacking, real, write
from evaluation.datasets import __main__ as datasets
from evaluation.layouts import read_layout_rows
from formats import cli
from formats.files import InputError
from formats.images import read_images
from formats.layouts import Layout, LayoutError, Object
from tests import jsonl_dataset

ROOT = Path(jsonl_dataset.__file__).parents[1]
NAME = "tests.jsonl_dataset"
# Boxes in whole pixels of 512, no photos: as the CSV files of 7Bench or C-Bench are.
CSV = """
import csv
from evaluation.datasets import Prepared
from formats.layouts import Layout, Object

def faults(settings):
    return []

def prepare(root, settings):
    with open(root, newline="") as file:
        rows = [_layout(row) for row in csv.DictReader(file)]
    return Prepared({"test": rows}, {"splits": {"test": {"images": len(rows)}}})

def _layout(row):
    box = tuple(int(edge) / 512 for edge in row["bbox1"].split(","))
    return Layout(int(row["id"]), int(row["id"]), row["prompt"], (Object(row["obj1"], box),))
"""


def run(monkeypatch: pytest.MonkeyPatch, main, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *map(str, words)])
    main()


@pytest.fixture
def root(tmp_path) -> Path:
    """Two photos of 40 x 20 px whose left halves are red; their boxes cover what of it is on the canvas."""
    (tmp_path / "set/photos").mkdir(parents=True)
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = 255
    rows = []
    for number in (7, 8):
        Image.fromarray(pixels).save(tmp_path / f"set/photos/by hand {number}.png")
        objects = [["red", 0, 0, 20, 20], ["far", 35, 0, 5, 5]]
        rows.append({"id": number, "caption": "red", "photo": f"by hand {number}.png", "objects": objects})
    (tmp_path / "set/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "set"


def test_a_second_data_set_is_prepared_and_its_photos_become_the_row_real(root, tmp_path, monkeypatch) -> None:
    (tmp_path / "data.json").write_text(json.dumps({"test": {"count": 2}}))
    run(monkeypatch, datasets.main, NAME, "--root", root, "--config", tmp_path / "data.json", "--out", tmp_path / "out")
    rows = read_layout_rows(tmp_path / "out/test.jsonl")
    assert [(row["id"], row["objects"][0]["box"]) for row in rows] == [(7, [0, 0, 0.5, 1]), (8, [0, 0, 0.5, 1])]
    report = json.loads((tmp_path / "out/report.json").read_text())["splits"]["test"]
    assert (report["boxes_read"], report["boxes"]) == (4, 2)
    assert report["dropped"]["outside the canvas"]["count"] == 2
    where = ["--dataset", NAME, "--root", root, "--layouts", tmp_path / "out/test.jsonl"]
    run(monkeypatch, real.main, *where, "--size", 20, "--out", tmp_path / "real.zip")
    for _, image in read_images(tmp_path / "real.zip", [7, 8]):
        assert image[:, :10, 0].min() == 255
        assert image[:, 10:].max() == 0
    with pytest.raises(InputError, match="no photos of the split 'train'"):
        run(monkeypatch, real.main, *where, "--split", "train", "--size", 20, "--out", tmp_path / "real.zip")


def test_one_without_photos_needs_no_more_than_its_layouts(tmp_path, monkeypatch) -> None:
    (tmp_path / "bench_csv.py").write_text(CSV)
    (tmp_path / "good.csv").write_text('id,prompt,obj1,bbox1\n001,a cat,cat,"0,0,256,512"\n')
    # A name without a dot is one of the package's own.
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    run(monkeypatch, datasets.main, "bench_csv", "--root", tmp_path / "good.csv", "--out", tmp_path / "out")
    assert read_layout_rows(tmp_path / "out/test.jsonl")[0]["objects"][0]["box"] == [0, 0, 0.5, 1]
    assert "bench_csv" in known()
    with pytest.raises(InputError, match="data set 'bench_csv': no photos of the split 'test'"):
        flags = ["--dataset", "bench_csv", "--root", tmp_path, "--layouts", tmp_path / "out/test.jsonl"]
        run(monkeypatch, real.main, *flags, "--size", 20, "--out", tmp_path / "real.zip")


def test_a_data_set_that_is_not_there_is_one_line_with_the_known_ones(tmp_path, monkeypatch, capsys) -> None:
    for wrong in ("cocoo", "photos", "tests.no_such", "../coco"):
        with pytest.raises(SystemExit, match="1"):
            words = [wrong, "--root", tmp_path, "--out", tmp_path / "out"]
            run(monkeypatch, lambda: cli.run(datasets.main), *words)
        error = capsys.readouterr().err
        assert error.startswith(f"error: data set '{wrong}': no such module; known are coco")
        assert error.count("\n") == 1


def test_settings_are_checked_before_anything_is_read(tmp_path, monkeypatch) -> None:
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(InputError, match=r"data\.json: data\.test\.count is None"):
        run(
            monkeypatch,
            datasets.main,
            NAME,
            "--root",
            "none",
            "--config",
            tmp_path / "data.json",
            "--out",
            tmp_path / "o",
        )
    with pytest.raises(InputError, match=r"without --config: data\.words is missing"):
        run(monkeypatch, datasets.main, "coco", "--root", "none", "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("layouts", "named"),
    [
        ([Layout(1, 1, "a"), Layout(1, 2, "b")], r"test\.jsonl, line 2: layout 1 occurs twice"),
        (
            [Layout(1, 1, "a", (Object("cat", (0.5, 0, 1.5, 1)),))],
            r"`objects\[0\]\.box` is \[0\.5, 0, 1\.5, 1\], expected",
        ),
        ([Layout(1, 1, "half \ud83d")], "`caption` is .* expected text without halves"),
    ],
)
def test_a_layout_that_could_not_be_read_is_refused_before_anything_is_written(tmp_path, layouts, named) -> None:
    with pytest.raises(LayoutError, match=named):
        write(Prepared({"test": layouts}, {"splits": {"test": {}}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_lacks_below_the_root_is_named_with_the_zip_that_has_it(root, tmp_path) -> None:
    assert lacking(jsonl_dataset, str(root)) == []
    assert lacking(jsonl_dataset, str(tmp_path)) == [f"{tmp_path} has no test.jsonl; give the folder that has"]
    (fault,) = lacking(find_dataset("coco"), str(tmp_path))
    assert fault == f"{tmp_path} has no annotations/instances_train2014.json; unpack annotations_trainval2014.zip there"


def test_no_other_code_knows_the_files_of_a_data_set() -> None:
    """Outside docstrings and comments only evaluation/datasets/coco.py names COCO's sets of photos."""
    for layer in ("formats", "hcma", "baselines", "evaluation", "workflow"):
        for path in (ROOT / layer).rglob("*.py"):
            tree = ast.parse(path.read_text())
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
            named = [text for text in said if isinstance(text, str) and re.search("(train|val)2014", text)]
            assert not named or path == ROOT / "evaluation/datasets/coco.py", (path, named)
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert not re.search("(train|val)2014", path.read_text()), path
