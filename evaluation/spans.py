"""Where a caption names a category: whole words from a table of names, plurals and synonyms, longest match first."""

import re
from pathlib import Path

import yaml

from evaluation.files import InputError

Words = dict[str, dict[str, list[str]]]


def read_words(path: Path) -> Words:
    """category -> {"forms": name and plurals, "synonyms": other words}; raises InputError for another shape."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (config key data.words)") from None
    shape = isinstance(table, dict) and all(
        isinstance(row, dict) and set(row) == {"forms", "synonyms"} for row in table.values()
    )
    if not shape:
        raise InputError(f"{path}: expected `category: {{forms: [...], synonyms: [...]}}` for every category")
    return table


def find_spans(caption: str, words: Words, synonyms: bool = True) -> dict[str, tuple[int, int]]:
    """category -> character span of its first mention in the caption.

    All categories' words are matched together, longest first, so that the "dog" of "hot dog" is no dog.
    """
    owner = {form.lower(): category for category, row in words.items() for form in row["synonyms"]}
    owner |= {form.lower(): category for category, row in words.items() for form in row["forms"]}
    pattern = "|".join(re.escape(form) for form in sorted(owner, key=len, reverse=True))
    spans: dict[str, tuple[int, int]] = {}
    for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", caption, re.IGNORECASE):
        form = match.group().lower()
        category = owner[form]
        if synonyms or form in (known.lower() for known in words[category]["forms"]):
            spans.setdefault(category, match.span())
    return spans
