"""What of the published tables a run reproduces: every value, and every difference that the paper's claims rest on.

    python -m evaluation.reproduce --tables tables/table1.csv tables/table2.csv --significance tables/significance.csv \
        --caveat "..." --out tables/reproduction

writes reproduction.csv and reproduction.md. A caveat says why the run is none that could reproduce anything: then the
numbers stand side by side without a verdict.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.compare import LEVEL_OF_TEST, verdict
from evaluation.files import InputError, write_text
from evaluation.printing import number, write_csv
from evaluation.program import run
from evaluation.tables import METRICS

# The published values have errors of their own, which are not published: taken to be as large as ours.
LIMIT = 1.96 * math.sqrt(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="CSVs of evaluation.tables")
    parser.add_argument("--significance", type=Path, required=True, help="the CSV of evaluation.compare")
    parser.add_argument("--caveat", default="", help="why this run can reproduce nothing")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    tables = [_read(path) for path in arguments.tables]
    compared = reproduce(tables, _read(arguments.significance), meaningful=not arguments.caveat)
    write_csv(arguments.out.with_suffix(".csv"), compared)
    write_text(arguments.out.with_suffix(".md"), markdown(compared, tables, arguments.caveat))


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{path}: not a table ({error})") from None


def reproduce(tables: list[pd.DataFrame], significance: pd.DataFrame, meaningful: bool) -> pd.DataFrame:
    """One line a published value, and one a published difference between two rows of one table, that was measured.

    `minus` is empty for a value. `in_se` is ours minus the published in our standard errors.
    """
    lines = [line for table in tables for line in (*_values(table), *_differences(table, significance))]
    columns = ["method", "minus", "metric", "ours", "se", "published", "in_se", "verdict"]
    # The two tables share rows: HCMA and GLIGEN are published, and measured, once.
    found = pd.DataFrame(lines, columns=columns).drop_duplicates(["method", "minus", "metric"], ignore_index=True)
    return found if meaningful else found.assign(verdict="meaningless")


def _values(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        for metric in METRICS:
            line = _line(row[metric], row[f"{metric}_se"], row[f"published_{metric}"])
            if line:
                found = "agrees" if abs(line["in_se"]) < LIMIT else "differs"
                yield {"method": row["method"], "minus": "", "metric": metric} | line | {"verdict": found}


def _differences(table: pd.DataFrame, significance: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Of two rows the later in the table minus the earlier, as the papers put their own method last."""
    published, place = table.set_index("method"), {name: place for place, name in enumerate(table["method"])}
    known = significance[significance["metric"].isin(METRICS)]
    for row in known[known["method"].isin(place) & known["against"].isin(place)].to_dict("records"):
        earlier, later = sorted((row["method"], row["against"]), key=place.__getitem__)
        ours = row["difference"] if later == row["method"] else -row["difference"]
        name = f"published_{row['metric']}"
        line = _line(ours, row["se"], published.loc[later, name] - published.loc[earlier, name])
        if line:
            names = {"method": later, "minus": earlier, "metric": row["metric"]}
            yield names | line | {"verdict": _sign_and_size(line, row["p_holm"])}


def _line(ours: float, se: float, published: float) -> dict[str, float] | None:
    if pd.isna(ours) or pd.isna(published) or not se > 0:
        return None
    return {"ours": ours, "se": se, "published": published, "in_se": (ours - published) / se}


def _sign_and_size(line: dict[str, float], p_holm: float) -> str:
    size = "size agrees" if abs(line["in_se"]) < LIMIT else "size differs"
    if verdict(p_holm) != "yes":
        return f"sign cannot be told, {size}"
    return f"{'same' if line['ours'] * line['published'] > 0 else 'opposite'} sign, {size}"


def markdown(compared: pd.DataFrame, tables: list[pd.DataFrame], caveat: str) -> str:
    """Values, then differences, and how to read them."""
    warning = f"**This comparison is meaningless and says nothing about the paper.** {caveat}\n"
    parts = ["**Against the published values**\n"] + [warning] * bool(caveat)
    for title, rows in (
        ("Value", compared[compared["minus"] == ""]),
        ("Difference", compared[compared["minus"] != ""]),
    ):
        parts += [f"| {title} | Metric | Ours | Published | In our standard errors | |", "|---|---|---:|---:|---:|---|"]
        for line in rows.to_dict("records"):
            name = " - ".join(filter(None, (line["method"], line["minus"])))
            ours, apart = number(line["ours"], se=line["se"]), number(line["in_se"], 1, sign="+")
            cells = f"{ours} | {number(line['published'])} | {apart}"
            parts.append(f"| {name} | {line['metric']} | {cells} | {line['verdict']} |")
        parts.append("")
    images = sorted({int(n) for table in tables for n in table["n_images"] if n})
    notes = (
        f"Ours of {', '.join(map(str, images))} images a row; the paper's of 30000. Agrees: nearer than {LIMIT:.2f} of our "
        "standard errors, the published value being taken to have an error as large as ours, since the paper gives none.",
        "Differences are paired by image, of two rows the later in the table minus the earlier; ours has a sign where "
        f"Holm's p is below {LEVEL_OF_TEST}. Lower is better for fid, higher for clip.",
    )
    parts += [f"- {note}" for note in notes]
    return "\n".join([*parts, ""])


if __name__ == "__main__":
    run(main)
