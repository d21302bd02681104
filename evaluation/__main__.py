"""Score images made elsewhere, without the DAG: the same numbers by the same code.

    python -m evaluation --layouts layouts.jsonl --images mine.zip --real photos/ --extractors extractors.json --out scored

--images and --real are folders or zips of {id:012d}.png, one for every layout's id; --real may be a folder of photos that
were cropped to the canvas, as `samples/real` of a run holds them. All three take several, as the shards of a run, in the
same order. Images may have any sizes and shapes: a box is a share of each image's own width and height. Which boxes are scored
is decided by the real image's pixels, alike for all that is compared with it; without --real, by the image's own, and no
distance is measured. --extractors is a configuration as JSON or YAML, whose `metrics` are measured too, or its section
`extractors` alone. Writes metrics.json, scores.parquet (a row an image and a box), regions.csv (a row a box, and why it is not
scored where it is not) and features of both sides, and prints the metrics.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from evaluation.feature_files import FeatureShards
from evaluation.features import add_device_options, chosen_workers, load_networks, write_features
from evaluation.layouts import read_layout_rows
from evaluation.metrics import metrics_of, own
from evaluation.metrics.measure import measure
from evaluation.metrics.summary import Summaries, write_summaries
from evaluation.networks import NEEDED, described, faults
from evaluation.printing import number, write_csv
from evaluation.protocol import Protocol, add_options, check_resolution, chosen
from evaluation.regions import regions
from evaluation.tables.headline import cut_texts
from formats import shown
from formats.cli import options, quick_imports, run
from formats.files import InputError, replacing, write_json
from formats.images import check_images


def main() -> None:
    parser = options(__doc__, "python -m evaluation")
    parser.add_argument("--layouts", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="folder or zip of images, one a layouts file"
    )
    parser.add_argument(
        "--real", type=Path, nargs="+", help="the real images of the same layouts, likewise; without them no distance"
    )
    parser.add_argument("--extractors", type=Path, required=True)
    add_options(parser)
    add_device_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    found, table = score(
        arguments.layouts,
        arguments.images,
        arguments.real,
        arguments.extractors,
        arguments.out,
        protocol=chosen(arguments),
        device=arguments.device,
        workers=arguments.workers,
    )
    widest = max(18, *map(len, found["metrics"]))
    for name, metric in found["metrics"].items():
        print(f"{name:{widest}} {number(metric['value'], se=metric['se']) if metric else '-'}")
    for note in _notes(found, table):
        print(note)


def score(
    layouts: Sequence[Path],
    images: Sequence[Path],
    real: Sequence[Path] | None,
    extractors: Path,
    out: Path,
    *,
    protocol: Protocol,
    device: str,
    workers: int | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Extract, sum up and measure into the folder `out`; returns what metrics.json holds, and the table of all regions.

    layouts: JSON lines. images, real: a folder or zip each, in the same order. extractors: a configuration, or its section.
    Raises InputError before any network is loaded.
    """
    shards = [read_layout_rows(path) for path in layouts]
    _check_layouts(layouts, shards)
    stanzas, owns = _stanzas(extractors)
    own.check_names(owns)
    places = {"images": images} | ({"real": real} if real else {})
    sizes = {name: _sizes(f"--{name}", paths, shards, protocol.resolution) for name, paths in places.items()}
    canvas = sizes.get("real", sizes["images"])
    tables = [regions(rows, canvas, protocol.min_side, protocol.max_per_image) for rows in shards]
    table = pd.concat(tables, ignore_index=True)
    with quick_imports():
        from formats.device import take_device

        networks = load_networks(stanzas, take_device(device))
    loaders = chosen_workers(workers, device)
    features: dict[str, list[Path]] = {name: [] for name in places}
    for place, (rows, part) in enumerate(zip(shards, tables, strict=True)):
        kept = part[part["kept"].astype(bool)].reset_index(drop=True)
        for name, paths in features.items():
            paths.append(out / "features" / name / f"{place:04d}.npz")
            write_features(places[name][place], rows, kept, networks, protocol, paths[-1], loaders, owns)
    summaries = {name: out / "features" / f"{name}.npz" for name in features}
    for name, paths in features.items():
        write_summaries(FeatureShards(paths), summaries[name])
    reference = Summaries(summaries["real"]) if real else None
    found, scores = measure(
        Summaries(summaries["images"]), reference, [row for rows in shards for row in rows], own=owns
    )
    with replacing(out / "scores.parquet") as beside:
        scores.to_parquet(beside, index=False)
    write_csv(out / "regions.csv", table)
    write_json(out / "metrics.json", found)
    return found, table


