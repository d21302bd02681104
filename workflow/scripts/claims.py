"""Write every published value into the page that tells of them, between its marks.

    python -m workflow.scripts.claims docs/claims.md

The values are those of workflow/config/claims.csv and published.csv; a test holds the page to them.
"""

from pathlib import Path

import pandas as pd

from evaluation.tables.claims import DOUBTED
from evaluation.tables.published import COLUMNS, read_claims
from evaluation.tables.table import Cell, Column, markdown_grid, shown
from formats.cli import options, run
from formats.files import replacing
from workflow.overlays import CLAIMS, PUBLISHED
from workflow.scripts.reference import replaced

HEADS = {
    "method": "Method",
    "what": "Metric",
    "stated": "Value",
    "set": "Set",
    "images": "Images",
    "base": "Base",
    "resolution": "Pixels",
    "protocol": "How",
    "source": "Source",
    "hand": "Hand",
    "remark": "Remark",
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("page", type=Path)
    page: Path = parser.parse_args().page
    text = replaced(page.read_text(encoding="utf-8"), "CLAIMS", block(), str(page))
    with replacing(page) as beside:
        beside.write_text(text, encoding="utf-8")


def block() -> str:
    """The cells of the paper's tables; then, from elsewhere, its first metric, and all others."""
    claims = read_claims(Path(CLAIMS), Path(PUBLISHED))
    remarks = zip(claims["contradicted"], claims["note"], strict=True)
    claims = claims.assign(
        remark=["; ".join(filter(None, (doubt and f"{DOUBTED} {doubt}", note))) for doubt, note in remarks],
        images=["" if pd.isna(number) else f"{number:,.0f}" for number in claims["images"]],
        what=claims["metric"].where(claims["minus"] == "", claims["metric"] + " less that of " + claims["minus"]),
    )
    of_paper = claims["source"].isin(pd.read_csv(PUBLISHED)["source"])
    cells = claims[of_paper].pivot(index="method", columns="what", values="stated")
    cells = cells.loc[claims[of_paper]["method"].unique(), COLUMNS].reset_index()
    first = claims[~of_paper & (claims["what"] == COLUMNS[0])]
    others = claims[~of_paper & (claims["what"] != COLUMNS[0])]
    return "\n\n".join(
        [
            f"{len(claims)} values, {int((claims['hand'] == 'first').sum())} of them first hand. HCMA's own tables (first "
            "hand; COCO 2014 val, 30,000 images, sizes and resize not stated):",
            _grid(cells, {"method": "Method"} | {name: f"`{name}`" for name in COLUMNS}),
            f"`{COLUMNS[0]}` from elsewhere:",
            _grid(first, {key: head for key, head in HEADS.items() if key != "what"}),
            "All else:",
            _grid(others, HEADS),
        ]
    )


def _grid(rows: pd.DataFrame, heads: dict[str, str]) -> str:
    columns = [Column(key, head) for key, head in heads.items()]
    return markdown_grid(columns, [[shown(Cell(row[c.key]), c) for c in columns] for row in rows.to_dict("records")])


if __name__ == "__main__":
    run(main)
