"""Write JSON given on the command line to a file: how a section of the configuration reaches a program.

python -m workflow.scripts.write_json --out results/miniature/config/data.json '{"size": 64}'
"""

import argparse
import json
from pathlib import Path

from hcma.sampling.atomic import replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("content", help="JSON")
    arguments = parser.parse_args()
    with replacing(arguments.out) as beside:
        beside.write_text(json.dumps(json.loads(arguments.content), indent=2) + "\n")


if __name__ == "__main__":
    main()
