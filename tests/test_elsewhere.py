"""Rows that other code made: what the configuration may say of them, what the plan makes of it, and that they are marked."""

import json
import time
from pathlib import Path

import pytest

from evaluation.tables.cost import cost_table
from evaluation.tables.elsewhere import MARK, made_by, marked, named, note, read_elsewhere
from evaluation.tables.seeds import seeds_table
from evaluation.tables.table import Cell, Column, Table, as_json, latex, markdown
from formats.bundles import BundledRow, write_bundle
from formats.files import InputError
from tests.dag import ROOT
from tests.test_config import CONFIG, FILE, faults, merged
from tests.test_plan import planned
from workflow import preflight, products
from workflow.inputs import unusable
from workflow.plan import OF_TRAINING, called, listing, run_of
from workflow.settings import read

MIGC = {"images": "there", "made_by": "MIGC at 1a2b3c, seed 1"}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("stanza", "lines"),
    [
        (MIGC, []),
        (MIGC | {"images": ["a", "b"], "pattern": "{index:03d}_*/0.png", "size": [64, 32], "label": "MIGC"}, []),
        (MIGC | {"names": "names.csv", "size": "mixed", "surplus": "pass_over"}, []),
        ({"bundle": "b.zip", "row": "hcma"}, []),
        ({"like": "sd14", "label": "again"}, []),
        ({}, ["module: missing", "base: missing", "version: missing"]),
        ({"images": "there"}, ["made_by: missing"]),
        (MIGC | {"module": "hcma.method"}, ["images: the row has module and images; leave one"]),
        (MIGC | {"bundle": "b.zip"}, ["bundle: the row has images and bundle; leave one"]),
        ({"like": "sd14", "images": "there"}, ["images: the row has module and images; leave one"]),
        (MIGC | {"params": {"tau": 1}}, ["params: is not for a row with images; leave it out"]),
        (MIGC | {"sampling": {"seed": 1}, "base": "sd14"}, ["base: is not for", "sampling: is not for"]),
        (MIGC | {"row": "hcma"}, ["row: is not for a row with images"]),
        ({"like": "sd14", "made_by": "me"}, ["made_by: is not for a row with module"]),
        ({"bundle": "b.zip", "pattern": "{id}.png"}, ["pattern: is not for a row with bundle"]),
        (MIGC | {"pattern": "x.png"}, ["pattern: pattern 'x.png': names no layout"]),
        (MIGC | {"pattern": "{id}.png", "names": "a.csv"}, ["pattern: names say which file is which already"]),
        (MIGC | {"images": ["a", "b/../a"]}, ["images: expected each place once"]),
        (MIGC | {"images": []}, ["images: expected a path, or a list of paths"]),
        (MIGC | {"size": "unit"}, ["size: expected a side, [width, height], or mixed, or null, found 'unit'"]),
        (MIGC | {"size": 0}, ["size: expected a side, [width, height], or mixed"]),
        (MIGC | {"surplus": "keep"}, ["surplus: expected refuse or pass_over"]),
    ],
)
def test_a_row_is_a_module_or_images_or_a_bundles(stanza, lines) -> None:
    found = faults(merged(CONFIG, {"methods": {"migc": stanza}}), [FILE])
    assert len(found) == len(lines), found
    for fault, line in zip(sorted(found), sorted(lines), strict=True):
        assert line in fault and "methods." in fault


def test_a_row_like_images_has_their_keys(tmp_path) -> None:
    plan = planned(
        methods={"migc": MIGC | {"pattern": "{index}.png"}, "other": {"like": "migc", "images": "elsewhere"}}
    )
    other = plan.settings.methods["other"]
    assert (other.pattern, other.places, other.made_by) == ("{index}.png", ["elsewhere"], MIGC["made_by"])


def test_what_is_calibrated_against_is_sampled_here() -> None:
    change = {"methods": {"migc": MIGC}, "alignment": {"reference": "migc"}}
    (fault,) = faults(merged(CONFIG, change), [FILE])
    assert "alignment.reference: 'migc' is not sampled here" in fault


def test_places_that_are_not_there_are_told_when_rules_are_read() -> None:
    settings = read(merged(CONFIG, {"methods": {"migc": MIGC | {"names": "n.csv"}, "b": {"bundle": "b.zip"}}}), [])
    assert unusable(settings, made="results/") == [
        "methods.migc.images: no such file or folder: there",
        "methods.migc.names: no such file or folder: n.csv",
        "methods.b.bundle: no such file or folder: b.zip",
    ]


TABLES = {"table1": ["real", "sd14", "migc"], "table2": ["hcma"]}


