"""Layouts as people have them: what can be read without doubt is read, everything else is one line, for every reader alike."""

import codecs
import json
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.layouts import read_layout_rows as read_rows
from evaluation.layouts import write_layouts as write_rows
from formats.files import InputError
from formats.layouts import Ignored, Layout, Object, as_row, read_layouts, write_layouts

ROW: dict[str, Any] = {
    "id": 7,
    "image_id": 3,
    "caption": "a cat on a mat",
    "objects": [{"phrase": "cat", "box": [0, 0.25, 0.5, 1], "span": [2, 5], "annotation_id": 11}],
    "captions": ["a cat on a mat", "one cat"],
    "ignored": [{"phrase": "person", "box": [0.5, 0, 1, 0.5], "why": "crowd"}],
}
LAYOUT = Layout(
    7,
    3,
    "a cat on a mat",
    (Object("cat", (0.0, 0.25, 0.5, 1.0), (2, 5), 11),),
    ("a cat on a mat", "one cat"),
    (Ignored("person", (0.5, 0.0, 1.0, 0.5), "crowd"),),
)
HALF = "\ud83d"


def methods_reader(path: Path) -> list[dict[str, Any]]:
    return [as_row(layout) for layout in read_layouts(path)]


READERS = [methods_reader, read_rows]
every_reader = pytest.mark.parametrize("read", READERS, ids=["methods", "evaluation"])


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def changed(path: str, value: Any = None, drop: bool = False) -> dict[str, Any]:
    """ROW with the value at a dotted path replaced, or without it."""
    row = deepcopy(ROW)
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = row
    for part in above:
        place = place[part]
    if drop:
        del place[last]
    else:
        place[last] = value
    return row


@every_reader
@pytest.mark.parametrize(
    "content",
    [
        lines(ROW),
        codecs.BOM_UTF8 + lines(ROW),
        b"\n \n" + lines(ROW).replace(b"\n", b"\r\n\r\n"),
        lines(ROW).rstrip(b"\n"),
        lines(ROW | {"id": "7", "image_id": 3.0}),
        lines(ROW | {"id": 7.0, "image_id": "000000000003"}),
        lines(ROW | {"source": {"any": [1, None]}}),
        lines(changed("objects.0.annotation_id", "11")),
        lines(changed("objects.0.box", [0.0, 0.25, 0.5, 1.0])),
    ],
    ids=["plain", "mark", "blank lines", "no end", "digits", "integral", "unknown key", "annotation", "floats"],
)
def test_what_can_be_read_without_doubt_is_read(tmp_path, read, content) -> None:
    (tmp_path / "layouts.jsonl").write_bytes(content)
    assert read(tmp_path / "layouts.jsonl") == [as_row(LAYOUT)]


@every_reader
def test_optional_keys_may_be_missing_or_null(tmp_path, read) -> None:
    plain = {"id": 7, "image_id": 3, "caption": "", "objects": [{"phrase": "cat", "box": [0, 0, 1, 1]}]}
    null = plain | {"objects": [plain["objects"][0] | {"span": None, "annotation_id": None}]}
    for row in (plain, null, null | {"captions": None, "ignored": None}, null | {"captions": [], "ignored": []}):
        (tmp_path / "layouts.jsonl").write_bytes(lines(row))
        assert read(tmp_path / "layouts.jsonl") == [as_row(Layout(7, 3, "", (Object("cat", (0.0, 0.0, 1.0, 1.0)),)))]


@every_reader
def test_a_caption_may_hold_any_separator_and_any_character(tmp_path, read) -> None:
    caption = "a\u2028b\u0085c \U0001f600 \x00\n\r\t"
    (tmp_path / "layouts.jsonl").write_bytes(
        (json.dumps(ROW | {"caption": caption}, ensure_ascii=False) + "\n").encode()
    )
    assert read(tmp_path / "layouts.jsonl")[0]["caption"] == caption
    (tmp_path / "layouts.jsonl").write_bytes(lines(ROW | {"caption": "a cat \U0001f600"}))  # as a pair of escapes
    assert read(tmp_path / "layouts.jsonl")[0]["caption"] == "a cat \U0001f600"


