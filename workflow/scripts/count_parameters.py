"""Load model folders as sampling does, and compare every network's number of parameters with the published one.

    python -m workflow.scripts.count_parameters --model gligen weights/gligen --model stable-diffusion weights/sd14 \
        --out architectures.json

A folder that is another architecture than it should be is one line on stderr and status 1.
"""

import argparse
import gc
import json
import sys
from pathlib import Path

from hcma.program import quick_imports, status
from hcma.sampling.atomic import replacing


def main() -> int:
    """Run the program; bad input is one line on stderr and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs=2, action="append", required=True, metavar=("ARCHITECTURE", "FOLDER"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    return status(lambda: _run(arguments), str(arguments.out))


def _run(arguments: argparse.Namespace) -> None:
    counts = {}
    for architecture, folder in arguments.model:
        counts[folder] = {"architecture": architecture} | count(architecture, folder)
        gc.collect()  # one model at a time in memory
    with replacing(arguments.out) as beside:
        beside.write_text(json.dumps(counts, indent=2) + "\n")


def count(architecture: str, folder: str) -> dict[str, dict[str, int]]:
    """Parameters by network and part; raises InputError when a count is not the published one."""
    with quick_imports():
        from hcma.sampling.diffusion import Sampling, load_diffusion
        from workflow.scripts.random_weights.architecture import check_count, read_architecture

    published = read_architecture(architecture).components
    sd = load_diffusion(folder, Sampling())
    loaded = {"vae": sd.vae, "vqvae": sd.vae, "text_encoder": sd.text_encoder, "bert": sd.text_encoder, "unet": sd.unet}
    return {
        name: check_count(f"{folder}/{name}", loaded[name], network.parameters) for name, network in published.items()
    }


if __name__ == "__main__":
    sys.exit(main())