def _check_layouts(layouts: Sequence[Path], shards: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Raises InputError for a file without layouts, and for a layout that comes twice."""
    seen: set[int] = set()
    for path, rows in zip(layouts, shards, strict=True):
        if not rows:
            raise InputError(f"{path}: no layouts")
        for layout in _ids(rows):
            if layout in seen:
                raise InputError(f"{path}: layout {layout} comes twice")
            seen.add(layout)


def _sizes(
    option: str, paths: Sequence[Path], shards: Sequence[Sequence[Mapping[str, Any]]], resolution: int | None
) -> dict[int, tuple[int, int]]:
    """Width and height of every layout's image.

    Raises InputError unless every file of layouts has its images, and none is smaller than the resolution asked for.
    """
    if len(paths) != len(shards):
        raise InputError(f"{option}: {len(paths)} given for {len(shards)} files of layouts")
    sizes: dict[int, tuple[int, int]] = {}
    for path, rows in zip(paths, shards, strict=True):
        found = check_images(path, _ids(rows))
        check_resolution(path, found, resolution)
        sizes |= found
    return sizes


def _ids(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def _stanzas(path: Path) -> tuple[dict[str, Any], list[own.Own]]:
    """The extractors of a configuration or of its section alone, and of a configuration the metrics of one's own."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: neither JSON nor YAML ({str(error).splitlines()[0]})") from None
    owns: list[own.Own] = []
    if isinstance(content, dict) and "extractors" in content:
        try:
            owns = own.load(own.section(content))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        content = content["extractors"]
    stanzas = {name: stanza for name, stanza in content.items() if stanza} if isinstance(content, dict) else {}
    if not set(NEEDED) <= set(stanzas):
        raise InputError(f"{path}: expected the extractors {' and '.join(f'`{name}`' for name in NEEDED)}")
    for name, stanza in stanzas.items():
        _check_stanza(f"{path}: extractors.{name}", name, stanza)
    return stanzas, owns


def _check_stanza(where: str, name: str, stanza: Any) -> None:
    kind = stanza.get("kind") if isinstance(stanza, dict) else None
    network = described(kind) if isinstance(kind, str) else None
    needed = ["kind", "name", *["path"] * (not (network and network.own)), *["model"] * (kind == "open_clip")]
    for key in needed:
        if not isinstance(stanza, dict) or not isinstance(stanza.get(key), str):
            raise InputError(f"{where} is {shown(stanza)}, expected a text `{key}` in it")
    for fault in faults(name, stanza):
        raise InputError(f"{where}{f'.{fault.key}' * bool(fault.key)}: {fault.text}")


def _notes(found: dict[str, Any], table: pd.DataFrame) -> Iterator[str]:
    """What the metrics are of and what they leave out."""
    yield f"{found['n_images']} images, {found['n_regions']} of {len(table)} boxes scored as regions"
    reasons = Counter(re.sub(r"side \d+ px, ", "a side ", why) for why in table.loc[~table["kept"].astype(bool), "why"])
    for why, boxes in reasons.items():
        yield f"not scored: {boxes} boxes, {why}"
    if found["reference"] is None:
        yield "-: no photos (--real), to which distances are measured"
    elif None in found["metrics"].values():
        yield "-: too few images or regions"
    for metric in metrics_of(found["protocol"]).values():
        if metric.least > 2 and found["reference"] is not None and not found["metrics"].get(metric.name):
            least = f"extractors.{metric.extractor}.least"
            yield f"{metric.name} takes at least {metric.least:,} {metric.level}s of either set ({least})"
    for name in found["protocol"]:
        if cut := found.get(f"n_{name}_texts_cut"):
            yield f"{cut} phrases or captions are longer than {found['protocol'][name]['name']} reads, and were cut"
    yield from cut_texts(found)


if __name__ == "__main__":
    run(main)
