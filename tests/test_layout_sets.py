"""Foreign layout sets: every sample of ../shared/layout_sets reads as it should, and every bad row does what it must."""

import json
import pickle
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evaluation.datasets.readers import read_set
from evaluation.datasets.reading import Options
from formats.files import InputError

SAMPLES = Path(__file__).parents[2] / "shared/layout_sets"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/layout_sets beside the checkout")

# Sample's folder: the reader, and the paths in it.
GOOD = {
    "7bench": ("seven_bench", ["good.csv"]),
    "attention_refocusing": ("hrs", ["good.p"]),
    "captions30k": ("captions30k", ["good.csv"]),
    "cobench": ("cobench", ["good.csv"]),
    "coco2017": ("coco", ["."]),
    "coco_mig": ("coco_mig", ["good.yaml"]),
    "export_cvat": ("coco", ["annotations"]),
    "export_fiftyone": ("coco", ["."]),
    "export_label_studio": ("coco", ["result.json"]),
    "export_roboflow": ("coco", ["train"]),
    "flickr30k_entities": ("flickr30k_entities", ["."]),
    "layoutbench_clevr": ("coco", ["coco"]),
    "layoutbench_coco": ("layoutbench_coco", ["good.json"]),
    "layoutsam_eval": ("layoutsam_eval", ["."]),
    "lmd": ("lmd", ["good.json"]),
    "lvis": ("coco", ["good.json"]),
    "nsr1k": ("nsr1k", ["spatial.json", "counting.json"]),
    "open_images": ("open_images", ["."]),
    "overlaybench": ("overlaybench", ["."]),
    "pascal_voc": ("voc", ["."]),
    "rnb_tolo": ("hrs", ["good.json"]),
    "visor": ("visor", ["good.json"]),
    "yolo": ("yolo", ["."]),
}


def read(folder: str, reader: str, *names: str, options: Options | None = None):
    return read_set(reader, [SAMPLES / folder / name for name in names], options or Options())


@pytest.mark.parametrize("folder", GOOD)
def test_a_good_sample_reads_as_its_records_say(folder) -> None:
    reader, paths = GOOD[folder]
    layouts, report = read(folder, reader, *paths)
    records = [json.loads(line) for line in (SAMPLES / folder / "records.jsonl").read_text().splitlines()]
    assert [str(layout.source_id) for layout in layouts] == [str(record["source_id"]) for record in records]
    for layout, record in zip(layouts, records, strict=True):
        if record["caption"] is not None:
            assert layout.caption == record["caption"]
        assert [thing.phrase for thing in layout.objects] == [one["phrase"] for one in record["objects"]]
        for thing, one in zip(layout.objects, record["objects"], strict=True):
            assert thing.box == pytest.approx(one["box"], abs=1e-5)
            assert "span" not in one or list(thing.span) == one["span"]
        for tag in ("scenario", "level", "split", "relation", "negative_prompt"):
            assert tag not in record or layout.tags[tag] == record[tag]
        if "categories" in record:
            assert [thing.category or thing.phrase for thing in layout.objects] == record["categories"]
        if "category_names" in record:
            assert [thing.category or thing.phrase for thing in layout.objects] == record["category_names"]
        if "detail" in record:
            assert [thing.attributes["detail"] for thing in layout.objects] == record["detail"]
        if "image_id" in record:
            assert layout.image_id == record["image_id"]
    assert report["boxes"] == sum(len(record["objects"]) for record in records)


def part(folder: str, name: str, places: list[int], to: Path) -> Path:
    """A sample with some of its entries alone, counted from 0."""
    path, out = SAMPLES / folder / name, to / name
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        if isinstance(content, list):
            out.write_text(json.dumps([content[place] for place in places]))
        elif "sets" in content:
            out.write_text(json.dumps({key: [value[place] for place in places] for key, value in content.items()}))
        elif "annotations" in content:
            out.write_text(json.dumps(content | {"annotations": [content["annotations"][place] for place in places]}))
        else:
            out.write_text(json.dumps({key: content[key] for key in (list(content)[place] for place in places)}))
    elif path.suffix == ".p":
        content = pickle.loads(path.read_bytes())  # of this project's own samples
        out.write_bytes(pickle.dumps({key: content[key] for key in (list(content)[place] for place in places)}))
    elif path.suffix == ".parquet":
        pq.write_table(pq.read_table(path).take(places), out)
    elif path.suffix == ".yaml":
        entries = re.split(r"(?m)^(?=\S.*:$|\?)", path.read_text())[1:]
        out.write_text("".join(entries[place] for place in places))
    else:
        lines = path.read_bytes().split(b"\n")
        head = [lines.pop(0)] if path.suffix == ".csv" else []
        out.write_bytes(b"\n".join([*head, *(lines[place] for place in places), b""]))
    return out


