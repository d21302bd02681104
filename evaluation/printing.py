"""How numbers are printed, in the programs' output and in tables: a zero has no sign, a missing number is a dash."""

from pathlib import Path

import pandas as pd

from formats.files import replacing


def number(value: float | None, digits: int = 4, se: float | None = None, sign: str = "") -> str:
    """A value with so many decimals, and its standard error where it has one; `sign` "+": positive ones bear it."""
    text = "-" if value is None or pd.isna(value) else f"{value:{sign}z.{digits}f}"
    return text if se is None or pd.isna(se) else f"{text} ± {se:z.{digits}f}"


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table in full precision, whole or not at all."""
    with replacing(path) as beside:
        table.map(lambda cell: cell + 0.0 if isinstance(cell, float) else cell).to_csv(beside, index=False)
