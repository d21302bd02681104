"""What each table and figure is made from: its job's inputs, by the option that takes them, and the command's other words."""

from collections.abc import Mapping

from workflow.plan import Plan

PUBLISHED = "workflow/config/published.csv"
OF_METRICS = ("distances", "adherence")
PAIRED = ("significance", "best")
# Tables that every configuration has; the reproduction only where it is asked for.
KINDS = (*OF_METRICS, *PAIRED, "cost", "seeds", "reproduction")
ALONE = ("training", "calibration")  # figures without rows

Inputs = dict[str, str | list[str]]


def clashes(plan: Plan) -> list[str]:
    """One line for each table of the configuration that has another table's name."""
    return [
        f"tables: {name} is the name of another table; choose one" for name in plan.settings.tables if name in KINDS
    ]


def metrics_of(plan: Plan, rows: list[str]) -> list[str]:
    return [plan.path.metrics(row, "test") for row in rows]


def swaps(plan: Plan) -> list[str]:
    """Of every row that is compared with a later one, where there are photos that distances are measured to."""
    return [plan.path.swaps(row) for row in sorted(plan.methods) if plan.partners(row) and plan.has_photos("test")]


def kind(plan: Plan, table: str) -> str:
    """The verb of evaluation.tables."""
    return "headline" if table in plan.settings.tables else table


def elsewhere(plan: Plan) -> list[str]:
    """Words for the shell that mark the rows which other code made; none where there are none."""
    rows = [f"{row}={by}" for row, by in plan.elsewhere.items()]
    return ["--elsewhere", *rows] if rows else []


def table_inputs(plan: Plan, table: str) -> Inputs:
    """Of a table that is not paired."""
    if table in OF_METRICS:
        return {"metrics": metrics_of(plan, plan.rows)}
    if table == "seeds":
        return {"row": [path for row in _repeated(plan) for path in metrics_of(plan, [row, *plan.repeats_of(row)])]}
    if table == "cost":
        shards = plan.shards("test")
        return {
            "shards": [
                plan.path.samples(row, "test", shard) for row in sorted(plan.sampled_methods) for shard in shards
            ]
        }
    found: Inputs = {"published": PUBLISHED, "significance": plan.path.table("significance", "json")}
    if table == "reproduction":
        return {"metrics": metrics_of(plan, plan.rows)} | found
    rows = plan.runnable(plan.settings.tables[table])
    return found | {
        "metrics": metrics_of(plan, rows),
        "specs": [plan.path.spec(row) for row in rows if row in plan.sampled_methods],
        "cost": plan.path.table("cost", "json"),
        "best": plan.path.table("best", "json"),
    }


def table_options(plan: Plan, table: str) -> list[str]:
    """Words for the shell, of a table that is not paired."""
    if table == "seeds":
        rows = [(row, metrics_of(plan, [row, *plan.repeats_of(row)])) for row in _repeated(plan)]
        return [*(word for row, files in rows for word in ("--row", row, *files)), *elsewhere(plan)]
    inputs = table_inputs(plan, table)
    words = [*_options(inputs), *elsewhere(plan)]
    if "published" in inputs:
        words.append(f"--caveat={plan.settings.caveat}")
    if table in plan.settings.tables:
        words += ["--name", table, "--mark-against", plan.settings.alignment.method, "--data", plan.path.config]
        words += ["--rows", *plan.shown(plan.settings.tables[table]), "--labels", *plan.labels]
    return words


def _repeated(plan: Plan) -> list[str]:
    return [row for row in plan.methods if plan.repeats_of(row)]


def paired_options(plan: Plan, table: str) -> list[str]:
    """Words for the shell, of a table of pairs of rows."""
    words = elsewhere(plan)
    for row in sorted(plan.methods):
        words += ["--row", plan.path.metrics(row, "test"), plan.path.scores(row, "test")]
    if table == "significance":
        return [*words, "--against", *plan.compared_with]
    for name, rows in plan.settings.tables.items():
        words += ["--table", name, *(row for row in plan.runnable(rows) if row in plan.methods)]
    return words


def figure_inputs(plan: Plan, figure: str) -> Inputs:
    rows, shards = plan.rows, plan.shards("test")
    found: dict[str, Inputs] = {
        "panel": {
            "layouts": plan.path.layouts("test"),
            "images": [plan.path.samples(row, "test", shard) for row in sorted(plan.pictured) for shard in shards],
        },
        "metrics": {"metrics": metrics_of(plan, rows)},
        "sizes": {"sizes": [plan.path.sizes(row) for row in rows]},
        "categories": {
            "regions": [plan.path.regions("test", shard) for shard in shards],
            "scores": [plan.path.scores(row, "test") for row in rows],
        },
        "training": {"curves": plan.curves},
        "calibration": {"calibration": plan.path.calibration},
    }
    return found[figure] if figure in ALONE else found[figure] | {"published": PUBLISHED}


def figure_options(plan: Plan, figure: str) -> list[str]:
    """Words for the shell. The panel finds its images by the shards that its layouts are in."""
    words = _options({name: paths for name, paths in figure_inputs(plan, figure).items() if name != "images"})
    words += [] if figure in ALONE else ["--labels", *plan.labels, *elsewhere(plan)]
    methods = {"panel": plan.pictured, "categories": plan.rows}
    words += ["--methods", *methods[figure]] if figure in methods else []
    if figure == "panel":
        words += ["--samples", f"{plan.path.folder}/samples", "--shard-size", str(plan.settings.data.shard_size)]
    return [*words, "--key", "eta"] if figure == "calibration" else words


def _options(inputs: Mapping[str, str | list[str]]) -> list[str]:
    pairs = [(option, [paths] if isinstance(paths, str) else paths) for option, paths in inputs.items()]
    return [word for option, paths in pairs for word in (f"--{option}", *paths)]