# The reader, file and entries; what is left out or noted of them; or, of faults, what their line says.
LEFT_OUT = [
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [0], "outside the canvas"),
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [1], "inverted box"),
    ("coco_mig", "coco_mig", "bad.yaml", [0], "outside the canvas"),
    ("coco_mig", "coco_mig", "bad.yaml", [3], "inverted box"),
    ("coco_mig", "coco_mig", "bad.yaml", [1, 5], "empty caption"),
    ("hrs", "attention_refocusing", "bad.p", [0], "outside the canvas"),
    ("hrs", "attention_refocusing", "bad.p", [2], "box that is not four numbers"),
    ("hrs", "attention_refocusing", "bad.p", [3], "inverted box"),
    ("hrs", "attention_refocusing", "bad.p", [4, 5], "empty caption"),
    ("hrs", "rnb_tolo", "bad.json", [0], "outside the canvas"),
    ("hrs", "rnb_tolo", "bad.json", [2], "inverted box"),
    ("hrs", "rnb_tolo", "bad.json", [2, 3], "empty caption"),
    ("seven_bench", "7bench", "bad.csv", [0], "empty box"),
    ("seven_bench", "7bench", "bad.csv", [1], "outside the canvas"),
    ("seven_bench", "7bench", "bad.csv", [3], "inverted box"),
    ("seven_bench", "7bench", "bad.csv", [0, 5], "empty caption"),
    ("cobench", "cobench", "bad.csv", [1, 4], "empty caption"),
    ("overlaybench", "overlaybench", "bad.parquet", [0, 4], "inverted box"),
    ("layoutsam_eval", "layoutsam_eval", "bad.parquet", [4], "cut at the edge of the photo"),
    ("nsr1k", "nsr1k", "bad.json", [0], "outside the canvas"),
    ("nsr1k", "nsr1k", "bad.json", [2], "inverted box"),
    ("nsr1k", "nsr1k", "bad.json", [0, 4], "empty caption"),
    ("lmd", "lmd", "bad.json", [0], "outside the canvas"),
    ("lmd", "lmd", "bad.json", [1], "empty box"),
    ("lmd", "lmd", "bad.json", [3], "no background prompt"),
    ("lmd", "lmd", "bad.json", [3, 4], "no answer"),
    ("lmd", "lmd", "bad.json", [3, 5], "empty caption"),
    ("visor", "visor", "bad.json", [0, 2], "empty caption"),
    ("captions30k", "captions30k", "bad.csv", [0, 1], "empty caption"),
    ("captions30k", "captions30k", "bad.csv", [0, 2], "image with a caption of an earlier row"),
    ("captions30k", "captions30k", "bad.txt", [0, 1], "empty caption"),
    ("coco", "lvis", "bad.json", [0], "unknown category"),
    ("coco", "lvis", "bad.json", [1], "empty box"),
    ("coco", "lvis", "bad.json", [1, 2], "duplicate annotation id"),
    ("open_images", "open_images", "bad.csv", [0], "inverted box"),
    ("open_images", "open_images", "bad.csv", [1], "unknown category"),
    ("open_images", "open_images", "bad.csv", [2], "outside the canvas"),
    ("open_images", "open_images", "bad.csv", [4], "not confirmed (Confidence 0)"),
    ("coco", "export_cvat", "bad.json", [0], "rotated box, read as the box before it was turned"),
    ("coco", "export_cvat", "bad.json", [0, 1], "duplicate annotation id"),
    ("coco", "export_cvat", "bad.json", [2], "unknown category"),
    ("coco", "export_roboflow", "bad.json", [1], "cut at the edge of the photo"),
    ("coco", "export_fiftyone", "bad.json", [0], "under a pixel: are these unit coordinates in a file of pixels?"),
    ("coco", "export_fiftyone", "bad.json", [1], "annotation of an unlisted image"),
    ("coco", "export_fiftyone", "bad.json", [2], "crowd"),
    ("yolo", "yolo/bad/labels", "1.txt", [0], "outside the canvas"),
    ("yolo", "yolo/bad/labels", "1.txt", [7], "empty box"),
]
FAULTS = [
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [2], "box_captions has 1 entries, boxes_normalized 2"),
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [3], "no `caption`"),
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [0, 4], "duplicate id 101"),
    ("layoutbench_coco", "layoutbench_coco", "bad.json", [6], "not a finite number"),
    ("coco", "layoutbench_clevr", "bad.json", [0], "duplicate image id"),
    ("coco_mig", "coco_mig", "bad.yaml", [0, 1], "duplicate key 'a photo of a red dog'"),
    ("coco_mig", "coco_mig", "bad.yaml", [2], "not four numbers"),
    ("coco_mig", "coco_mig", "bad.yaml", [4], "no `coco_id`"),
    ("hrs", "attention_refocusing", "bad.p", [1], "phrases and boxes: differ in number: 2 and 1"),
    ("hrs", "attention_refocusing", "bad.p", [6], "has '10', not a finite number"),
    ("hrs", "rnb_tolo", "bad.json", [1], "sets and boxes: differ in number: 2 and 1"),
    ("hrs", "rnb_tolo", "bad.json", [4], "prompts: is 7, expected text"),
    ("seven_bench", "7bench", "bad.csv", [2], "`obj2`: without `bbox2`"),
    ("seven_bench", "7bench", "bad.csv", [3, 4], "duplicate id '302'"),
    ("seven_bench", "7bench", "bad.csv", [6], "`bbox1`: is '30;10;100;300', not four numbers"),
    ("cobench", "cobench", "bad.csv", [2], "`bbox1`: is '1,2,3', not four numbers"),
    ("cobench", "cobench", "bad.csv", [0, 3], "duplicate id '0900'"),
    ("overlaybench", "overlaybench", "bad.parquet", [1], "`annotation`: not a literal"),
    ("overlaybench", "overlaybench", "bad.parquet", [2], "`annotation`: not a literal"),
    ("overlaybench", "overlaybench", "bad.parquet", [0, 3], "duplicate id '00000031'"),
    ("overlaybench", "overlaybench", "bad.parquet", [5], "no `bbox`"),
    ("layoutsam_eval", "layoutsam_eval", "bad.parquet", [0], "region_captions has 1 entries, bbox_list 2"),
    ("layoutsam_eval", "layoutsam_eval", "bad.parquet", [1], "`width`: is 0"),
    ("layoutsam_eval", "layoutsam_eval", "bad.parquet", [2], "`bbox_list[1]`: is [1, 2, 3], not four numbers"),
    ("layoutsam_eval", "layoutsam_eval", "bad.parquet", [2, 3], "not four numbers"),
    ("nsr1k", "nsr1k", "bad.json", [0, 1], "duplicate id 'bad 1'"),
    ("nsr1k", "nsr1k", "bad.json", [3], "no `prompt`"),
    ("lmd", "lmd", "bad.json", [2], "has no boxes"),
    ("visor", "visor", "bad.json", [0, 1], "duplicate id 0"),
    ("visor", "visor", "bad.json", [3], "no `rel_type`"),
    ("visor", "visor", "bad.json", [4], "unknown relation 'beside'"),
    ("captions30k", "captions30k", "bad.csv", [3], "`image_id`: is 'x', expected a whole number"),
    ("captions30k", "captions30k", "bad.csv", [5], "1 columns, 2 expected"),
    ("captions30k", "captions30k", "bad.txt", [0, 4], "line 2: is not UTF-8"),
    ("coco", "lvis", "bad.json", [3], "not a finite number"),
    ("open_images", "open_images", "bad.csv", [3], "XMax: '' is not a number"),
    ("coco", "export_cvat", "bad.json", [3], "`bbox`: is [], not four numbers"),
    ("coco", "export_label_studio", "bad.json", [0], "no image size"),
    ("coco", "export_label_studio", "bad.json", [2], "`image_id`: is '0', expected a whole number"),
    ("coco", "export_roboflow", "bad.json", [2], "not four numbers"),
    ("coco", "export_roboflow", "bad.json", [3], "not a finite number"),
    ("coco", "export_fiftyone", "bad.json", [3], "`bbox`: is null, not four numbers"),
    ("yolo", "yolo/bad/labels", "1.txt", [1], "line 1: class '99' has no name"),
    ("yolo", "yolo/bad/labels", "1.txt", [2], "not in the unit square: pixels?"),
    ("yolo", "yolo/bad/labels", "1.txt", [3], "4 columns, 5 expected"),
    ("yolo", "yolo/bad/labels", "1.txt", [4], "'0,5' is not a number"),
    ("yolo", "yolo/bad/labels", "1.txt", [5], "6 columns: predictions"),
    ("yolo", "yolo/bad/labels", "1.txt", [6], "9 columns: polygon"),
]


