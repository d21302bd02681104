"""Words of COCO's categories: found whole, however they are spaced, and never as the name of another thing."""

from pathlib import Path

import pytest

from evaluation.datasets.spans import read_words
from tests.coco_sets import DATA

WORDS = read_words(Path(DATA["words"]))
SURE = [
    (category, word)
    for category, row in WORDS.items()
    for word in [*row["forms"], *row["synonyms"]]
    if word not in row.get("alone", ())
]


@pytest.mark.parametrize(
    "gap", [" ", "  ", "\n", "\t", "\u00a0", "\u2003", "-", "\u2010", "\u2011", "- ", " -", "-\n", ""]
)
def test_every_name_is_found_whole_across_white_space_and_hyphens(gap) -> None:
    for category, word in SURE:
        said = word.replace(" ", gap)
        assert WORDS.spans(f"Two ({said.upper()}).") == {category: (5, 5 + len(said))}


def test_no_phrase_of_another_thing_names_the_category() -> None:
    for category, row in WORDS.items():
        for phrase in row.get("not", ()):
            for said in (phrase, f"{phrase}s", phrase.replace(" ", "-"), phrase.replace(" ", "  "), phrase.title()):
                assert category not in WORDS.spans(f"there is some {said} here"), said


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a hot-dog and a dog", {"hot dog": "hot-dog", "dog": "dog"}),
        ("it was hot - dog and cat slept", {"dog": "dog", "cat": "cat"}),
        ("a stop  sign by a traffic-light", {"stop sign": "stop  sign", "traffic light": "traffic-light"}),
        ("a teddy bear and a bear", {"teddy bear": "teddy bear", "bear": "bear"}),
        ("a fire hydrant", {"fire hydrant": "fire hydrant"}),
        ("he swings a baseball-bat", {"baseball bat": "baseball-bat"}),
        ("a baseball player at bat", {"person": "player"}),
        ("a boy throws a baseball to his dad", {"person": "boy", "sports ball": "baseball"}),
        ("they hit the base-ball.", {"sports ball": "base-ball"}),
        ("playing baseball on a baseball field", {}),
        ("a basketball court, a football game, football", {}),
        ("a soccer ball near baseballs", {"sports ball": "soccer ball"}),
        ("an orange cat beside an orange and white cat", {"cat": "cat"}),
        ("an orange on a plate", {"orange": "orange"}),
        ("a train station, and a train", {"train": "train"}),
        ("ten o'clock, ten o’clock and a clock tower", {"clock": "clock"}),
        ("a girl with a pony tail ties her shoe", {"person": "girl"}),
        ("a couple of dogs and a baby elephant", {"dog": "dogs", "elephant": "elephant"}),
        ("a dog-friendly, man-made lake", {}),
        ("an Apple laptop, a mouse pad and apple pie", {"laptop": "laptop"}),
        ("a microwave oven", {"microwave": "microwave oven"}),
        ("carrot cake", {"cake": "cake"}),
        ("a remote area, a remote", {"remote": "remote"}),
        ("ten meters from a parking meter", {"parking meter": "parking meter"}),
    ],
)
def test_words_name_what_they_surely_name(caption, named) -> None:
    assert {category: caption[start:end] for category, (start, end) in WORDS.spans(caption).items()} == named
