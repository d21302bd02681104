"""Layouts of a data set: every split as JSON lines, and report.json, which counts what was read, mended and left out, and why.

    python -m evaluation.datasets coco --root FOLDER --config data.json --out layouts

DATASET is a module of evaluation/datasets, or another by its dotted name; what it reads under --root and which keys of the
configuration's section `data`, its docstring says. The same input gives the same bytes; bad input is one line, and nothing is
written.
"""

import argparse
from pathlib import Path

from evaluation.datasets import find_dataset, known, write
from formats import listed
from formats.cli import integer_from, run
from formats.files import InputError, read_json


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="evaluation.datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", metavar="DATASET", help=f"{', '.join(known())}, or a module's dotted name")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder or file")
    parser.add_argument("--config", type=Path, help="a configuration as JSON, or its section `data`")
    parser.add_argument("--shard-size", type=integer_from(1), help="also write each split in parts of so many layouts")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    dataset = find_dataset(arguments.dataset)
    settings = read_json(arguments.config) if arguments.config else {}
    settings = settings.get("data", settings) if isinstance(settings, dict) else settings
    if faults := dataset.faults(settings):
        raise InputError(f"{arguments.config or 'without --config'}: {listed(faults)}")
    write(dataset.prepare(arguments.root, settings), arguments.out, arguments.shard_size)


if __name__ == "__main__":
    run(main)