@pytest.fixture
def beside(tmp_path) -> Path:
    """A folder with the names that labels need."""
    for name in ("open_images/class-descriptions-boxable.csv", "yolo/classes.txt"):
        (tmp_path / Path(name).name).write_bytes((SAMPLES / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(("reader", "folder", "name", "places", "reason"), LEFT_OUT)
def test_what_cannot_be_shown_is_left_out_and_counted(reader, folder, name, places, reason, beside) -> None:
    _, report = read_set(reader, [part(folder, name, places, beside)], Options())
    found = report["dropped"] | report["noted"]
    assert found[reason]["count"] == 1
    assert len(found[reason]["examples"]) == 1


@pytest.mark.parametrize(("reader", "folder", "name", "places", "said"), FAULTS)
def test_what_cannot_be_read_is_one_line_with_its_place(reader, folder, name, places, said, beside) -> None:
    path = part(folder, name, places, beside)
    with pytest.raises(InputError) as caught:
        read_set(reader, [path], Options())
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "reader", "name", "said"),
    [
        ("attention_refocusing", "hrs", "bad_global.p", "refused as a pickle"),
        ("rnb_tolo", "hrs", "bad_lengths.json", "sets 2, prompts 1, boxes 1"),
        ("flickr30k_entities", "flickr30k_entities", "bad", "Sentences/3.txt: line 1: unbalanced bracket"),
        ("flickr30k_entities", "flickr30k_entities", "bad", "Annotations/4.xml: not XML"),
        ("coco2017", "coco", "bad", "annotations[2] (id 3): no `bbox`"),
        ("pascal_voc", "voc", "bad/1.xml", "object 3: bndbox, xmin: 'ten' is not a number"),
        ("pascal_voc", "voc", "bad/2.xml", "is 0 x 0: no image size"),
        ("pascal_voc", "voc", "bad/3.xml", "is blank, expected text"),
        ("pascal_voc", "voc", "bad/4.xml", "declares a document type"),
    ],
)
def test_a_whole_file_that_cannot_be_read_is_refused(folder, reader, name, said, monkeypatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: pytest.fail("a pickle called it"))
    with pytest.raises(InputError) as caught:
        read(folder, reader, name)
    assert said in str(caught.value)


def test_flickrs_bad_boxes_and_chains_are_counted(tmp_path) -> None:
    source, root = SAMPLES / "flickr30k_entities/bad", tmp_path / "a set"
    for folder in ("Sentences", "Annotations"):
        (root / folder).mkdir(parents=True)
    (root / "Annotations/3.xml").write_text((source / "Annotations/3.xml").read_text())
    lines = (source / "Sentences/3.txt").read_text().split("\n")
    (root / "Sentences/3.txt").write_text("\n".join(["[/EN#31/people A man] waits .", *lines[1:]]))
    layouts, report = read_set("flickr30k_entities", [root], Options())
    assert [layout.id for layout in layouts] == [30, 32]
    assert {reason: found["count"] for reason, found in report["dropped"].items()} == {
        "empty caption": 1,
        "inverted box": 1,
        "phrase without box": 1,
    }
    assert report["noted"]["cut at the edge of the photo"]["count"] == 1
