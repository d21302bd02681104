"""Draw a COCO: photos in zips and annotations in COCO 2014's own JSON layout.

    python -m workflow.miniature.draw --out results/miniature/coco --train 1600 --val 320 --seed 2014

writes train2014.zip, val2014.zip and annotations/{instances,captions}_{train,val}2014.json.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from evaluation.datasets.coco import SETS, annotations, photo_name
from formats.cli import options, run
from formats.files import replacing, write_text
from workflow.miniature.captions import captions
from workflow.miniature.world import CATEGORIES, Scene, Thing, draw, mask, scene

CATEGORY_IDS = {name: number for number, name in CATEGORIES.items()}
FIRST_CROWD_ID = 900_100_000_000  # real COCO's crowd ids lie beyond 32 bits
LICENSES = [{"id": 1, "name": "drawn by this project", "url": ""}]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, required=True, help="number of training pictures")
    parser.add_argument("--val", type=int, required=True, help="number of validation pictures")
    parser.add_argument("--seed", type=int, default=2014)
    arguments = parser.parse_args()
    ids = np.random.default_rng(arguments.seed).choice(10**6, arguments.train + arguments.val, replace=False) + 1
    for name, own in zip(SETS, (ids[: arguments.train], ids[arguments.train :]), strict=True):
        write_split(arguments.out, name, own.tolist(), arguments.seed)


def write_split(out: Path, split: str, ids: list[int], seed: int) -> None:
    """Draw one split: a zip of JPEGs and the two annotation files. An image depends on (seed, its id) alone."""
    instances: dict[str, Any] = {"info": _info(), "images": [], "annotations": [], "licenses": LICENSES}
    instances["categories"] = [{"supercategory": "shape", "id": i, "name": name} for i, name in CATEGORIES.items()]
    said: dict[str, Any] = {"info": _info(), "images": instances["images"], "licenses": LICENSES, "annotations": []}
    with replacing(out / f"{split}.zip") as beside, zipfile.ZipFile(beside, "w") as archive:
        for image_id in tqdm(ids, desc=f"drawing {split}", mininterval=2):
            rng = np.random.default_rng([seed, image_id])
            picture = scene(rng)
            name = photo_name(split, image_id)
            archive.writestr(zipfile.ZipInfo(f"{split}/{name}"), _jpeg(draw(picture)))
            instances["images"].append(_image(name, image_id, picture))
            instances["annotations"] += _annotations(image_id, picture)
            texts = captions(picture, rng)
            said["annotations"] += [
                {"image_id": image_id, "id": 10 * image_id + i, "caption": texts[i]} for i in range(5)
            ]
    for kind, content in (("instances", instances), ("captions", said)):
        write_text(out / annotations(kind, split), json.dumps(content))


def _info() -> dict[str, Any]:
    text = "A drawn world in COCO 2014's layout"
    return {"description": text, "url": "", "version": "1.0", "year": 2014, "contributor": "", "date_created": ""}


def _image(name: str, image_id: int, picture: Scene) -> dict[str, Any]:
    empty = {"license": 1, "coco_url": "", "flickr_url": "", "date_captured": ""}
    return {"file_name": name, "height": picture.height, "width": picture.width, "id": image_id} | empty


def _annotations(image_id: int, picture: Scene) -> list[dict[str, Any]]:
    rows = [_annotation(image_id, 100 * image_id + i, thing) for i, thing in enumerate(picture.things)]
    return rows + ([_crowd(image_id, picture)] if picture.crowd else [])


def _annotation(image_id: int, number: int, thing: Thing) -> dict[str, Any]:
    x0, y0, x1, y1 = thing.box
    return {
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "area": float(mask(thing.shape, thing.size).sum()),
        "iscrowd": 0,
        "image_id": image_id,
        "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
        "category_id": CATEGORY_IDS[thing.shape],
        "attributes": {"color": thing.colour},
        "id": number,
    }


def _crowd(image_id: int, picture: Scene) -> dict[str, Any]:
    boxes = np.array([thing.box for thing in picture.crowd])
    x0, y0, x1, y1 = (int(v) for v in (*boxes[:, :2].min(0), *boxes[:, 2:].max(0)))
    inside = np.zeros((picture.height, picture.width), bool)
    for left, top, right, bottom in boxes:
        inside[top:bottom, left:right] = True
    return {
        "segmentation": {"counts": _run_lengths(inside), "size": [picture.height, picture.width]},
        "area": float(inside.sum()),
        "iscrowd": 1,
        "image_id": image_id,
        "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
        "category_id": CATEGORY_IDS[picture.crowd[0].shape],
        "id": FIRST_CROWD_ID + image_id,
    }


def _run_lengths(inside: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, starting with the count of zeros."""
    flat = inside.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return counts if not flat[0] else [0, *counts]


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=97, subsampling=0)
    return buffer.getvalue()


if __name__ == "__main__":
    run(main)
