"""Check the parameters and the sampling of every method that will run, before anything expensive does.

    python -m workflow.scripts.check_methods --methods config/methods.json --out checks/methods.json

METHODS is {method: {"stanza": ..., "sampling": ...}}; the output is a copy. Modules are imported, which takes seconds: so this
is a job and not part of reading the configuration.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from formats.cli import quick_imports
from formats.files import InputError, replacing
from hcma.sampling.spec import from_keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    methods = json.loads(arguments.methods.read_text())
    if found := faults(methods):
        sys.exit("\n".join(f"error: {fault}" for fault in found))
    with replacing(arguments.out) as beside:
        beside.write_text(json.dumps(methods, indent=2) + "\n")


def faults(methods: dict[str, dict[str, Any]]) -> list[str]:
    """One line a fault, beginning with the key: "methods.boxdiff.params: share: expected ..."."""
    with quick_imports():
        from hcma.sampling.diffusion import Sampling

        kinds = {name: importlib.import_module(method["stanza"]["module"]).Params for name, method in methods.items()}
    found = []
    for name, method in methods.items():
        stanza = method["stanza"]
        # eta is measured by the run itself.
        params = stanza.get("params", {}) | ({"eta": 1.0} if stanza.get("aligned") else {})
        sampling = method["sampling"] | stanza.get("sampling", {})
        for kind, values, key in ((kinds[name], params, "params"), (Sampling, sampling, "sampling")):
            try:
                from_keys(kind, values, f"methods.{name}.{key}")
            except InputError as error:
                found.append(str(error))
    return found


if __name__ == "__main__":
    main()
