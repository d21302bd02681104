"""Score images made elsewhere, without the DAG: the same numbers by the same code.

    python -m evaluation --layouts layouts.jsonl --images mine.zip --real photos/ --extractors extractors.json --out scored

--images and --real are folders or zips of {id:012d}.png, one for every layout's id; --real may be a folder of photos that
were cropped to the canvas, as `samples/real` of a run holds them. --extractors is the configuration's `extractors` section
as JSON or YAML. Writes metrics.json, scores.parquet (a row an image and a box), and features of both sides, and prints the
metrics.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evaluation.feature_files import FeatureShards
from evaluation.features import load_networks, write_features
from evaluation.files import InputError, replacing, write_json
from evaluation.images import check_images, read_images
from evaluation.jackknife import GROUPS
from evaluation.layouts import read_layouts
from evaluation.metrics import measure
from evaluation.program import quick_imports, run
from evaluation.protocol import add_options, chosen
from evaluation.regions import regions
from evaluation.statistics import Reference, write_reference


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder or zip of images")
    parser.add_argument("--real", type=Path, required=True, help="folder or zip of the real images of the same layouts")
    parser.add_argument("--extractors", type=Path, required=True)
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    found = score(arguments)
    for name, metric in found["metrics"].items():
        print(f"{name:18} {_shown(metric)}")


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Extract, sum up and measure; returns what metrics.json holds. Raises InputError before any network is loaded."""
    layouts, protocol = read_layouts(arguments.layouts), chosen(arguments)
    ids = [row["id"] for row in layouts]
    if not ids:
        raise InputError(f"{arguments.layouts}: no layouts")
    for path in (arguments.images, arguments.real):
        check_images(path, ids)
    stanzas = _stanzas(arguments.extractors)
    with quick_imports():
        networks, detector = load_networks(stanzas)
    table = regions(layouts, _side(arguments.real, ids), protocol.min_side, protocol.max_per_image)
    table = table[table["kept"].astype(bool)].reset_index(drop=True)
    shards = {}
    for name, path in (("images", arguments.images), ("real", arguments.real)):
        out = arguments.out / "features" / f"{name}.npz"
        write_features(path, layouts, table, (networks, detector, protocol), out)
        shards[name] = FeatureShards([out])
    write_reference(shards["real"], arguments.out / "features" / "reference.npz")
    reference = Reference(arguments.out / "features" / "reference.npz")
    found, scores = measure(shards["images"], reference, layouts)
    with replacing(arguments.out / "scores.parquet") as beside:
        scores.to_parquet(beside, index=False)
    found |= {
        "protocol": shards["images"].about | {"groups": GROUPS, "reference": "same_ids"},
        "reference": reference.content,
    }
    write_json(arguments.out / "metrics.json", found)
    return found


def _stanzas(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither JSON nor YAML ({str(error).splitlines()[0]})") from None
    if isinstance(content, dict) and "extractors" in content:
        content = content["extractors"]
    if not isinstance(content, dict) or not {"frechet", "clip"} <= set(content):
        raise InputError(f"{path}: expected the extractors `frechet` and `clip`")
    return {name: stanza for name, stanza in content.items() if stanza}


def _side(path: Path, ids: list[int]) -> int:
    """The side of the canvas in pixels, which is that of the real images."""
    shape = np.shape(next(iter(read_images(path, ids)))[1])
    if shape[0] != shape[1]:
        raise InputError(f"{path}: images of {shape[1]} x {shape[0]} pixels; the canvas is square")
    return int(shape[0])


def _shown(metric: dict[str, Any] | None) -> str:
    if metric is None:
        return "-"
    return f"{metric['value']:.4f}" + (f" ± {metric['se']:.4f}" if metric["se"] is not None else "")


if __name__ == "__main__":
    run(main)
