"""What of the published tables a run reproduces: every value, and every difference that the paper's claims rest on.

    python -m evaluation.reproduce --tables tables/table1.csv tables/table2.csv --distances tables/distances.csv \
        --significance tables/significance.csv --caveat "..." --out tables/reproduction

writes reproduction.csv and reproduction.md. A published Frechet distance stands against both of ours, where both were
measured: the paper does not say how it resized, and GLIGEN's values are by pytorch-fid. A caveat says why the run is none
that could reproduce anything: then the numbers stand side by side without a verdict.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.compare import DEBIASED, LEVEL_OF_TEST, WHAT_IS_TESTED, opposite, verdict, without_bias
from evaluation.printing import number, write_csv
from evaluation.statistics import LEVELS
from formats.cli import run
from formats.files import InputError, write_text

# Metric of ours -> the published one that it stands against.
READINGS = {
    "image_fid": "image_fid",
    "image_fid_legacy": "image_fid",
    "image_clip": "image_clip",
    "region_fid": "region_fid",
    "region_fid_legacy": "region_fid",
    "region_clip": "region_clip",
}
LEGACY = [reading for reading, metric in READINGS.items() if reading != metric]
# The published values have errors of their own, which are not published: taken to be as large as ours.
LIMIT = 1.96 * math.sqrt(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="CSVs of evaluation.tables")
    parser.add_argument("--distances", type=Path, required=True, help="the CSV of evaluation.distances")
    parser.add_argument("--significance", type=Path, required=True, help="the CSV of evaluation.compare")
    parser.add_argument("--caveat", default="", help="why this run can reproduce nothing")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    tables = [_read(path) for path in arguments.tables]
    distances = _read(arguments.distances, "level", "method", "fid_legacy", "fid_legacy_se")
    significance = _read(arguments.significance, "metric", "method", "against", "difference", "debiased", "p_holm")
    compared = reproduce(tables, distances, significance, meaningful=not arguments.caveat)
    write_csv(arguments.out.with_suffix(".csv"), compared)
    write_text(arguments.out.with_suffix(".md"), markdown(compared, tables, arguments.caveat))


def _read(path: Path, *columns: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{path}: not a table ({error})") from None
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path}: no column `{missing[0]}`; delete it and run again")
    return table


def with_legacy(table: pd.DataFrame, distances: pd.DataFrame) -> pd.DataFrame:
    """The table with the Frechet distances by the other reading and their standard errors, nan where there are none."""
    found = {level: rows.set_index("method") for level, rows in distances.groupby("level")}
    columns = {
        f"{level}_fid_legacy{part}": table["method"].map(found[level][f"fid_legacy{part}"]).astype(float)
        for level in LEVELS
        for part in ("", "_se")
    }
    return table.assign(**columns)


def reproduce(
    tables: list[pd.DataFrame], distances: pd.DataFrame, significance: pd.DataFrame, meaningful: bool
) -> pd.DataFrame:
    """One line a published value, and one a published difference between two rows of one table, that was measured.

    `minus` is empty for a value. `in_se` is ours minus the published in our standard errors; `debiased` and `opposite` are of
    differences, as in evaluation.compare.
    """
    lines = [
        line
        for table in tables
        for line in (*_values(with_legacy(table, distances)), *_differences(table, significance))
    ]
    columns = ["method", "minus", "metric", "ours", "se", "debiased", "opposite", "published", "in_se", "verdict"]
    # The two tables share rows: HCMA and GLIGEN are published, and measured, once.
    found = pd.DataFrame(lines, columns=columns).drop_duplicates(["method", "minus", "metric"], ignore_index=True)
    return found if meaningful else found.assign(verdict="meaningless")


def _values(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        for metric, published in READINGS.items():
            line = _line(row[metric], row[f"{metric}_se"], row[f"published_{published}"])
            if line:
                found = "agrees" if abs(line["in_se"]) < LIMIT else "differs"
                yield {"method": row["method"], "minus": "", "metric": metric} | line | {"verdict": found}


def _differences(table: pd.DataFrame, significance: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Of two rows the later in the table minus the earlier, as the papers put their own method last."""
    published, place = table.set_index("method"), {name: place for place, name in enumerate(table["method"])}
    known = significance[significance["metric"].isin(READINGS)]
    for row in known[known["method"].isin(place) & known["against"].isin(place)].to_dict("records"):
        earlier, later = sorted((row["method"], row["against"]), key=place.__getitem__)
        ours, debiased = (row[key] if later == row["method"] else -row[key] for key in ("difference", "debiased"))
        name = f"published_{READINGS[row['metric']]}"
        line = _line(ours, row["se"], published.loc[later, name] - published.loc[earlier, name])
        if line:
            names = {"method": later, "minus": earlier, "metric": row["metric"]}
            line |= {"debiased": debiased, "opposite": opposite(ours, debiased)}
            yield names | line | {"verdict": _sign_and_size(line, row["p_holm"])}


