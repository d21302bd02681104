"""Write methods/{row}.json, all that decides a row's images beside the layouts: its stanza, its weights, what the run measured.

    python -m workflow.write_method --config results/miniature/config.json --method hcma --out results/miniature/methods/hcma.json
"""

import argparse
import sys
from pathlib import Path

from evaluation.files import read_json, write_json
from hcma.program import status
from hcma.sampling.spec import Spec, as_json
from hcma.sampling.weights import file_sha256, folder_sha256
from workflow.plan import Plan, read_plan


def main() -> int:
    """Run the program; bad input is one line on stderr and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument("--method", required=True, help="a row of the run, a candidate for eta or a repeat")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    return status(
        lambda: write_json(arguments.out, as_json(make_spec(read_plan(arguments.config), arguments.method))),
        str(arguments.out),
    )


def make_spec(plan: Plan, row: str) -> Spec:
    """The specification of a row, from files that the run has made; raises InputError and OSError."""
    stanza, aligned = plan.stanza(row), row in plan.aligned
    measured = {"eta": read_json(Path(plan.eta(row)))["eta"] * plan.candidates.get(row, 1.0)} if aligned else {}
    text = plan.model(plan.text_model) if aligned and plan.text_model else None
    trained = f" ({' and '.join(plan.noise_trains)} trained on the noise loss)" if plan.retrained(row) else ""
    return Spec(
        method=row,
        module=stanza.module,
        base=stanza.base + trained,
        model=plan.base(row),
        weights_sha256=folder_sha256(plan.base(row)),
        sampling=plan.sampling(row),
        params=stanza.params | measured,
        alignment=plan.alignment if aligned else None,
        alignment_sha256=file_sha256(plan.alignment) if aligned else None,
        text=text,
        text_sha256=folder_sha256(text) if text else None,
        text_feature=plan.settings.alignment.text.feature if text else "pooled",
        version=stanza.version,
        source=stanza.source,
    )


if __name__ == "__main__":
    sys.exit(main())
