"""The values of the paper, and what rows are called."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.metrics import METRICS
from formats import shown
from formats.files import InputError

# In the order of METRICS; another reading of a published metric has no column of its own.
COLUMNS = list(dict.fromkeys(metric.published for metric in METRICS.values() if metric.published))
# Of a claim: whose row it is of ours, if any; what its source calls the method; the metric, by our name where it is ours; the
# row that it is a difference to; and how it was measured. contradicted: by what.
SHARED = ["images", "set", "base", "protocol", "source", "hand"]
CLAIM = ["row", "method", "metric", "minus", "value", "resolution", *SHARED, "contradicted", "note"]
HANDS = ("first", "second")
WITHOUT_PHOTOS = (
    "The layouts have no photos: there is no row `real`, and every distance is a dash, "
    "for want of what it is measured to."
)


def read_published(path: Path) -> pd.DataFrame:
    """table (its name), method, label and every published metric; raises InputError for another file."""
    try:
        rows = pd.read_csv(path, dtype={"table": str})[["table", "method", "label", *COLUMNS]]
        rows[COLUMNS] = rows[COLUMNS].astype(float)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of published values ({error})") from None
    return rows.assign(table=[f"table{name}" if name.isdecimal() else name for name in rows["table"]])


def read_claims(claims: Path, published: Path) -> pd.DataFrame:
    """Every value that anybody claims, a line each: the cells of the published tables, each once, then those of `claims`.

    CLAIM names the columns; `stated` is the value to the digit. Raises InputError for other files.
    """
    paper, others = _read(published, ["table", "method", "label", *COLUMNS, *SHARED]), _read(claims, CLAIM)
    cells = paper.rename(columns={"method": "row", "label": "method"}).drop_duplicates("row")
    own = cells.melt([*SHARED, "row", "method"], COLUMNS, "metric").dropna(subset="value")
    found = pd.concat([own.reindex(columns=CLAIM), others], ignore_index=True).assign(stated=lambda rows: rows["value"])
    counted = found["images"].fillna("")
    found[["value", "images"]] = found[["value", "images"]].apply(pd.to_numeric, errors="coerce")
    good = found["value"].notna() & (found["images"].notna() | (counted == "")) & found["hand"].isin(HANDS)
    for place in np.flatnonzero(~good)[:1]:
        value, images, hand = (shown(rows.iloc[place]) for rows in (found["stated"], counted, found["hand"]))
        raise InputError(
            f"{claims}, line {place - len(own) + 2}: value {value}, images {images} and hand {hand}; expected two numbers, of "
            f"images also none, and {' or '.join(HANDS)}"
        )
    texts = found.columns.difference(["value", "images"])
    return found.assign(**{name: found[name].fillna("") for name in texts})


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str)[columns]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of published values ({error})") from None


def nothing_published() -> pd.DataFrame:
    """What `read_published` makes of a file without a value."""
    return pd.DataFrame(columns=["table", "method", "label", *COLUMNS])


def labels(
    methods: Iterable[str], published: pd.DataFrame, stated: Mapping[str, str], table: str = ""
) -> dict[str, str]:
    """method -> the label of its stanza, else its published one in this table, else its first published one, else its name."""
    ordered = pd.concat([published[published["table"] == table], published]).drop_duplicates("method")
    known = dict(zip(ordered["method"], ordered["label"], strict=True)) | dict(stated)
    return {method: str(known.get(method, method)) for method in methods}


def stated_labels(words: Iterable[str]) -> dict[str, str]:
    """method -> label, of words `METHOD=LABEL`."""
    pairs = [word.partition("=") for word in words]
    if odd := [word for word, equals, _ in pairs if not equals]:
        raise InputError(f"--labels {odd[0]}: expected METHOD=LABEL")
    return {method: label for method, _, label in pairs}
