"""The DAG itself: one real run of every rule, and what a user sees when something is wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from evaluation.layouts import read_layout_rows
from formats.files import sha256
from formats.images import read_images
from tests.dag import ROOT, checkout, command, environment, is_nothing_to_do, link_checkout, snakemake
from tests.pages import content_of
from tests.test_evaluation_data import real_coco

SMALL = "tests/config/small.yaml"


def overlay(run: str, *more: str) -> list[str]:
    return ["--configfile", SMALL, *more, "--config", f"run={run}"]


def small(*arguments: str, run: str = "test-small") -> subprocess.CompletedProcess[str]:
    return snakemake(*arguments, *overlay(run))


@pytest.fixture(scope="module")
def finished():
    run = f"test-{os.getpid()}"
    results = ROOT / "results" / run
    done = small(run=run)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield run, results
    shutil.rmtree(results)


def test_one_run_gives_both_tables_the_panel_and_the_report(finished) -> None:
    _, results = finished
    one, two = (pd.read_csv(results / f"tables/table{i}.csv").set_index("method") for i in (1, 2))
    assert one.index.tolist() == ["real", "attend_and_excite", "gligen_sd", "hcma"]
    assert one.loc["real", ["image_fid", "region_fid"]].abs().max() < 1e-9
    # Which row is best, and whether that is certain, depends on the table.
    alike = [column for column in two if column in one and column != "label" and not column.endswith("_bold")]
    assert one.loc[["gligen_sd", "hcma"], alike].equals(two[alike])
    assert one["n_images"].eq(32).all()
    assert one[["image_fid", "image_clip", "region_fid", "region_clip", "image_fid_se"]].notna().all().all()
    assert "Guided by the words of the caption: Attend-and-Excite." in (results / "tables/table1.md").read_text()
    cost = pd.read_csv(results / "tables/cost.csv").set_index("method")
    assert cost.loc["gligen_sd", "unet_forwards"] == 8
    assert cost.loc["attend_and_excite", "guidance_forwards"] > 1
    adherence = pd.read_csv(results / "tables/adherence.csv").set_index("method")
    assert adherence.loc["real", "ap50"] > 0.8
    assert adherence[["ap", "image_success", "count_right"]].notna().all().all()
    for name in (
        "tables/table1.md",
        "tables/adherence.md",
        "tables/significance.md",
        "tables/distances.md",
        "tables/table1.tex",
        "tables/difficulty.md",
        "figures/difficulty.svg",
        "figures/panel.png",
        *(f"figures/{name}.svg" for name in ("panel", "metrics", "sizes", "categories", "training", "calibration")),
        "layouts/report.json",
        "provenance.json",
        "report.html",
    ):
        assert (results / name).stat().st_size > 500


def test_the_page_holds_the_runs_tables_figures_and_layouts(finished) -> None:
    run, results = finished
    content = content_of(results / "report.html")
    assert content["run"] == run
    assert content["caveat"].startswith("Miniature: ")
    tables = {table["name"]: table for table in content["tables"]}
    assert {"table1", "table2", "adherence", "distances", "cost", "significance"} <= set(tables)
    assert content["caveat"] not in tables["table1"]["notes"]
    assert {"panel", "difficulty"} <= {figure["name"] for figure in content["figures"]}
    assert "objects" in {facet["key"] for facet in content["facets"]}
    assert content["methods"] == ["real", "attend_and_excite", "gligen_sd", "hcma"]
    assert content["layouts"]["ids"] == [str(row["id"]) for row in read_layout_rows(results / "layouts/test.jsonl")]
    assert all(source.startswith("data:image/webp;base64,") for source in content["strips"])


def test_snakemakes_own_report_has_categories_and_captions(finished, tmp_path) -> None:
    run, _ = finished
    assert small("--report", str(tmp_path / "report.zip"), run=run).returncode == 0
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        members = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    assert {"table1.csv", "table2.csv", "cost.csv", "panel.png", "report.html"} <= members
    assert all(word in page for word in ("Tables", "Figures", "Images", "significance", "Holm"))


def test_images_say_what_made_them(finished) -> None:
    _, results = finished
    ids = [row["id"] for row in read_layout_rows(results / "layouts/test/0001.jsonl")]
    hcma, gligen = (dict(read_images(results / f"samples/{m}/test/0001.zip", ids)) for m in ("hcma", "gligen_sd"))
    assert any((hcma[i] != gligen[i]).any() for i in ids)
    spec = json.loads((results / "methods/hcma.json").read_text())
    assert spec["artefacts"]["eta"]["value"] == json.loads((results / "train/calibration.json").read_text())["eta"]
    assert json.loads((results / "train/calibration.json").read_text())["split"] == "heldout"


def test_a_finished_run_has_nothing_to_do(finished) -> None:
    run, _ = finished
    assert is_nothing_to_do(small(run=run))


def test_another_device_or_launcher_reruns_nothing(finished, tmp_path) -> None:
    run, _ = finished
    (tmp_path / "gpu.yaml").write_text("resources: {device: cuda, gpu: 1, train_gpu: 4, batch_size: auto}")
    assert is_nothing_to_do(snakemake("-n", *overlay(run, str(tmp_path / "gpu.yaml"))))


def test_bad_parameters_are_all_named_before_the_first_job(finished, tmp_path) -> None:
    run, results = finished
    spec = (results / "methods/hcma.json").stat().st_mtime_ns
    (tmp_path / "bad.yaml").write_text("methods: {hcma: {params: {tau: 7}}, gligen_sd: {params: {tau: 8}}}")
    refused = snakemake(*overlay(run, str(tmp_path / "bad.yaml")))
    assert refused.returncode != 0
    assert "error: methods.gligen_sd.params: tau: expected a number from 0 to 1, found 8" in refused.stderr
    assert "error: methods.hcma.params: tau: expected a number from 0 to 1, found 7" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (results / "methods/hcma.json").stat().st_mtime_ns == spec
    assert is_nothing_to_do(small("-n", run=run))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path) -> None:
    """A file stands where the folder should be: to root, which runs tests in containers, permissions are nothing."""
    link_checkout(tmp_path, "results")
    (tmp_path / "results").write_text("")
    refused = subprocess.run(
        command("-n"), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert f"{tmp_path}/results: cannot be written, but the results of `run: miniature` go to" in line
    assert refused.returncode == 1 and "Traceback" not in refused.stderr


def test_every_product_is_recorded_with_what_its_rule_takes(finished) -> None:
    _, results = finished
    document = json.loads((results / "provenance.json").read_text())
    lineage = {}
    made_by = {link["prov:activity"]: link["prov:entity"] for link in document["wasGeneratedBy"].values()}
    for link in document["used"].values():
        lineage.setdefault(made_by[link["prov:activity"]], set()).add(link["prov:entity"])
    assert lineage["run:figures/training.png"] == {"run:train/curves.csv"}
    assert lineage["run:figures/calibration.svg"] == {"run:train/calibration.json"}
    heldout = {"run:metrics/gligen_sd/heldout.json", "run:metrics/hcma_eta_0/heldout.json"}
    assert heldout < lineage["run:train/calibration.json"]
    assert "run:train/eta.json" in lineage["run:train/calibration.json"]
    assert lineage["run:methods/hcma.json"] >= {"run:train/alignment.safetensors", "run:train/calibration.json"}
    assert "run:train/latents/train" in lineage["run:train/alignment.safetensors"]
    assert "run:coco/annotations/captions_val2014.json" in lineage["run:layouts/test.jsonl"]
    for name in ("coco/annotations/captions_val2014.json", "tables/best.csv", "train/calibration.json"):
        assert document["entity"][f"run:{name}"]["hcma:sha256"] == sha256(results / name)
    assert lineage["run:samples/hcma/test/0001.zip"] > {"run:methods/hcma.json", "run:layouts/test"}
    associated = {link["prov:activity"] for link in document["wasAssociatedWith"].values()}
    assert {key.split(":")[1] for key in associated} == {"sample", "measure"}
    assert document["activity"]["hcma:tabulate:tables/table1.csv"]["hcma:recorded_at_commit"]


def test_crops_can_be_exported(finished) -> None:
    run, results = finished
    assert small(f"results/{run}/crops/hcma/test/0000.zip", run=run).returncode == 0
    assert (results / "crops/hcma/test/0000.zip").stat().st_size > 1000


def test_a_run_is_held_against_the_paper_another_run_and_a_reference(finished, monkeypatch) -> None:
    run, results = finished
    assert "This comparison is meaningless" in small("reproduce", run=run).stdout
    beside = ROOT / f"results/compare/{run}-{run}.md"
    done = snakemake("compare", "--config", f"first={run}", f"second={run}")
    assert "nothing that either run states" in done.stdout
    for suffix in (".md", ".csv", ".json", ".tex", ".log"):
        beside.with_suffix(suffix).unlink()
    reference, recorded = results / "reference.json", [*overlay(run), f"reference=results/{run}/reference.json"]
    monkeypatch.setenv("REASON", "a test: nothing else")
    assert snakemake("accept", *recorded).returncode == 0
    content = json.loads(reference.read_text())
    assert content["history"][0]["reason"] == "a test: nothing else"
    limits = {row: dict.fromkeys(metrics, 1e-9) for row, metrics in content["metrics"].items()}
    reference.write_text(json.dumps(content | {"spread": {"tolerance": limits}}))
    done = snakemake("regress", *recorded)
    assert (done.returncode, "metrics moved.\nNo input changed." in done.stdout) == (0, True)
    content["metrics"]["hcma"]["image_clip"]["value"] += 1e-3
    reference.write_text(json.dumps(content | {"spread": {"tolerance": limits}}))
    done = snakemake("regress", *recorded)
    assert done.returncode == 1
    assert "metrics moved beyond their tolerance, in these rows: hcma\n" in done.stdout + done.stderr


def test_a_damaged_shard_stops_its_row_with_one_line_and_loses_nothing(finished) -> None:
    run, results = finished
    assert not list(results.glob("features/*/*/*.npz"))
    shard, other = results / "samples/hcma/test/0000.zip", results / "summaries/gligen_sd/test.npz"
    whole, made = shard.read_bytes(), other.stat().st_mtime
    shard.write_bytes(whole[:-100])
    failed = small(run=run)
    assert failed.returncode != 0
    log = (results / "logs/extract_features/hcma-test-0000.log").read_text()
    assert log.startswith(f"error: results/{run}/samples/hcma/test/0000.zip: damaged or cut off")
    assert len(log.strip().splitlines()) == 1
    assert other.stat().st_mtime == made
    shard.write_bytes(whole)
    assert small(run=run).returncode == 0


def test_a_misspelt_key_is_one_line_before_any_job() -> None:
    failed = snakemake("-n", *overlay("test-small"), "sampling={stepz: 3}")
    lines = [line for line in failed.stderr.splitlines() if "stepz" in line]
    assert failed.returncode == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "sampling.stepz: unknown key" in lines[0]
    assert "Traceback" not in failed.stderr


def test_the_readings_of_algorithm_1_are_part_of_the_graph(tmp_path) -> None:
    run = f"test-literal-{os.getpid()}"
    (tmp_path / "text.yaml").write_text("alignment: {text: {model: sd14}}")
    done = snakemake("-n", "-p", *overlay(run, "tests/config/literal.yaml", str(tmp_path / "text.yaml")))
    assert done.returncode == 0
    assert "Training the denoiser on the noise loss" in done.stdout
    assert f"--alignment results/{run}/train/noise/alignment.safetensors" in done.stdout
    assert "Training the denoiser" not in small("-n", run=run).stdout


@pytest.mark.slow
def test_algorithm_1_to_the_letter_ends_in_a_table_that_says_so() -> None:
    run = f"test-literal-{os.getpid()}"
    results = ROOT / "results" / run
    try:
        assert snakemake(*overlay(run, "tests/config/literal.yaml")).returncode == 0
        spec = json.loads((results / "methods/hcma.json").read_text())
        assert spec["model"] == f"results/{run}/train/noise/model"
        assert (
            "hcma: gligen (fuser and alignment trained on the noise loss)" in (results / "tables/table1.md").read_text()
        )
    finally:
        shutil.rmtree(results, ignore_errors=True)


def test_further_seeds_are_rows_of_their_own_and_change_no_other(tmp_path) -> None:
    (tmp_path / "seeds.yaml").write_text("seeds: [0, 3]")
    planned = [
        set(re.findall(r"results/test-seeds/[\w./-]+", snakemake("-n", *overlay("test-seeds", *more)).stdout))
        for more in ((), (str(tmp_path / "seeds.yaml"),))
    ]
    more = planned[1] - planned[0]
    assert planned[0] <= planned[1]
    assert "results/test-seeds/tables/seeds.csv" in more
    assert all("_seed_3" in path or "/seeds." in path for path in more)
    assert not any("real_seed" in path for path in more)


@pytest.mark.skipif(shutil.which("conda") is not None, reason="conda is installed here")
def test_use_conda_without_conda_says_what_to_do() -> None:
    failed = small("-n", "--use-conda")
    assert failed.returncode == 1
    assert "error: --use-conda needs conda, and there is none on PATH" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    real_coco() is None, reason="no folder of real COCO photos; set HCMA_COCO to one in COCO 2014's layout"
)
def test_real_photos_pass_every_stage() -> None:
    run = f"test-coco-{os.getpid()}"
    data = f'data={{"root": "{real_coco()}"}}'
    try:
        done = snakemake("--configfile", "workflow/config/coco.yaml", "--config", f"run={run}", data)
        assert done.returncode == 0
        table = pd.read_csv(ROOT / "results" / run / "tables/table1.csv").set_index("method")
        assert table.loc["real", ["image_fid", "region_fid"]].abs().max() < 1e-9
        assert table["n_regions"].min() > 50
        assert "MEANINGLESS" in (ROOT / "results" / run / "tables/table1.md").read_text()
    finally:
        shutil.rmtree(ROOT / "results" / run, ignore_errors=True)


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_tables_of_an_uninterrupted_run(finished) -> None:
    _, results = finished
    run = f"test-killed-{os.getpid()}"
    killed = ROOT / "results" / run
    try:
        for mark in ("work/alignment/checkpoint.pt", "work/samples"):
            process = subprocess.Popen(
                command(*overlay(run)), cwd=checkout(), env=environment(), start_new_session=True
            )
            deadline = time.monotonic() + 600
            while not (killed / mark).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert small(run=run).returncode == 0
        for name in ("table1.csv", "table2.csv"):
            assert (killed / "tables" / name).read_bytes() == (results / "tables" / name).read_bytes()
    finally:
        shutil.rmtree(killed, ignore_errors=True)
