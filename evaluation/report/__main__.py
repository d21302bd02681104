r"""The whole run as one page that opens from disk: tables, figures, and every layout's images side by side.

    python -m evaluation.report --run miniature --caveat "..." --tables tables/table1.json tables/cost.json ... \
        --figures figures/panel.png ... --layouts layouts/test.jsonl --scores results/miniature/scores \
        --methods real gligen_sd hcma --compare hcma gligen_sd --strips report/strips/0000.json ... --out report.html

Of a figure given as SVG and as PNG the SVG is shown.
Strips (evaluation.contact_sheets) are embedded as long as all of them take at most --embed bytes; otherwise the page loads
them, a layout at a time, from where they lie, and has to be moved together with that folder.
"""

from pathlib import Path

from evaluation import difficulty
from evaluation.contact_sheets import read_index
from evaluation.layouts import read_layout_rows
from evaluation.report.contact_sheets import strip_sources
from evaluation.report.figures import read_figures
from evaluation.report.packed import pack_facets, pack_layouts, pack_scores
from evaluation.report.tables import pack_table
from evaluation.report.template import fill
from evaluation.scores import read_scores, scored
from evaluation.tables.elsewhere import add_option, named, read_elsewhere
from formats.cli import options, run
from formats.files import InputError, read_object, write_text

EMBED = 24_000_000


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--caveat", default="", help="a sentence above everything")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="JSON files of evaluation.tables, in order")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="SVG and PNG files, in order")
    parser.add_argument("--layouts", type=Path, required=True, help="all layouts of the split")
    parser.add_argument("--scores", type=Path, required=True, help="folder of {method}/test.parquet")
    parser.add_argument(
        "--metrics", type=Path, help="a row's metrics, which say by which further networks there are scores"
    )
    parser.add_argument("--methods", nargs="+", required=True, help="left to right")
    parser.add_argument(
        "--compare", nargs=2, required=True, metavar="METHOD", help="the difference that is shown first"
    )
    parser.add_argument(
        "--strips", type=Path, nargs="+", required=True, help="indices of evaluation.contact_sheets, all shards"
    )
    difficulty.add_options(parser)
    add_option(parser)
    parser.add_argument("--embed", type=int, default=EMBED, help=f"bytes of strips that are embedded at most ({EMBED})")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    layouts, methods = read_layout_rows(arguments.layouts), arguments.methods
    if unknown := [name for name in arguments.compare if name not in methods]:
        raise InputError(f"--compare {unknown[0]}: not among the methods, {', '.join(methods)}")
    about = read_object(arguments.metrics, "the metrics of a row", "protocol")["protocol"] if arguments.metrics else {}
    metrics = scored(about)
    scores = [read_scores(arguments.scores / method / "test.parquet", layouts, metrics) for method in methods]
    strips = [read_index(path, methods) for path in arguments.strips]
    elsewhere = read_elsewhere(arguments.elsewhere)
    called = {method: named(method, method, elsewhere) for method in methods}
    content = {
        "run": arguments.run,
        "caveat": arguments.caveat,
        "tables": [pack_table(path, arguments.caveat) for path in arguments.tables],
        "figures": read_figures(arguments.figures),
        "methods": [called[method] for method in methods],
        "compare": [called[method] for method in arguments.compare],
        "layouts": pack_layouts(layouts),
        "facets": pack_facets(difficulty.facets(layouts, difficulty.chosen(arguments))),
        "scores": pack_scores(scores, metrics),
        "strips": strip_sources(strips, [row["id"] for row in layouts], arguments.embed, arguments.out),
    }
    write_text(arguments.out, fill(content))


if __name__ == "__main__":
    run(main)
