"""Write methods/{method}.json, the file that decides a method's images, from its stanza and its artefacts.

    python -m workflow.scripts.write_method --method hcma --stanza STANZA.json --model weights/miniature/gligen \
        [--artefacts alignment=train/alignment.safetensors eta=train/calibration.json] --out methods/hcma.json

STANZA.json holds the method's stanza and the common `sampling` settings.
"""

import argparse
from pathlib import Path
from typing import Any

from formats.checksums import folder_sha256
from formats.cli import run
from formats.files import read_json, write_json
from hcma.sampling.spec import Spec, as_json, read_artefact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--stanza", type=Path, required=True)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument(
        "--artefacts", nargs="*", default=[], help="NAME=PATH of what the module loads beside the model"
    )
    parser.add_argument(
        "--trained", nargs="+", help="what the noise loss trained on the stanza's base: named in the tables"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_json(arguments.out, as_json(make_spec(arguments, read_json(arguments.stanza))))


def make_spec(arguments: argparse.Namespace, content: dict[str, Any]) -> Spec:
    """The method's specification."""
    stanza, artefacts = content["stanza"], (entry.partition("=") for entry in arguments.artefacts)
    trained = f" ({' and '.join(arguments.trained)} trained on the noise loss)" if arguments.trained else ""
    return Spec(
        method=arguments.method,
        module=stanza["module"],
        base=stanza["base"] + trained,
        model=arguments.model,
        weights_sha256=folder_sha256(arguments.model),
        sampling=content["sampling"] | stanza.get("sampling", {}),
        params=stanza.get("params", {}),
        artefacts={name: read_artefact(name, path) for name, _, path in artefacts},
        version=stanza["version"],
        source=stanza.get("source", ""),
    )


if __name__ == "__main__":
    run(main)