def test_rows_made_elsewhere_are_compared_and_never_sampled() -> None:
    plan = planned(methods={"migc": MIGC | {"images": ["a", "b"]}}, tables=TABLES)
    assert plan.rows == ["real", "sd14", "migc", "hcma"] == plan.pictured
    assert plan.sampled_methods == ["sd14", "hcma"] and plan.imported == ["migc", "migc_place_1"]
    assert not {sampled.row for sampled in plan.sampled} & {"migc", "migc_place_1"}
    assert "migc" in plan.partners("hcma") and plan.repeats_of("migc") == ["migc_place_1"]
    assert plan.outside_row("migc").options() == ["--row", "migc", f"--made-by={MIGC['made_by']}", "--images", "a"]
    assert plan.outside_row("migc_place_1").images == "b"
    assert plan.made_by("migc_place_1") == MIGC["made_by"] and plan.made_by("sd14") is None
    assert products.table_inputs(plan, "seeds") == {"row": [plan.path.metrics(r, "test") for r in plan.imported]}
    assert all("migc" not in path for path in products.table_inputs(plan, "cost")["shards"])
    assert plan.table_names[-1] == "seeds"


@pytest.mark.parametrize("table", ["table1", *products.KINDS])
def test_every_table_and_figure_of_rows_is_told_who_made_them(table) -> None:
    plan = planned(methods={"migc": MIGC | {"images": ["a", "b"]}}, tables=TABLES)
    options = products.paired_options if table in products.PAIRED else products.table_options
    assert f"migc={MIGC['made_by']}" in options(plan, table)
    for figure in set(plan.figure_names) - {*OF_TRAINING}:
        assert f"migc={MIGC['made_by']}" in products.figure_options(plan, figure)
    assert "--elsewhere" not in options(planned(tables={"table1": ["real", "sd14", "hcma"]}), table)


def test_what_reruns_an_import_is_what_its_files_are(tmp_path) -> None:
    folder = tmp_path / "images"
    (folder / "000_a").mkdir(parents=True)
    (folder / "000_a/0.png").write_bytes(b"x")
    first = listing(folder, 1)
    (folder / ".DS_Store").write_text("x")
    (folder / "._a").write_text("x")
    assert listing(folder, 1) == first
    (folder / "000_a/0.png").write_bytes(b"y")  # of the same size, later
    assert listing(folder, 1) != first
    (folder / "000_a/1.png").symlink_to("nowhere")
    methods = {"migc": MIGC | {"images": str(folder), "pattern": "{index:03d}*/0.png"}}
    keys = planned(methods=methods, tables=TABLES).import_keys
    assert planned(methods=methods, tables=TABLES).import_keys == keys
    (folder / "001_b").mkdir()
    (folder / "001_b/0.png").write_bytes(b"x")
    assert planned(methods=methods, tables=TABLES).import_keys != keys


def test_thousands_of_files_are_listed_at_once(tmp_path) -> None:
    for number in range(5000):
        (tmp_path / f"{number}.png").touch()
    begun = time.process_time()
    listing(tmp_path, 0)
    assert time.process_time() - begun < 1


def bundled(path: Path, images: bool) -> Path:
    rows = {"hcma": BundledRow(None, images), "migc": BundledRow("MIGC at 1", images)}
    write_bundle(path, "theirs", "abc", rows, {"layouts/test.jsonl": b""})
    return path


def test_a_row_of_a_bundle_is_imported_or_taken_by_its_summary(tmp_path) -> None:
    for images in (True, False):
        path = str(bundled(tmp_path / f"{images}.zip", images))
        methods = {"theirs": {"bundle": path, "row": "hcma"}, "migc": {"bundle": path}}
        plan = planned(methods=methods, tables={"table1": ["real", "sd14", "theirs", "migc"], "table2": None})
        assert plan.imported == (["theirs", "migc"] if images else [])
        assert plan.summarized == ([] if images else ["theirs", "migc"])
        assert plan.pictured == ["real", "sd14", *plan.imported]
        assert plan.elsewhere == {"theirs": "row hcma of the run theirs, at commit abc", "migc": "MIGC at 1"}
        assert preflight.outside(plan) == []
        options = products.figure_options(plan, "panel")
        assert ("theirs" in options[options.index("--methods") :]) is images
    assert plan.summarized_like == [plan.path.summary("real", "test")]
    lost = planned(methods={"theirs": {"bundle": path, "row": "sd21"}}, tables={"table1": ["real", "theirs"]})
    assert preflight.outside(lost) == [f"{path}: no row 'sd21' in it; it has hcma, migc"]


def test_names_are_held_against_layouts_before_the_first_job(tmp_path, monkeypatch) -> None:
    (tmp_path / "7.png").write_bytes(b"x")
    plan = planned(methods={"migc": MIGC | {"images": str(tmp_path)}}, tables=TABLES)
    found = preflight.image_files(plan)
    assert any("1 files of such names for 256 layouts" in line for line in found)
    assert any("1 unreadable: 7.png" in line for line in found)
    monkeypatch.setattr(type(plan), "layouts_are_made", False)
    assert preflight.images(plan) == []


