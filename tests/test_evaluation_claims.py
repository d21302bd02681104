"""Claims: that the data are the ones that were found, that the page has them, and what a run is set beside."""

import csv
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from evaluation.tables.claims import claims_table
from evaluation.tables.published import HANDS, read_claims, read_published
from evaluation.tables.table import markdown
from formats.files import InputError
from tests.dag import ROOT
from tests.tables import grid
from tests.test_evaluation_metrics import row_of
from tests.test_evaluation_regression import pair
from workflow.overlays import CLAIMS, PUBLISHED
from workflow.scripts.claims import block

FOUND = ROOT.parent / "shared/facts/published_claims.csv"
# How the list that was found calls what is a difference here, with its sign.
GAINS = {"image_fid gain": ("image_fid", -1), "image_clip gain": ("image_clip", 1)}


@pytest.fixture
def claims(monkeypatch) -> pd.DataFrame:
    monkeypatch.chdir(ROOT)
    return read_claims(Path(CLAIMS), Path(PUBLISHED))


def test_the_claims_are_the_papers_cells_once_and_the_others(claims) -> None:
    assert len(claims) == 86
    cells = claims[claims["source"].str.startswith("arXiv 2505.06512 Table")]
    assert len(cells) == 40
    first = read_published(Path(PUBLISHED)).set_index(["table", "method"])
    for line in cells.to_dict("records"):
        table = "table2" if line["source"].endswith("2") else "table1"
        assert first.loc[(table, line["row"]), line["metric"]] == line["value"] == float(line["stated"])
    assert set(claims["hand"]) == set(HANDS)
    assert (claims[claims["contradicted"] != ""]["stated"].value_counts()[["5.82", "5.61", "41.65"]] > 0).all()
    # GLIGEN's own values are of its latent diffusion model, and stand beside that row alone.
    own = claims[claims["source"].str.startswith("GLIGEN (arXiv") & (claims["row"] != "")]
    assert set(own["row"]) == {"gligen_ldm"}


@pytest.mark.skipif(not FOUND.is_file(), reason="no ../shared/facts/published_claims.csv beside the checkout")
def test_no_claim_that_was_found_is_lost_or_changed(claims) -> None:
    found = Counter()
    for line in csv.DictReader(FOUND.open(encoding="utf-8")):
        metric, sign = GAINS.get(line["metric"], (line["metric"], 1))
        hand = "second" if line["note"].startswith("second") else "first"
        found[metric, sign * float(line["value"]), float(line["n_images"] or 0), hand] += 1
    ours = Counter(
        (line["metric"], line["value"], 0.0 if pd.isna(line["images"]) else line["images"], line["hand"])
        for line in claims.to_dict("records")
    )
    assert ours == found


def test_the_page_has_every_claim(claims) -> None:
    page = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    (written,) = [part.split("<!-- /CLAIMS -->")[0].strip() for part in page.split("<!-- CLAIMS -->")[1:]]
    assert written == block(), "run: python -m workflow.scripts.claims docs/claims.md"
    text = grid(written)
    for line in claims.to_dict("records"):
        cell = f"| {line['stated']} |"
        assert any(line["method"] in row and cell in row for row in text.splitlines()), line
    # The test can fail: what stands in the page is from the files.
    assert "| GLIGEN (SD-v1.4) | 41.65 | COCO 2014 val |" in text


def measured() -> list[dict]:
    values = {"gligen_sd": 12.0, "sd14": 16.0, "hcma": 8.0, "mine": 1.0}
    rows = [row_of(name, image_fid=fid, image_fid_legacy=fid + 1) for name, fid in values.items()]
    for row in rows:
        row["metrics"]["region_clip"] = None
    return rows


def test_a_run_stands_beside_all_claims_of_its_rows_under_each_reading(claims) -> None:
    pairs = pd.DataFrame([pair("image_clip", 0.02, 0.01, 0.01, turned=True), pair("image_fid", -4.0, 0.5, 0.01)])
    table = claims_table(measured(), claims, pairs)
    frame = table.frame()
    plain = frame[frame["minus"] == ""]
    assert set(plain["row"]) == {"gligen_sd", "sd14", "hcma"}
    assert "region_clip" not in set(frame["metric"])
    of_gligen = plain[(plain["row"] == "gligen_sd") & (plain["of"] == "image_fid")]
    assert of_gligen["metric"].value_counts().to_dict() == {"image_fid": 3, "image_fid_legacy": 3}
    assert sorted(of_gligen["stated"].unique()) == ["12.07", "15", "41.65"]
    line = of_gligen[(of_gligen["stated"] == "15") & (of_gligen["metric"] == "image_fid_legacy")].iloc[0]
    assert [line["ours"], line["ours_se"], line["in_errors"]] == [13.0, 0.5, -4.0]
    # The gain of the abstract against GLIGEN; that against SD-v1.5 is of a row that was not measured.
    (gain,) = frame[frame["minus"] != ""].to_dict("records")
    assert [gain["name"], gain["ours"], gain["in_errors"]] == ["hcma - gligen_sd", -0.02, pytest.approx(-4.95)]
    text = grid(markdown(table))
    second = text.split("Second hand:")[1]
    assert "| gligen_sd | image_fid | 12.0000 ± 0.5000 | 41.65‡ | -59.3 | COCO 2014 val | - | SD-v1.4 |" in text
    assert (
        "41.65‡" not in second
        and "| sd14 | image_fid | 16.0000 ± 0.5000 | 16 | +0.0 | COCO 2017 val | 10,000 |" in second
    )
    assert "‡: contradicted. 41.65 (gligen/GLIGEN#61 (2023-11-04)): to the digit OC-GAN's value" in text
    assert "Ours: 5 images a row, whole images at their own resolution" in text
    claimed = {(one["row"], one["of"], one["minus"], one["stated"], one["source"]) for one in frame.to_dict("records")}
    assert f"- {86 - len(claimed)} of 86 claims are of rows or metrics that this run has not" in text
    assert "meaningless" not in text
    assert "**This comparison is meaningless and says nothing about any paper.** Drawn." in markdown(
        claims_table(measured(), claims, pairs, "Drawn.")
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (",41.65,,COCO 2017", ",many,,COCO 2017", "line 14: value 'many', images '' and hand 'second'"),
        (
            'Table 2",second',
            'Table 2",third',
            "line 11: value '21.04', images '' and hand 'third'; expected two numbers",
        ),
        ("contradicted", "doubted", "not a table of published values"),
    ],
)
def test_a_claim_that_is_none_is_one_line(old, new, line, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    text = Path(CLAIMS).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "claims.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_claims(tmp_path / "claims.csv", Path(PUBLISHED))
    assert line in str(refused.value)
