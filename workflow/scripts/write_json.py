"""Write JSON given on the command line to a file: how a section of the configuration reaches a program.

python -m workflow.scripts.write_json --out results/miniature/config/data.json '{"size": 64}'
"""

import json
from pathlib import Path

from formats.cli import options, run
from formats.files import write_json


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("content", type=json.loads, help="JSON")
    arguments = parser.parse_args()
    write_json(arguments.out, arguments.content)


if __name__ == "__main__":
    run(main)
