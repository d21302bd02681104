"""The page: what it embeds, that nothing in it can break out, and the strips it shows."""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import contact_sheets
from evaluation.contact_sheets import read_index, write_strip
from evaluation.layouts import read_layout_rows
from evaluation.report import __main__ as page
from evaluation.report.contact_sheets import strip_sources
from evaluation.report.figures import read_figures
from evaluation.report.figures import title as figure_title
from evaluation.report.packed import MISSING, UNIT
from evaluation.report.tables import pack_table
from evaluation.report.template import HERE, SCRIPTS, as_json, fill
from evaluation.scores import read_scores, scored
from evaluation.tables.table import Table, View, write_table
from evaluation.tables.table import as_json as as_json_table
from formats import cli
from formats.files import InputError, write_json
from tests import pages

METHODS = ["real", "gligen", "hcma"]


def call(main, module: str, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    cli.run(main)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    pages.write_run(tmp_path, pages.layouts_of(12), METHODS)
    call(contact_sheets.main, "strips", pages.strip_arguments(tmp_path, METHODS), monkeypatch)
    return tmp_path


def build(run: Path, monkeypatch, *more: str) -> dict:
    call(page.main, "page", pages.page_arguments(run, METHODS, *more), monkeypatch)
    return pages.content_of(run / "report.html")


def unpacked(text: str, kind: str = "i2") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), f"<{kind}")


def test_a_hostile_caption_stays_text(run, monkeypatch) -> None:
    content = build(run, monkeypatch)
    assert content["layouts"]["captions"][0] == pages.HOSTILE
    html = (run / "report.html").read_text()
    assert html.count("</script>") == html.count("<script") == 2
    assert "<img src=x" not in html
    assert html.count('"use strict";') == 1
    assert "<title>try &lt;b&gt;</title>" in html


def test_a_separator_inside_a_caption_does_not_end_its_line(run) -> None:
    assert read_layout_rows(run / "layouts/test.jsonl")[0]["caption"] == pages.HOSTILE


def test_json_ends_no_element_and_comes_back_equal() -> None:
    content = {"a": pages.HOSTILE, "b": ["<!--", "\ud800", "é"]}
    assert "<" not in as_json(content)
    assert as_json(content).isascii()
    assert json.loads(as_json(content)) == content


def test_only_the_pages_own_script_may_run(run, monkeypatch) -> None:
    build(run, monkeypatch)
    html = (run / "report.html").read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    script = html.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_scripts_write_no_markup_and_none_is_left_out() -> None:
    assert {path.stem for path in (HERE / "scripts").glob("*.js")} == set(SCRIPTS)
    for name in SCRIPTS:
        text = (HERE / f"scripts/{name}.js").read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\(", text
        )
        assert "</" not in text


def test_marks_inside_the_content_are_not_filled() -> None:
    html = fill({"run": "{{style}}", "captions": ["{{script}} {{title}}"]})
    assert "<title>{{style}}</title>" in html
    assert "{{script}} {{title}}" in html


def test_objects_and_scores_come_in_the_order_of_the_layouts(run, monkeypatch) -> None:
    content, layouts = build(run, monkeypatch), pages.layouts_of(12)
    packed = content["layouts"]
    assert packed["ids"] == [str(row["id"]) for row in layouts]
    start, things = unpacked(packed["start"], "i4"), [thing for row in layouts for thing in row["objects"]]
    assert np.diff(start).tolist() == [len(row["objects"]) for row in layouts]
    assert [packed["phrases"][i] for i in unpacked(packed["phrase"], "u4")] == [thing["phrase"] for thing in things]
    boxes = unpacked(packed["box"]).reshape(-1, 4) / UNIT
    np.testing.assert_allclose(boxes, [thing["box"] for thing in things], atol=0.5 / UNIT)
    spans = unpacked(packed["span"], "i4").reshape(-1, 2).tolist()
    assert spans == [thing["span"] or [-1, -1] for thing in things]
    hcma = pages.scores_of(layouts, 2).sort_values(["id", "object"])
    clip = hcma.loc[hcma["object"] >= 0, "clip"].fillna(MISSING / UNIT) * UNIT
    assert (
        unpacked(content["scores"]["region_clip"]["values"]).reshape(3, -1)[2].tolist()
        == clip.round().astype(int).tolist()
    )
    assert unpacked(content["scores"]["image_clip"]["values"]).shape == (3 * 12,)


