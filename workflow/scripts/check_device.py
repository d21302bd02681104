"""Check that the configured device is there, on the machine where its work will run, before anything is fetched for it.

python -m workflow.scripts.check_device --device cuda --out results/paper/checks/device.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hcma.program import quick_imports, status
from hcma.sampling.atomic import replacing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; a device that cannot be used is one line on stderr and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    return status(lambda: _check(arguments.device, arguments.out), str(arguments.out))


def _check(device: str, out: Path) -> None:
    with quick_imports():
        from hcma.sampling.device import take_device
        from hcma.sampling.provenance import device_name

    with replacing(out) as beside:
        beside.write_text(json.dumps({"device": device_name(take_device(device))}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
