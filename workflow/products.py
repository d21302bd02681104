"""What each table and figure is made from: its job's inputs, by the option that takes them, and the command's other words."""

from collections.abc import Mapping

from workflow.plan import Plan

PUBLISHED = "workflow/config/published.csv"
OF_METRICS = ("distances", "adherence")
PAIRED = ("significance", "best")
# Tables that every configuration has; the reproduction only where it is asked for.
KINDS = (*OF_METRICS, *PAIRED, "cost", "seeds", "reproduction")
ALONE = ("training", "calibration")  # figures without rows
STUDY = "study"  # table and figure of the study

Inputs = dict[str, str | list[str]]


def clashes(plan: Plan) -> list[str]:
    """One line for each table of the configuration that has another table's name."""
    return [
        f"tables: {name} is the name of another table; choose one"
        for name in plan.settings.tables
        if name in (*KINDS, STUDY)
    ]


def metrics_of(plan: Plan, rows: list[str]) -> list[str]:
    return [plan.path.metrics(row, "test") for row in rows]


def swaps(plan: Plan) -> list[str]:
    """Of every row that is compared with a later one, where there are photos that distances are measured to."""
    return [plan.path.swaps(row) for row in sorted(plan.methods) if plan.partners(row) and plan.has_photos("test")]


def swapped(plan: Plan, rows: list[str]) -> str:
    """Words for the shell: the rows whose images are swapped with those of the first."""
    return " ".join(
        f"--row {row} {plan.path.summary(row, 'test')} --across {row} {plan.path.across(row, 'test')}" for row in rows
    )


def kind(plan: Plan, table: str) -> str:
    """The verb of evaluation.tables."""
    return "headline" if table in plan.settings.tables else table


def table_inputs(plan: Plan, table: str) -> Inputs:
    """Of a table that is not paired."""
    if table in OF_METRICS:
        return {"metrics": metrics_of(plan, plan.rows)}
    if table == "seeds":
        return {"row": metrics_of(plan, [*plan.methods, *plan.repeats])}
    if table == "cost":
        shards = plan.shards("test")
        return {"shards": [plan.path.samples(row, "test", shard) for row in sorted(plan.methods) for shard in shards]}
    found: Inputs = {"published": PUBLISHED, "significance": plan.path.table("significance", "json")}
    if table == "reproduction":
        return {"metrics": metrics_of(plan, plan.rows)} | found
    rows = plan.runnable(plan.settings.tables[table])
    return found | {
        "metrics": metrics_of(plan, rows),
        "specs": [plan.path.spec(row) for row in rows if row in plan.methods],
        "cost": plan.path.table("cost", "json"),
        "best": plan.path.table("best", "json"),
    }


def table_options(plan: Plan, table: str) -> list[str]:
    """Words for the shell, of a table that is not paired."""
    if table == "seeds":
        rows = [(row, metrics_of(plan, [row, *plan.repeats_of(row)])) for row in plan.methods]
        return [word for row, files in rows for word in ("--row", row, *files)]
    inputs = table_inputs(plan, table)
    words = _options(inputs)
    if "published" in inputs:
        words.append(f"--caveat={plan.settings.caveat}")
    if table in plan.settings.tables:
        words += ["--name", table, "--mark-against", plan.settings.alignment.method, "--data", plan.path.config]
        words += ["--rows", *plan.shown(plan.settings.tables[table]), "--labels", *plan.labels]
    return words


def paired_options(plan: Plan, table: str) -> list[str]:
    """Words for the shell, of a table of pairs of rows."""
    words: list[str] = []
    for row in sorted(plan.methods):
        words += ["--row", plan.path.metrics(row, "test"), plan.path.scores(row, "test")]
    if table == "significance":
        return [*words, "--against", *plan.compared_with]
    for name, rows in plan.settings.tables.items():
        words += ["--table", name, *(row for row in plan.runnable(rows) if row in plan.methods)]
    return words


def study_rows(plan: Plan) -> list[str]:
    """The readings, and what they are compared with."""
    against = plan.settings.study.against if plan.settings.study else []
    return [*plan.readings, *against]


def study_inputs(plan: Plan) -> Inputs:
    rows, shards = study_rows(plan), plan.shards("test")
    compared = [row for row, others in plan.compared.items() if others]
    return {
        "metrics": metrics_of(plan, [*rows, *plan.retrainings]),
        "scores": [plan.path.scores(row, "test") for row in rows],
        "swaps": [plan.path.readings(row) for row in compared] if plan.has_photos("test") else [],
        "shards": [plan.path.samples(row, "test", shard) for row in plan.readings for shard in shards],
    }


def study_options(plan: Plan) -> list[str]:
    """Words for the shell, of the table of the study."""
    inputs, methods = study_inputs(plan), plan.settings.methods
    words: list[str] = ["--base", next(iter(plan.readings), "")]
    for row in study_rows(plan):
        words += ["--row", plan.path.metrics(row, "test"), plan.path.scores(row, "test")]
        label = plan.readings[row].label if row in plan.readings else methods[row].label
        words += ["--labels", f"{row}={label}"] * bool(label)
    for row, others in plan.compared.items():
        words += ["--compare", row, *others] if others else []
        repeats = metrics_of(plan, plan.retrainings_of(row))
        words += ["--trainings", row, *repeats] if repeats else []
    words += ["--metrics", *plan.settings.study.metrics] if plan.settings.study and plan.settings.study.metrics else []
    return [*words, "--swaps", *inputs["swaps"], "--shards", *inputs["shards"], f"--caveat={plan.settings.caveat}"]


def figure_inputs(plan: Plan, figure: str) -> Inputs:
    rows, shards = plan.rows, plan.shards("test")
    found: dict[str, Inputs] = {
        "panel": {
            "layouts": plan.path.layouts("test"),
            "images": [plan.path.samples(row, "test", shard) for row in sorted(rows) for shard in shards],
        },
        "metrics": {"metrics": metrics_of(plan, rows)},
        "sizes": {"sizes": [plan.path.sizes(row) for row in rows]},
        "categories": {
            "regions": [plan.path.regions("test", shard) for shard in shards],
            "scores": [plan.path.scores(row, "test") for row in rows],
        },
        "training": {"curves": plan.curves},
        "calibration": {"calibration": plan.path.train("").calibration},
    }
    return found[figure] if figure in ALONE else found[figure] | {"published": PUBLISHED}


def figure_options(plan: Plan, figure: str) -> list[str]:
    """Words for the shell. The panel finds its images by the shards that its layouts are in."""
    words = _options({name: paths for name, paths in figure_inputs(plan, figure).items() if name != "images"})
    words += [] if figure in ALONE else ["--labels", *plan.labels]
    words += ["--methods", *plan.rows] if figure in ("panel", "categories") else []
    if figure == "panel":
        words += ["--samples", f"{plan.path.folder}/samples", "--shard-size", str(plan.settings.data.shard_size)]
    return [*words, "--key", "eta"] if figure == "calibration" else words


def _options(inputs: Mapping[str, str | list[str]]) -> list[str]:
    pairs = [(option, [paths] if isinstance(paths, str) else paths) for option, paths in inputs.items()]
    return [word for option, paths in pairs for word in (f"--{option}", *paths)]
