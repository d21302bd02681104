"""Score images made elsewhere, without the DAG: the same numbers by the same code.

    python -m evaluation --layouts layouts.jsonl --images mine.zip --real photos/ --extractors extractors.json --out scored

--images and --real are folders or zips of {id:012d}.png, one for every layout's id; --real may be a folder of photos that
were cropped to the canvas, as `samples/real` of a run holds them. All three take several, as the shards of a run, in the
same order. --extractors is the configuration's `extractors` section
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
    parser.add_argument("--layouts", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="folder or zip of images, one a layouts file"
    )
    parser.add_argument(
        "--real", type=Path, nargs="+", required=True, help="the real images of the same layouts, likewise"
    )
    parser.add_argument("--extractors", type=Path, required=True)
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    found = score(arguments)
    for name, metric in found["metrics"].items():
        print(f"{name:18} {_shown(metric)}")


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Extract, sum up and measure; returns what metrics.json holds. Raises InputError before any network is loaded."""
    shards = [read_layouts(path) for path in arguments.layouts]
    layouts = [row for rows in shards for row in rows]
    _check(arguments, shards)
    features = _extract(arguments, shards)
    write_reference(FeatureShards(features["real"]), arguments.out / "features" / "reference.npz")
    reference, images = Reference(arguments.out / "features" / "reference.npz"), FeatureShards(features["images"])
    found, scores = measure(images, reference, layouts)
    with replacing(arguments.out / "scores.parquet") as beside:
        scores.to_parquet(beside, index=False)
    protocol = images.about | {"groups": GROUPS, "reference": "same_ids"}
    found |= {"protocol": protocol, "reference": reference.content}
    write_json(arguments.out / "metrics.json", found)
    return found


def _check(arguments: argparse.Namespace, shards: list[list[dict[str, Any]]]) -> None:
    """Raises InputError unless every file of layouts has its images, and no layout comes twice."""
    seen: set[int] = set()
    for path, rows in zip(arguments.layouts, shards, strict=True):
        if not rows:
            raise InputError(f"{path}: no layouts")
        for number in _ids(rows):
            if number in seen:
                raise InputError(f"{path}: layout {number} comes twice")
            seen.add(number)
    for option, paths in (("--images", arguments.images), ("--real", arguments.real)):
        if len(paths) != len(shards):
            raise InputError(f"{option}: {len(paths)} given for {len(shards)} files of layouts")
        for path, rows in zip(paths, shards, strict=True):
            check_images(path, _ids(rows))


def _extract(arguments: argparse.Namespace, shards: list[list[dict[str, Any]]]) -> dict[str, list[Path]]:
    """The files of features of both sides, written one after the other."""
    stanzas, side, protocol = (
        _stanzas(arguments.extractors),
        _side(arguments.real[0], _ids(shards[0])),
        chosen(arguments),
    )
    with quick_imports():
        networks, detector = load_networks(stanzas)
    features: dict[str, list[Path]] = {"images": [], "real": []}
    for number, rows in enumerate(shards):
        table = regions(rows, side, protocol.min_side, protocol.max_per_image)
        table = table[table["kept"].astype(bool)].reset_index(drop=True)
        for name, found in features.items():
            out = arguments.out / "features" / name / f"{number:04d}.npz"
            seen_by = (networks, detector, protocol)
            write_features(getattr(arguments, name)[number], rows, table, seen_by, out)
            found.append(out)
    return features


def _ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


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
