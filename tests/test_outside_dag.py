"""The DAG with rows that other code made, and with another run's: what comes in is measured as it was there, and is marked."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from evaluation.layouts import read_layout_rows
from tests.dag import ROOT, is_nothing_to_do, jobs_by_rule, snakemake
from tests.pages import content_of

BASE = "tests/config/outside.yaml"
MADE_BY = "boxes of noise, seeds 0 and 1"


def draw(layouts: list[dict], folder: Path, seed: int) -> None:
    """Images as other code writes them: a folder a layout, numbered, its caption behind; 96 pixels where the canvas has 64."""
    rng = np.random.default_rng(seed)
    for place, row in enumerate(layouts):
        pixels = rng.integers(0, 256, (96, 96, 3), np.uint8)
        for thing in row["objects"]:
            x0, y0, x1, y1 = (int(96 * edge) for edge in thing["box"])
            pixels[y0:y1, x0:x1] = rng.integers(0, 256, 3)
        path = folder / f"{place:03d}_{row['caption'][:30]}/0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)


def overlay(folder: Path, name: str, content: dict) -> list[str]:
    """Arguments that put an overlay of its own over the base."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"run": f"test-{name}-{os.getpid()}"} | content))
    return ["--configfile", BASE, str(path)]


def outside(folder: Path, *places: str) -> dict:
    row = {"images": [str(folder / place) for place in places], "pattern": "{index:03d}_*/0.png", "made_by": MADE_BY}
    return {"methods": {"migc": row | {"label": "MIGC"}}}