def test_both_writers_write_what_both_readers_read(tmp_path) -> None:
    write_layouts(tmp_path / "new/a.jsonl", [LAYOUT])
    write_rows(tmp_path / "b.jsonl", [as_row(LAYOUT)])
    assert (tmp_path / "new/a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert read_layouts(tmp_path / "b.jsonl") == [LAYOUT]


def test_a_part_of_a_file_is_read_by_place_among_the_layouts(tmp_path) -> None:
    content = lines(*(ROW | {"id": number} for number in range(5))).replace(b"\n", b"\n\n")
    (tmp_path / "layouts.jsonl").write_bytes(content)
    assert [row["id"] for row in read_rows(tmp_path / "layouts.jsonl", 1, 3)] == [1, 2]
    assert [row.id for row in read_layouts(tmp_path / "layouts.jsonl", 3)] == [3, 4]


ID = "an integer from 0 to 9223372036854775807"
UNIT = r"\[x0, y0, x1, y1\] with 0 <= x0 < x1 <= 1"
BAD = [
    *[
        (changed("id", value), rf"line 1: `id` is {found}, expected {ID}")
        for value, found in [
            ("seven", "'seven'"),
            ("7.0", "'7.0'"),
            (" 7", "' 7'"),
            ("\u0667", "'\u0667'"),
            (7.5, "7.5"),
            (-1, "-1"),
            ("-1", "'-1'"),
            (True, "true"),
            (None, "null"),
            ([7], r"\[7\]"),
            (2**63, str(2**63)),
            (str(2**63), f"'{2**63}'"),
            (2.0**53, "9007199254740992.0"),
            (math.nan, "nan"),
            (math.inf, "inf"),
        ]
    ],
    (changed("id", drop=True), rf"line 1: `id` is missing, expected {ID}"),
    (changed("image_id", drop=True), rf"layout 7: `image_id` is missing, expected {ID}"),
    (changed("image_id", "x.jpg"), rf"layout 7: `image_id` is 'x.jpg', expected {ID}"),
    (changed("caption", drop=True), "layout 7: `caption` is missing, expected text"),
    (changed("caption", None), "layout 7: `caption` is null, expected text"),
    (changed("caption", 5), "layout 7: `caption` is 5, expected text"),
    (changed("caption", f"a {HALF} cat"), r"layout 7: `caption` is 'a \\ud83d cat', expected text without halves"),
    (changed("objects", drop=True), "layout 7: `objects` is missing, expected a list of records"),
    (changed("objects", None), "layout 7: `objects` is null, expected a list of records"),
    (changed("objects.0", "cat"), r"layout 7: `objects\[0\]` is 'cat', expected a record"),
    (changed("objects.0.phrase", drop=True), r"`objects\[0\].phrase` is missing, expected text that is not blank"),
    (changed("objects.0.phrase", None), r"`objects\[0\].phrase` is null, expected text that is not blank"),
    (changed("objects.0.phrase", " \n"), r"`objects\[0\].phrase` is ' \\n', expected text that is not blank"),
    (changed("objects.0.phrase", HALF), r"`objects\[0\].phrase` is '\\ud83d', expected text without halves"),
    *[
        (changed("objects.0.box", value), rf"layout 7: `objects\[0\].box` is .*, expected {UNIT}")
        for value in [
            [0.9, 0.2, 0.4, 0.8],
            [0.1, 0.2, 0.1, 0.8],
            [0.1, 0.2, 0.4, 1.0001],
            [-0.1, 0.2, 0.4, 1],
            [0, 0, 32, 32],
            [0, 0, 1],
            [0, 0, 1, 1, 1],
            [0, 0, "1", 1],
            [0, 0, True, 1],
            [0, 0, None, 1],
            [0, 0, math.nan, 1],
            [0, 0, math.inf, 1],
            [0, 0, 10**400, 1],
            {"x": 0},
            None,
        ]
    ],
    (changed("objects.0.box", drop=True), rf"`objects\[0\].box` is missing, expected {UNIT}"),
    *[
        (changed("objects.0.span", value), r"`objects\[0\].span` is .*, expected \[start, stop\] .* 14, the caption's")
        for value in [[5, 2], [2, 2], [2, 15], [-1, 2], [2], [2.5, 3], ["2", 5], [True, 5], 2, "cat"]
    ],
    (changed("objects.0.annotation_id", "a1"), r"`objects\[0\].annotation_id` is 'a1', expected an integer"),
    *[
        (changed("captions", value), "layout 7: `captions` is .*, expected a list of texts")
        for value in ("", 0, {}, False)
    ],
    *[
        (changed("ignored", value), "layout 7: `ignored` is .*, expected a list of records")
        for value in ("", 0, {}, False)
    ],
    (changed("captions", "a cat"), "layout 7: `captions` is 'a cat', expected a list of texts"),
    (changed("captions.1", None), r"layout 7: `captions\[1\]` is null, expected text"),
    (changed("ignored", {}) | {"ignored": {"a": 1}}, "layout 7: `ignored` is {'a': 1}, expected a list of records"),
    (changed("ignored.0.box", [0, 0, 2, 1]), rf"`ignored\[0\].box` is \[0, 0, 2, 1\], expected {UNIT}"),
    (changed("ignored.0.phrase", ""), r"`ignored\[0\].phrase` is '', expected text that is not blank"),
    (changed("ignored.0.why", drop=True), r"`ignored\[0\].why` is missing, expected text that is not blank"),
    ([ROW], "line 1: expected an object, found "),
    (None, "line 1: expected an object, found null"),
    ("text", "line 1: expected an object, found 'text'"),
]


@every_reader
@pytest.mark.parametrize(("row", "named"), BAD)
def test_a_field_that_is_not_valid_is_named_with_its_value_and_what_was_expected(tmp_path, read, row, named) -> None:
    (tmp_path / "layouts.jsonl").write_bytes(lines(row))
    one_line(read, tmp_path / "layouts.jsonl", rf"layouts\.jsonl, .*{named}")


DEEP = b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@every_reader
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lines(ROW)[:40], r"line 1: not JSON \(.*, column 1?\d*\); expected one object a line"),
        (json.dumps([ROW], indent=1).encode(), r"line 1: not JSON .*expected one object a line, found"),
        (lines(ROW).decode().encode("utf-16"), r"layouts\.jsonl: UTF-16, expected UTF-8"),
        (lines(ROW) + b'{"id": 8, "caption": "caf\xe9"}\n', r"line 2: byte b'\\xe9' is not UTF-8"),
        (DEEP, "line 1: JSON nested too deeply"),
        (b'{"id": 1' + b"0" * 5000 + b"}", "line 1: `id` is an integer of 5,001 digits, expected an integer from 0"),
        (lines(ROW).replace(b"0.25", b"1" * 5000), r"`objects\[0\].box` is .*an integer of 5,000 digits"),
        (lines(ROW).replace(b'{"id": 7', b'{"id": 7, "id": 8'), "line 1: key 'id' comes twice in one object"),
        (lines(ROW, ROW), "line 2: layout 7 occurs twice"),
        (lines(ROW, ROW | {"id": "7"}), "line 2: layout 7 occurs twice"),
    ],
)
def test_a_line_that_is_no_layout_is_named(tmp_path, read, content, named) -> None:
    (tmp_path / "layouts.jsonl").write_bytes(content)
    one_line(read, tmp_path / "layouts.jsonl", named)


