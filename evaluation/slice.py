"""One shard of a layouts file: rows shard * size up to (shard + 1) * size.

python -m evaluation.slice --layouts layouts/test.jsonl --shard 0 --shard-size 64 --out layouts/test/0000.jsonl
"""

import argparse
from pathlib import Path

from evaluation.layouts import read_layouts, write_layouts
from formats.cli import integer_from, run
from formats.files import InputError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--shard", type=integer_from(0), required=True)
    parser.add_argument("--shard-size", type=integer_from(1), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    start = arguments.shard * arguments.shard_size
    rows = read_layouts(arguments.layouts, start, start + arguments.shard_size)
    if not rows:
        raise InputError(f"{arguments.layouts}: {start} layouts or fewer, so there is no shard {arguments.shard}")
    write_layouts(arguments.out, rows)


if __name__ == "__main__":
    run(main)
