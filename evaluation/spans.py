"""Where a caption names a category: whole words from a table of names, plurals and synonyms, longest match first."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from evaluation.files import InputError

Words = dict[str, dict[str, list[str]]]


def read_words(path: Path) -> Words:
    """category -> {"forms": name and plurals, "synonyms": other words}; raises InputError for another shape."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (config key data.words)") from None
    if not isinstance(table, dict) or not table or not all(map(_has_forms, table.values())):
        raise InputError(
            f"{path}: expected `category: {{forms: [...], synonyms: [...]}}`, with a form, for every category"
        )
    return table


def _has_forms(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"forms", "synonyms"} or not row["forms"]:
        return False
    return all(
        isinstance(words, list) and all(word and isinstance(word, str) for word in words) for words in row.values()
    )


def find_spans(caption: str, words: Words, synonyms: bool = True) -> dict[str, tuple[int, int]]:
    """category -> character span of its first mention in the caption.

    All categories' words are matched together, longest first, so that the "dog" of "hot dog" is no dog.
    """
    owner = {form.lower(): category for category, row in words.items() for form in row["synonyms"]}
    owner |= {form.lower(): category for category, row in words.items() for form in row["forms"]}
    forms = sorted(owner, key=len, reverse=True)
    pattern = "|".join(map(re.escape, forms))
    spans: dict[str, tuple[int, int]] = {}
    for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", caption, re.IGNORECASE):
        form = _form(match.group(), forms)
        category = owner[form]
        if synonyms or form in (known.lower() for known in words[category]["forms"]):
            spans.setdefault(category, match.span())
    return spans


def _form(found: str, forms: Sequence[str]) -> str:
    """Which of the forms was found: IGNORECASE takes letters as alike that lower case keeps apart, an `İ` or a `ſ`."""
    fitting = (form for form in forms if re.fullmatch(re.escape(form), found, re.IGNORECASE))
    return lower if (lower := found.lower()) in forms else next(fitting)