@every_reader
def test_nesting_of_any_depth_is_one_line(tmp_path, read) -> None:
    for depth in [*range(1, 40), *range(40, 1200, 13), 10_000]:
        nested = b"[" * depth + b"7" + b"]" * depth
        for content in (nested, lines(ROW).replace(b'"id": 7', b'"id": ' + nested)):
            (tmp_path / "layouts.jsonl").write_bytes(content)
            one_line(read, tmp_path / "layouts.jsonl", "line 1: ")


@every_reader
def test_the_first_faulty_rows_are_listed_and_all_counted(tmp_path, read) -> None:
    (tmp_path / "layouts.jsonl").write_bytes(b"\n" + lines(ROW, *(ROW | {"id": f"x{i}"} for i in range(5))))
    one_line(
        read, tmp_path / "layouts.jsonl", r"line 3: `id` is 'x0'.*; line 4: .*; line 5: [^;]*; and 2 more, 5 in all$"
    )


@every_reader
def test_a_missing_file_is_named(tmp_path, read) -> None:
    one_line(read, tmp_path / "none.jsonl", r"none\.jsonl: no such file")


def one_line(read: Callable[[Path], Any], path: Path, named: str) -> None:
    with pytest.raises(InputError, match=named) as refused:
        read(path)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    message.encode()  # it can be printed


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 20),
    st.integers(2**63 - 2, 2**64) | st.just(10**1500) | st.just(-(10**40)),
    st.floats(),
    st.text(st.characters(), max_size=6),  # halves of surrogate pairs too
    st.sampled_from(["7", "007", "-0", "1e3", "\u0663", "NaN", " ", "", "\ufeff"]),
    st.lists(st.floats(-0.5, 1.5) | st.integers(-1, 2), max_size=5),
    st.dictionaries(st.sampled_from(["phrase", "box", "why", "id"]), st.integers(0, 1), max_size=2),
)
PLACES = [
    *ROW,
    *("objects.0", "objects.0.phrase", "objects.0.box", "objects.0.span", "objects.0.annotation_id"),
    *("objects.0.box.0", "objects.0.box.3", "objects.0.span.1", "captions.0"),
    *("ignored.0", "ignored.0.phrase", "ignored.0.box", "ignored.0.box.2", "ignored.0.why"),
]


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """ROW with up to three fields dropped, replaced, doubled or turned into text."""
    row = deepcopy(ROW)
    for place in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
        *above, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        holder: Any = row
        for part in above:
            holder = (
                holder[part]
                if isinstance(part, int) and isinstance(holder, list) and part < len(holder)
                else (holder.get(part) if isinstance(holder, dict) else None)
            )
        try:
            match draw(st.sampled_from(["drop", "replace", "double", "text"])):
                case "drop":
                    del holder[last]
                case "replace":
                    holder[last] = draw(ODD)
                case "double":
                    holder[last] = holder[last] * 2
                case "text":
                    holder[last] = str(holder[last])
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change took the place away
    return row


