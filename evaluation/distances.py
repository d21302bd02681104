"""How far each row's images and regions are from the real ones, by other measures than the plain Frechet distance.

    python -m evaluation.distances --metrics metrics/sd14/test.json metrics/hcma/test.json ... --out tables/distances

writes distances.csv and distances.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.kernel import NEIGHBOURHOOD
from evaluation.printing import number, write_csv
from evaluation.statistics import LEVELS
from formats.cli import run
from formats.files import read_json, write_text

# column -> head, factor, digits
HEADS = {
    "fid": ("FD", 1, 2),
    "debiased": ("FD, debiased", 1, 2),
    "floor": ("floor", 1, 2),
    "fid_legacy": ("FD, legacy", 1, 2),
    "kid": ("KID x 1000", 1000, 2),
    "cmmd": ("CMMD", 1, 3),
    "precision": ("Precision", 1, 3),
    "recall": ("Recall", 1, 3),
    "density": ("Density", 1, 3),
    "coverage": ("Coverage", 1, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    table = build([read_json(path) for path in arguments.metrics])
    write_csv(arguments.out.with_suffix(".csv"), table)
    write_text(arguments.out.with_suffix(".md"), markdown(table))


def build(metrics: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line a level and method."""
    return pd.DataFrame([_line(level, row) for level in LEVELS for row in metrics])


def _line(level: str, row: dict[str, Any]) -> dict[str, Any]:
    others = row["distances"][level] or {}
    line = {"level": level, "method": row["method"], "n": row[f"n_{level}s"]}
    line |= {key: others.get(key) for key in ("samples", "real_n", "real_samples")}
    for metric in ("fid", "fid_legacy", "kid", "cmmd"):
        found = row["metrics"].get(f"{level}_{metric}") or {}
        line |= {metric: found.get("value"), f"{metric}_se": found.get("se")}
    frechet = row["metrics"][f"{level}_fid"] or {}
    line |= {key: frechet.get(key) for key in ("debiased", "floor")}
    return line | {key: others.get(key) for key in NEIGHBOURHOOD}


def markdown(table: pd.DataFrame) -> str:
    """The table, level by level, and how to read it."""
    measured = [key for key in HEADS if table[key].notna().any()]
    lines = [["Level", "Method", *(HEADS[key][0] for key in measured)], ["---"] * 2 + ["---:"] * len(measured)]
    for row in table.to_dict("records"):
        cells = (_cell(row[key], row.get(f"{key}_se"), *HEADS[key][1:]) for key in measured)
        lines.append([row["level"], row["method"], *cells])
    body = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    thinned = thinning(table)
    notes = (
        "All by the features of the Frechet distance (FD). Debiased: by the jackknife, of the bias that a finite sample has, "
        "where that leaves more samples than dimensions; floor: what two samples of this size from one distribution are "
        "expected to differ by; legacy: pytorch-fid's resize.",
        f"KID: all pairs{' of the samples named below' * bool(thinned)}, kernel (x . y / D + 1)^3, unbiased. Precision, "
        "recall, density, coverage: 5 nearest neighbours; their values depend on the number of samples, so compare rows and "
        "not papers.",
        *thinned,
    )
    return f"**Distances to `real`**\n\n{body}\n\n" + "".join(f"- {note}\n" for note in notes)


def thinning(table: pd.DataFrame) -> list[str]:
    """A sentence a level whose sums over pairs are not of all samples: of how many they are, by evaluation.kernel.thinned."""
    sets = (("of a row", "samples", "n"), ("of `real`", "real_samples", "real_n"))
    sentences = []
    for level, rows in table.groupby("level", sort=False):
        found = [
            f"{int(line[kept]):,} of the {int(line[n]):,} {level}s {whose}"
            for whose, kept, n in sets
            for line in rows[rows[kept] < rows[n]].drop_duplicates([kept, n]).to_dict("records")
        ]
        if found:
            sentences.append(
                f"The pairs of all {level}s being too many, KID, CMMD, precision, recall, density and coverage are of "
                f"{' and of '.join(found)}: whole images, those of the smallest hashes, the same for every row."
            )
    return sentences


def _cell(value: Any, se: Any, factor: int, digits: int) -> str:
    value, se = (None if pd.isna(cell) else factor * cell for cell in (value, se))
    return number(value, digits, se)


if __name__ == "__main__":
    run(main)
