"""A study: a base row, and readings of it, each of which has one factor, or two, at another level than the base.

`expand` makes rows of the section `study`. A level lies on the base's `params` and `sampling`, and on the section `alignment`,
as an overlay lies on a configuration. A factor of sampling alone changes nothing that is trained, calibrated or chosen: its
readings have module, denoiser and eta of the row without it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from formats import shown
from formats.params import unknown_key, unknown_name
from workflow.keys import explained
from workflow.overlays import Fault, Keys, laid

if TYPE_CHECKING:
    from workflow.settings import Alignment, Factor, Level, Method, Settings, Study

PARTS = ("params", "sampling", "alignment")
# Of `alignment`, what a level may have otherwise: the rest says which rows eta is chosen with, for all of them.
TRAINED = ("text", "model", "train")
NAME = re.compile("[a-z0-9_]+")


class Choice(NamedTuple):
    """A level of a factor."""

    factor: str
    level: str


@dataclass(frozen=True)
class Reading:
    """A row of a study: the base's stanza and alignment with its choices, none of which is the base.

    trains_as: the row whose module, denoiser and eta it has, itself or the one without the factors of sampling alone.
    repeated: with every training seed.
    """

    row: str
    choices: tuple[Choice, ...]
    label: str
    stanza: "Method"
    alignment: "Alignment"
    trains_as: str
    repeated: bool


def expand(settings: "Settings") -> tuple[dict[str, Reading], list[Fault]]:
    """The readings of the study by row, the base first, and what is wrong with the section; nothing where there is none."""
    study = settings.study
    if study is None:
        return {}, []
    if found := list(_reference_faults(settings, study)):
        return {}, found
    readings, faults = {study.base: _reading(settings, study, ())}, []
    levels = {name: levels_of(factor) for name, factor in study.factors.items()}
    single = [(Choice(name, level),) for name, own in levels.items() for level in own]
    crossed = [choices for pair in study.pairs for choices in product(*(_choices(name, levels) for name in pair))]
    for choices in single + crossed:
        name = row_of(study.base, choices)
        keys: Keys = ("study", "factors", choices[0].factor, "levels", choices[0].level)
        if alike := [row for row, one in readings.items() if len(choices) > 1 and {*one.choices} == {*choices}]:
            faults.append(Fault(("study", "pairs"), f"{alike[0]!r} is paired twice; leave one of the two"))
            continue
        if name in settings.methods or name in readings:
            faults.append(Fault(keys, f"would be the row {name!r}, which already exists; choose another name"))
            continue
        try:
            readings[name] = _reading(settings, study, choices)
        except ValidationError as error:
            # A pair's is already reported for the single level.
            faults += [
                Fault((*keys, "alignment", *fault.keys), fault.text)
                for fault in explained(type(settings.alignment), error)
                if len(choices) == 1
            ]
    return readings, faults + [fault for row in readings.values() for fault in _level_faults(readings[study.base], row)]


def _choices(name: str, levels: Mapping[str, Mapping[str, Any]]) -> list[Choice]:
    """Of a factor all levels, of FACTOR.LEVEL that one."""
    factor, _, level = name.partition(".")
    return [Choice(factor, one) for one in ([level] if level else levels[factor])]


def row_of(base: str, choices: Sequence[Choice]) -> str:
    """The name of a reading."""
    return "_".join([base, *(word for choice in choices for word in choice)])


def _names_of(factor: "Factor") -> list[str]:
    return list(factor.levels) if isinstance(factor.levels, Mapping) else [word_of(value) for value in factor.levels]


def levels_of(factor: "Factor") -> dict[str, "Level"]:
    """The levels of a factor by name: those of a list are called by their values."""
    from workflow.settings import Level

    if isinstance(factor.levels, Mapping):
        return {name: Level.model_validate(level) for name, level in factor.levels.items()}
    part, *keys = str(factor.key).split(".")
    return {word_of(value): Level.model_validate({part: _nested(keys, value)}) for value in factor.levels}


def word_of(value: Any) -> str:
    """A value as a part of a row's name: 0.3 is 0_3."""
    return re.sub("[^a-z0-9]+", "_", _text(value).lower()).strip("_") or "empty"


def changes_of(level: "Level") -> dict[str, Any]:
    """What a level changes, by part."""
    return {part: changed for part in PARTS if (changed := getattr(level, part))}


def _nested(keys: Sequence[str], value: Any) -> Any:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _reading(settings: "Settings", study: "Study", choices: tuple[Choice, ...]) -> Reading:
    """Raises ValidationError where the levels make no section `alignment`."""
    base, alignment = settings.methods[study.base], settings.alignment.model_dump()
    params, sampling = base.params, base.sampling
    for choice in choices:
        level = levels_of(study.factors[choice.factor])[choice.level]
        params, sampling = laid(params, level.params), laid(sampling, level.sampling)
        alignment = laid(alignment, level.alignment)
    row = row_of(study.base, choices)
    label = ", ".join(_label(study.factors[choice.factor], choice) for choice in choices)
    training = tuple(choice for choice in choices if not study.factors[choice.factor].sampling_only)
    return Reading(
        row=row,
        choices=choices,
        label=label or base.label or study.base,
        stanza=base.model_copy(update={"params": params, "sampling": sampling, "label": label or base.label}),
        alignment=type(settings.alignment).model_validate(alignment),
        trains_as=row_of(study.base, training),
        repeated=all(study.factors[choice.factor].repeated for choice in choices),
    )


