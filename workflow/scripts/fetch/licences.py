"""Show the licences of what is about to be fetched, and go on only when the configuration accepts each by name.

    python -m workflow.scripts.fetch.licences --accept cc-by-4.0 --out downloads/LICENCES.json \
        --needed '{"cc-by-4.0": {"text": "https://...", "of": ["annotations_trainval2014.zip"]}}'
"""

import argparse
import json
import sys
from pathlib import Path

from formats.cli import run
from formats.files import write_json
from workflow.scripts.fetch.transfer import check_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--needed", type=json.loads, required=True, help="JSON: licence to its text and what is under it"
    )
    parser.add_argument("--accept", nargs="*", default=[], help="licences that the configuration accepts")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    check_folder(arguments.out.parent)
    refused = [name for name in arguments.needed if name not in arguments.accept]
    for name, licence in arguments.needed.items():
        begin = f"error: not accepted: {name}" if name in refused else f"accepted: {name}"
        print(f"{begin}: {', '.join(licence['of'])}: {licence['text']}", file=sys.stderr)
    if refused:
        sys.exit(f"error: nothing was fetched; read them, then set fetch.accept: [{', '.join(arguments.needed)}]")
    write_json(arguments.out, arguments.needed)


if __name__ == "__main__":
    run(main)
