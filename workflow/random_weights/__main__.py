"""Write a model folder of random weights in the hub's layout, with its SHA256SUMS.

    python -m workflow.random_weights --architecture gligen --seed 14 --out results/rehearsal/weights/gligen

An architecture is one of architectures/*.json; a network is built without memory, its parameters are counted against the
published number, and its values follow from the seed and their names (values.py). The same seed gives the same tensors, and the
same bytes but for a legacy pickle, in which torch writes addresses.
"""

from pathlib import Path

from formats.cli import options, quick_imports, run


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--architecture", required=True, help="name of a shipped one, or a JSON file like them")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or one that this program wrote")
    arguments = parser.parse_args()
    # Heavy imports stand here: `--help` should answer at once.
    with quick_imports():
        from workflow.random_weights.folder import write_folder

    write_folder(arguments.architecture, arguments.seed, arguments.out)


if __name__ == "__main__":
    run(main)
