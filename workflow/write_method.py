"""Write methods/{row}.json, all that decides a row's images beside the layouts: its stanza, its weights and its artefacts.

python -m workflow.write_method --config results/paper/config.json --method hcma --out results/paper/methods/hcma.json
"""

from pathlib import Path

from formats.checksums import folder_sha256
from formats.cli import options, run
from formats.files import write_json
from hcma.sampling.spec import Spec, as_json, read_artefact
from workflow.plan import Plan, read_plan


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument("--method", required=True, help="a row of the run, a candidate for eta or a repeat")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_json(arguments.out, as_json(make_spec(read_plan(arguments.config), arguments.method)))


def make_spec(plan: Plan, row: str) -> Spec:
    """The specification of a row, from files that the run has made; raises InputError and OSError."""
    stanza = plan.stanza(row)
    artefacts = plan.artefacts(row) | plan.text_artefact(row)
    trained = (
        f" ({' and '.join(plan.trained(row).noise_trains)} trained on the noise loss)" if plan.retrained(row) else ""
    )
    return Spec(
        method=row,
        module=stanza.module,
        base=stanza.base + trained,
        model=plan.base(row),
        weights_sha256=folder_sha256(plan.base(row)),
        sampling=plan.sampling(row),
        params=stanza.params,
        artefacts={name: read_artefact(name, path) for name, path in artefacts.items()},
        version=stanza.version,
    )


if __name__ == "__main__":
    run(main)
