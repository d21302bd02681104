"""Fetch one published file, and keep beside it what it is: FILE.source.json.

    python -m workflow.scripts.fetch.file --plan downloads/plan.json --name coco/val2014.zip --out downloads/coco/val2014.zip

An interrupted download goes on with the same command. A file that was brought to FILE.part is verified without a network.
"""

import argparse
from pathlib import Path

from formats.cli import run
from formats.files import write_json
from workflow.scripts.fetch.plan import read_plan
from workflow.scripts.fetch.sources import source_of
from workflow.scripts.fetch.transfer import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--name", required=True, help="one of the plan's files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out: Path = arguments.out
    plan = read_plan(arguments.plan)
    entry = plan.files[arguments.name]
    digest = fetch(source_of(out.name, entry), out, plan.access)
    write_json(out.with_name(f"{out.name}.source.json"), entry | {"size": out.stat().st_size, "sha256": digest})


if __name__ == "__main__":
    run(main)
