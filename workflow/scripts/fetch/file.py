"""Fetch one published file, and keep beside it what it is: FILE.source.json.

    python -m workflow.scripts.fetch.file --out downloads/coco/train2014.zip \
        --source '{"urls": ["http://..."], "size": 13510573713, "md5": "0da8...", "licence": "coco"}'

An interrupted download goes on with the same command. A file that was brought to FILE.part is verified without a network.
"""

import argparse
import json
from pathlib import Path

from evaluation.files import write_json
from evaluation.program import run
from workflow.scripts.fetch.request import access_from_environment
from workflow.scripts.fetch.sources import source_of
from workflow.scripts.fetch.transfer import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=json.loads, required=True, help="JSON: urls, size, sha256 or md5, licence")
    parser.add_argument("--offline", action="store_true", help="ask no server")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out: Path = arguments.out
    digest = fetch(source_of(out.name, arguments.source), out, access_from_environment("", arguments.offline))
    record = arguments.source | {"size": out.stat().st_size, "sha256": digest}
    write_json(out.with_name(f"{out.name}.source.json"), record)


if __name__ == "__main__":
    run(main)
