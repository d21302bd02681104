r"""Write one table as JSON, CSV, Markdown and LaTeX.

    python -m evaluation.tables headline --name table1 --rows real sd14 hcma --metrics metrics/real/test.json ... \
        --specs methods/sd14.json ... --data config.json --cost tables/cost.json --significance tables/significance.json \
        --mark-against hcma --best tables/best.json --published workflow/config/published.csv --out results/x/tables/table1 \
        [--columns image_fid ap50 ... --caption "By the detector"]
    python -m evaluation.tables significance --against hcma gligen_sd --row metrics/hcma/test.json scores/hcma/test.parquet \
        --row ... --swaps swaps/hcma.json ... --out tables/significance
    python -m evaluation.tables best --table table1 sd14 gligen_sd hcma --table ... --row ... --swaps ... --out tables/best \
        [--columns table1 image_fid ap50 ...]
    python -m evaluation.tables difficulty --name difficulty --layouts layouts/test.jsonl --by objects size overlap tags \
        --row real metrics/real/test.json scores/real/test.parquet --row hcma ... --against gligen_sd --out tables/difficulty
    python -m evaluation.tables distances --metrics metrics/sd14/test.json metrics/hcma/test.json ... --out tables/distances
    python -m evaluation.tables adherence --metrics ... --out tables/adherence
    python -m evaluation.tables judges --metrics ... --out tables/judges
    python -m evaluation.tables agreement --row metrics/real/test.json scores/real/test.parquet --row ... --out tables/agreement
    python -m evaluation.tables cost --shards samples/sd14/test/0000.zip samples/hcma/test/0000.zip ... --out tables/cost
    python -m evaluation.tables seeds --row hcma metrics/hcma/test.json metrics/hcma_seed_1/test.json --out tables/seeds
    python -m evaluation.tables reproduction --metrics ... --published workflow/config/published.csv \
        --significance tables/significance.json --caveat "..." --out tables/reproduction
    python -m evaluation.tables claims --metrics ... --published workflow/config/published.csv \
        --claims workflow/config/claims.csv --significance tables/significance.json --caveat "..." --out tables/claims
    python -m evaluation.tables reproduction_of --run results/a --published workflow/config/published.csv --out ...
    python -m evaluation.tables study --base hcma --row metrics/hcma/test.json scores/hcma/test.parquet --row ... \
        --compare hcma_tau_0_5 hcma gligen_sd --compare ... --swaps study/swaps/hcma_tau_0_5.json ... --out tables/study
    python -m evaluation.tables runs --first results/a --second b.zip --out results/compare/a-b

writes {out}.json, .csv, .md and .tex.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import difficulty
from evaluation.breakdown import breakdown
from evaluation.bundles import run_folder
from evaluation.feature_files import first_difference
from evaluation.layouts import read_layout_rows
from evaluation.metrics import Metric, metric_of, metrics_of
from evaluation.regression import read_run
from evaluation.scores import read_scores, scored
from evaluation.significance import MeasuredRow, read_row, read_swaps
from evaluation.tables.adherence import adherence_table
from evaluation.tables.agreement import agreement_table
from evaluation.tables.claims import claims_table
from evaluation.tables.cost import cost_table
from evaluation.tables.difficulty import difficulty_table
from evaluation.tables.distances import distances_table
from evaluation.tables.elsewhere import add_option, made_by, marked, read_elsewhere
from evaluation.tables.headline import headline_table, title_of
from evaluation.tables.judges import judges_table
from evaluation.tables.published import labels, nothing_published, read_claims, read_published, stated_labels
from evaluation.tables.reproduction import reproduction_table
from evaluation.tables.runs import runs_table
from evaluation.tables.seeds import seeds_table
from evaluation.tables.significance import best_table, significance_table
from evaluation.tables.study import Studied, study_table
from evaluation.tables.table import Table, read_frame, write_table
from formats.cli import options, run
from formats.files import InputError, read_json, read_object

SIGNIFICANCE = ("metric", "method", "against", "difference", "debiased", "p_holm")  # what a reproduction takes of it


def main() -> None:
    parser = options(__doc__, "python -m evaluation.tables")
    commands = parser.add_subparsers(dest="table", required=True)
    for name, (_, add_options) in TABLES.items():
        command = commands.add_parser(name)
        add_options(command)
        add_option(command)
        command.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    build, _ = TABLES[arguments.table]
    write_table(marked(build(arguments), read_elsewhere(arguments.elsewhere)), arguments.out)


def _headline_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the table's, as in the configuration")
    parser.add_argument(
        "--rows", nargs="+", required=True, help="in order; one without metrics shows its published values"
    )
    parser.add_argument("--specs", type=Path, nargs="*", default=[], help="methods/{method}.json of the rows")
    parser.add_argument(
        "--data", type=Path, required=True, help="the configuration as JSON, or its section `data` alone"
    )
    parser.add_argument("--cost", type=Path, required=True, help="the cost table's JSON")
    parser.add_argument("--best", type=Path, required=True, help="that of the best rows")
    parser.add_argument(
        "--mark-against", required=True, help="values that are not distinguishable from this row's get a mark"
    )
    parser.add_argument("--labels", nargs="*", default=[], metavar="METHOD=LABEL", help="of rows' own")
    _title_options(parser)
    _reproduction_options(parser)


def _title_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="METRIC", help="in order; without it the table's own"
    )
    parser.add_argument("--caption", default="", help="the table's title; without it the name")


def _headline(arguments: argparse.Namespace) -> Table:
    config = read_json(arguments.data)
    methods, specs = config.get("methods", {}), [read_json(path) for path in arguments.specs]
    metrics = [read_json(path) for path in arguments.metrics]
    return headline_table(
        name=arguments.name,
        rows=arguments.rows,
        metrics=metrics,
        specs=[spec | {"source": methods.get(spec.get("method"), spec).get("source", "")} for spec in specs],
        data=config.get("data", config),
        cost=read_frame(arguments.cost, "method", "commit", "device").set_index("method"),
        significance=read_frame(arguments.significance, "against", "method", "metric", "different"),
        best=read_frame(arguments.best, "table", "method", "metric", "opposite", "different"),
        mark_against=arguments.mark_against,
        published=read_published(arguments.published),
        stated=stated_labels(arguments.labels),
        caveat=arguments.caveat,
        columns=_metrics(arguments.columns, metrics[0]["protocol"] if metrics else {}),
        caption=arguments.caption,
    )


def _metrics(names: Sequence[str], about: Mapping[str, Any]) -> list[Metric]:
    """Metrics by name, of rows whose files state `about`."""
    known = metrics_of(about) if names else {}
    return [metric_of(name, known) for name in names]


def _each_row_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--row", type=Path, nargs=2, action="append", required=True, help="metrics, scores")


def _rows_options(parser: argparse.ArgumentParser) -> None:
    _each_row_options(parser)
    parser.add_argument(
        "--swaps", type=Path, nargs="*", default=[], help="what `evaluation.metrics swap` wrote of them"
    )


def _significance_options(parser: argparse.ArgumentParser) -> None:
    _rows_options(parser)
    parser.add_argument("--against", nargs="*", default=[], help="methods that the others are compared with")


def _best_options(parser: argparse.ArgumentParser) -> None:
    _rows_options(parser)
    parser.add_argument("--table", dest="tables", nargs="+", action="append", required=True, help="its name, its rows")
    parser.add_argument(
        "--columns",
        nargs="+",
        action="append",
        default=[],
        help="a table's name, its metrics; without it the headline's",
    )


def _rows(arguments: argparse.Namespace) -> dict[str, MeasuredRow]:
    return {row.method: row for row in (read_row(*paths) for paths in arguments.row)}


def _significance(arguments: argparse.Namespace) -> Table:
    rows = _rows(arguments)
    if unknown := [name for name in arguments.against if name not in rows]:
        raise InputError(f"--against {unknown[0]}: not among the rows, {', '.join(rows)}")
    return significance_table(rows, arguments.against, read_swaps(arguments.swaps))


def _best(arguments: argparse.Namespace) -> Table:
    rows = _rows(arguments)
    tables = {name: methods for name, *methods in arguments.tables}
    for name, methods in tables.items():
        if unknown := [method for method in methods if method not in rows]:
            raise InputError(f"--table {name}: {unknown[0]} is not among the rows, {', '.join(rows)}")
    known = next(iter(rows.values())).known
    columns = {name: [metric_of(metric, known) for metric in metrics] for name, *metrics in arguments.columns}
    if unknown := [name for name in columns if name not in tables]:
        raise InputError(f"--columns {unknown[0]}: no --table of this name, which are {', '.join(tables)}")
    return best_table(tables, rows, read_swaps(arguments.swaps), columns)


def _difficulty_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the table's, as in the configuration")
    parser.add_argument("--layouts", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--row", nargs=3, action="append", required=True, metavar=("METHOD", "METRICS", "SCORES"), help="in order"
    )
    parser.add_argument("--against", help="the row that the others are tested against; without it no test")
    parser.add_argument(
        "--by", nargs="+", default=difficulty.FACETS, metavar="FACET", help="objects, size, overlap, tags, tags.NAME"
    )
    difficulty.add_options(parser)
    _title_options(parser)
    parser.add_argument("--published", type=Path, help="for the rows' labels")
    parser.add_argument("--labels", nargs="*", default=[], metavar="METHOD=LABEL", help="of rows' own")
    parser.add_argument("--caveat", default="", help="every form of the table has it")


def _difficulty(arguments: argparse.Namespace) -> Table:
    layouts = [row for path in arguments.layouts for row in read_layout_rows(path)]
    measured = {method: Path(path) for method, path, _ in arguments.row}
    if len(measured) < len(arguments.row):
        raise InputError(f"--row: a method twice, of {', '.join(method for method, *_ in arguments.row)}")
    protocol = _one_protocol(measured)
    if arguments.against and arguments.against not in measured:
        raise InputError(f"--against {arguments.against}: not among the rows, {', '.join(measured)}")
    means = scored(protocol)
    metrics = _metrics(arguments.columns, protocol) or [metric for metric in means if metric.extractor in protocol]
    if odd := [metric.name for metric in metrics if not metric.scores]:
        known = ", ".join(metric.name for metric in means)
        raise InputError(f"--columns {odd[0]}: no mean over images, boxes or labels, which are {known}")
    rows = {method: read_scores(Path(scores), layouts, metrics) for method, _, scores in arguments.row}
    bands = difficulty.chosen(arguments)
    facets = difficulty.facets(layouts, bands, arguments.by)
    published = read_published(arguments.published) if arguments.published else nothing_published()
    return difficulty_table(
        title=arguments.caption or title_of(arguments.name),
        layouts=layouts,
        facets=facets,
        bands=bands,
        metrics=metrics,
        found=breakdown(layouts, facets, metrics, rows, arguments.against, bands.least),
        called=labels(rows, published, stated_labels(arguments.labels)),
        protocol=protocol,
        against=arguments.against,
        caveat=arguments.caveat,
    )


def _one_protocol(metrics: dict[str, Path]) -> dict[str, Any]:
    """The protocol of all metrics files; raises InputError where one row was measured by another."""
    found = {name: read_object(path, "the metrics of a row", "protocol")["protocol"] for name, path in metrics.items()}
    first, *_ = found
    for name, protocol in found.items():
        if protocol != found[first]:
            gap = first_difference(protocol, found[first])
            raise InputError(f"{name}: measured otherwise than {first}: {gap}; measure both alike")
    return dict(found[first])


def _metrics_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="of the rows, in order")


def _cost_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=Path, nargs="*", default=[], help="of the rows that were sampled")


def _seeds_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--row", nargs="+", action="append", required=True, help="a row and its metrics, one a seed")


def _seeds(arguments: argparse.Namespace) -> Table:
    return seeds_table({name: [read_json(Path(path)) for path in paths] for name, *paths in arguments.row})


def _reproduction_options(parser: argparse.ArgumentParser) -> None:
    _metrics_options(parser)
    parser.add_argument("--published", type=Path, required=True, help="the published values and labels, as CSV")
    parser.add_argument("--significance", type=Path, required=True, help="the JSON of the paired differences")
    parser.add_argument(
        "--caveat", default="", help="why this run can reproduce nothing: every form of the table has it"
    )


def _reproduction(arguments: argparse.Namespace) -> Table:
    published, metrics = read_published(arguments.published), [read_json(path) for path in arguments.metrics]
    return reproduction_table(metrics, published, read_frame(arguments.significance, *SIGNIFICANCE), arguments.caveat)


def _claims_options(parser: argparse.ArgumentParser) -> None:
    _reproduction_options(parser)
    parser.add_argument("--claims", type=Path, required=True, help="all other published values, as CSV")


def _claims(arguments: argparse.Namespace) -> Table:
    claims = read_claims(arguments.claims, arguments.published)
    metrics = [read_json(path) for path in arguments.metrics]
    return claims_table(metrics, claims, read_frame(arguments.significance, *SIGNIFICANCE), arguments.caveat)


def _reproduction_of_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, help="folder or bundle of a run")
    parser.add_argument("--published", type=Path, required=True, help="the published values and labels, as CSV")


def _reproduction_of(arguments: argparse.Namespace) -> Table:
    with run_folder(arguments.run) as folder:
        config = read_object(folder / "config.json", "a run's configuration", "run")
        significance = read_frame(folder / "tables/significance.json", *SIGNIFICANCE)
        metrics = [read_json(path) for path in sorted(folder.glob("metrics/*/test.json"))]
    table = reproduction_table(metrics, read_published(arguments.published), significance, config.get("caveat", ""))
    return marked(table, {row["method"]: by for row in metrics if (by := made_by(row))})


def _study_options(parser: argparse.ArgumentParser) -> None:
    _rows_options(parser)
    parser.add_argument(
        "--base", required=True, help="the row that readings are of; readings and rows as they are shown"
    )
    parser.add_argument(
        "--compare", nargs="+", action="append", required=True, help="a reading, and rows that it is compared with"
    )
    parser.add_argument(
        "--trainings", nargs="+", action="append", default=[], help="a reading, and metrics of its further trainings"
    )
    parser.add_argument("--shards", type=Path, nargs="*", default=[], help="of the readings, for what they count")
    parser.add_argument("--metrics", nargs="*", default=[], help="their names; none: those of the paper's tables")
    parser.add_argument("--labels", nargs="*", action="extend", default=[], metavar="ROW=LABEL")
    parser.add_argument("--caveat", default="")


def _study(arguments: argparse.Namespace) -> Table:
    rows, compared = _rows(arguments), {row: others for row, *others in arguments.compare}
    for name in (arguments.base, *compared, *(other for others in compared.values() for other in others)):
        if name not in rows:
            raise InputError(f"{name}: not among the rows, {', '.join(rows)}")
    if len({len(paths) for _, *paths in arguments.trainings}) > 1:
        uneven = ", ".join(f"{row} has {len(paths)}" for row, *paths in arguments.trainings)
        raise InputError(f"--trainings: expected as many further trainings of every row, found: {uneven}")
    study = Studied(
        base=arguments.base,
        rows=rows,
        content={row: read_json(metrics) for row, (metrics, _) in zip(rows, arguments.row, strict=True)},
        labels=stated_labels(arguments.labels),
        compared=compared,
        trainings={row: [read_json(Path(path)) for path in paths] for row, *paths in arguments.trainings},
        shards=arguments.shards,
    )
    return study_table(study, arguments.metrics, read_swaps(arguments.swaps), arguments.caveat)


def _runs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--first", type=Path, required=True, help="folder or bundle of a run")
    parser.add_argument("--second", type=Path, required=True)


def _runs(arguments: argparse.Namespace) -> Table:
    with run_folder(arguments.first) as first, run_folder(arguments.second) as second:
        runs = read_run(first, name=str(arguments.first)), read_run(second, name=str(arguments.second))
        return runs_table(*runs)


Options = Callable[[argparse.ArgumentParser], None]
TABLES: dict[str, tuple[Callable[[argparse.Namespace], Table], Options]] = {
    "headline": (_headline, _headline_options),
    "significance": (_significance, _significance_options),
    "best": (_best, _best_options),
    "difficulty": (_difficulty, _difficulty_options),
    "distances": (lambda arguments: distances_table([read_json(path) for path in arguments.metrics]), _metrics_options),
    "adherence": (lambda arguments: adherence_table([read_json(path) for path in arguments.metrics]), _metrics_options),
    "judges": (lambda arguments: judges_table([read_json(path) for path in arguments.metrics]), _metrics_options),
    "agreement": (lambda arguments: agreement_table(dict(arguments.row)), _each_row_options),
    "cost": (lambda arguments: cost_table(arguments.shards, read_elsewhere(arguments.elsewhere)), _cost_options),
    "seeds": (_seeds, _seeds_options),
    "reproduction": (_reproduction, _reproduction_options),
    "reproduction_of": (_reproduction_of, _reproduction_of_options),
    "claims": (_claims, _claims_options),
    "study": (_study, _study_options),
    "runs": (_runs, _runs_options),
}


if __name__ == "__main__":
    run(main)