def _line(ours: float, se: float, published: float) -> dict[str, Any] | None:
    if pd.isna(ours) or pd.isna(published) or not se > 0:
        return None
    return {"ours": ours, "se": se, "published": published, "in_se": (ours - published) / se}


def _sign_and_size(line: dict[str, Any], p_holm: float) -> str:
    size = "size agrees" if abs(line["in_se"]) < LIMIT else "size differs"
    if verdict(p_holm) != "yes":
        return f"sign cannot be told, {size}"
    return f"{'same' if line['ours'] * line['published'] > 0 else 'opposite'} sign, {size}"


def markdown(compared: pd.DataFrame, tables: list[pd.DataFrame], caveat: str) -> str:
    """Values, then differences, and how to read them."""
    warning = f"**This comparison is meaningless and says nothing about the paper.** {caveat}\n"
    parts = ["**Against the published values**\n"] + [warning] * bool(caveat)
    for title, is_difference in (("Value", False), ("Difference", True)):
        more = " Debiased |" if is_difference else ""
        parts += [
            f"| {title} | Metric | Ours |{more} Published | In our standard errors | |",
            f"|---|---|---:|{'---:|' if more else ''}---:|---:|---|",
        ]
        for line in compared[(compared["minus"] != "") == is_difference].to_dict("records"):
            name = " - ".join(filter(None, (line["method"], line["minus"])))
            ours = number(line["ours"], se=line["se"]) + (f" | {without_bias(line)}" if is_difference else "")
            cells = f"{ours} | {number(line['published'])} | {number(line['in_se'], 1, sign='+')}"
            parts.append(f"| {name} | {line['metric']} | {cells} | {line['verdict']} |")
        parts.append("")
    images = sorted({int(n) for table in tables for n in table["n_images"] if n})
    notes = (
        f"Ours of {', '.join(map(str, images))} images a row; the paper's of 30000. Agrees: nearer than {LIMIT:.2f} of our "
        "standard errors, the published value being taken to have an error as large as ours, since the paper gives none.",
        "Differences are paired by image, of two rows the later in the table minus the earlier; ours has a sign where "
        f"Holm's p is below {LEVEL_OF_TEST}. Lower is better for fid, higher for clip.",
        WHAT_IS_TESTED,
        DEBIASED,
        "The paper does not say how its networks' input was resized. fid: by the extractor `frechet`, as in the tables (at the "
        "paper's scale clean-fid's resize); fid_legacy: by `frechet_legacy`, pytorch-fid's resize, which GLIGEN's published "
        f"distances were measured with.{_unread(compared)}",
    )
    parts += [f"- {note}" for note in notes]
    return "\n".join([*parts, ""])


def _unread(compared: pd.DataFrame) -> str:
    """Which distances stand against the published ones by one reading only."""
    missing = [reading for reading in LEGACY if reading not in set(compared["metric"])]
    return f" Not measured here (`extractors.frechet_legacy`): {', '.join(missing)}." if missing else ""


if __name__ == "__main__":
    run(main)
