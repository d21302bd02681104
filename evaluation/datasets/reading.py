"""Reading foreign sets of layouts: what every reader shares.

A reader is a module of evaluation/datasets/readers with one function, `read(source)`. It goes through the files of `source`,
opens a `row` for each layout, and in it begins the `layout` and adds its boxes (`add`); everything else is done here:

- A field that cannot be read is a fault: one line with file, row and field. All faults are listed at the end, and nothing is
  written. An empty caption, and an empty, inverted or outlying box, are left out and counted.
- A box of a photo's pixels is cut at the photo's edge, and counted. One that is stated for a canvas, or the unit square, and
  leaves it, is left out; up to EDGE, by which roundings differ, is cut in silence.
- A file of whose boxes more than a fifth is empty, inverted or outside is refused as misread.
- A layout's number is its row's place, counted from 0 through all files: what is left out changes no other row's noise.
- Spans are looked for in the caption (captioning.py); a set without captions gets those of a file, or a template's.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from evaluation.datasets.canvas import rounded
from evaluation.datasets.captioning import TEMPLATE, caption_of, check_template, find_spans, read_captions_by_id
from evaluation.datasets.dropped import Report
from evaluation.datasets.opening import open_csv
from formats import listed, shown
from formats.fields import LARGEST, is_text
from formats.files import InputError
from formats.layouts import Box, Ignored, Layout, Object, Tag, area, is_tag

Canvas = tuple[float, float]
Form = Literal["xyxy", "xywh"]

UNIT: Canvas = (1.0, 1.0)
EDGE = 2e-6  # of the canvas
FAR = 0.01  # of the canvas: a box that leaves it by more counts as misread
PIXELS = 10.0  # an edge beyond this in a unit square is a pixel's
FAULTS = 100  # after so many a file is given up
LARGEST_EDGE = 1e9


class RowError(ValueError):
    """A field of a row cannot be read: the field, what was found, what was expected."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)


@dataclass(frozen=True)
class Options:
    """How a set is to be read where it does not say so itself; None is the reader's own.

    boxes, canvas, origin: xyxy or xywh, pixels of (width, height) or UNIT, and whether pixels count from 0 or 1. captions,
    template: where captions come from that the set has not; `template` None refuses such sets. min_area_frac, max_boxes:
    below which share of the canvas boxes are left out, and how many of the largest are kept.
    """

    boxes: Form | None = None
    canvas: Canvas | None = None
    origin: Literal[0, 1] | None = None
    captions: Path | None = None
    template: str | None = TEMPLATE
    min_area_frac: float = 0.0
    max_boxes: int = 30


