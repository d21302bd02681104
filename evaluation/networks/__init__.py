"""Networks that measure: one module a network, which a stanza of the configuration's `extractors` names as its `kind`.

A network is a module of this package, or any other by its dotted name, with one of

    extractor(stanza, params, device) -> Extractor      features of images and regions (evaluation/extractors.py)
    detector(stanza, params, device) -> Detector        what it finds in images, and where (evaluation/detectors.py)
    judge(stanza, params, device) -> Judge              one number an image, by its caption (evaluation/judges.py)

which of them says what is measured. `stanza` is a Stanza, whose weights are verified before; the network is brought to the
device and set to evaluate. A module may also have

    Params = dataclass      what the stanza's `params` may hold, which is checked when the configuration is read; a detector's
                            begins with Limits
    FOLDER = True           its weights lie among files of its own, all of which are in the SHA256SUMS beside them

A module of one's own may do without weights: then its own file stands for them. Nothing here imports torch.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from formats import shown
from formats.files import InputError
from formats.modules import choice, defined, dotted, fields_of, file_of, statements
from formats.params import expect_each, is_count, is_number, unknown_key

FEATURES, DETECTIONS, SCORES = "features", "detections", "scores"
BATCH = 32  # images a network sees at a time: fixed, since float32 features can depend on it
FUNCTIONS = {"extractor": FEATURES, "detector": DETECTIONS, "judge": SCORES}
# What those measure whose names in the configuration have a meaning: metrics of evaluation.metrics.METRICS need them.
DETECTOR = "detector"
ROLES = {"frechet": FEATURES, "clip": FEATURES, "frechet_legacy": FEATURES, "cmmd": FEATURES, DETECTOR: DETECTIONS}
NEEDED = ("frechet", "clip")
# Of what a detector finds: a row a detection, with the layout's id.
PARTS = ("ids", "boxes", "scores", "labels")
# Extractors without a Frechet distance: all others run in float32.
NO_FRECHET = ("clip", "cmmd")
# Samples below which the distance by a further extractor is a dash.
LEAST = 2048
# Names of networks would be mixed up with these: keys of the protocol that features state, ...
STATED = ("label_template", "regions", "resolution", "batch", "torch", "groups", "reference")
# ... metrics, ...
METRICS = ("fid", "fid_legacy", "kid", "precision", "recall", "density", "coverage")
# ... and ends of names of arrays.
ENDS = (
    "ids",
    "objects",
    "text",
    "cut",
    "cosines",
    "sample",
    "groups",
    "numbers",
    "counts",
    "means",
    "scatters",
    "detection",
)


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


@dataclass(frozen=True)
class Limits:
    """What counts as found, of a detector: its Params hold these at least.

    keep: score from which a detection is kept; sure: from which it counts as one; overlap: intersection over union with a box
    from which it is on it; most: detections that are kept, of an image or of each phrase asked for.
    """

    keep: float = 0.05
    sure: float = 0.5
    overlap: float = 0.5
    most: int = 100

    def __post_init__(self) -> None:
        expect_each(self, "keep sure", is_share, "a number from 0 to 1")
        expect_each(self, "overlap", lambda overlap: is_share(overlap) and overlap > 0, "a number above 0, at most 1")
        expect_each(self, "most", lambda most: is_count(most) and most > 0, "an integer of at least 1")


USUAL = Limits()


@dataclass(frozen=True)
class Phrases(Limits):
    """Limits of a detector that finds what it is asked for. Detections of one phrase that overlap by more than `nms` are one.

    ask: what it is asked for of an object, its phrase, or its category where it has one.
    """

    nms: float = 0.5
    ask: str = "phrase"

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_each(self, "nms", is_share, "a number from 0 to 1")
        expect_each(self, "ask", lambda ask: ask in ("phrase", "category"), "phrase or category")


def limits_of(about: Mapping[str, Any]) -> Limits:
    """The limits of a detector, from what features state of it."""
    stated = about.get("params", {})
    return Limits(**{one.name: stated[one.name] for one in fields(Limits) if one.name in stated})


@dataclass(frozen=True)
class Stanza:
    """What a network is loaded from. key: its name in the configuration; name: what tables call it; path: its weights, which
    were verified; model: the name of an architecture, or a file of its sizes; precision: of its products.
    """

    key: str
    kind: str
    name: str
    path: Path
    model: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class NoParams:
    """The parameters of a module that has none."""


NO_PARAMS = NoParams()


class Description(NamedTuple):
    """What a module's source says of a network: what it measures; the names of its parameters (None: not told by the source);
    whether its weights lie in a folder of theirs; whether it is one's own; its file."""

    measures: str
    parameters: set[str] | None
    folder: bool
    own: bool
    source: Path


