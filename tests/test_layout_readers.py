"""Every reader on a set made up here; the rules that all share; and files of the same formats that nobody wrote with care."""

import json
import random
from pathlib import Path

import pytest

from evaluation.datasets import Prepared, captioning, write
from evaluation.datasets import __main__ as program
from evaluation.datasets.readers import find_reader, known_readers, read_set
from evaluation.datasets.reading import UNIT, Options
from formats.files import InputError
from formats.layouts import Layout, checked, read_layouts
from tests import foreign_sets as sets

JUNK = (
    None,
    "",
    " ",
    "x",
    "7",
    -1,
    0,
    7,
    1e999,
    float("nan"),
    10**400,
    True,
    [],
    {},
    [[]],
    ["x"],
    "\ud83d",
    "a\u2028b",
)


def options_of(reader: str) -> Options:
    return Options(canvas=(500, 500)) if reader in sets.CANVAS else Options()


def test_every_reader_has_a_set_here() -> None:
    assert sorted(sets.READERS) == known_readers()


@pytest.mark.parametrize("reader", sets.READERS)
def test_a_reader_gives_the_layout_of_its_set(reader, tmp_path) -> None:
    (layout,), report = read_set(reader, [sets.write(reader, tmp_path / "a set")], options_of(reader))
    assert layout.caption == ("a photo of a dog and a cat" if reader in sets.MADE_UP else sets.CAPTION)
    if reader in sets.BARE:
        assert layout.objects == ()
    else:
        assert [thing.phrase for thing in layout.objects] == list(sets.UNIT)
        for thing, box in zip(layout.objects, sets.BOXES, strict=True):
            assert thing.box == pytest.approx(box)
            # Our own record says itself what is named, and here it does not.
            assert thing.span is None if reader == "jsonl" else layout.caption[slice(*thing.span)] == thing.phrase
    assert report["layouts"] == report["rows"] == 1
    assert layout.source_id is not None
    assert checked("layouts", [layout]) == [layout]


def test_hrs_is_read_from_its_pickle_too(tmp_path) -> None:
    (layout,), _ = read_set("hrs", [sets.pickled(tmp_path)], Options(canvas=(500, 500)))
    assert [list(thing.box) for thing in layout.objects] == sets.BOXES


def test_two_files_of_prompts_have_ids_of_their_own(tmp_path) -> None:
    first = sets.pickled(tmp_path)
    (tmp_path / "spatial_2.p").write_bytes(first.read_bytes())
    layouts, _ = read_set("hrs", [tmp_path], Options(canvas=(500, 500)))
    assert [(layout.id, layout.source_id) for layout in layouts] == [(0, "spatial 0"), (1, "spatial_2 0")]


@pytest.mark.parametrize("place", ["", "labels", "data.yaml"])
def test_a_yolo_set_is_named_by_any_of_its_places(place, tmp_path) -> None:
    assert len(read_set("yolo", [sets.write("yolo", tmp_path) / place], Options())[0]) == 1


