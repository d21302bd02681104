"""`data.source`: foreign test layouts in a run, with photos and without, and another set to train on."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from evaluation.datasets import __main__ as program
from evaluation.datasets import find_dataset
from evaluation.datasets.canvas import canvas
from evaluation.datasets.readers import read_set, with_photos
from evaluation.datasets.reading import Options
from evaluation.datasets.real import main as crop
from evaluation.datasets.source import describe, prepare_with_sources, source_of
from formats.files import InputError
from formats.images import read_images
from formats.layouts import read_layouts
from tests import dag
from tests import foreign_sets as sets
from workflow.inputs import unusable
from workflow.overlays import merged
from workflow.plan import Plan
from workflow.settings import SettingsError, read

TEN = {"id": "L{}", "caption": "a red circle left of a star", "obj1": "red circle", "bbox1": "4,20,28,44"}
TEN |= {"category1": "circle", "obj2": "star", "bbox2": "34,18,60,44"}
SMALL = {"train": {"count": 32}, "heldout": {"count": 8}, "test": {"count": 10}, "shard_size": 8}


@pytest.fixture
def ten(tmp_path) -> Path:
    """Ten layouts without photos as CSV."""
    path = tmp_path / "ten layouts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(TEN)
        rows.writerows([value.format(place) for value in TEN.values()] for place in range(10))
    return path


def overlay(path: Path, **data) -> dict:
    """A miniature of few images whose test layouts are those of the path."""
    source = {"reader": "csv", "path": str(path), "canvas": 64}
    return {
        "run": "test-sources",
        "data": {"draw": {"train": 48, "val": 16, "seed": 7}, **SMALL, "source": source, **data},
        "sampling": {"steps": 3},
        "alignment": {
            "train": {"epochs": 1, "batch": 8, "micro_batch": 8, "validate_every": 4},
            "calibrate": {"count": 8, "multiples": [1.0]},
        },
        "tables": {"table1": ["real", "sd14", "gligen_sd", "hcma"], "table2": ["gligen_sd", "hcma"]},
    }


def plan_of(path: Path, **data) -> Plan:
    return Plan(read(merged(given=overlay(path, **data)), []))


def photographed(folder: Path, count: int = 12) -> dict:
    """A YOLO folder with photos, as a source; each photo is red left of the middle of its 40 x 20 pixels."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = 255
    for name in ("labels", "images"):
        (folder / name).mkdir(parents=True)
    for place in range(count):
        (folder / f"labels/{place}.txt").write_text("0 0.25 0.5 0.5 1\n")
        Image.fromarray(pixels).save(folder / f"images/{place}.png")
    (folder / "classes.txt").write_text("circle\n")
    return {"reader": "yolo", "path": str(folder), "photos": str(folder / "images")}


def test_without_photos_there_is_no_row_real_and_nothing_is_measured_to_it(ten) -> None:
    plan = plan_of(ten)
    assert plan.rows == ["sd14", "gligen_sd", "hcma"]
    assert plan.real_summary("test") == []
    assert plan.real_summary("heldout") == [plan.path.summary("real", "heldout")]
    assert str(ten) in plan.annotations
    assert "sizes" not in plan.figure_names
    assert plan.photos("train")[:2] == ["--dataset", "coco"]


def test_with_photos_the_frame_is_the_sets_own(ten, tmp_path) -> None:
    source = photographed(tmp_path / "yolo")
    plan = plan_of(ten, source=source, test={"count": 12})
    assert plan.rows[0] == "real"
    assert plan.photos("test") == ["--photos", source["photos"], "--resize", "squash"]
    letterboxed = plan_of(ten, source=source | {"reader": "nsr1k"}).photos("test")
    assert letterboxed[-1] == "letterbox"


def test_another_source_is_other_data_and_another_path_is_not(ten) -> None:
    plan = plan_of(ten)
    assert plan.data_key != plan_of(ten, source={"reader": "csv", "path": str(ten), "canvas": 128}).data_key


def test_files_below_a_folder_and_a_reader_of_ones_own_are_of_the_layouts_key(ten, tmp_path, monkeypatch) -> None:
    assert plan_of(ten).layouts_key == plan_of(ten).data_key
    folder = tmp_path / "a set"
    source = photographed(folder)
    first = plan_of(ten, source=source).layouts_key
    assert first == plan_of(ten, source=source).layouts_key != plan_of(ten, source=source).data_key
    (folder / "labels/3.txt").write_text("0 0.25 0.5 0.5 1\n1 0.5 0.5 0.5 1\n")
    edited = plan_of(ten, source=source).layouts_key
    (folder / "labels/12.txt").touch()
    assert len({first, edited, plan_of(ten, source=source).layouts_key}) == 3
    package = tmp_path / "their_readers"
    package.mkdir()
    for name, code in (("__init__", ""), ("scenes", "def read(source):\n    pass\n")):
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"reader": "their_readers.scenes", "path": str(ten)}
    before = plan_of(ten, source=own).layouts_key
    (package / "scenes.py").write_text("def read(source):\n    return\n")
    assert plan_of(ten, source=own).layouts_key != before