def test_scores_in_another_order_are_put_in_that_of_the_layouts(run) -> None:
    path, layouts = run / "scores/hcma/test.parquet", pages.layouts_of(12)
    before = read_scores(path, layouts, scored({}))
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    for name, values in read_scores(path, layouts, scored({})).items():
        np.testing.assert_array_equal(values, before[name])


def test_without_a_detector_its_scores_are_missing(run, monkeypatch) -> None:
    for method in METHODS:
        path = run / "scores" / method / "test.parquet"
        pd.read_parquet(path)[["id", "object", "clip"]].to_parquet(path, index=False)
    content = build(run, monkeypatch)
    assert (unpacked(content["scores"]["instance_success"]["values"]) == MISSING).all()
    assert (unpacked(content["scores"]["region_clip"]["values"]) > MISSING).any()


def test_layouts_without_any_box_have_a_page_too(tmp_path, monkeypatch) -> None:
    pages.write_run(tmp_path, pages.layouts_of(3, most=0), METHODS)
    call(contact_sheets.main, "strips", pages.strip_arguments(tmp_path, METHODS), monkeypatch)
    content = build(tmp_path, monkeypatch)
    assert content["scores"]["region_clip"]["values"] == content["layouts"]["box"] == ""
    assert unpacked(content["scores"]["image_clip"]["values"]).shape == (9,)


def test_scores_of_other_images_are_refused(run) -> None:
    layouts = pages.layouts_of(12)[1:]
    with pytest.raises(InputError, match=r"hcma.*other images.*100"):
        read_scores(run / "scores/hcma/test.parquet", layouts, scored({}))


def test_a_strip_shows_the_methods_left_to_right(run) -> None:
    index = read_index(run / "report/strips/0000.json", METHODS)
    assert list(index.sizes) == [f"{100 + number:012d}" for number in range(12)]
    path = run / "report/strips/0000/000000000103.webp"
    assert path.stat().st_size == index.sizes["000000000103"]
    strip = np.asarray(Image.open(path), int)
    assert strip.shape == (64, 3 * 80, 3)
    for place in range(3):
        assert abs(strip[:, 80 * place + 8 : 80 * place + 72] - pages.COLOURS[place]).max() < 8


