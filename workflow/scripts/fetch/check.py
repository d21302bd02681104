"""Before the first download: is everything to be had, and is there room for it and the run? All faults at once, a line each.

    python -m workflow.scripts.fetch.check --plan downloads/plan.json --folder downloads \\
        --estimate '{...}' --run results/paper --out downloads/sources-checked.json

Of files it asks one byte, of repositories the listing and one byte of each large file, which a gated one refuses. Offline it
asks nothing: then what has to be brought must be there.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from formats.checksums import SUMS
from formats.cli import run
from formats.files import InputError, write_json
from workflow.scripts.fetch.model import begun, listed
from workflow.scripts.fetch.plan import Plan, read_plan
from workflow.scripts.fetch.request import Access
from workflow.scripts.fetch.sources import source_of
from workflow.scripts.fetch.transfer import still_to_come
from workflow.scripts.room import Need, lacking, need_of_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="of downloads")
    parser.add_argument("--estimate", type=json.loads, required=True, help="JSON: the section `estimate`")
    parser.add_argument("--run", type=Path, required=True, help="the run's results folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sizes, faults = ask(read_plan(arguments.plan), arguments.folder)
    needs = [Need(name, arguments.folder, size) for name, size in sizes.items() if size]
    faults += lacking([*needs, need_of_run(arguments.estimate, arguments.run)])
    if faults:
        sys.exit("\n".join(f"error: {fault}" for fault in faults))
    write_json(arguments.out, {"bytes_to_fetch": sizes})


def ask(plan: Plan, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Bytes still to be fetched of every file and model that can be, and a line for every one that cannot."""
    asked: dict[str, Callable[[], int]] = {}
    for name, entry in plan.files.items():
        asked[name] = partial(still_to_come, source_of(Path(name).name, entry), folder / name, plan.access)
    for name, entry in plan.models.items():
        asked[name] = partial(size_of_model, entry, folder / name, plan.access)
    sizes: dict[str, int] = {}
    faults: list[str] = []
    for name, answer in asked.items():
        try:
            sizes[name] = answer()
        except InputError as error:
            faults.append(f"{name}: {error}")
    return sizes, faults


def size_of_model(entry: dict[str, Any], folder: Path, access: Access) -> int:
    """Bytes still to be fetched of a model; raises InputError when the repository is not as it has to be, or is gated."""
    if (folder / SUMS).exists():
        return 0
    sources, _ = listed(entry, folder, access)
    absent = [source for source in sources if not (folder / source.name).exists()]
    for large in (source for source in absent if source.sha256):
        still_to_come(large, folder / large.name, access)
    return max(sum(source.size or 0 for source in absent) - begun(folder), 0)


if __name__ == "__main__":
    run(main)
