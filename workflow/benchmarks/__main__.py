r"""What people measure: speed against the peers, an accelerator, what a run will cost, and what rounding does to metrics.

    python -m workflow.benchmarks peers --gligen methods/gligen_sd.json --hcma methods/hcma.json \
        --excite methods/attend_and_excite.json --layouts test.jsonl
    python -m workflow.benchmarks device --config config.json --weights FOLDER --layouts test.jsonl --out device.json
    python -m workflow.benchmarks precision --config config.json --specs methods --layouts test.jsonl --rows sd14 hcma \
        --device cuda --out precision.json
    python -m workflow.benchmarks feature_rates --images 2000 --regions 3 --device cuda --workers 16 --out rates.json
    python -m workflow.benchmarks scale --work FOLDER --device cpu
    python -m workflow.benchmarks pilot --config config.json --device cuda --out pilot.json
    python -m workflow.benchmarks estimate --config config.json --pilot pilot.json --samples samples --out estimate
    python -m workflow.benchmarks regress_spread --cores 2

COMMAND --help says what each does; so does the module of its name.
"""

import argparse
import ast
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from formats.cli import integer_from, options, quick_imports, run

PATH: dict[str, Any] = {"type": Path, "required": True}


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for name, add in {
        "peers": _peers,
        "device": _device,
        "precision": _precision,
        "features": _features,
        "feature_rates": _feature_rates,
        "scale": _scale,
        "pilot": _pilot,
        "estimate": _estimate,
        "regress_spread": _regress_spread,
    }.items():
        add(commands.add_parser(name, description=_docstring(name)))
    given = vars(parser.parse_args(argv))
    with quick_imports():
        module = import_module(f"workflow.benchmarks.{given.pop('command')}")
    module.main(**given)


def _docstring(name: str) -> str:
    """A module's docstring, without importing it."""
    return ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))) or ""


def _peers(parser: argparse.ArgumentParser) -> None:
    for name in ("gligen", "hcma", "excite"):
        parser.add_argument(f"--{name}", **PATH, help="method specification of that row")
    parser.add_argument("--layouts", **PATH)
    parser.add_argument("--rounds", type=integer_from(1), help="of either side; of one nothing is to be trusted")
    parser.add_argument("--quick", action="store_true", help="one round of little: does it run, are results equal?")
    parser.add_argument("--only", nargs="+", help="figures to make, by name; all unless given")
    parser.add_argument("--out", type=Path)


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", **PATH, help="a run's config.json")
    parser.add_argument("--weights", **PATH, help="folder of model folders")
    parser.add_argument("--layouts", **PATH)
    parser.add_argument("--out", **PATH)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--side", type=integer_from(1), default=8192, help="of the product that shows what the card can do"
    )
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds after which no cell begins")


def _precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", **PATH, help="a run's config.json, for its extractors")
    parser.add_argument("--specs", **PATH, help="the run's folder methods")
    parser.add_argument("--layouts", **PATH)
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=integer_from(1), default=64)
    parser.add_argument("--images", type=integer_from(8), help="of the layouts, the first; all unless given")
    parser.add_argument("--out", **PATH)


def _features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--side", choices=["ours", "theirs"], required=True)
    parser.add_argument("--folder", **PATH)
    parser.add_argument("--out", **PATH)
    parser.add_argument("--images", type=integer_from(1), default=16, help="of a row")


def _feature_rates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--extractors", type=Path, help="a configuration as JSON; the published networks unless given")
    parser.add_argument("--images", type=integer_from(1), default=2000)
    parser.add_argument("--regions", type=integer_from(1), default=3, help="of an image")
    parser.add_argument("--compared", type=integer_from(1), default=4, help="images that the CPU computes too")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=integer_from(0), default=16)
    parser.add_argument("--out", **PATH)


def _scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", **PATH, help="folder for features and results, of which finished stages are kept")
    for name, of in (("images", 30_000), ("regions", 99_000), ("dimensions", 2048), ("rows", 3)):
        parser.add_argument(f"--{name}", type=integer_from(1), default=of)
    parser.add_argument("--device", default="cpu")


def _pilot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", **PATH, help="the run's config.json")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", **PATH)


def _estimate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", **PATH, help="the run's config.json")
    parser.add_argument("--pilot", **PATH)
    parser.add_argument("--samples", **PATH, help="results/{run}/samples, which need not exist yet")
    parser.add_argument("--out", **PATH, help="path without suffix")


def _regress_spread(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cores", default="all")


if __name__ == "__main__":
    run(main)
