"""A table in all its forms: what is escaped, what is hidden, and that its JSON is the whole of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from evaluation.tables.headline import title_of
from evaluation.tables.table import (
    P_VALUE,
    Cell,
    Column,
    Table,
    View,
    csv,
    decimals,
    latex,
    markdown,
    read_frame,
    read_table,
    write_table,
)
from formats.files import InputError, write_json
from tests.tables import grid

COLUMNS = [
    Column("method", "Method"),
    Column("fid", "Image_FD", decimals(2)),
    Column("kid", "KID x 1000", decimals(1, "+"), scale=1000),
    Column("p", "p", P_VALUE),
    Column("images", "Images", ",d"),
    Column("commit", shown=False),
]
ROWS = [
    {
        "method": Cell("a|b_c"),
        "fid": Cell(-1e-9, 0.125, mark="†", bold=True, published=8.74),
        "kid": Cell(0.0012, 0.0004),
        "p": Cell(1e-9),
        "images": Cell(30_000),
        "commit": Cell("abc"),
    },
    {"method": Cell("d"), "fid": Cell(published=9.0), "p": Cell(0.25), "images": Cell(5)},
]
TABLE = Table("Some & more", COLUMNS, ROWS, ["50 % of `real` {x}."], caveat="Not_this: $5 ^ ~ \\.")


def test_markdown_has_errors_marks_bold_and_what_is_published() -> None:
    text = grid(markdown(TABLE))
    assert text.startswith("**Some & more**\n\n| Method | Image_FD | KID x 1000 | p | Images |\n")
    assert r"| a\ | b_c | **0.00 ± 0.12†** [8.74] | +1.2 ± 0.4 | < 0.0001 | 30,000 |" in text
    assert "| d | - [9.00] | - | 0.2500 | 5 |" in text
    assert text.endswith("\n- Not_this: $5 ^ ~ \\.\n- 50 % of `real` {x}.\n")
    assert "abc" not in text


def test_latex_escapes_what_is_special_and_gives_published_values_a_column() -> None:
    text = latex(TABLE)
    assert r"\caption{Some \& more. Not\_this: \$5 \textasciicircum{} \textasciitilde{} \textbackslash{}." in text
    assert r"50 \% of `real` \{x\}.}" in text
    assert r"\begin{tabular}{lrrrrr}" in text
    assert r"Method & \multicolumn{2}{c}{Image\_FD} & KID x 1000 & p & Images \\" in text
    assert "\\cmidrule(lr){2-3}\n & ours & paper &  &  &  \\\\" in text
    ours = r"\textbf{0.00 \textpm{} 0.12\textdagger{}} & 8.74"
    assert rf"a\textbar{{}}b\_c & {ours} & +1.2 \textpm{{}} 0.4 & \textless{{}} 0.0001 & 30,000 \\" in text
    assert r"d & - & 9.00 & - & 0.2500 & 5 \\" in text


def test_csv_has_every_column_in_full_and_only_the_parts_that_there_are() -> None:
    header, first, second = csv(TABLE).splitlines()
    fid = "fid,fid_se,fid_mark,fid_bold,fid_published"
    assert header == f"method,{fid},kid,kid_se,p,images,commit"
    assert first == "a|b_c,-1e-09,0.125,†,True,8.74,0.0012,0.0004,1e-09,30000,abc"
    assert second == "d,,,,False,9.0,,,0.25,5,"


def test_views_choose_rename_and_lead() -> None:
    views = [View("One:", ["method", "p"], [1]), View("Two:", ["method"], None, {"method": "Row"})]
    text = grid(markdown(Table("T", COLUMNS, ROWS, ["n"], views)))
    assert text == "**T**\n\nOne:\n\n| Method | p |\n| d | 0.2500 |\n\nTwo:\n\n| Row |\n| a\\ | b_c |\n| d |\n\n- n\n"


def test_the_json_is_the_whole_table(tmp_path) -> None:
    write_table(TABLE, tmp_path / "some.table")
    assert read_table(tmp_path / "some.table.json") == TABLE
    assert read_frame(tmp_path / "some.table.json", "fid_se")["images"].tolist() == [30_000, 5]
    assert pd.read_csv(tmp_path / "some.table.csv")["fid"].isna().tolist() == [False, True]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".csv", ".md", ".tex"}
    with pytest.raises(InputError, match=r"some\.table\.json: no column `seconds`; delete it and run again"):
        read_frame(tmp_path / "some.table.json", "seconds")


def test_nan_is_no_value() -> None:
    assert Cell.of(float("nan"), float("nan")) == Cell()
    assert json.dumps(Cell.of(pd.Series([3])[0]).value) == "3"


@pytest.mark.parametrize("rows", [{"a": 1}, [{"method": {"worth": 1}}]])
def test_rows_that_are_none_are_refused(tmp_path, rows) -> None:
    write_table(TABLE, tmp_path / "t")
    path = Path(tmp_path / "t.json")
    write_json(path, json.loads(path.read_text()) | {"rows": rows})
    with pytest.raises(InputError, match=r"t\.json: not a table"):
        read_table(path)


def test_a_name_becomes_a_title() -> None:
    assert [title_of(name) for name in ("table1", "table12", "main_results")] == ["Table 1", "Table 12", "Main results"]


def test_a_line_break_in_a_cell_or_note_ends_no_row() -> None:
    table = Table("T", [Column("tag")], [{"tag": Cell("hard\ny")}], ["a\r\nb"], caveat="c\u2028d")
    assert "| hard y |" in markdown(table) and "- c d\n- a b\n" in markdown(table)
    assert "% c d\n% a b\n" in latex(table)
