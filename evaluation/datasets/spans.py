"""Where a caption names a category: whole words from a table of names, plurals and synonyms, longest match first."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from formats.files import InputError

NEEDED, OPTIONAL = {"forms", "synonyms"}, {"alone", "not"}
# Between two words of a name: white space, a hyphen, both, or nothing. A dash between spaces parts what is beside it.
_HYPHEN = "[-\u00ad\u2010-\u2013]"
_GAP = rf"(?:\s+{_HYPHEN}?|{_HYPHEN}\s*)?"
# A word that a hyphen ties to the next only describes that one: nobody is in "man-made".
_START, _END = r"(?<!\w)", rf"(?!\w|{_HYPHEN}\w)"
# What shows that a noun stands for itself: a determiner before it, and after it the end of a phrase.
_BEFORE = re.compile(r"\b(?:an?|the|this|that|each|every|another|one|his|her|their|its|my|your|our)\s+$", re.IGNORECASE)
_AFTER = re.compile(
    r"\s*(?:$|[^\w\s'’-])|\s+(?:about|above|across|after|against|along|among|around|as|at|away|back|before|behind|below|beneath"
    r"|beside|between|by|down|during|for|from|hanging|he|her|his|if|in|inside|into|is|it|laying|lies|lying|near|next|of|off|on|onto"
    r"|or|out|outside|over|past|resting|she|sits|sitting|that|they|through|to|towards?|under|underneath|up|using|was|when|where"
    r"|which|while|who|with|within|without)\b",
    re.IGNORECASE,
)


class Words(dict[str, dict[str, list[str]]]):
    """category -> the words that name it.

    `forms` (its name and plurals) and `synonyms` name it wherever they stand, but for those of them that are in `alone`, which
    do only as a noun of their own ("throws a baseball to", not "a baseball game"). `not` are phrases, each with or without a
    plural's ending, in which none of its words names it ("train station").
    """

    def spans(self, caption: str, synonyms: bool = True) -> dict[str, tuple[int, int]]:
        """category -> character span of its first mention in the caption; without `synonyms` by its `forms` alone.

        All categories' words are matched together, longest first, so that the "dog" of "hot dog" is no dog.
        """
        pattern, owners = self._pattern
        spans: dict[str, tuple[int, int]] = {}
        for match in pattern.finditer(caption):
            category, word = owners[(match.lastindex or 0) - 1]
            known = synonyms or word in self[category]["forms"]
            if known and category not in spans and self._names(category, word, match):
                spans[category] = match.span()
        return spans

    @cached_property
    def _pattern(self) -> tuple[re.Pattern[str], list[tuple[str, str]]]:
        """One empty group at the end of every word, and whose it is; a category's forms go before another's synonyms."""
        owner: dict[tuple[str, ...], tuple[str, str]] = {}
        for kind in ("synonyms", "forms"):
            owner |= {_symbols(word): (category, word) for category, row in self.items() for word in row[kind]}
        longest_first = sorted(owner, key=lambda word: sum(map(str.isalnum, word)), reverse=True)
        order: list[tuple[str, str]] = []
        words = _alternatives({word: owner[word] for word in longest_first}, order)
        return re.compile(rf"{_START}{words}{_END}", re.IGNORECASE), order

    @cached_property
    def _others(self) -> dict[str, re.Pattern[str]]:
        return {
            category: re.compile(
                rf"{_START}(?:{'|'.join(''.join(_symbols(phrase)) for phrase in row['not'])})(?:e?s)?(?!\w)",
                re.IGNORECASE,
            )
            for category, row in self.items()
            if row.get("not")
        }

    def _names(self, category: str, word: str, match: re.Match[str]) -> bool:
        caption, (start, end) = match.string, match.span()
        if word in self[category].get("alone", ()) and not (
            _BEFORE.search(caption[:start]) and _AFTER.match(caption, end)
        ):
            return False
        other = self._others.get(category)
        return other is None or not any(one.start() <= start and end <= one.end() for one in other.finditer(caption))


def _symbols(words: str) -> tuple[str, ...]:
    """A name letter by letter as patterns, what may stand between its words being one."""
    parts = re.split(r"[\s-]+", words.strip().lower())
    return tuple(
        symbol for place, part in enumerate(parts) for symbol in ([_GAP] * (place > 0) + list(map(re.escape, part)))
    )


def _alternatives(words: dict[tuple[str, ...], tuple[str, str]], order: list[tuple[str, str]]) -> str:
    """A pattern of all words, what they begin with alike once, longer ones first; `order` gains whose each group is."""
    after: dict[str, dict[tuple[str, ...], tuple[str, str]]] = {}
    for symbols, whose in words.items():
        if symbols:
            after.setdefault(symbols[0], {})[symbols[1:]] = whose
    branches = [symbol + _alternatives(rest, order) for symbol, rest in after.items()]
    if () in words:
        branches.append("()")
        order.append(words[()])
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def read_words(path: Path) -> Words:
    """The table of a YAML file; raises InputError for another shape."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (config key data.words)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table):
        raise InputError(f"{path}: expected `category: {{forms: [...], synonyms: [...]}}` for every category")
    for name, row in table.items():
        if not _has_forms(row):
            raise InputError(
                f"{path}: {name}: expected `category: {{forms: [...], synonyms: [...]}}`, with a form, and optional lists "
                "`alone`, of these words, and `not`"
            )
    return Words(table)


def _has_forms(row: Any) -> bool:
    if not isinstance(row, dict) or not set(row) >= NEEDED or not set(row) <= NEEDED | OPTIONAL or not row["forms"]:
        return False
    if not all(
        isinstance(of, list) and all(isinstance(word, str) and word.strip() for word in of) for of in row.values()
    ):
        return False
    return set(row.get("alone", ())) <= {*row["forms"], *row["synonyms"]}
