"""Captions of sets that have none, and where a caption names each object."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.datasets.opening import open_csv, open_json
from formats import shown
from formats.fields import is_text
from formats.files import InputError

Span = tuple[int, int]

TEMPLATE = "a photo of {objects}"
BARE = "a photo"  # of nothing that the set names
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "sheep": "sheep"}
PLURALS |= {"knife": "knives", "scissors": "scissors", "skis": "skis", "foot": "feet", "tooth": "teeth"}
_ENDING = "(?:e?s)?"
KEYS, TEXTS = ("source_id", "image_id", "id", "file_name"), ("caption", "text", "prompt")


def find_spans(caption: str, phrases: Sequence[str]) -> tuple[list[Span | None], list[str]]:
    """Where the caption names each phrase, in whole words, and of each what is doubtful of it ("" where nothing is).

    Exact, then case-insensitive, then with a plural's ending; longer phrases first, and no occurrence twice.
    """
    spans: list[Span | None] = [None] * len(phrases)
    doubts = [""] * len(phrases)
    asked, taken = Counter(phrases), list[Span]()
    for place in sorted(range(len(phrases)), key=lambda place: -len(phrases[place])):
        phrase = phrases[place]
        for ending, flags in (("", 0), ("", re.IGNORECASE), (_ENDING, re.IGNORECASE)):
            pattern = rf"(?<!\w){re.escape(phrase)}{ending}(?!\w)"
            every = [match.span() for match in re.finditer(pattern, caption, flags)]
            free = [one for one in every if all(one[1] <= start or stop <= one[0] for start, stop in taken)]
            if free:
                spans[place] = free[0]
                taken.append(free[0])
                if len(every) > 1 and len(every) != asked[phrase]:
                    doubts[place] = "phrase that the caption has more than once"
                break
        else:
            doubts[place] = "phrase that is not in the caption, or not once more"
    return spans, doubts


def caption_of(phrases: Sequence[str], template: str = TEMPLATE) -> tuple[str, list[Span | None]]:
    """A caption that names every phrase with its count, and where it names each; "a photo" where there are none."""
    if not phrases:
        return BARE, []
    before, after = template.split("{objects}")
    counts = Counter(phrases)
    text, spans = before, dict[str, Span]()
    for place, (phrase, count) in enumerate(counts.items()):
        if place:
            text += " and " if place == len(counts) - 1 else ", "
        article = "an" if phrase[:1].lower() in "aeiou" else "a"
        number = NUMBERS[count] if count < len(NUMBERS) else str(count)
        text += f"{article if count == 1 else number} "
        name = phrase if count == 1 else plural(phrase)
        spans[phrase] = len(text), len(text) + len(name)
        text += name
    return text + after, [spans[phrase] for phrase in phrases]


def plural(phrase: str) -> str:
    """The plural of a phrase's last word."""
    before, blank, word = phrase.rpartition(" ")
    if word.lower() in PLURALS:
        return before + blank + PLURALS[word.lower()]
    if re.search("(s|x|z|ch|sh)$", word):
        return f"{phrase}es"
    return f"{phrase[:-1]}ies" if re.search("[^aeiou]y$", word) else f"{phrase}s"


def check_template(template: str) -> str:
    """The template itself; raises InputError for one without {objects} or with it twice."""
    if template.count("{objects}") != 1 or not is_text(template):
        raise InputError(f"template {shown(template)}: expected a text with {{objects}} in it once")
    return template


def read_captions_by_id(path: Path) -> dict[str, str]:
    """Captions by id as text, of each the first: COCO's JSON, an object id -> text, or a CSV with an id and a caption."""
    found: dict[str, str] = {}
    for where, key, text in _csv_pairs(path) if path.suffix.lower() in (".csv", ".tsv") else _json_pairs(path):
        if not is_text(text):
            raise InputError(f"{path}: {where}, caption is {shown(text)}, expected text")
        if str(key).strip() and text.strip():
            found.setdefault(str(key).strip(), text.strip())
    if not found:
        raise InputError(f"{path}: no caption in it")
    return found


def _csv_pairs(path: Path) -> Any:
    rows = open_csv(path)
    _, header = next(rows, (0, []))
    key, text = (next((name for name in names if name in header), None) for names in (KEYS, TEXTS))
    if key is None or text is None:
        raise InputError(
            f"{path}: columns {', '.join(header)}, expected one of {', '.join(KEYS)} and of {', '.join(TEXTS)}"
        )
    for number, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"{path}: row {number}: {len(cells)} columns, {len(header)} expected")
        yield f"row {number}", cells[header.index(key)], cells[header.index(text)]


def _json_pairs(path: Path) -> Any:
    content = open_json(path, frozenset({"segmentation"}))
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        rows = content["annotations"]
        for place, row in enumerate(rows):
            if not isinstance(row, dict) or type(row.get("image_id")) is not int or "caption" not in row:
                raise InputError(
                    f"{path}: annotations[{place}] is {shown(row)}, expected an `image_id` and a `caption`"
                )
        lowest = sorted(rows, key=lambda row: row["id"] if type(row.get("id")) is int else 0)
        yield from ((f"image {row['image_id']}", row["image_id"], row["caption"]) for row in lowest)
    elif isinstance(content, dict):
        yield from ((f"key {shown(key)}", key, text) for key, text in content.items())
    else:
        raise InputError(f"{path}: expected COCO's captions, or an object id -> caption, found {shown(content)}")