def test_ten_layouts_of_a_csv_are_planned_through_the_miniature(ten, tmp_path) -> None:
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(overlay(ten)))
    done = dag.snakemake("--dry-run", "--configfile", str(tmp_path / "over.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    jobs = dag.jobs_by_rule(done.stdout)
    assert jobs["measure"] == 5
    assert "swap_images" not in jobs
    assert jobs["sample_real"] == 5  # of training and held-out photos alone


@pytest.mark.slow
def test_ten_layouts_of_a_csv_go_through_the_whole_miniature(ten, tmp_path) -> None:
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(overlay(ten)))
    done = dag.snakemake("--configfile", str(tmp_path / "over.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    table = (dag.ROOT / "results/test-sources/tables/table1.md").read_text()
    assert "there is no row `real`, and every distance is a dash" in table
    assert "10 of csv (ten layouts.csv)" in table
    assert "Trained and calibrated on other layouts than those of the test: the data set coco." in table
    assert re.search(r"\| HCMA \(SD-v1.4\) +\| +- \|", table)


@pytest.mark.slow
def test_a_coco_mig_file_goes_through_the_miniature_with_its_levels_as_a_table(tmp_path) -> None:
    things = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "star")]
    content = {}
    for number in range(12):
        chosen = {name: [[0.24 * n, 0.2, 0.24 * n + 0.2, 0.6]] for n, name in enumerate(things[: 2 + number % 3])}
        content[f"a photo of {' and '.join(chosen)} {number}"] = {**chosen, "coco_id": str(number)}
    (tmp_path / "mig_bench.yaml").write_text(json.dumps(content, indent=1))
    over = overlay(tmp_path / "mig_bench.yaml")
    over["data"] |= {"source": {"reader": "coco_mig", "path": str(tmp_path)}, "test": {"count": 12}}
    over["tables"]["levels"] = {"columns": ["instance_success", "image_success"], "by": ["tags.level"]}
    over |= {"difficulty": {"least": 2}, "run": "test-levels"}
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    done = dag.snakemake("--configfile", str(tmp_path / "over.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(dag.ROOT / "results/test-levels/tables/levels.csv")
    assert table["band"].tolist() == [2] * 3 + [3] * 3 + [4] * 3
    assert table["boxes"].tolist() == [8] * 3 + [12] * 3 + [16] * 3
    assert table[["instance_success", "image_success"]].notna().all().all()
    assert (dag.ROOT / "results/test-levels/figures/levels.png").stat().st_size > 500


def lvis(folder: Path, count: int = 12) -> dict:
    """A file as LVIS's, one star a photo, with those photos, as a source."""
    (folder / "photos").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        name = f"{number:012d}.jpg"
        pixels = np.full((48, 64, 3), 128, np.uint8)
        pixels[8:40, 8 + number : 40 + number] = (220, 40, 40)
        Image.fromarray(pixels).save(folder / "photos" / name)
        address = f"http://images.cocodataset.org/val2017/{name}"
        about = {"neg_category_ids": [2], "not_exhaustive_category_ids": [], "width": 64, "height": 48}
        images.append({"id": number, "coco_url": address} | about)
        box = [8 + number, 8, 32, 32]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 1024})
    categories = [{"id": 1, "name": "star", "frequency": "f"}, {"id": 2, "name": "circle", "frequency": "r"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "lvis_v1_val.json").write_text(json.dumps(content))
    return {"reader": "coco", "path": str(folder / "lvis_v1_val.json"), "photos": str(folder / "photos")}


@pytest.mark.slow
@pytest.mark.parametrize("made", [photographed, lvis])
def test_sets_with_photos_go_through_the_miniature(tmp_path, made) -> None:
    over = overlay(tmp_path)
    over["data"] |= {"source": made(tmp_path / "a set"), "test": {"count": 12}}
    over |= {"run": f"test-{made.__name__}"}
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    done = dag.snakemake("--configfile", str(tmp_path / "over.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(dag.ROOT / f"results/test-{made.__name__}/tables/table1.csv").set_index("method")
    assert table.index.tolist() == ["real", "sd14", "gligen_sd", "hcma"]
    assert table["n_images"].eq(12).all() and table["n_regions"].eq(12).all()
    assert table[["image_fid", "region_fid", "image_clip", "region_clip"]].notna().all().all()
    assert abs(table.loc["real", "image_fid"]) < 1e-9


def test_a_program_writes_the_splits_of_both(ten, tmp_path, monkeypatch) -> None:
    root = photographed(tmp_path / "train", 20)
    data = {
        "source": {"reader": "csv", "path": str(ten), "canvas": 64},
        "train": {"count": 15, "source": root},
        "heldout": {"count": 4},
        "test": {"count": 10},
        "split": {"train_fraction": 0.8, "seed": 1},
    }
    (tmp_path / "data.json").write_text(json.dumps({"data": data}))
    words = ["program", "coco", "--first", "heldout=3", "train=0", "--config", tmp_path / "data.json"]
    words += ["--shard-size", "8", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    program.main()
    split = {name: read_layouts(tmp_path / f"out/{name}.jsonl") for name in ("train", "heldout", "test")}
    assert {name: len(layouts) for name, layouts in split.items()} == {"train": 15, "heldout": 4, "test": 10}
    assert not {one.id for one in split["train"]} & {one.id for one in split["heldout"]}
    assert [len(read_layouts(tmp_path / f"out/heldout/000{shard}.jsonl")) for shard in (0, 1)] == [3, 1]
    assert split["train"][0].captions == ("a photo of a circle",)
    assert split["train"][0].photo == f"{split['train'][0].source_id}.png"
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["splits"]["test"]["reader"] == "csv"
    assert describe(data)[-1] == "Trained and calibrated on other layouts than those of the test: yolo (train)."


def test_fewer_layouts_than_asked_for_are_one_line(ten, tmp_path) -> None:
    data = {"source": {"reader": "csv", "path": str(ten), "canvas": 64}, "test": {"count": 11}}
    data |= {"train": {"count": 1, "source": photographed(tmp_path / "t")}, "heldout": {"count": 1}}
    with pytest.raises(
        InputError, match=r"data.test.count: 11 asked for, .*ten layouts.csv has 10; set data.test.count to 10"
    ):
        prepare_with_sources(find_dataset("coco"), None, data | {"split": {"train_fraction": 0.5, "seed": 1}})


def sizes_of(**data) -> dict:
    """Of one set for all splits, or of two."""
    counts = {"train": {"count": 6}, "heldout": {"count": 1}, "test": {"count": 4}}
    return counts | {"split": {"train_fraction": 0.8, "seed": 1}} | data


def test_no_image_of_the_test_sample_is_trained_on(tmp_path) -> None:
    source = photographed(tmp_path / "a set", 12)
    prepared = prepare_with_sources(find_dataset("coco"), None, sizes_of(source=source))
    test = {one.image_id for one in prepared.layouts["test"]}
    for split in ("train", "heldout"):
        assert not test & {one.image_id for one in prepared.layouts[split]}
        assert prepared.report["splits"][split]["left_out_as_test_images"] == 4
    assert "left_out_as_test_images" not in prepared.report["splits"]["test"]
    many = {"source": source, "train": {"count": 8}}
    with pytest.raises(InputError, match=r"train.count: 8 asked for, .*a set without the test sample has 6; set"):
        prepare_with_sources(find_dataset("coco"), None, sizes_of(**many))
    with pytest.raises(InputError, match=r"a set: all 12 layouts are of images of the test sample, none is left to"):
        prepare_with_sources(find_dataset("coco"), None, sizes_of(source=source, test={"count": 12}))


def test_photos_that_two_sets_have_are_known_by_their_files(tmp_path) -> None:
    source = photographed(tmp_path / "a set", 12)
    (tmp_path / "links").symlink_to(tmp_path / "a set/images")
    lines = [
        {"id": 900 + n, "image_id": 900 + n, "caption": "a circle", "objects": [], "photo": f"{n}.png"}
        for n in range(4)
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    other = {"reader": "jsonl", "path": str(tmp_path / "test.jsonl"), "photos": str(tmp_path / "links")}
    data = sizes_of(train={"count": 6, "source": source}, test={"count": 4, "source": other})
    prepared = prepare_with_sources(find_dataset("coco"), None, data)
    trained = [one.photo for split in ("train", "heldout") for one in prepared.layouts[split]]
    assert len(trained) == 7 and not {f"{n}.png" for n in range(4)} & {*trained}
    # Without photos of its own the test is of another set: its numbers say nothing of these photos.
    del other["photos"]
    whole = prepare_with_sources(find_dataset("coco"), None, data)
    assert "left_out_as_test_images" not in whole.report["splits"]["train"]


def test_who_is_read_from_where() -> None:
    one, other = {"reader": "a", "path": "a"}, {"reader": "b", "path": "b"}
    assert source_of({"source": one}, "test") == source_of({"source": one}, "train") == one
    assert source_of({"source": one, "root": "coco"}, "train") is None
    assert source_of({"source": one, "test": {"source": other}}, "test") == other
    assert source_of({"source": one, "train": {"source": other}}, "heldout") == other
    assert source_of({"draw": {}}, "test") is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"source": {"reader": "cvs", "path": "x"}}, "data.source.reader: reader 'cvs': no such module; known are"),
        ({"source": {"reader": "csv"}}, "data.source.path: give a path, or files to fetch"),
        (
            {"source": {"reader": "csv", "path": []}},
            "data.source.path: expected a path, or a list of paths, or null, found []",
        ),
        ({"source": {"reader": "csv", "path": "x", "canvas": "wide"}}, "data.source.canvas: expected a side"),
        (
            {"source": {"reader": "csv", "path": "x", "frame": "crop"}},
            "data.source.frame: expected squash, letterbox or",
        ),
        ({"source": {"reader": "csv", "path": "x", "template": "a photo"}}, "data.source.template: expected text with"),
        ({"train": {"count": 32, "source": {"reader": "csv", "path": "x"}}}, "data.train.source.photos: has no photos"),
        ({"draw": None, "root": None}, "data.source.photos: has no photos"),
        ({"val": {"count": 16}}, "data.val: is of the data set, but the test layouts are of a source"),
    ],
)
def test_a_source_that_cannot_be_is_one_line_before_any_job(data, said, ten) -> None:
    with pytest.raises(SettingsError) as caught:
        plan_of(ten, **data)
    assert any(said in fault for fault in caught.value.faults), caught.value.faults


def test_what_is_not_there_is_named_before_the_first_job(tmp_path) -> None:
    plan = plan_of(tmp_path / "none.csv")
    assert f"data.source.path: no such file or folder: {tmp_path / 'none.csv'}" in unusable(plan.settings, "results")


def test_photos_become_the_row_real_and_no_box_is_moved(tmp_path, monkeypatch) -> None:
    source = photographed(tmp_path / "a set", 2)
    words = ["program", "yolo", source["path"], "--photos", source["photos"], "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    program.main()
    layouts = read_layouts(tmp_path / "out/layouts.jsonl")
    assert layouts[0].objects[0].box == (0, 0, 0.5, 1)
    words = ["program", "--photos", source["photos"], "--layouts", str(tmp_path / "out/layouts.jsonl"), "--size", "20"]
    monkeypatch.setattr(sys, "argv", [*words, "--resize", "squash", "--out", str(tmp_path / "real.zip")])
    crop()
    for _, image in read_images(tmp_path / "real.zip", [0, 1]):
        assert image[:, :9, 0].min() > 200
        assert image[:, 11:].max() < 50


def test_a_photo_is_found_by_the_number_that_its_name_ends_in(tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/COCO_some_000000001011.jpg")
    content = sets.JSON["coco_mig"]["0"] | {"image_id": "1011"}
    (tmp_path / "mig.json").write_text(json.dumps({"0": content}))
    layouts, _ = read_set("coco_mig", [tmp_path / "mig.json"], Options())
    assert with_photos(layouts, tmp_path / "photos")[0].photo == "COCO_some_000000001011.jpg"


def test_half_the_photos_are_refused_by_name(tmp_path, monkeypatch) -> None:
    source = photographed(tmp_path / "set", 4)
    Path(source["photos"], "3.png").unlink()
    words = ["program", "yolo", source["path"], "--photos", source["photos"], "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(InputError, match=r"images: 1 of 4 photos: image 3: images has no '3.jpg'"):
        program.main()


def test_a_letterbox_is_the_whole_photo_between_black() -> None:
    shown = canvas(Image.new("RGB", (40, 20), "white"), 40, "letterbox")
    assert shown.shape == (40, 40, 3)
    assert shown[:10].max() == shown[30:].max() == 0
    assert shown[10:30].min() == 255


def test_the_reader_of_the_documentation_works(tmp_path, monkeypatch) -> None:
    page = (dag.ROOT / "docs/layouts.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- reader -->\n```python\n(.*?)```\n<!-- /reader -->", page, re.DOTALL)
    assert code
    package = tmp_path / "mine_readers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "scenes.py").write_text(code[1])
    things = [{"what": "dog", "xywh": [64, 64, 64, 128], "colour": "brown"}]
    (tmp_path / "scenes.json").write_text(json.dumps([{"name": "first", "text": "a dog", "things": things}]))
    monkeypatch.syspath_prepend(str(tmp_path))
    (layout,), _ = read_set("mine_readers.scenes", [tmp_path / "scenes.json"], Options())
    assert layout.objects[0].box == (0.25, 0.25, 0.5, 0.75)
    assert (layout.source_id, layout.tags, layout.objects[0].attributes) == (
        "first",
        {"split": "scenes"},
        {"color": "brown"},
    )
    assert sum(line.strip() != "" for line in code[1].splitlines()) < 40


def test_the_tables_of_the_documentation_have_every_reader() -> None:
    page = (dag.ROOT / "docs/layouts.md").read_text(encoding="utf-8")
    for reader in sets.READERS:
        assert f"\n| `{reader}` |" in page