def valid(row: dict[str, Any]) -> bool:
    """What a reader may hand on: the contract in other words than the reader's."""

    def text(value: Any) -> bool:
        return type(value) is str and value == value.encode("utf-8", "replace").decode()

    def boxed(thing: dict[str, Any]) -> bool:
        x0, y0, x1, y1 = thing["box"]
        edges_in_order = 0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0
        return edges_in_order and {type(edge) for edge in thing["box"]} == {float} and bool(thing["phrase"].strip())

    def spanned(thing: dict[str, Any]) -> bool:
        return thing["span"] is None or bool(row["caption"][slice(*thing["span"])])

    ignored = row.get("ignored", [])
    return (
        all(type(row[key]) is int and 0 <= row[key] < 2**63 for key in ("id", "image_id"))
        and all(
            map(text, [row["caption"], *row.get("captions", []), *(t["phrase"] for t in [*row["objects"], *ignored])])
        )
        and all(map(boxed, [*row["objects"], *ignored]))
        and all(map(spanned, row["objects"]))
    )


def read_or_refuse(path: Path, rows: list[Any]) -> None:
    path.write_bytes(lines(*rows))
    outcomes = []
    for read in READERS:
        try:
            found = read(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            str(error).encode()
            outcomes.append(str(error))
        else:
            assert len(found) == len(rows) and all(map(valid, found))
            outcomes.append(found)
    assert outcomes[0] == outcomes[1]  # the readers agree


FUZZ = {"derandomize": True, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=300, **FUZZ)
@given(rows=st.lists(spoilt(), min_size=1, max_size=3))
def test_any_record_is_valid_or_one_line(tmp_path, rows) -> None:
    read_or_refuse(tmp_path / "layouts.jsonl", rows)


@pytest.mark.slow
@settings(max_examples=5_000, **FUZZ)
@given(rows=st.lists(spoilt(), min_size=1, max_size=4))
def test_very_many_records_are_valid_or_one_line(tmp_path, rows) -> None:
    read_or_refuse(tmp_path / "layouts.jsonl", rows)


@settings(max_examples=200, **FUZZ)
@given(content=st.binary(max_size=40), cut=st.integers(0, 300))
def test_any_bytes_are_valid_or_one_line(tmp_path, content, cut) -> None:
    (tmp_path / "layouts.jsonl").write_bytes(lines(ROW)[:cut] + content)
    for read in READERS:
        try:
            assert all(map(valid, read(tmp_path / "layouts.jsonl")))
        except InputError as error:
            assert len(str(error).splitlines()) == 1
