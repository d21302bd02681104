"""Check that the configured device is there, on the machine where its work will run, before anything is fetched for it.

python -m workflow.scripts.check_device --device cuda --out results/paper/checks/device.json
"""

import json
from collections.abc import Sequence
from pathlib import Path

from formats.cli import options, quick_imports, run
from formats.files import replacing


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    _check(arguments.device, arguments.out)


def _check(device: str, out: Path) -> None:
    with quick_imports():
        from hcma.sampling.device import device_name, take_device

    with replacing(out) as beside:
        beside.write_text(json.dumps({"device": device_name(take_device(device))}) + "\n")


if __name__ == "__main__":
    run(main)