@pytest.mark.parametrize("reader", sets.READERS)
def test_marks_line_ends_and_blanks_in_names_change_nothing(reader, tmp_path) -> None:
    want, _ = read_set(reader, [sets.write(reader, tmp_path / "plain")], options_of(reader))
    for path in sets.write(reader, tmp_path / "with marks é").rglob("*.*"):
        if path.suffix not in (".parquet", ".xml"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert read_set(reader, [tmp_path / "with marks é"], options_of(reader))[0] == want


def mended(value, rng: random.Random):
    """JSON with one thing in it removed or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {name: one for name, one in value.items() if name != key}
        return value | {key: mended(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [mended(one, rng) if number == place else one for number, one in enumerate(value)]
    return rng.choice(JUNK)


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut short, with some changed, or in another encoding."""
    kind, place = rng.randrange(6), rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes(rng.randrange(256) for _ in range(3)) + content[place + 3 :]
    if kind == 2:
        return content.decode("utf-8", "replace").encode("utf-16")
    if kind == 3:
        return content.replace(b"0.", b"-", 1).replace(b",", b";", rng.randrange(3))
    if kind == 4:
        return content.replace(b"dog", rng.choice([b"", b"\xff", b"\x00", b'"', b"9" * 400, b"nan", b"[" * 2000]), 1)
    return content + content


@pytest.mark.parametrize("reader", sets.READERS)
def test_a_damaged_set_is_read_or_refused_in_one_line(reader, tmp_path) -> None:
    for seed in range(60):
        rng = random.Random(f"{reader} {seed}")
        folder = sets.write(reader, tmp_path / str(seed))
        path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
        if path.suffix in (".json", ".jsonl") and seed % 2:
            path.write_text(json.dumps(mended(json.loads(path.read_text()), rng)))
        elif seed == 58:
            path.unlink()
        elif seed == 59:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(spoilt(path.read_bytes(), rng))
        try:
            layouts, _ = read_set(reader, [folder], options_of(reader))
        except InputError as error:
            assert "\n" not in str(error), (seed, error)
            assert str(folder) in str(error), (seed, error)
        else:
            assert checked("layouts", layouts) == layouts


@pytest.mark.parametrize("reader", sets.READERS)
def test_what_is_not_there_is_one_line(reader, tmp_path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_set(reader, [tmp_path / "none"], Options())
    with pytest.raises(InputError, match="contains no "):
        read_set(reader, [tmp_path], Options())


def bench(tmp_path: Path, *boxes: str, caption: str = "a dog", phrase: str = "dog") -> Path:
    rows = [f'{place},{caption},{phrase},"{box}"\n' for place, box in enumerate(boxes)]
    (tmp_path / "set.csv").write_text("".join(["id,caption,obj1,bbox1\n", *rows]))
    return tmp_path / "set.csv"


def test_numbers_are_places_so_that_what_is_left_out_moves_none(tmp_path) -> None:
    path = bench(tmp_path, "0,0,.5,.5", "0,0,.5,.5", "0,0,.5,.5")
    path.write_text(path.read_text().replace("1,a dog", "1,"))
    layouts, report = read_set("csv", [path], Options())
    assert [(layout.id, layout.source_id) for layout in layouts] == [(0, "0"), (2, "2")]
    assert report["dropped"]["empty caption"] == {"count": 1, "examples": ["'1'"]}


@pytest.mark.parametrize(("bad", "good"), [(4, 15), (3, 11), (4, 0), (10, 0)])
def test_a_file_of_whose_boxes_a_fifth_does_not_fit_is_refused_as_misread(bad, good, tmp_path) -> None:
    path = bench(tmp_path, *["0.5,0.5,0.2,0.3"] * bad, *["0.1,0.1,0.5,0.5"] * good)
    with pytest.raises(InputError, match=f"refused as misread: {bad} of {bad + good} boxes"):
        read_set("csv", [path], Options())
    assert len(read_set("csv", [path], Options(boxes="xywh"))[0]) == bad + good


@pytest.mark.parametrize(("bad", "good"), [(4, 16), (1, 0), (3, 3)])
def test_a_few_bad_boxes_are_left_out(bad, good, tmp_path) -> None:
    path = bench(tmp_path, *["0.5,0.5,0.2,0.3"] * bad, *["0.1,0.1,0.5,0.5"] * good)
    assert read_set("csv", [path], Options())[1]["dropped"]["inverted box"]["count"] == bad


def test_pixels_are_read_only_where_that_is_said(tmp_path) -> None:
    path = bench(tmp_path, "128,128,256,512")
    with pytest.raises(InputError, match=r"row 1 \(id 0\): `bbox1`: has 128.0, not in the unit square: pixels\?"):
        read_set("csv", [path], Options())
    (layout,), _ = read_set("csv", [path], Options(canvas=(512, 1024)))
    assert layout.objects[0].box == (0.25, 0.125, 0.5, 0.5)
    with pytest.raises(InputError, match="reader voc: its format says `canvas` itself"):
        read_set("voc", [path], Options(canvas=UNIT))


def test_small_boxes_stay_unless_one_asks(tmp_path) -> None:
    path = bench(tmp_path, "0,0,.01,.01", "0,0,.5,.5")
    assert [len(layout.objects) for layout in read_set("csv", [path], Options())[0]] == [1, 1]
    layouts, report = read_set("csv", [path], Options(min_area_frac=0.01))
    assert [len(layout.objects) for layout in layouts] == [0, 1]
    assert layouts[0].ignored[0].why == "smaller than min_area_frac"
    assert report["dropped"]["smaller than min_area_frac"]["count"] == 1


@pytest.mark.parametrize(
    ("caption", "phrases", "named", "doubts"),
    [
        ("a red carrot and a red carrot", ["a red carrot"] * 2, [(0, 12), (17, 29)], 0),
        ("A Dog and a dog", ["dog"], [(12, 15)], 0),
        ("A Dog", ["dog"], [(2, 5)], 0),
        ("a woman", ["man"], [None], 1),
        ("two cats", ["cat", "cat"], [(4, 8), None], 1),
        ("a hot dog and a dog", ["dog", "hot dog"], [(16, 19), (2, 9)], 1),
        ("a dog, a dog and a dog", ["dog"], [(2, 5)], 1),
    ],
)
def test_spans_are_exact_then_of_any_case_and_each_is_used_once(caption, phrases, named, doubts) -> None:
    spans, said = captioning.find_spans(caption, phrases)
    assert spans == named
    assert len(list(filter(None, said))) == doubts


def test_a_template_names_every_box_with_its_count() -> None:
    caption, spans = captioning.caption_of(["dog", "owl", "dog", "person", "person"])
    assert caption == "a photo of two dogs, an owl and two people"
    assert [caption[slice(*span)] for span in spans] == ["dogs", "owl", "dogs", "people", "people"]
    assert captioning.caption_of([]) == ("a photo", [])


def test_captions_come_from_a_file_or_are_refused(tmp_path) -> None:
    path = sets.write("voc", tmp_path / "set")
    (tmp_path / "captions.csv").write_text("source_id,caption\n7,the dog beside the cat\n")
    (layout,), _ = read_set("voc", [path], Options(captions=tmp_path / "captions.csv"))
    assert layout.caption == "the dog beside the cat"
    with pytest.raises(InputError, match="caption: the set has none; give a file of captions, or a template"):
        read_set("voc", [path], Options(template=None))


def test_an_origin_is_a_pixel(tmp_path) -> None:
    path = sets.write("voc", tmp_path / "set")
    (layout,), _ = read_set("voc", [path], Options(origin=0))
    assert layout.objects[0].box[:2] == (0.11, 0.22)


@pytest.mark.parametrize("name", ["cocoo", "no.such.module", "../coco", "json"])
def test_a_reader_that_is_not_there_is_one_line_with_the_known_ones(name) -> None:
    with pytest.raises(InputError, match=f"reader '{name}': no such module; known are captions30k, cobench, coco"):
        find_reader(name)


def test_the_program_writes_layouts_and_report_and_says_what_was_read(tmp_path, monkeypatch, capsys) -> None:
    path = bench(tmp_path, "0.1,0.1,0.5,0.5", "0.5,0.1,0.5,0.5")
    monkeypatch.setattr("sys.argv", ["program", "csv", str(path), "--out", str(tmp_path / "out")])
    program.main()
    assert [layout.source_id for layout in read_layouts(tmp_path / "out/layouts.jsonl")] == ["0", "1"]
    report = json.loads((tmp_path / "out/report.json").read_text())["splits"]["layouts"]
    assert (report["reader"], report["boxes_read"], report["boxes"]) == ("csv", 2, 1)
    printed = capsys.readouterr().out
    assert "read 2 layouts of 2 rows, 1 boxes of 2, 1 named in their captions" in printed
    assert "left out: 1 x empty box" in printed


def test_nothing_is_written_of_a_set_with_a_fault(tmp_path, monkeypatch) -> None:
    path = bench(tmp_path, "0.1,0.1,0.5")
    monkeypatch.setattr("sys.argv", ["program", "csv", str(path), "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match=r"set.csv: row 1 \(id 0\): `bbox1`: is '0.1,0.1,0.5', not four numbers"):
        program.main()
    assert not (tmp_path / "out").exists()


def test_tags_categories_and_attributes_survive_the_file(tmp_path) -> None:
    (layout,), _ = read_set("layoutsam_eval", [sets.write("layoutsam_eval", tmp_path / "set")], Options())
    write(Prepared({"layouts": [layout]}, {"splits": {"layouts": {}}}), tmp_path / "out")
    assert read_layouts(tmp_path / "out/layouts.jsonl") == [layout]
    assert layout.objects[0].attributes == {"detail": "brown"}
    old = Layout(1, 2, "a")
    assert "tags" not in json.dumps(vars(checked("x", [old])[0])) or checked("x", [old]) == [old]