def _label(factor: "Factor", choice: Choice) -> str:
    """`tau = 0.3`: the value as it was written."""
    if isinstance(factor.levels, Mapping):
        return f"{choice.factor} = {choice.level}"
    values = {word_of(value): _text(value) for value in factor.levels}
    return f"{choice.factor} = {values[choice.level]}"


def _reference_faults(settings: "Settings", study: "Study") -> Iterator[Fault]:
    """Names that must be there, and levels that cannot be read."""
    rows = [name for name, method in settings.methods.items() if settings.models.get(method.base) is not None]
    for key, names in (("base", [study.base]), ("against", study.against)):
        for name in names:
            if name not in rows:
                yield Fault(("study", key), unknown_name(name, rows, "methods that have a model: "))
    if study.base in study.against:
        yield Fault(("study", "against"), f"{study.base!r} is the base; every reading is compared with it already")
    for pair in study.pairs:
        parts = [tuple(name.split(".", 1)) for name in pair]
        for of_factor, *of_level in parts:
            if of_factor not in study.factors:
                yield Fault(("study", "pairs"), unknown_name(of_factor, study.factors, "study.factors: "))
                continue
            known = _names_of(study.factors[of_factor])
            for level in of_level:
                if level not in known:
                    yield Fault(("study", "pairs"), unknown_name(level, known, f"study.factors.{of_factor}: "))
        if len({of_factor for of_factor, *_ in parts}) < len(parts):
            yield Fault(("study", "pairs"), f"expected two factors, found {shown(list(pair))}")
    base = settings.methods.get(study.base)
    if base and base.is_aligned and base.takes_eta and study.base != settings.alignment.method:
        text = f"has the eta of alignment.method, {settings.alignment.method!r}, but its readings would have their own"
        keys: Keys = ("study", "base")
        yield Fault(keys, f"{study.base!r} {text}; name one row in both", (keys, ("alignment", "method")))
    if study.training_seeds and base and not base.is_aligned:
        yield Fault(("study", "training_seeds"), f"{study.base!r} loads nothing that is trained here; leave them out")
    seeds, first = study.training_seeds, settings.alignment.train.seed
    if seeds and seeds[0] != first:
        by: tuple[Keys, ...] = (("study", "training_seeds"), ("alignment", "train", "seed"))
        text = f"begins with {seeds[0]}, expected alignment.train.seed, {first}: the table's differences are of it"
        yield Fault(by[0], text, by)
    for name, factor in study.factors.items():
        yield from _factor_faults(("study", "factors", name), factor)


def _factor_faults(keys: Keys, factor: "Factor") -> Iterator[Fault]:
    from workflow.settings import Level

    if isinstance(factor.levels, Mapping):
        if factor.key is not None:
            yield Fault((*keys, "key"), "is for a list of levels; named levels say themselves what they change")
        for name, level in factor.levels.items():
            if not NAME.fullmatch(str(name)):
                yield Fault((*keys, "levels", name), "not a name of small letters, digits and _")
            try:
                if not changes_of(Level.model_validate(level)):
                    yield Fault((*keys, "levels", name), f"changes nothing; give some of {', '.join(PARTS)}")
            except ValidationError as error:
                for fault in explained(Level, error):
                    yield Fault((*keys, "levels", name, *fault.keys), fault.text)
        return
    part, _, below = str(factor.key).partition(".")
    if factor.key is None:
        yield Fault((*keys, "key"), "missing: which key has these levels, such as params.tau")
    elif part not in PARTS or not below or not all(below.split(".")):
        found = f"{factor.key!r} is no key below {', '.join(PARTS)}, such as params.tau"
        yield Fault((*keys, "key"), found)
    words = [word_of(value) for value in factor.levels]
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        yield Fault((*keys, "levels"), f"two levels would be called {twice!r}; name them in a mapping")


def _level_faults(base: Reading, reading: Reading) -> Iterator[Fault]:
    """What a single level may not change, and a level that is the base."""
    if len(reading.choices) != 1:
        return
    (choice,) = reading.choices
    keys: Keys = ("study", "factors", choice.factor, "levels", choice.level)
    same = (reading.stanza.params, reading.stanza.sampling, reading.alignment) == (
        base.stanza.params,
        base.stanza.sampling,
        base.alignment,
    )
    if same:
        yield Fault(keys, f"equals what the base, {base.row!r}, has; leave this level out")
    if reading.alignment == base.alignment:
        return
    if not base.stanza.is_aligned:
        text = f"{base.row!r} loads no alignment module that is trained here, so nothing of `alignment` decides it"
        yield Fault((*keys, "alignment"), text)
    if reading.trains_as != reading.row:
        yield Fault((*keys, "alignment"), "changes what is trained, but the factor is one of `sampling_only`")
    changed = [key for key, value in reading.alignment if value != getattr(base.alignment, key)]
    for key in changed:
        if key not in TRAINED:
            yield Fault((*keys, "alignment", key), unknown_key(key, TRAINED))