def described(kind: str) -> Description | None:
    """The network of a kind; None where there is none, or none that could be read."""
    module = dotted(kind, __name__)
    try:
        names, source = defined(module), file_of(module)
    except InputError:
        return None
    found = [measured for function, measured in FUNCTIONS.items() if function in names]
    if len(found) != 1 or source is None:
        return None
    parameters = fields_of(module, "Params") if "Params" in names else set()
    return Description(found[0], parameters, "FOLDER" in names, "." in kind, source)


@cache
def known() -> tuple[str, ...]:
    """Names of the networks in this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if described(module.name)))


def measured_by(kind: str) -> str:
    """What a network of a kind measures; nothing where there is none."""
    found = described(kind)
    return found.measures if found else ""


def stated_of(params: Any) -> dict[str, Any]:
    """What features state of a network's parameters: nothing of a detector with the usual limits, else all."""
    found, usual = asdict(params), asdict(USUAL)
    plain = params == type(params)() and all(found.get(name) == value for name, value in usual.items())
    return {} if plain else found


class Fault(NamedTuple):
    """What is wrong with a key of a stanza, or, without one, with the stanza."""

    key: str
    text: str


def faults(key: str, stanza: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with a stanza of the name `key`, as far as its module's source tells."""
    if key not in ROLES and (clash := clashes(key)):
        yield Fault("", clash)
    kind = stanza.get("kind", "")
    try:
        statements(dotted(kind, __name__))
    except InputError as error:
        yield Fault("kind", f"{kind!r} cannot be read: {error}")
        return
    found = described(kind)
    if found is None:
        yield Fault("kind", f"{kind!r} is no network: {choice(list(known()))} with one of {', '.join(FUNCTIONS)}")
        return
    if key in ROLES and found.measures != ROLES[key]:
        yield Fault("kind", f"{kind!r} measures {found.measures}, expected a network of {ROLES[key]}")
    precision, by_frechet = stanza.get("precision", "float32"), found.measures == FEATURES and key not in NO_FRECHET
    if by_frechet and precision != "float32":
        yield Fault("precision", f"{precision!r}, expected 'float32': a Frechet distance needs it")
    if stanza.get("least") is not None and (key in ROLES or found.measures != FEATURES):
        yield Fault(
            "least", f"{stanza['least']}, but there is none for it: it is of further extractors of features alone"
        )
    params = stanza.get("params") or {}
    if not isinstance(params, Mapping):
        yield Fault("params", f"expected a mapping, found {shown(params)}")
    elif found.parameters is not None:
        for name in sorted(map(str, params.keys() - found.parameters)):
            yield Fault("params", f"{name}: {unknown_key(name, found.parameters)}")


def clashes(key: str) -> str:
    """Why a network cannot have this name; nothing where it can."""
    if key in (*STATED, *METRICS) or any(f"_{key}".endswith(f"_{end}") for end in ENDS) or "known_" in key:
        return f"the name {key!r} has a meaning of its own in features and metrics; choose another"
    return ""


def networks_in(about: Mapping[str, Any]) -> dict[str, str]:
    """Name -> what it measures, of the networks that features state."""
    found = {name: ROLES[name] for name in ROLES if name in about}
    return found | {
        name: one["measures"] for name, one in about.items() if isinstance(one, Mapping) and "measures" in one
    }


def detection_arrays(detector: str) -> list[str]:
    """Names of the arrays of what a detector of the configuration finds: `detector`'s have none before them."""
    before = "" if detector == DETECTOR else f"{detector}_"
    return [f"{before}detection_{part}" for part in PARTS]
