"""What each table and figure is made from: its job's inputs, by the option that takes them, and the command's other words."""

from collections.abc import Mapping

from workflow.overlays import CLAIMS, PUBLISHED
from workflow.plan import FIGURES, OF_TRAINING, Plan, called

HELD = ("reproduction", "claims")  # against published values
OF_METRICS = ("distances", "adherence", "judges")
PAIRED = ("significance", "best")
# Tables beside those of the configuration; which of them it has, its plan says.
KINDS = (*OF_METRICS, *PAIRED, "agreement", "cost", "seeds", *HELD)
BY_DIFFICULTY = "difficulty"  # the verb of tables and figures of the configuration that are broken down
STUDY = "study"  # table and figure of the study

Inputs = dict[str, str | list[str]]


def clashes(plan: Plan) -> list[str]:
    """One line for each table of the configuration that has another table's name, or whose figure has another figure's, and for
    each row that the run makes of another and that has a third one's name.
    """
    taken = {name: "table" for name in plan.settings.tables if name in (*KINDS, STUDY)}
    taken |= {name: "figure" for name in plan.by_difficulty if name in (*FIGURES, *OF_TRAINING, STUDY)}
    named = [f"tables: {name} is the name of another {what}; choose one" for name, what in taken.items()]
    return named + _row_clashes(plan)


def _row_clashes(plan: Plan) -> list[str]:
    """Such as a row `hcma_seed_3` beside that of `hcma` with seed 3: its files would be either's."""
    known = {row: f"methods.{row}" for row in plan.settings.methods}
    known |= {row: f"the reading {row} of the study" for row in plan.readings if row not in known}
    made = [(name, f"{of.row} with another seed or place of images") for name, of in plan.repeats.items()]
    made += [(name, f"{of.row} with a candidate for eta") for name, of in plan.candidates.items()]
    made += [(name, f"{of.row} with another training seed") for name, of in plan.retrainings.items()]
    return [f"{known[name]}: {what} is called {name} too; choose another name" for name, what in made if name in known]


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
    if table in plan.by_difficulty:
        return BY_DIFFICULTY
    return "headline" if table in plan.settings.tables else table


def figure_kind(plan: Plan, figure: str) -> str:
    """The verb of evaluation.figures."""
    return BY_DIFFICULTY if figure in plan.by_difficulty else figure


def against_published(plan: Plan, kind: str) -> list[str]:
    """What this run's rows, or another's, are held against."""
    if other := plan.settings.reproduced:
        return [f"results/compare/{called(other)}-reproduction.{kind}"]
    return [plan.path.table(name, kind) for name in HELD]


def elsewhere(plan: Plan) -> list[str]:
    """Words for the shell that mark the rows which other code made; none where there are none."""
    rows = [f"{row}={by}" for row, by in plan.elsewhere.items()]
    return ["--elsewhere", *rows] if rows else []


def table_inputs(plan: Plan, table: str) -> Inputs:
    """Of a table that is not paired."""
    if table in OF_METRICS:
        return {"metrics": metrics_of(plan, plan.rows)}
    if table == "agreement":
        return {"row": metrics_of(plan, plan.rows), "scores": [plan.path.scores(row, "test") for row in plan.rows]}
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
    if table in HELD:
        claims: Inputs = {"claims": CLAIMS} if table == "claims" else {}
        return {"metrics": metrics_of(plan, plan.rows)} | found | claims
    rows = plan.runnable(plan.rows_of(table))
    if table in plan.by_difficulty:
        found = {"layouts": plan.path.layouts("test"), "metrics": metrics_of(plan, rows), "published": PUBLISHED}
        return found | {"scores": [plan.path.scores(row, "test") for row in rows]}
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
    if table in plan.by_difficulty:
        return [*_difficulty_options(plan, table), *elsewhere(plan)]
    inputs = table_inputs(plan, table)
    if table == "agreement":
        pairs = zip(inputs["row"], inputs["scores"], strict=True)
        return [*(word for metrics, scores in pairs for word in ("--row", metrics, scores)), *elsewhere(plan)]
    words = [*_options(inputs), *elsewhere(plan)]
    if "published" in inputs:
        words.append(f"--caveat={plan.settings.caveat}")
    if table in plan.settings.tables:
        words += ["--name", table, "--mark-against", plan.settings.compare_with[0], "--data", plan.path.config]
        words += ["--rows", *plan.rows_of(table), "--labels", *plan.labels, *_title_options(plan, table)]
    return words


def _repeated(plan: Plan) -> list[str]:
    return [row for row in plan.methods if plan.repeats_of(row)]


def _title_options(plan: Plan, table: str) -> list[str]:
    stanza = plan.settings.tables[table]
    columns = ["--columns", *stanza.columns] if stanza.columns else []
    return columns + ([f"--caption={stanza.caption}"] if stanza.caption else [])


def _difficulty_options(plan: Plan, table: str) -> list[str]:
    words = ["--name", table, "--layouts", plan.path.layouts("test"), "--published", PUBLISHED]
    for row in plan.runnable(plan.rows_of(table)):
        words += ["--row", row, plan.path.metrics(row, "test"), plan.path.scores(row, "test")]
    words += ["--against", against] if (against := plan.against(table)) else []
    words += ["--by", *(plan.settings.tables[table].by or []), *plan.bands, *_title_options(plan, table)]
    return [*words, "--labels", *plan.labels, f"--caveat={plan.settings.caveat}"]


def paired_options(plan: Plan, table: str) -> list[str]:
    """Words for the shell, of a table of pairs of rows."""
    words = elsewhere(plan)
    for row in sorted(plan.methods):
        words += ["--row", plan.path.metrics(row, "test"), plan.path.scores(row, "test")]
    if table == "significance":
        return [*words, "--against", *plan.compared_with]
    for name, stanza in plan.settings.tables.items():
        if not stanza.by:
            words += ["--table", name, *(row for row in plan.runnable(plan.rows_of(name)) if row in plan.methods)]
            words += ["--columns", name, *stanza.columns] if stanza.columns else []
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
        "swaps": [plan.path.study_swaps(row) for row in compared] if plan.has_photos("test") else [],
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
    if figure in plan.by_difficulty:
        return {"table": plan.path.table(figure, "json"), "metrics": plan.path.metrics(plan.rows[0], "test")}
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
        "calibration": {"calibration": plan.path.train("").calibration},
    }
    return found[figure] if figure in OF_TRAINING else found[figure] | {"published": PUBLISHED}


def figure_options(plan: Plan, figure: str) -> list[str]:
    """Words for the shell. The panel finds its images by the shards that its layouts are in."""
    words = _options({name: paths for name, paths in figure_inputs(plan, figure).items() if name != "images"})
    words += [] if figure in (*OF_TRAINING, *plan.by_difficulty) else ["--labels", *plan.labels]
    words += [] if figure in OF_TRAINING else elsewhere(plan)
    methods = {"panel": plan.pictured, "categories": plan.rows}
    words += ["--methods", *methods[figure]] if figure in methods else []
    if figure == "panel":
        words += ["--samples", f"{plan.path.folder}/samples", "--shard-size", str(plan.settings.data.shard_size)]
    return words


def _options(inputs: Mapping[str, str | list[str]]) -> list[str]:
    pairs = [(option, [paths] if isinstance(paths, str) else paths) for option, paths in inputs.items()]
    return [word for option, paths in pairs for word in (f"--{option}", *paths)]
