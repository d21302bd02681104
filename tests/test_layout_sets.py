"""Foreign layout sets: every sample of ../shared/layout_sets reads as it should, and every bad row does what it must."""

import json
from pathlib import Path

import pytest

from evaluation.datasets.reading import Options
from evaluation.datasets.readers import read_set
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