def test_runs_are_names_or_bundles() -> None:
    assert run_of("miniature") == "results/miniature" and run_of("some/run.zip") == "some/run.zip"
    assert called("miniature") == "miniature" and called("some/my run.zip") == "my_run"
    for key in ("first", "second", "reproduced"):
        assert faults(merged(CONFIG, {key: "some/my run.zip"}), [FILE]) == []
        (fault,) = faults(merged(CONFIG, {key: "some/run"}), [FILE])
        assert f"{key}: expected a name of letters, digits, _ and -, or a path of a .zip, or null, found" in fault


ELSEWHERE = {"migc": "MIGC at 1a2b3c"}


def table(*rows: dict[str, str]) -> Table:
    columns = [Column(key, key.title(), shown=key != "hidden") for key in rows[0]]
    return Table("T", columns, [{key: Cell(value) for key, value in row.items()} for row in rows], ["a note"])


def test_rows_are_marked_by_whatever_names_them_and_explained_once() -> None:
    found = marked(table({"method": "sd14", "against": "migc"}, {"method": "migc", "against": "sd14"}), ELSEWHERE)
    assert [(row["method"].mark, row["against"].mark) for row in found.rows] == [("", MARK), (MARK, "")]
    assert found.notes == ["a note", note(ELSEWHERE)] and "migc by MIGC at 1a2b3c" in note(ELSEWHERE)
    assert f"migc{MARK}" in markdown(found) and r"migc\textsection{}" in latex(found)
    assert as_json(found)["rows"][1]["method"] == {"value": "migc", "mark": MARK}
    assert found.frame()["method"].tolist() == ["sd14", "migc"]


def test_a_label_is_marked_in_the_place_of_a_name_that_is_not_shown() -> None:
    plain = table({"method": "migc", "label": "MIGC"}, {"method": "sd14", "label": "SD"})
    hidden = Table("T", [Column("method", shown=False), Column("label")], plain.rows, [])
    first, second = marked(hidden, ELSEWHERE).rows
    assert (first["label"].mark, first["method"].mark, second["label"].mark) == (MARK, "", "")


def test_a_table_without_such_rows_stays_as_it_is() -> None:
    plain = table({"method": "sd14"})
    assert marked(plain, ELSEWHERE) is plain and marked(plain, {}) is plain


def test_figures_and_page_say_it_in_words() -> None:
    assert (
        named("migc", "MIGC", ELSEWHERE) == f"MIGC {MARK} (made elsewhere)" and named("sd14", "SD", ELSEWHERE) == "SD"
    )
    assert read_elsewhere(["migc=a = b", "x="]) == {"migc": "a = b", "x": ""}
    with pytest.raises(InputError, match="--elsewhere migc: expected METHOD=MADE_BY"):
        read_elsewhere(["migc"])
    assert made_by({"source": {"spec": {"made_by": "x"}}}) == "x" and made_by({"source": {"spec": None}}) is None


def test_what_elsewhere_cost_is_a_dash() -> None:
    text = markdown(cost_table([], ["migc"]))
    line = next(line for line in text.splitlines() if line.startswith("| migc"))
    assert set(line.replace("migc", "").replace("|", "").split()) <= {"-"}


def measured(name: str, digest: str, value: float, made: str = "MIGC") -> dict:
    spec = {"method": name, "made_by": made, "images_sha256": digest}
    shared = {
        "split": "test",
        "n_images": 4,
        "n_regions": 4,
        "protocol": {},
        "reference": "r",
        "source": {"spec": spec},
    }
    return json.loads(json.dumps(shared | {"method": name, "metrics": {"image_clip": {"value": value, "se": 0.1}}}))


def test_several_places_are_several_seeds() -> None:
    found = seeds_table({"migc": [measured("migc", "a" * 64, 0.2), measured("migc_place_1", "b" * 64, 0.4)]})
    (row,) = found.rows
    assert row["image_clip"].value == pytest.approx(0.3) and row["seeds"].value == 2
    with pytest.raises(InputError, match="measured twice with the same images"):
        seeds_table({"migc": [measured("migc", "a" * 64, 0.2), measured("migc_place_1", "a" * 64, 0.2)]})
    with pytest.raises(InputError, match=r"spec differs"):
        seeds_table({"migc": [measured("migc", "a" * 64, 0.2), measured("migc_place_1", "b" * 64, 0.2, "other")]})


def test_a_claim_is_marked_by_the_row_that_was_measured() -> None:
    claim = {"name": "hcma - migc", "row": "hcma", "minus": "migc", "method": "HCMA (SD-v1.4)"}
    found = marked(table(claim, claim | {"minus": "", "name": "hcma"}), ELSEWHERE)
    assert [row["name"].mark for row in found.rows] == [MARK, ""]