def test_large_pictures_are_reduced_and_small_ones_kept(tmp_path) -> None:
    write_strip(tmp_path / "a.webp", [np.zeros((512, 512, 3), np.uint8)] * 2, 128)
    write_strip(tmp_path / "b.webp", [np.zeros((32, 32, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)], 128)
    assert Image.open(tmp_path / "a.webp").size == (320, 128)
    assert Image.open(tmp_path / "b.webp").size == (80, 32)


def test_a_shard_without_an_image_is_one_line_and_no_index(run, monkeypatch, capsys) -> None:
    (run / "report/strips/0000.json").unlink()
    (run / "samples/gligen/test/0000.zip").write_bytes(b"nothing")
    with pytest.raises(SystemExit):
        call(contact_sheets.main, "strips", pages.strip_arguments(run, METHODS), monkeypatch)
    assert re.fullmatch(r"error: .*gligen/test/0000\.zip: damaged or cut off.*\n", capsys.readouterr().err)
    assert not (run / "report/strips/0000.json").exists()


def test_strips_are_embedded_as_long_as_all_are_small(run, monkeypatch) -> None:
    embedded = build(run, monkeypatch)["strips"]
    beside = build(run, monkeypatch, "--embed", "0")["strips"]
    assert len(embedded) == len(beside) == 12
    for source, path in zip(embedded, beside, strict=True):
        assert path.startswith("report/strips/0000/")
        assert base64.b64decode(source.removeprefix("data:image/webp;base64,")) == (run / path).read_bytes()


def test_strips_of_other_rows_or_layouts_are_refused(run) -> None:
    with pytest.raises(InputError, match="strips of real, gligen, hcma; expected hcma, real"):
        read_index(run / "report/strips/0000.json", ["hcma", "real"])
    index, ids = read_index(run / "report/strips/0000.json", METHODS), list(range(100, 112))
    with pytest.raises(InputError, match="111 is one of those that differ"):
        strip_sources([index], ids[:-1], 0, run / "report.html")
    with pytest.raises(InputError, match="in another order"):
        strip_sources([index], ids[::-1], 0, run / "report.html")


@pytest.mark.parametrize("content", [[], {"methods": METHODS}, 5])
def test_other_json_is_no_index_of_strips(tmp_path, content) -> None:
    write_json(tmp_path / "0000.json", content)
    with pytest.raises(InputError, match=r"0000\.json: not an index of strips"):
        read_index(tmp_path / "0000.json", METHODS)


def test_a_table_is_shown_cell_by_cell_as_its_json_has_it(run) -> None:
    table = pack_table(run / "tables/table1.json", "Nothing is claimed.")
    assert table["title"] == "Table 1"
    assert table["notes"] == ["`real`: the photos."]
    assert pack_table(run / "tables/table1.json")["notes"] == ["Nothing is claimed.", "`real`: the photos."]
    (view,) = table["views"]
    assert (view["heads"], view["numeric"]) == (["Method", "Image FD", "Region CLIP"], [False, True, True])
    assert view["rows"][1] == [
        {"text": "nine"},
        {"text": "9.50", "error": "0.77", "mark": "†", "beside": "12.12", "sort": 9.5},
        {"text": "-0.1520", "error": "0.0100", "beside": "0.2238", "sort": -0.152},
    ]
    assert view["rows"][3][1] == {"text": "-", "beside": "18.53"}
    assert table["csv"].startswith("method,fid,fid_se,fid_mark,fid_published,clip,")


def test_a_table_of_no_columns_has_its_notes_alone(tmp_path) -> None:
    write_table(Table("Layout adherence", [], [], ["No detector."], [View(columns=[])]), tmp_path / "adherence")
    table = pack_table(tmp_path / "adherence.json")
    assert (table["views"], table["notes"]) == ([], ["No detector."])


@pytest.mark.parametrize("content", [[], {"title": "x"}, as_json_table(pages.TABLE) | {"columns": [{"name": "x"}]}])
def test_other_json_is_no_table(tmp_path, content) -> None:
    write_json(tmp_path / "cost.json", content)
    with pytest.raises(InputError, match=r"cost\.json: not a table"):
        pack_table(tmp_path / "cost.json")


def test_of_a_figure_the_drawing_is_preferred(tmp_path) -> None:
    (tmp_path / "some_rows.svg").write_text("<svg/>")
    Image.new("RGB", (2, 2)).save(tmp_path / "some_rows.png")
    (figure,) = read_figures([tmp_path / "some_rows.svg", tmp_path / "some_rows.png"])
    assert figure["title"] == "Some rows"
    assert base64.b64decode(figure["source"].removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
    assert figure_title("sizes") == "FD against the number of images"
    with pytest.raises(InputError, match=r"a\.pdf: a figure is \.svg or \.png"):
        read_figures([tmp_path / "a.pdf"])


def test_a_difference_of_a_row_that_is_not_shown_is_refused(run, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit):
        build(run, monkeypatch, "--compare", "hcma", "gilgen")
    assert capsys.readouterr().err == "error: --compare gilgen: not among the methods, real, gligen, hcma\n"
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    "lost", ["tables/table1.json", "layouts/test.jsonl", "scores/hcma/test.parquet", "figures/panel.png"]
)
def test_a_missing_input_is_one_line_and_no_page(run, monkeypatch, capsys, lost) -> None:
    (run / lost).unlink()
    with pytest.raises(SystemExit):
        build(run, monkeypatch)
    assert re.fullmatch(rf"error: .*{lost}: no such file\n", capsys.readouterr().err)
    assert not (run / "report.html").exists()
