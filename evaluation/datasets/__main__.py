"""Layouts of a foreign set, or of a data set's every split, as JSON lines, and report.json: what was read, left out, and why.

    python -m evaluation.datasets seven_bench 7bench.csv --out FOLDER
    python -m evaluation.datasets coco instances_val2017.json captions_val2017.json --photos val2017 --out FOLDER
    python -m evaluation.datasets csv mine.csv --canvas 512 --boxes xywh --out FOLDER
    python -m evaluation.datasets coco --root FOLDER --config data.json --out layouts

With paths, NAME is a reader of evaluation/datasets/readers, or another by its dotted name, and layouts.jsonl is written; with
--root a module of evaluation/datasets that makes splits, whose keys of the configuration's section `data` its docstring says.
The same input gives the same bytes; bad input is one line, and nothing is written.
"""

import argparse
from pathlib import Path
from typing import Any

from evaluation.datasets import Prepared, find_dataset, known, write
from evaluation.datasets.captioning import TEMPLATE
from evaluation.datasets.readers import known_readers, read_set, summary, with_photos
from evaluation.datasets.reading import UNIT, Canvas, Options
from evaluation.datasets.source import needs_data_set, prepare_with_sources
from formats import listed
from formats.cli import integer_from, options, run
from formats.files import InputError, read_json
from formats.layouts import LayoutError


def main() -> None:
    parser = options(__doc__, "evaluation.datasets")
    parser.add_argument(
        "name", metavar="NAME", help=f"a reader: {', '.join(known_readers())}; with --root: {', '.join(known())}"
    )
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="*", help="files or folders of a foreign set")
    parser.add_argument("--root", type=Path, help="a data set's folder or file, of which splits are made")
    parser.add_argument("--config", type=Path, help="with --root: a configuration as JSON, or its section `data`")
    parser.add_argument("--shard-size", type=integer_from(1), help="also write the layouts in parts of so many")
    parser.add_argument(
        "--first", type=_first, nargs="*", default=[], metavar="SPLIT=N", help="the first N have parts of their own"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    reading = parser.add_argument_group("of a foreign set")
    reading.add_argument("--boxes", choices=["xyxy", "xywh"], help="corners, or a corner with width and height")
    reading.add_argument("--canvas", type=_canvas, help="what boxes are pixels of: SIDE or WIDTHxHEIGHT; or unit")
    reading.add_argument("--origin", type=int, choices=[0, 1], help="where pixels begin to count")
    reading.add_argument("--captions", type=Path, help="a file of captions by id, for a set without")
    reading.add_argument(
        "--template",
        default=TEMPLATE,
        help=f"else its captions: text with {{objects}}, {TEMPLATE!r} by default; or none",
    )
    reading.add_argument("--photos", type=Path, help="folder of the set's photos, each of which has to be there")
    reading.add_argument("--min-area-frac", type=_share, default=0.0, help="leave out boxes of less of the canvas")
    reading.add_argument("--max-boxes", type=integer_from(1), default=30, help="keep so many of the largest boxes")
    arguments = parser.parse_args()
    if bool(arguments.paths) == bool(arguments.root or arguments.config):
        raise InputError("give either the paths of a foreign set, or --root, the folder of a data set, and --config")
    if not arguments.paths:
        prepared = _prepare(arguments.name, arguments.root, arguments.config)
        write(prepared, arguments.out, arguments.shard_size, dict(arguments.first))
        return
    how = Options(
        arguments.boxes,
        arguments.canvas,
        arguments.origin,
        arguments.captions,
        None if arguments.template == "none" else arguments.template,
        arguments.min_area_frac,
        arguments.max_boxes,
    )
    layouts, report = read_set(arguments.name, arguments.paths, how)
    if arguments.photos:
        layouts = with_photos(layouts, arguments.photos)
    try:
        write(Prepared({"layouts": layouts}, {"splits": {"layouts": report}}), arguments.out, arguments.shard_size)
    except LayoutError as error:
        raise InputError(f"{', '.join(map(str, arguments.paths))}: {error}") from None
    print("\n".join([*summary(report), f"wrote {arguments.out / 'layouts.jsonl'} and report.json"]))


def _prepare(name: str, root: Path | None, config: Path | None) -> Prepared:
    dataset = find_dataset(name)
    settings: Any = read_json(config) if config else {}
    settings = settings.get("data", settings) if isinstance(settings, dict) else settings
    sourced = isinstance(settings, dict) and not needs_data_set(settings)
    if faults := [] if sourced else dataset.faults(settings):
        raise InputError(f"{config or 'without --config'}: {listed(faults)}")
    return prepare_with_sources(dataset, root, settings)


def _canvas(text: str) -> Canvas:
    if text == "unit":
        return UNIT
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() and int(side[:9]) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"expected SIDE, WIDTHxHEIGHT or unit, found {text!r}")
    return float(sides[0]), float(sides[-1])


def _first(text: str) -> tuple[str, int]:
    split, _, count = text.partition("=")
    if not (count.isascii() and count.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected SPLIT=N, found {text!r}")
    return split, int(count)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text!r}")
    return share


if __name__ == "__main__":
    run(main)