def test_the_rows_images_are_imported_and_never_sampled(tmp_path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    done = snakemake("-n", *overlay(tmp_path, "planned", outside(tmp_path, "a", "b")))
    assert done.returncode == 0, done.stderr
    jobs = jobs_by_rule(done.stdout + done.stderr)
    assert jobs["import_images"] == 2 and jobs["sample"] == 2 and "train_alignment" not in jobs
    assert not (ROOT / f"results/test-planned-{os.getpid()}").exists()


def ran(*arguments: str) -> None:
    done = snakemake(*arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run with a row of two places beside ours, and its bundles, with images and without."""
    folder = tmp_path_factory.mktemp("outside")
    for place in ("a", "b"):
        (folder / place).mkdir()
    words = overlay(folder, "first", outside(folder, "a", "b"))
    results = ROOT / f"results/test-first-{os.getpid()}"
    try:
        ran(f"results/{results.name}/layouts/test.jsonl", *words)
        layouts = read_layout_rows(results / "layouts/test.jsonl")
        for seed, place in enumerate(("a", "b")):
            draw(layouts, folder / place, seed)
        ran("all", "bundle", *words)
        shutil.copy(results / f"{results.name}.zip", folder / "bare.zip")
        ran("bundle", *words, "--config", "bundle_images=True")
        shutil.copy(results / f"{results.name}.zip", folder / "whole.zip")
        yield folder, words, results
    finally:
        shutil.rmtree(results, ignore_errors=True)


def metrics(results: Path, row: str) -> dict:
    return json.loads((results / f"metrics/{row}/test.json").read_text())


@pytest.mark.slow
def test_the_row_is_in_every_table_figure_and_page_and_marked(first) -> None:
    _, words, results = first
    for name in ("table1", "distances", "adherence", "cost", "seeds", "best"):
        text = (results / f"tables/{name}.md").read_text()
        assert "§ Images made elsewhere" in text and MADE_BY in text, name
        assert "migc§" in text or "MIGC§" in text, name
    table = pd.read_csv(results / "tables/table1.csv").set_index("method")
    assert table[["image_fid", "image_clip", "region_fid", "region_clip"]].notna().all().all()
    assert table["label_mark"].fillna("").to_dict() == {"real": "", "sd14": "", "migc": "§"}
    assert pd.read_csv(results / "tables/seeds.csv").set_index("method")["seeds"].to_dict() == {"migc": 2}
    assert pd.read_csv(results / "tables/cost.csv").set_index("method").loc["migc"].isna()["seconds"]
    assert "made elsewhere" in (results / "figures/metrics.svg").read_text()
    page = content_of(results / "report.html")
    assert page["methods"] == ["real", "sd14", "migc § (made elsewhere)"]
    assert MADE_BY in (results / "provenance.json").read_text()
    done = snakemake("-n", "all", *words)
    assert is_nothing_to_do(done), done.stdout[-2000:]


@pytest.mark.slow
def test_an_image_that_changes_is_imported_again_and_nothing_else_of_ours(first) -> None:
    folder, words, _ = first
    path = next((folder / "b").glob("000_*/0.png"))
    content = path.read_bytes()
    about = path.stat()
    Image.fromarray(np.full((96, 96, 3), 9, np.uint8)).save(path)
    jobs = jobs_by_rule(snakemake("-n", "all", *words).stdout)
    assert jobs["import_images"] == 1 and "sample" not in jobs
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert is_nothing_to_do(snakemake("-n", "all", *words))


@pytest.mark.slow
def test_what_is_wrong_with_images_is_said_before_the_first_job(first, tmp_path) -> None:
    folder, *_ = first
    shutil.copytree(folder / "a", tmp_path / "a")
    next((tmp_path / "a").glob("001_*/0.png")).unlink()
    Image.new("RGB", (64, 96)).save(next((tmp_path / "a").glob("002_*/0.png")))
    words = overlay(tmp_path, "first", outside(tmp_path, "a"))
    refused = snakemake("all", *words)
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert len(lines) == 2 and "1 layouts without a file" in lines[0] and "1 of another size than 96 x 96" in lines[1]


@pytest.mark.slow
def test_another_runs_rows_are_measured_as_they_were_there(first, tmp_path) -> None:
    """By their images and by their summaries, beside a row that is sampled here: numbers are the first run's own."""
    folder, _, theirs = first
    methods = {
        "pictured": {"bundle": str(folder / "whole.zip"), "row": "sd14"},
        "summed": {"bundle": str(folder / "bare.zip"), "row": "migc"},
    }
    words = overlay(
        tmp_path, "second", {"methods": methods, "tables": {"table1": ["real", "pictured", "summed", "sd14"]}}
    )
    results = ROOT / f"results/test-second-{os.getpid()}"
    names = ("table1", "best", "cost", "distances", "adherence")
    try:
        ran(
            *(f"results/{results.name}/{name}" for name in ("figures/panel.png", *(f"tables/{t}.csv" for t in names))),
            *words,
        )
        for here, there in (("pictured", "sd14"), ("summed", "migc"), ("sd14", "sd14"), ("real", "real")):
            mine, own = metrics(results, here), metrics(theirs, there)
            assert mine["metrics"] == own["metrics"] and mine["distances"] == own["distances"], here
        text = (results / "tables/table1.md").read_text()
        assert "pictured§" in text and "summed§" in text and f"row sd14 of the run {theirs.name}" in text
        assert f"summed by {MADE_BY}" in text
        best = pd.read_csv(results / "tables/best.csv")
        assert best["p_holm"].notna().any()
    finally:
        shutil.rmtree(results, ignore_errors=True)


@pytest.mark.slow
def test_a_bundle_stands_for_its_run(first) -> None:
    folder, _, results = first
    bundle = str(folder / "bare.zip")
    ran("compare", "--config", f"first={results.name}", f"second={bundle}")
    written = ROOT / f"results/compare/{results.name}-bare.csv"
    table = pd.read_csv(written)
    assert (
        table["difference"].eq(0).all() and table["paired"].eq("yes").all() and set(table["method"]) >= {"sd14", "migc"}
    )
    text = written.with_suffix(".md").read_text()
    assert "nothing that either run states" in text and "migc§" in text
    ran("reproduce", "--config", f"reproduced={bundle}")
    reproduced = ROOT / "results/compare/bare-reproduction.md"
    assert "This comparison is meaningless" in reproduced.read_text() and "sd14" in reproduced.read_text()
    for path in [*written.parent.glob(f"{results.name}-bare.*"), *written.parent.glob("bare-reproduction.*")]:
        path.unlink()


@pytest.mark.slow
def test_a_changed_bundle_ends_the_run_in_one_line(first, tmp_path) -> None:
    folder, *_ = first
    with zipfile.ZipFile(folder / "bare.zip") as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        for info in old.infolist():
            new.writestr(
                info,
                old.read(info).replace(b'"value"', b'"valuE"') if "metrics/sd14" in info.filename else old.read(info),
            )
    refused = snakemake("compare", "--config", f"first={tmp_path}/b.zip", f"second={folder}/bare.zip")
    assert refused.returncode == 1
    assert "b.zip: metrics/sd14/test.json was changed after the bundle was made" in refused.stdout + refused.stderr
    rows = {
        "methods": {"theirs": {"bundle": str(folder / "bare.zip"), "row": "nobody"}},
        "tables": {"table1": ["real", "theirs"]},
    }
    refused = snakemake("-n", *overlay(tmp_path, "lost", rows))
    assert (
        "no row 'nobody' in it; it has real, sd14, migc, migc_place_1" in refused.stderr
        and "Traceback" not in refused.stderr
    )
