"""One tiny set of each reader, made up: "a dog and a cat", the dog's box (0.1, 0.2, 0.4, 0.6), the cat's (0.5, 0.5, 1, 1)."""

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CAPTION = "a dog and a cat"
UNIT = {"dog": [0.1, 0.2, 0.4, 0.6], "cat": [0.5, 0.5, 1.0, 1.0]}
BOXES = list(UNIT.values())


def scaled(box: list[float], width: int, height: int) -> list[int]:
    """A box in whole pixels."""
    return [round(edge * side) for edge, side in zip(box, (width, height) * 2, strict=True)]


def sized(box: list[float]) -> list[float]:
    """A box as x, y, width and height."""
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, 6), round(y1 - y0, 6)]


OF_512 = [scaled(box, 500, 500) for box in BOXES]  # with `canvas` 500, which both tenths and pixels divide
OF_PHOTO = [scaled(box, 100, 50) for box in BOXES]
COMMAS = [",".join(map(str, box)) for box in OF_512]
BENCH = f'id,category,prompt,obj1,bbox1,obj2,bbox2\n007,small,{CAPTION},dog,"{COMMAS[0]}",cat,"{COMMAS[1]}"\n'
INSTANCES = {
    "images": [{"id": 7, "width": 100, "height": 50, "file_name": "a photo.jpg"}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": place, "image_id": 7, "category_id": place + 1, "bbox": sized(box), "iscrowd": 0}
        for place, box in enumerate(OF_PHOTO)
    ],
}
CAPTIONS = {"images": INSTANCES["images"], "annotations": [{"id": 3, "image_id": 7, "caption": CAPTION}]}
VOC = "<annotation><filename>7.jpg</filename><size><width>100</width><height>50</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def voc(*names: str) -> str:
    """An annotation with its pixels counted from 1."""
    things = (
        OBJECT.format(name, x0 + 1, y0 + 1, x1, y1) for name, (x0, y0, x1, y1) in zip(names, OF_PHOTO, strict=True)
    )
    return VOC.format("".join(things))


def literal(*names: str) -> dict[str, Any]:
    things = {
        f"{name}_1": {"category": name, "bbox": box, "local_prompts": name}
        for name, box in zip(names, OF_512, strict=True)
    }
    return {"caption": CAPTION, "annotations": things, "relations": {}}


SAM = {
    "image_id": 7,
    "global_caption": CAPTION,
    "detail_region_captions": "['brown', 'grey']",
    "region_captions": "['dog', 'cat']",
    "bbox_list": str(OF_PHOTO),
    "width": 100,
    "height": 50,
    "file_name": "7.jpg",
}
JSON = {
    "jsonl": {
        "id": 7,
        "image_id": 7,
        "caption": CAPTION,
        "objects": [{"phrase": name, "box": box} for name, box in UNIT.items()],
        "tags": {"level": 2},
    },
    "layoutbench_coco": [{"id": 7, "caption": CAPTION, "box_captions": list(UNIT), "boxes_normalized": BOXES}],
    "coco_mig": {"0": {"caption": CAPTION, "segment": [{"bbox": box, "label": name} for name, box in UNIT.items()]}},
    "hrs": {"sets": [[["dog"], ["cat,"]]], "prompts": [CAPTION], "boxes": [[[box] for box in BOXES]]},
    "nsr1k": [{"id": 7, "prompt": CAPTION, "object_list": [[name, sized(box)] for name, box in UNIT.items()]}],
    "lmd": {
        CAPTION: [f"{[(name, sized(box)) for name, box in zip(UNIT, OF_512, strict=True)]}\nBackground prompt: x\n"]
    },
    "visor": [
        {
            "unique_id": 7,
            "num_objects": 2,
            "obj_1_attributes": ["dog"],
            "obj_2_attributes": ["cat"],
            "rel_type": "above",
            "text": CAPTION,
        }
    ],
}
FILES: dict[str, dict[str, str]] = {
    "csv": {
        "set.csv": f"id,caption,phrase,x0,y0,x1,y1\nL1,{CAPTION},dog,0.1,0.2,0.4,0.6\nL1,{CAPTION},cat,0.5,0.5,1,1\n"
    },
    "seven_bench": {"7bench.csv": BENCH},
    "cobench": {"c_bench.csv": BENCH.replace("\n", "\r\n")},
    "coco": {
        "annotations/instances_x.json": json.dumps(INSTANCES),
        "annotations/captions_x.json": json.dumps(CAPTIONS),
    },
    "yolo": {
        "labels/7.txt": "0 0.25 0.4 0.3 0.4\n1 0.75 0.75 0.5 0.5\n",
        "data.yaml": "names: [dog, cat]\n",
    },
    "voc": {"Annotations/7.xml": voc("dog", "cat")},
    "open_images": {
        "test-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n"
        "a,x,/m/1,1,0.1,0.4,0.2,0.6\na,x,/m/2,1,0.5,1,0.5,1\n",
        "class-descriptions-boxable.csv": "/m/1,Dog\n/m/2,Cat\n",
    },
    "flickr30k_entities": {
        "Sentences/7.txt": "a [/EN#1/animals dog] and a [/EN#2/animals cat]\n",
        "Annotations/7.xml": voc("1", "2"),
    },
    "captions30k": {"list.csv": f"image_id,text\n7,{CAPTION}\n"},
}
BARE = ("visor", "captions30k")  # without boxes
MADE_UP = ("yolo", "voc", "open_images")  # without captions
CANVAS = ("seven_bench", "cobench", "lmd", "overlaybench")  # read with `canvas` 500
READERS = (*FILES, *JSON, "overlaybench", "layoutsam_eval")


def write(reader: str, folder: Path) -> Path:
    """The set of a reader in a folder, which is its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.get(reader, {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    if reader in JSON:
        (folder / ("set.jsonl" if reader == "jsonl" else "set.json")).write_text(json.dumps(JSON[reader]))
    if reader == "overlaybench":
        rows = [{"annotation": str(literal(*UNIT)), "image_id": "0007"}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "hard-0.parquet")
    if reader == "layoutsam_eval":
        pq.write_table(pa.Table.from_pylist([SAM]), folder / "test-0.parquet")
    return folder


def pickled(folder: Path) -> Path:
    """The pickled form of HRS, in pixels of 500."""
    path = folder / "spatial.p"
    path.write_bytes(pickle.dumps({CAPTION: [list(UNIT), [tuple(box) for box in OF_512]]}))
    return path