class Source:
    """A set as it is read: its files, the options, the layouts so far, and the report."""

    def __init__(self, paths: Sequence[Path], options: Options) -> None:
        self.paths, self.options, self.report = paths, options, Report()
        self.layouts: list[Layout] = []
        self.rows = 0
        self._faults: list[str] = []
        self._boxes: Counter[Path] = Counter()
        self._misfits: Counter[Path] = Counter()
        self._ids: dict[str, str] = {}
        if options.template is not None:
            check_template(options.template)
        self.captions = read_captions_by_id(options.captions) if options.captions else None

    def files(self, *patterns: str) -> list[Path]:
        """The files of the paths: a file itself, of a folder those of the first pattern that any matches, sorted by name."""
        found: list[Path] = []
        for path in self.paths:
            if path.is_file():
                found.append(path)
                continue
            if not path.is_dir():
                raise InputError(f"{path}: no such file or folder")
            inside = (sorted(one for one in path.glob(pattern) if one.is_file()) for pattern in patterns)
            chosen = next((files for files in inside if files), None)
            if chosen is None:
                raise InputError(f"{path}: contains no {' or '.join(patterns)}")
            found += chosen
        return found

    def row(self, path: Path, where: str, fields: Any = None) -> "Row":
        """A row that holds a layout; it has the next place."""
        self.rows += 1
        return Row(self, path, where, fields, self.rows - 1)

    def record(self, path: Path, where: str, fields: Any = None) -> "Row":
        """A row that holds none of its own, such as one of an image's boxes; it has no place."""
        return Row(self, path, where, fields, None)

    def table(self, path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Rows of a CSV file by the names in its header, with their numbers; one of another length is a fault."""
        rows = open_csv(path)
        _, header = next(rows, (0, []))
        header = [name.strip() for name in header]
        if missing := [name for name in columns if name not in header]:
            found = shown(", ".join(header)) if header else "an empty file"
            raise InputError(
                f"{path}: header has no column `{missing[0]}`; found {found}, expected {', '.join(columns)}"
            )
        if repeated := [name for name, count in Counter(filter(None, header)).items() if count > 1]:
            raise InputError(f"{path}: header has the column `{repeated[0]}` twice")
        for number, cells in rows:
            if len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
            else:
                self.rows += 1
                self.fault(path, f"row {number}", f"{len(cells)} columns, {len(header)} expected")

    def entries(self, path: Path, content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        """The entries of a list of JSON, each with where it stands, `[3] (id 7)`; anything else than a list is a fault."""
        if not isinstance(content, list):
            self.fault(path, f"`{name}`" if name else "", f"is {shown(content)}, expected a list")
            return
        for place, fields in enumerate(content):
            own = fields.get("id") if isinstance(fields, dict) else None
            yield f"{name}[{place}]" + (f" (id {shown(own)})" if own is not None else ""), fields

    def fault(self, path: Path, where: str, problem: object) -> None:
        """A line of what cannot be read; after FAULTS of them reading stops with InputError."""
        self._faults.append(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")
        if len(self._faults) >= FAULTS:
            raise InputError(f"{listed(self._faults)}, and the rest unread")

    def fitting(self, path: Path, box: Box, canvas: Canvas, cut: bool) -> tuple[Box | None, str]:
        """A box, xyxy of `canvas`, in the unit square, or None and why it is left out; with `cut` its part on the canvas."""
        self._boxes[path] += 1
        self.report.boxes += 1
        (width, height), (x0, y0, x1, y1) = canvas, box
        edges = x0 / width, y0 / height, x1 / width, y1 / height
        inside = tuple(min(max(edge, 0.0), 1.0) for edge in edges)
        beyond = max(abs(edge - within) for edge, within in zip(edges, inside, strict=True))
        reason = ""
        if x1 <= x0 or y1 <= y0:
            reason = "inverted box" if x1 < x0 or y1 < y0 else "empty box"
        elif edges[0] >= 1 or edges[1] >= 1 or edges[2] <= 0 or edges[3] <= 0 or (beyond > EDGE and not cut):
            reason = "outside the canvas"
        elif canvas != UNIT and x1 - x0 < 1 and y1 - y0 < 1 and canvas > (1, 1):
            empty = rounded((inside[0], inside[1], inside[2], inside[3])) is None
            reason = "empty box" if empty else "under a pixel: are these unit coordinates in a file of pixels?"
        fitted = None if reason else rounded((inside[0], inside[1], inside[2], inside[3]))
        if not reason and fitted is None:
            reason = "empty box"
        if reason or beyond > FAR:
            self._misfits[path] += 1
        return fitted, reason or ("cut at the edge of the photo" if beyond > EDGE else "")

    def claim(self, own: str | int, path: Path, where: str) -> None:
        """Take an id of the set for a row; raises RowError for one that an earlier row has, kept or not."""
        here = f"{path.name} {where}".strip()
        first = self._ids.setdefault(str(own), here)
        if first is not here:
            raise RowError("", f"duplicate id {shown(own)}, which {first} has")

    def finish(self) -> list[Layout]:
        """The layouts; raises InputError for all faults, a file that was misread, and where nothing is left."""
        if self._faults:
            raise InputError(listed(self._faults))
        for path, misfits in self._misfits.items():
            boxes = self._boxes[path]
            if misfits * 5 > boxes and (boxes >= 10 or misfits >= 4):
                raise InputError(
                    f"{path}: refused as misread: {misfits} of {boxes} boxes are empty, inverted or outside the canvas; is it"
                    " x, y, width, height read as corners, or the other way round, pixels read as the unit square, or another"
                    " canvas? Say it by `boxes` and `canvas` where the reader takes them"
                )
        if not self.layouts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.report.dropped.counts.items())
            raise InputError(f"{', '.join(map(str, self.paths))}: no layout in it{f' ({reasons})' if reasons else ''}")
        return self.layouts


class Row:
    """One row at hand, a context: what a field's check raises in it becomes a fault of the row, and the next one is read.

    The layout that was begun in it is kept when it ends well.
    """

    def __init__(self, source: Source, path: Path, where: str, fields: Any, place: int | None) -> None:
        self.source, self.path, self.where, self.fields, self.place = source, path, where, fields, place
        self._draft: Draft | None = None

    def __enter__(self) -> "Row":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None and self._draft is not None:
            try:
                self._draft.end()
            except RowError as fault:
                error = fault
        if isinstance(error, RowError):
            self.source.fault(self.path, self.where, error)
            return True
        return False

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return isinstance(self.fields, Mapping) and self.fields.get(key) is not None

    def field(self, key: str, expected: str = "") -> Any:
        """A field as it is; one that is missing is a fault."""
        if not isinstance(self.fields, Mapping):
            raise RowError("", f"is {shown(self.fields)}, expected an object")
        if key not in self.fields:
            raise RowError(f"no `{key}`", f"expected {expected or 'one'}")
        return self.fields[key]

    def text(self, key: str, filled: bool = True) -> str:
        """A field of text, stripped; one that is blank is a fault where it has to be `filled`."""
        return checked_text(self.field(key, "text"), f"`{key}`", filled)

    def whole(self, key: str, least: int = 0) -> int:
        """A field that is an integer: no text, no boolean."""
        value = self.field(key, "an integer")
        if type(value) is not int or not least <= value <= LARGEST:
            raise RowError(f"`{key}`", f"is {shown(value)}, expected a whole number from {least} on")
        return value

    def own_id(self, key: str) -> str | int:
        """A field that is the set's own id: an integer, or text that is not blank."""
        value = self.field(key, "an id")
        if type(value) is int and abs(value) <= LARGEST:
            return value
        return checked_text(value, f"`{key}`", filled=True)

    def several(self, key: str) -> list[Any]:
        """A field that is a list."""
        return checked_list(self.field(key, "a list"), f"`{key}`")

    def layout(
        self,
        caption: str | None,
        source_id: str | int,
        image_id: int | None = None,
        photo: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> "Draft":
        """Begin the row's layout; without a caption it gets one from elsewhere, with an empty one it is left out."""
        self.source.claim(source_id, self.path, self.where)
        self._draft = Draft(self, caption, source_id, image_id, photo, tags or {})
        return self._draft


class Draft:
    """A layout while its boxes are added."""

    def __init__(
        self,
        row: Row,
        caption: str | None,
        source_id: str | int,
        image_id: int | None,
        photo: str | None,
        tags: Mapping[str, Any],
    ) -> None:
        self._row, self.source, self.caption, self.source_id = row, row.source, caption, source_id
        self.image_id, self.photo, self.tags = image_id, photo, _tags(tags)
        self.number = row.place  # the layout's; a reader whose numbers are its own sets it
        self.objects: list[Object] = []
        self.ignored: list[Ignored] = []

    def add(
        self,
        phrase: Any,
        box: Any,
        field: str,
        canvas: Canvas = UNIT,
        form: Form = "xyxy",
        cut: bool = False,
        span: tuple[int, int] | None = None,
        annotation_id: int | None = None,
        category: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        leave_out: str = "",
    ) -> None:
        """Add an object: `box` as the set has it, `field` its name in messages; `leave_out`: why its set leaves it out."""
        phrase = checked_text(phrase, f"phrase of {field}", filled=True)
        edges = checked_box(box, field, canvas, form)
        fitted, said = self.source.fitting(self._row.path, edges, canvas, cut)
        name = f"{self.source_id}: {phrase}" if annotation_id is None else annotation_id
        if fitted is None:
            self.source.report.drop(said, name)
            return
        if said:
            self.source.report.note(said, name)
        if leave_out:
            self.source.report.drop(leave_out, name)
            self.ignored.append(Ignored(phrase, fitted, leave_out))
            return
        other = category if category and category != phrase else None
        self.objects.append(Object(phrase, fitted, span, annotation_id, other, _tags(attributes or {})))

    def drop(self, reason: str, name: Any = None) -> None:
        """Count something of the layout that is left out."""
        self.source.report.drop(reason, self.source_id if name is None else name)

    def note(self, reason: str) -> None:
        """Count something of the layout that is read as the reason says."""
        self.source.report.note(reason, self.source_id)

    def end(self) -> None:
        """Choose boxes and caption, find spans, and hand the layout over."""
        self._choose()
        caption = self._caption()
        if caption is None:
            return
        assert self.number is not None
        layout = Layout(
            self.number,
            self.number if self.image_id is None else self.image_id,
            caption,
            tuple(self.objects),
            ignored=tuple(self.ignored),
            photo=self.photo,
            source_id=self.source_id,
            tags=self.tags,
        )
        self.source.layouts.append(layout)

    def _choose(self) -> None:
        least, most = self.source.options.min_area_frac, self.source.options.max_boxes
        largest = sorted(self.objects, key=lambda thing: -area(thing.box))
        beyond = {id(thing) for thing in [one for one in largest if area(one.box) >= least][most:]}
        kept = []
        for thing in self.objects:
            reason = f"beyond the {most} largest" if id(thing) in beyond else ""
            reason = "smaller than min_area_frac" if area(thing.box) < least else reason
            if reason:
                self.drop(reason, f"{self.source_id}: {thing.phrase}")
                self.ignored.append(Ignored(thing.phrase, thing.box, reason))
            else:
                kept.append(thing)
        self.objects = kept

    def _caption(self) -> str | None:
        source, phrases = self.source, [thing.phrase for thing in self.objects]
        caption = self.caption
        if source.captions is not None and caption is None:
            keys = (str(self.source_id), str(self.image_id), self.photo or "", Path(self.photo or "").stem)
            caption = next((source.captions[key] for key in keys if key in source.captions), None)
            if caption is None:
                self.drop("no caption in the file of captions")
                return None
        elif caption is None:
            if source.options.template is None:
                raise RowError("caption", "the set has none; give a file of captions, or a template")
            caption, spans = caption_of(phrases, source.options.template)
            self.note("caption made by the template")
            self._span(spans)
            return caption
        if not caption.strip():
            self.drop("empty caption")
            return None
        found, doubts = find_spans(caption, phrases)
        if any(thing.span is None for thing in self.objects):
            for doubt in filter(None, doubts):
                self.note(doubt)
        self._span(found)
        return caption

    def _span(self, spans: Sequence[tuple[int, int] | None]) -> None:
        self.objects = [replace(one, span=one.span or span) for one, span in zip(self.objects, spans, strict=True)]


def checked_text(value: Any, field: str, filled: bool = True) -> str:
    """Text, stripped; raises RowError for what is none or, where it has to be filled, blank."""
    if not isinstance(value, str) or not is_text(value):
        raise RowError(field, f"is {shown(value)}, expected text")
    if filled and not value.strip():
        raise RowError(field, "is blank, expected text")
    return value.strip()


def checked_list(value: Any, field: str, count: int | None = None) -> list[Any]:
    """A list or tuple as a list; raises RowError for anything else, and for another length than `count`."""
    if not isinstance(value, list | tuple):
        raise RowError(field, f"is {shown(value)}, expected a list")
    if count is not None and len(value) != count:
        raise RowError(field, f"has {len(value)} entries, expected {count}")
    return list(value)


def checked_box(box: Any, field: str, canvas: Canvas, form: Form) -> Box:
    """Four numbers as xyxy, still in the canvas's units; raises RowError for anything else, or pixels in a unit square."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        raise RowError(field, f"is {shown(box)}, not four numbers")
    for edge in box:
        if type(edge) not in (int, float) or not math.isfinite(edge) or abs(edge) > LARGEST_EDGE:
            raise RowError(field, f"has {shown(edge)}, not a finite number")
        if canvas == UNIT and abs(edge) > PIXELS:
            raise RowError(field, f"has {shown(edge)}, not in the unit square: pixels?")
    x0, y0, x1, y1 = map(float, box)
    return (x0, y0, x0 + x1, y0 + y1) if form == "xywh" else (x0, y0, x1, y1)


def number(text: Any, field: str) -> float:
    """The finite number that a text is; raises RowError."""
    try:
        found = float(text) if isinstance(text, str) and text.isascii() and "_" not in text else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RowError(field, f"{shown(text)} is not a number")
    return found


def numbers(text: str, field: str, separator: str | None = ",") -> list[float]:
    """The numbers of a text, four of them; raises RowError."""
    parts = text.split(separator)
    if len(parts) != 4:
        raise RowError(field, f"is {shown(text)}, not four numbers")
    return [number(part.strip(), field) for part in parts]


def attributes_of(value: Any) -> tuple[dict[str, Tag], bool]:
    """Of a record's `attributes`, as CVAT writes them, those that a layout can have by name; and whether all could be had."""
    if value is None or value == []:
        return {}, True
    if not isinstance(value, dict):
        return {}, False
    said = {key: one for key, one in value.items() if one is not None and one != ""}
    fit = {key: one for key, one in said.items() if is_text(key) and key.strip() and is_tag(one)}
    return fit, len(fit) == len(said)


def _tags(tags: Mapping[str, Any]) -> dict[str, Tag]:
    """Those that have a value."""
    found = {key: value for key, value in tags.items() if value is not None and value != ""}
    for key, value in found.items():
        if not is_text(key) or not is_tag(value):
            raise RowError(f"tag `{key}`", f"is {shown(value)}, expected text, a finite number or a boolean")
    return found
