"""Load a model folder as sampling does, and compare every network's number of parameters with the published one.

    python -m workflow.random_weights.count --architecture gligen --model weights/gligen --out architectures/gligen.json

A folder that holds another architecture than it should is one line on stderr and status 1.
"""

import argparse
from pathlib import Path

from formats.cli import options, quick_imports, run
from formats.files import write_json


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--architecture", required=True, help="name of a shipped one, or a JSON file like them")
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    counts = count(arguments.architecture, arguments.model)
    row = {"model": arguments.model, "architecture": arguments.architecture, "parameters": counts}
    write_json(arguments.out, row)


def count(architecture: str, folder: str) -> dict[str, dict[str, int]]:
    """Parameters by network and part; raises InputError when a count is not the published one."""
    with quick_imports():
        from hcma.sampling.diffusion import Sampling, load_diffusion
        from workflow.random_weights.architecture import check_count, read_architecture

    published = read_architecture(architecture).components
    sd = load_diffusion(folder, Sampling())
    loaded = {"vae": sd.vae, "vqvae": sd.vae, "text_encoder": sd.text_encoder, "bert": sd.text_encoder, "unet": sd.unet}
    return {
        name: check_count(f"{folder}/{name}", loaded[name], network.parameters) for name, network in published.items()
    }


if __name__ == "__main__":
    run(main)
