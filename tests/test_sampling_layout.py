import json

import pytest

from hcma.sampling.layout import Layout, LayoutError, Object, read_layouts, write_layouts
from hcma.sampling.spec import Artefact, Spec, SpecError, as_json, from_keys, read_spec

ROW = {
    "id": 7,
    "image_id": 3,
    "caption": "a cat on a mat",
    "objects": [{"phrase": "cat", "box": [0, 0.25, 0.5, 1], "span": [2, 5], "annotation_id": 11}],
}


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_layouts_survive_the_round_trip(tmp_path):
    layouts = [
        Layout(7, 3, "a cat, naïve", (Object("cat", (0.0, 0.25, 0.5, 1.0), (2, 5), 11),), ("a cat", "one cat")),
        Layout(5, 3, "", ()),
    ]
    write_layouts(tmp_path / "new" / "layouts.jsonl", layouts)
    assert read_layouts(tmp_path / "new" / "layouts.jsonl") == layouts
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["layouts.jsonl"]


def test_a_row_without_captions_reads_as_documented(tmp_path):
    layout = read_layouts(write_rows(tmp_path / "layouts.jsonl", ROW))[0]
    assert layout.objects[0] == Object("cat", (0.0, 0.25, 0.5, 1.0), (2, 5), 11)
    assert layout.captions == ()


@pytest.mark.parametrize(
    "box",
    [[0.9, 0.2, 0.4, 0.8], [0.1, 0.2, 0.4, 1.01], [0.1, 0.2, 0.1, 0.8], [0, 0, 1], None, [0, 0, "1", 1], [True] * 4],
)
def test_a_bad_box_names_its_layout_and_object(tmp_path, box):
    row = ROW | {"objects": [ROW["objects"][0] | {"box": box}]}
    with pytest.raises(LayoutError, match=r"line 1: layout 7: `objects\[0\].box` is .*, expected \[x0, y0, x1, y1\]"):
        read_layouts(write_rows(tmp_path / "layouts.jsonl", row))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "7a"}, "`id` is '7a', expected an integer from 0"),
        ({"caption": None}, "layout 7: `caption` is null, expected text"),
        ({"objects": {}}, "layout 7: `objects` is {}, expected a list of records"),
        ({"captions": "a cat"}, "layout 7: `captions` is 'a cat', expected a list of texts"),
        ({"caption": "a"}, r"layout 7: `objects\[0\].span` is \[2, 5\], expected \[start, stop\] .* 1, the caption's"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
    with pytest.raises(LayoutError, match=message):
        read_layouts(write_rows(tmp_path / "layouts.jsonl", ROW | change))


def test_an_id_cannot_occur_twice(tmp_path):
    with pytest.raises(LayoutError, match="line 2: layout 7 occurs twice"):
        read_layouts(write_rows(tmp_path / "layouts.jsonl", ROW, ROW))


def test_a_cut_line_is_an_error(tmp_path):
    (tmp_path / "layouts.jsonl").write_text(json.dumps(ROW)[:40])
    with pytest.raises(LayoutError, match="line 1"):
        read_layouts(tmp_path / "layouts.jsonl")


def test_a_spec_survives_the_round_trip(tmp_path):
    artefacts = {
        "eta": Artefact("train/eta.json", "0" * 64, 0.25),
        "alignment": Artefact("train/a.safetensors", "1" * 64),
    }
    spec = Spec("hcma", "hcma.method", "weights/gligen", params={"tau": 1.0}, artefacts=artefacts, version=2)
    (tmp_path / "spec.json").write_text(json.dumps(as_json(spec)))
    assert read_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"method": "sd"}, "missing key 'model'"),
        ({"method": "sd", "modul": "x"}, "unknown key 'modul'"),
        ({"method": "sd", "module": None, "model": "x"}, "'module' must be text"),
        ({"method": "sd", "module": "x", "model": "x", "params": []}, "'params' must be an object"),
        (
            {"method": "sd", "module": "x", "model": "x", "artefacts": {"eta": 1.0}},
            "'eta' must be an object, found 1.0",
        ),
        (
            {"method": "sd", "module": "x", "model": "x", "artefacts": {"eta": {"path": "x", "sha": "y"}}},
            "artefacts, eta: unknown key 'sha'",
        ),
        ([], "expected an object"),
    ],
)
def test_a_bad_spec_names_its_file_and_key(tmp_path, row, message):
    (tmp_path / "spec.json").write_text(json.dumps(row))
    with pytest.raises(SpecError, match=message) as error:
        read_spec(tmp_path / "spec.json")
    assert "spec.json" in str(error.value)


def test_unknown_keys_name_the_key_and_the_place():
    with pytest.raises(SpecError, match=r"method sd, params: unknown key 'tua'; known are .*caption"):
        from_keys(Layout, {"tua": 1}, "method sd, params")
