r"""Draw one figure as PNG and SVG.

    python -m evaluation.figures panel --layouts layouts/test.jsonl --samples results/miniature/samples --shard-size 64 \
        --methods real sd14 gligen_sd hcma --published workflow/config/published.csv --out figures/panel
    python -m evaluation.figures metrics --metrics metrics/real/test.json metrics/hcma/test.json ... --published ... --out ...
    python -m evaluation.figures sizes --sizes sizes/real/test.csv sizes/hcma/test.csv ... --published ... --out ...
    python -m evaluation.figures categories --regions regions/test/*.parquet --methods real hcma \
        --scores scores/real/test.parquet scores/hcma/test.parquet --published ... --out figures/categories
    python -m evaluation.figures difficulty --table tables/difficulty.json --out figures/difficulty
    python -m evaluation.figures training --curves train/curves.csv --out figures/training
    python -m evaluation.figures calibration --calibration train/calibration.json --out figures/calibration
    python -m evaluation.figures study --table tables/study.json --out figures/study

writes {out}.png and {out}.svg.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from evaluation.layouts import read_layout_rows
from evaluation.metrics import metrics_of
from evaluation.tables.elsewhere import add_option, named, read_elsewhere
from evaluation.tables.published import labels, read_published, stated_labels
from evaluation.tables.table import read_table
from formats.cli import options, run
from formats.files import read_json, read_object


def main() -> None:
    parser = options(__doc__, "python -m evaluation.figures")
    commands = parser.add_subparsers(dest="figure", required=True)
    drawn = {name: commands.add_parser(name) for name in FIGURES}
    drawn["panel"].add_argument("--layouts", type=Path, required=True, help="all layouts of the split")
    drawn["panel"].add_argument("--samples", type=Path, required=True, help="folder of {method}/test/{shard}.zip")
    drawn["panel"].add_argument("--shard-size", type=int, required=True)
    drawn["metrics"].add_argument("--metrics", type=Path, nargs="+", required=True, help="of the rows, in order")
    drawn["sizes"].add_argument("--sizes", type=Path, nargs="+", required=True, help="of the rows, in order")
    drawn["categories"].add_argument("--regions", type=Path, nargs="+", required=True, help="tables of regions")
    drawn["categories"].add_argument("--scores", type=Path, nargs="+", required=True, help="of the methods, in order")
    for name in ("panel", "categories"):
        drawn[name].add_argument("--methods", nargs="+", required=True)
    for name in ("panel", "metrics", "sizes", "categories"):
        drawn[name].add_argument("--published", type=Path, required=True, help="for the rows' labels")
        drawn[name].add_argument("--labels", nargs="*", default=[], metavar="METHOD=LABEL", help="of rows' own")
        add_option(drawn[name])
    for name in ("difficulty", "study"):
        drawn[name].add_argument("--table", type=Path, required=True, help="JSON of the table")
        drawn[name].add_argument("--metrics", type=Path, required=True, help="of a row: which metrics there are")
    add_option(drawn["difficulty"])
    drawn["training"].add_argument("--curves", type=Path, nargs="+", required=True, help="of each training")
    drawn["calibration"].add_argument(
        "--calibration", type=Path, required=True, help="what evaluation.select_eta wrote"
    )
    for command in drawn.values():
        command.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    # Each imports its figure, and with it matplotlib: `--help` should answer at once.
    FIGURES[arguments.figure](arguments)


def _names(arguments: argparse.Namespace, methods: Iterable[str]) -> dict[str, str]:
    elsewhere = read_elsewhere(arguments.elsewhere)
    called = labels(methods, read_published(arguments.published), stated_labels(arguments.labels))
    return {method: named(method, label, elsewhere) for method, label in called.items()}


def _panel(arguments: argparse.Namespace) -> None:
    from evaluation.figures import panel

    layouts, names = read_layout_rows(arguments.layouts), _names(arguments, arguments.methods)
    panel.draw_panel(layouts, arguments.samples, arguments.shard_size, arguments.methods, names, arguments.out)


def _metrics(arguments: argparse.Namespace) -> None:
    from evaluation.figures import metrics

    rows = [read_json(path) for path in arguments.metrics]
    metrics.draw(rows, _names(arguments, [row["method"] for row in rows]), arguments.out)


def _sizes(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from evaluation.figures import sizes

    table = pd.concat([sizes.read_sizes(path) for path in arguments.sizes], ignore_index=True)
    sizes.draw(table, _names(arguments, table["method"].unique()), arguments.out)


def _categories(arguments: argparse.Namespace) -> None:
    from evaluation.figures import categories

    scores = dict(zip(arguments.methods, arguments.scores, strict=True))
    tables = categories.read_categories(arguments.regions, scores)
    categories.draw(tables, _names(arguments, arguments.methods), arguments.out)


def _difficulty(arguments: argparse.Namespace) -> None:
    from evaluation.figures import difficulty

    about = read_object(arguments.metrics, "the metrics of a row", "protocol")["protocol"]
    elsewhere = read_elsewhere(arguments.elsewhere)
    difficulty.draw(read_table(arguments.table), metrics_of(about), elsewhere, arguments.out)


def _training(arguments: argparse.Namespace) -> None:
    from evaluation.figures import training

    training.draw([training.read_curves(path) for path in arguments.curves], arguments.out)


def _calibration(arguments: argparse.Namespace) -> None:
    from evaluation.figures import calibration

    chosen = read_object(arguments.calibration, "a calibration of eta", "eta", "curve", "n_images", "warnings")
    calibration.draw(chosen, arguments.out)


def _study(arguments: argparse.Namespace) -> None:
    from evaluation.figures import study

    about = read_object(arguments.metrics, "the metrics of a row", "protocol")["protocol"]
    study.draw(read_table(arguments.table), metrics_of(about), arguments.out)


FIGURES = {
    "panel": _panel,
    "metrics": _metrics,
    "sizes": _sizes,
    "categories": _categories,
    "difficulty": _difficulty,
    "training": _training,
    "calibration": _calibration,
    "study": _study,
}


if __name__ == "__main__":
    run(main)
