"""Keep a finished miniature run as the reference, and show it in README and docs: tables, panel, stage times, bars.

    python -m workflow.scripts.reference --run results/miniature --total-seconds 600
    python -m workflow.scripts.reference --run results/miniature --study readings --config readings.yaml
    python -m workflow.scripts.reference --run results/miniature --extras

The second keeps the study of a run instead, under a name, with the configuration that it was made with; the third what
workflow/config/extras.yaml adds to a run: the table of the family, its adherence, its cost and the panel. The pages' blocks
between <!-- NAME --> and <!-- /NAME --> are rewritten; a test compares them with the reference.
"""

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evaluation.tables.headline import MARK
from evaluation.tables.table import Table, markdown_grid, printed, read_table
from formats.cli import options, run
from formats.files import replacing, write_json

REFERENCE = Path("results/reference/miniature")
READINGS = Path("results/reference/readings")
EXTRAS = Path("results/reference/extras")
TABLES = ("table1", "table2", "difficulty", "cost", "adherence", "distances", "best", "significance")
# The Markdown is for people; programs read the JSON.
KEPT = [*(f"tables/{name}.{form}" for name in TABLES for form in ("json", "md")), "figures/panel.png"]
FAMILY = [
    *(f"tables/{name}.{form}" for name in ("family", "adherence", "cost") for form in ("json", "md")),
    "figures/panel.png",
]
CARD = Path("weights/miniature/weights.json")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--run", type=Path, default=Path("results/miniature"))
    parser.add_argument("--total-seconds", type=float, help="wall time of the whole `make demo`")
    parser.add_argument("--study", help="keep the run's study, under this name")
    parser.add_argument("--config", type=Path, help="of --study: the overlay that it was made with")
    parser.add_argument("--extras", action="store_true", help="keep the tables of the family")
    arguments = parser.parse_args()
    if arguments.extras:
        keep({str(EXTRAS / Path(name).name): arguments.run / name for name in FAMILY})
    elif arguments.study and arguments.config:
        keep({f"{READINGS}/{arguments.study}.yaml": arguments.config} | study_files(arguments.run, arguments.study))
    elif arguments.total_seconds and not arguments.study:
        keep({str(REFERENCE / name): arguments.run / name for name in (*KEPT, "train/calibration.json")})
        times = {"total": arguments.total_seconds, "cores": os.cpu_count(), "stages": stage_seconds(arguments.run)}
        write_json(REFERENCE / "times.json", times)
    else:
        parser.error("give --total-seconds, --extras, or --study with --config")
    for page, blocks in BLOCKS.items():
        text = Path(page).read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = replaced(text, name, block(), page)
        with replacing(page) as beside:
            beside.write_text(text, encoding="utf-8")


def keep(files: dict[str, Path]) -> None:
    """Copy files to where they are kept."""
    for name, source in files.items():
        with replacing(Path(name)) as beside:
            shutil.copyfile(source, beside)


def study_files(run: Path, name: str) -> dict[str, Path]:
    """Where a run's study is kept under a name: its table and figure."""
    files = {form: run / f"tables/study.{form}" for form in ("json", "md")} | {"png": run / "figures/study.png"}
    return {f"{READINGS}/{name}.{form}": path for form, path in files.items()}


def stage_seconds(run: Path) -> dict[str, dict[str, float]]:
    """Jobs and wall seconds of every rule, from Snakemake's benchmarks."""
    stages: dict[str, dict[str, float]] = defaultdict(lambda: {"jobs": 0, "seconds": 0.0})
    for path in sorted((run / "benchmarks").rglob("*.jsonl")):
        rule = path.relative_to(run / "benchmarks").parts[0].removesuffix(".jsonl")
        stages[rule]["jobs"] += 1
        stages[rule]["seconds"] += float(json.loads(path.read_text().splitlines()[0])["s"])
    return {rule: {"jobs": row["jobs"], "seconds": round(row["seconds"], 1)} for rule, row in stages.items()}


def replaced(text: str, name: str, block: str, page: str) -> str:
    """The text of a page with the block of that name rewritten."""
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"error: {page} has no block {name}")
    return pattern.sub(lambda _: f"<!-- {name} -->\n{block}\n<!-- /{name} -->", text)


def results_block() -> str:
    """Both tables and the panel of the reference."""
    tables = [read_table(REFERENCE / f"tables/table{number}.json") for number in (1, 2)]
    notes = dict.fromkeys(note for table in tables for note in (table.caveat, *table.notes) if note)
    grids = [f"**{table.title}**\n\n{_grid(table)}" for table in tables]
    panel = f"![The same layouts across all methods](../{REFERENCE}/figures/panel.png)"
    return "\n\n".join([*grids, "\n".join(f"- {note}" for note in notes), panel])


def short_block() -> str:
    """Table 1 of the reference alone, with the two sentences that reading it takes."""
    table = read_table(REFERENCE / "tables/table1.json")
    notes = [note for note in table.notes if note.startswith(("Two samples", MARK))]
    return f"{_grid(table)}\n\n± is one standard error. {' '.join(notes)}"


def _grid(table: Table) -> str:
    ((_, columns, cells),) = printed(table)
    return markdown_grid(columns, cells)


def times_block() -> str:
    """What each stage took, in the run the reference is from."""
    times = json.loads((REFERENCE / "times.json").read_text())
    rows = sorted(times["stages"].items(), key=lambda item: -item[1]["seconds"])
    lines = [f"| `{rule}` | {row['jobs']} | {row['seconds']:.0f} |" for rule, row in rows]
    head = f"{times['total'] / 60:.1f} minutes in all on {times['cores']} cores, after installation; jobs run side by side:"
    return "\n".join([head, "", "| stage | jobs | seconds, summed over jobs |", "|---|---:|---:|", *lines])


def answers_block() -> str:
    """What the readings gave: their values, and what they are over GLIGEN."""
    parts = []
    for view, columns, cells in printed(read_table(READINGS / "readings.json")):
        if view.lead in ("Values:", "Minus gligen_sd:"):
            parts += [view.lead, markdown_grid(columns, cells)]
    return "\n\n".join(parts)


def family_block() -> str:
    """The metrics of the family, and how well its objects lie in their boxes."""
    table, adherence = read_table(EXTRAS / "family.json"), read_table(EXTRAS / "adherence.json")
    ((view, shown, _),) = printed(table)
    (ap50,) = (column for column in adherence.columns if column.key == "ap50")
    found = {row["method"].value: row["ap50"] for row in adherence.rows}
    rows = [row | {"ap50": found[row["method"].value]} for row in table.rows]
    view = replace(view, columns=[*(column.key for column in shown), "ap50"])
    return _grid(replace(table, columns=[*table.columns, ap50], rows=rows, views=[view]))


def bars_block() -> str:
    """The bars of the weights' card."""
    bars = json.loads(CARD.read_text())["bars"]
    return "\n".join(
        ["| what the judge reads | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in bars.items())]
    )


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"SHORT": short_block},
    "docs/results.md": {"RESULTS": results_block, "TIMES": times_block},
    "docs/miniature.md": {"BARS": bars_block},
    "docs/reproduction.md": {"ANSWERS": answers_block},
    "docs/methods.md": {"FAMILY": family_block},
}


if __name__ == "__main__":
    run(main)
