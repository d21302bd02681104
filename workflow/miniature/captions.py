"""Five differently worded captions of a scene: counts, relations, synonyms, plurals, things left unsaid."""

import re
from collections import Counter

import numpy as np

from workflow.miniature.world import COLOURS, SIDE, Scene, Thing

SYNONYMS = {
    "circle": ("disc", "dot"),
    "square": ("tile", "block"),
    "triangle": ("wedge",),
    "star": (),
    "ring": ("hoop",),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
SYNONYM_SHARE = 0.2
UNSAID_SHARE = 0.3


def captions(picture: Scene, rng: np.random.Generator) -> list[str]:
    """Five captions of one scene, in random order of wording; tiny things are never mentioned."""
    things = [thing for thing in picture.things if thing.size > 8]
    wordings = [_list, _list, _there, _place_words, _relation]
    order = rng.permutation(len(wordings))
    return [wordings[i](picture, things, rng) for i in order]


def named(caption: str) -> list[tuple[str, str]]:
    """The (shape, colour) objects a caption names, each as often as it counts them; crowds are not objects."""
    singular = {
        form: shape for shape, words in SYNONYMS.items() for word in (shape, *words) for form in (word, word + "s")
    }
    counts = {"a": 1} | {word: count for count, word in NUMBERS.items()}
    words = re.sub(r"a crowd of \w+ \w+", "", caption).replace(",", "").split()
    found = zip(words, words[1:], words[2:], strict=False)
    return [
        (singular[noun], colour)
        for number, colour, noun in found
        if number in counts and colour in COLOURS and noun in singular
        for _ in range(counts[number])
    ]


def _groups(picture: Scene, things: list[Thing], rng: np.random.Generator) -> list[str]:
    """Noun groups ("two red stars") in random order; sometimes one is left out, never all."""
    counts = list(Counter((thing.colour, thing.shape) for thing in things).items())
    order = rng.permutation(len(counts))
    if len(counts) > 1 and rng.random() < UNSAID_SHARE:
        order = order[1:]
    groups = [_group(colour, shape, count, rng) for (colour, shape), count in (counts[i] for i in order)]
    if picture.crowd:
        groups.append(f"a crowd of {picture.crowd[0].colour} {_noun(picture.crowd[0].shape, True, rng)}")
    return groups


def _group(colour: str, shape: str, count: int, rng: np.random.Generator) -> str:
    number = NUMBERS[count] if count > 1 else "a"
    return f"{number} {colour} {_noun(shape, count > 1, rng)}"


def _noun(shape: str, plural: bool, rng: np.random.Generator) -> str:
    word = shape
    if SYNONYMS[shape] and rng.random() < SYNONYM_SHARE:
        word = str(rng.choice(SYNONYMS[shape]))
    return word + "s" if plural else word


def _listed(groups: list[str]) -> str:
    return groups[0] if len(groups) == 1 else ", ".join(groups[:-1]) + " and " + groups[-1]


def _ground(picture: Scene) -> str:
    texture = "" if picture.texture == "plain" else "shaded " if picture.texture == "gradient" else "striped "
    return f"{texture}{picture.tone} background"


def _list(picture: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    groups = _groups(picture, things, rng)
    return _listed(groups) if groups else f"an empty {_ground(picture)}"


def _there(picture: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    groups = _groups(picture, things, rng)
    return f"a picture of {_listed(groups)}" if groups else f"a picture of a {_ground(picture)}"


def _place_words(picture: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    groups = _groups(picture, things, rng)
    return f"{_listed(groups)} on a {_ground(picture)}" if groups else f"nothing on a {_ground(picture)}"


def _relation(picture: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    """ "a red star to the left of a blue ring" for two single objects that clearly stand so, else a plain list."""
    for i in rng.permutation(len(things) - 1) if len(things) > 1 else ():
        a, b = things[int(i)], things[int(i) + 1]
        words = _stands(a, b)
        if words and len(things) <= 3:
            said = f"{_group(a.colour, a.shape, 1, rng)} {words} {_group(b.colour, b.shape, 1, rng)}"
            rest = [_group(c.colour, c.shape, 1, rng) for c in things if c not in (a, b)]
            return _listed([said, *rest]) if rest else said
    return _list(picture, things, rng)


def _stands(a: Thing, b: Thing) -> str | None:
    dx = (a.left + a.size / 2) - (b.left + b.size / 2)
    dy = (a.top + a.size / 2) - (b.top + b.size / 2)
    if max(abs(dx), abs(dy)) < SIDE / 4:
        return None
    if abs(dx) > 1.5 * abs(dy):
        return "to the left of" if dx < 0 else "to the right of"
    if abs(dy) > 1.5 * abs(dx):
        return "above" if dy < 0 else "below"
    return None
