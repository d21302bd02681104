"""Write methods/{method}.json, the file that decides a method's images, from its stanza and what was measured.

    python -m workflow.scripts.write_method --method hcma --stanza STANZA.json --model weights/miniature/gligen \
        [--alignment train/alignment.safetensors --eta train/calibration.json [--multiple 3]] --out methods/hcma.json

STANZA.json holds the method's stanza and the common `sampling` settings.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from formats.checksums import folder_sha256
from formats.files import InputError, replacing, sha256
from hcma.sampling.spec import Spec, as_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--stanza", type=Path, required=True)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--alignment", help="weights of the alignment module")
    parser.add_argument("--eta", type=Path, help="JSON with the key `eta`")
    parser.add_argument("--multiple", type=float, default=1.0, help="of that eta")
    parser.add_argument("--text", help="folder of the encoder of the alignment's targets, if not the model's own")
    parser.add_argument("--text-feature", default="pooled", help="pooled or projected")
    parser.add_argument(
        "--trained", nargs="+", help="what the noise loss trained on the stanza's base: named in the tables"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        spec = as_json(make_spec(arguments, json.loads(arguments.stanza.read_text())))
    except InputError as error:
        sys.exit(f"error: {error}")
    with replacing(arguments.out) as beside:
        beside.write_text(json.dumps(spec, indent=2) + "\n")


def make_spec(arguments: argparse.Namespace, content: dict[str, Any]) -> Spec:
    """The method's specification."""
    stanza, params = content["stanza"], dict(content["stanza"].get("params", {}))
    if arguments.eta:
        params["eta"] = json.loads(arguments.eta.read_text())["eta"] * arguments.multiple
    trained = f" ({' and '.join(arguments.trained)} trained on the noise loss)" if arguments.trained else ""
    return Spec(
        method=arguments.method,
        module=stanza["module"],
        base=stanza["base"] + trained,
        model=arguments.model,
        weights_sha256=folder_sha256(arguments.model),
        sampling=content["sampling"] | stanza.get("sampling", {}),
        params=params,
        alignment=arguments.alignment,
        alignment_sha256=sha256(arguments.alignment) if arguments.alignment else None,
        text=arguments.text,
        text_sha256=folder_sha256(arguments.text) if arguments.text else None,
        text_feature=arguments.text_feature,
        version=stanza["version"],
        source=stanza.get("source", ""),
    )


if __name__ == "__main__":
    main()
