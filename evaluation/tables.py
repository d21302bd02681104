"""One table of the paper from metrics files: CSV, Markdown and LaTeX, with the published values beside ours.

    python -m evaluation.tables --table 1 --metrics metrics/real/test.json metrics/sd14/test.json ... \
        --published workflow/config/published.csv --caveat "..." --out results/miniature/tables/table1

writes table1.csv, table1.md and table1.tex; rows stand in the order of --metrics.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.files import InputError, read_json, replacing, write_text
from evaluation.program import run

METRICS = ("image_fid", "image_clip", "region_fid", "region_clip")
DIGITS = {"fid": 2, "clip": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=[1, 2], required=True)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--caveat", default="", help="a sentence that every form of the table carries")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    metrics = [read_json(path) for path in arguments.metrics]
    table = build(metrics, read_published(arguments.published, arguments.table))
    notes = [arguments.caveat] * bool(arguments.caveat) + protocol(metrics)
    write(table, notes, arguments.table, arguments.out)


def read_published(path: Path, number: int) -> pd.DataFrame:
    """The published rows of one table, indexed by method."""
    try:
        rows = pd.read_csv(path)
        return rows[rows["table"] == number].set_index("method")[["label", *METRICS]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of published values ({error})") from None


def build(metrics: list[dict[str, Any]], published: pd.DataFrame) -> pd.DataFrame:
    """One row a method: every metric with its standard error, its floor where it has one, and its published value.

    Raises InputError when rows were not measured on the same number of images by the same networks.
    """
    first = metrics[0]
    for row in metrics:
        for key in ("n_images", "n_regions", "protocol", "split"):
            if row[key] != first[key]:
                raise InputError(f"{row['method']}: {key} is {row[key]}, but {first['method']} has {first[key]}")
    return pd.DataFrame([_row(row, published) for row in metrics])


def _row(row: dict[str, Any], published: pd.DataFrame) -> dict[str, Any]:
    cells: dict[str, Any] = {"method": row["method"]}
    for metric in METRICS:
        found = row["metrics"][metric] or {}
        cells |= {metric: found.get("value"), f"{metric}_se": found.get("se")}
    cells |= {"n_images": row["n_images"], "n_regions": row["n_regions"]}
    known = published.loc[row["method"]].to_dict() if row["method"] in published.index else {}
    cells |= {f"published_{metric}": known.get(metric) for metric in METRICS}
    cells |= {f"{m}_floor": (row["metrics"][m] or {}).get("floor") for m in METRICS if m.endswith("fid")}
    return cells | {"label": known.get("label", row["method"])}


def protocol(metrics: list[dict[str, Any]]) -> list[str]:
    """The sentences a reader needs to know what the columns are."""
    made, first = metrics[0]["protocol"], metrics[0]
    floors = [f"{m} {first['metrics'][m]['floor']:.2f}" for m in METRICS if m.endswith("fid") and first["metrics"][m]]
    return [
        f"FD: Frechet distance to `real` between features of {made['frechet']['name']} ({made['frechet']['resize']}).",
        f"CLIP: raw cosine by {made['clip']['name']} ({made['clip']['resize']}); a region's text is "
        f'"{made["label_template"]}".',
        f"{first['n_images']} images and {first['n_regions']} regions a row; ± one standard error "
        f"(delete-a-group jackknife over images, at most {made['groups']} groups).",
        f"Two samples of this size from one distribution are expected to differ by: {', '.join(floors)}."
        if floors
        else "No distance could be measured.",
        "In brackets: the paper's value, from other networks and photos at full size; ours need not resemble it.",
    ]


def write(table: pd.DataFrame, notes: list[str], number: int, out: Path) -> None:
    """Write the three forms, each whole or not at all; the caveat and protocol stand in all but the CSV's cells."""
    with replacing(out.with_suffix(".csv")) as beside:
        table.drop(columns="label").to_csv(beside, index=False)
    write_text(out.with_suffix(".md"), _markdown(table, notes, number))
    write_text(out.with_suffix(".tex"), _latex(table, notes, number))


def _cells(table: pd.DataFrame, plus_minus: str) -> list[list[str]]:
    rows = []
    for row in table.to_dict("records"):
        cells = [_metric(row, metric, plus_minus) for metric in METRICS]
        rows.append([str(row["label"]), *cells])
    return rows


def _metric(row: dict[Any, Any], metric: str, plus_minus: str) -> str:
    digits = DIGITS[metric.split("_")[1]]
    value, se, published = row[metric], row[f"{metric}_se"], row[f"published_{metric}"]
    if pd.isna(value):
        return "-"
    # A distance of -1e-14 is a zero; printing its sign would only alarm.
    text = f"{round(value, digits) + 0.0:.{digits}f}"
    text += "" if pd.isna(se) else f" {plus_minus} {se:.{digits}f}"
    return text + ("" if pd.isna(published) else f" [{published:.{digits}f}]")


HEADS = ["Method", "Image FD", "Image CLIP", "Region FD", "Region CLIP"]


def _markdown(table: pd.DataFrame, notes: list[str], number: int) -> str:
    lines = [HEADS, ["---"] + ["---:"] * 4, *_cells(table, "±")]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**Table {number}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _latex(table: pd.DataFrame, notes: list[str], number: int) -> str:
    lines = [HEADS, *_cells(table, "\\textpm")]
    rows = [" & ".join(_escaped(cell) for cell in line) + r" \\" for line in lines]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            r"\begin{table}\centering",
            rf"\caption{{Table {number}. {_escaped(' '.join(notes))}}}",
            r"\begin{tabular}{lrrrr}",
            r"\hline",
            rows[0],
            r"\hline",
            *rows[1:],
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    for plain, safe in (("_", r"\_"), ("&", r"\&"), ("%", r"\%"), ("±", r"\textpm{}"), ("{label}", r"\{label\}")):
        text = text.replace(plain, safe)
    return text


if __name__ == "__main__":
    run(main)
