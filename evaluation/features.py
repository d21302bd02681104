"""Features of one shard of one method: whole images, captions, region crops and their labels.

    python -m evaluation.features --layouts layouts/test/0000.jsonl --images samples/hcma/test/0000.zip \
        --regions regions/test/0000.parquet --extractors extractors.json --out features/hcma/test/0000.npz

The npz holds, in the order of the layouts and regions, image_{ids,image_ids,frechet,clip,text} and
region_{ids,objects,image_ids,frechet,clip,text}, all features float32, and `about`: which networks made them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.files import InputError, read_json, replacing
from evaluation.images import read_images
from evaluation.layouts import read_layouts
from evaluation.program import quick_imports, run
from evaluation.regions import crop, read_regions

# The networks are imported when the images are known to be whole.
if TYPE_CHECKING:
    from evaluation.extractors import Extractor

LABEL = "{label}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--extractors", type=Path, required=True, help="the config's extractors as JSON")
    parser.add_argument("--label-template", default=LABEL, help="text a region is compared with (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layouts = read_layouts(arguments.layouts)
    ids = [row["id"] for row in layouts]
    table = read_regions(arguments.regions, ids)
    images = dict(read_images(arguments.images, ids))  # read whole before a network is loaded: it may be damaged
    stanzas = read_json(arguments.extractors)
    with quick_imports():
        from evaluation.extractors import BATCH, load_extractor

        frechet, clip = load_extractor(stanzas["frechet"]), load_extractor(stanzas["clip"])
    if clip.texts is None:
        raise InputError(f"{arguments.extractors}: extractor {clip.name} has no text tower")
    labels = [arguments.label_template.format(label=phrase) for phrase in table["phrase"]]
    arrays = _images(layouts, images, frechet, clip) | _regions(table, images, labels, frechet, clip)
    about = {
        "frechet": _about(frechet),
        "clip": _about(clip),
        "label_template": arguments.label_template,
        "batch": BATCH,
    }
    with replacing(arguments.out) as beside, open(beside, "wb") as file:
        np.savez(file, **(arrays | {"about": np.array(json.dumps(about))}), allow_pickle=False)


def _about(extractor: "Extractor") -> dict[str, str]:
    import torch

    return {"name": extractor.name, "resize": extractor.resize, "sha256": extractor.sha256, "torch": torch.__version__}


def _images(
    layouts: Sequence[dict[str, Any]], images: dict[int, np.ndarray], frechet: "Extractor", clip: "Extractor"
) -> dict[str, np.ndarray]:
    pixels = [images[row["id"]] for row in layouts]
    return {
        "image_ids": np.array([row["id"] for row in layouts], np.int64),
        "image_image_ids": np.array([row["image_id"] for row in layouts], np.int64),
        "image_frechet": frechet.features(pixels),
        "image_clip": clip.features(pixels),
        "image_text": _texts(clip, [row["caption"] for row in layouts]),
    }


def _regions(
    table: pd.DataFrame, images: dict[int, np.ndarray], labels: Sequence[str], frechet: "Extractor", clip: "Extractor"
) -> dict[str, np.ndarray]:
    crops = [crop(images[int(row.id)], row) for row in table.itertuples()]  # type: ignore[arg-type]
    return {
        "region_ids": table["id"].to_numpy(np.int64),
        "region_objects": table["object"].to_numpy(np.int64),
        "region_image_ids": table["image_id"].to_numpy(np.int64),
        "region_frechet": frechet.features(crops),
        "region_clip": clip.features(crops),
        "region_text": _texts(clip, labels),
    }


def _texts(clip: "Extractor", strings: Sequence[str]) -> np.ndarray:
    """Text features, each distinct text encoded once."""
    assert clip.texts is not None
    distinct = sorted(set(strings))
    rows = {text: number for number, text in enumerate(distinct)}
    return clip.texts(distinct)[[rows[text] for text in strings]]


if __name__ == "__main__":
    run(main)
