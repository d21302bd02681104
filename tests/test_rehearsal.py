"""The rehearsal's configuration: full sizes, published settings, and a graph that begins with writing the weights."""

import importlib
import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from formats.params import from_keys
from hcma.alignment import Alignment, AlignmentConfig
from hcma.trainer import Training
from tests.dag import ROOT, snakemake
from workflow.consistency import parameter_faults
from workflow.overlays import merged, resolved
from workflow.random_weights.architecture import FOLDER, read_architecture
from workflow.settings import read

OVERLAY = "workflow/config/rehearsal.yaml"
CONFIGURED = resolved(merged([ROOT / OVERLAY], {"data": {"root": "somewhere"}}))
METHODS = CONFIGURED["methods"]
TABLES = [table.get("rows", []) if isinstance(table, dict) else table for table in CONFIGURED["tables"].values()]
TABLED = [row for rows in TABLES for row in rows if row != "real"]
# What two steps need: all else has the module's defaults, the published values.
OWN = {"tau", "stop", "max_refinements", "max_iterations"}


def test_every_row_of_both_tables_is_sampled_with_valid_parameters() -> None:
    assert len(set(TABLED)) == 10
    assert parameter_faults(read(CONFIGURED, [])) == []
    assert {METHODS[name]["base"] for name in TABLED} == set(CONFIGURED["models"])


@pytest.mark.parametrize("name", TABLED)
def test_parameters_are_the_published_ones_but_for_what_two_steps_need(name) -> None:
    kind = importlib.import_module(METHODS[name]["module"]).Params
    found, default = from_keys(kind, METHODS[name].get("params", {}), name), kind()
    differing = {key for key, value in vars(found).items() if value != getattr(default, key)}
    ablated = {"hcma_no_c2ia": {"lambda_global"}, "hcma_no_o2ra": {"lambda_local"}}.get(name, set())
    assert differing - OWN == ablated
    if getattr(found, "tau", None) is not None:
        assert int(found.tau * CONFIGURED["sampling"]["steps"]) == 1  # one step sees the boxes, the other does not


def test_the_alignment_module_has_the_papers_size_and_takes_one_step() -> None:
    content = CONFIGURED["alignment"]
    module = Alignment(AlignmentConfig(4, 64, 768, **content["model"]))
    blocks = sum(parameter.numel() for parameter in module.blocks.parameters())
    assert blocks == pytest.approx(18.91e6, rel=1e-3)
    known = {field.name for field in fields(Training)}
    settings = Training(**{key: value for key, value in content["train"].items() if key in known})
    assert settings.epochs * CONFIGURED["data"]["train"]["count"] == settings.batch


def test_every_network_is_one_that_a_rule_writes() -> None:
    written = {f"results/rehearsal/weights/{name}" for name in CONFIGURED["architectures"]}
    files = [Path(row["path"]) for row in CONFIGURED["extractors"].values()]
    assert {*CONFIGURED["models"].values(), *(str(path.parent) for path in files)} <= written
    kinds = {row["kind"] for row in CONFIGURED["architectures"].values()}
    assert kinds == {path.stem for path in FOLDER.glob("*.json")}
    for path in files:
        kind = CONFIGURED["architectures"][path.parent.name]["kind"]
        assert read_architecture(kind).components["."].file == path.name


def test_the_graph_begins_with_the_weights_and_needs_no_drawn_data(tmp_path) -> None:
    (tmp_path / "annotations").mkdir()
    for kind in ("instances", "captions"):
        for split in ("train", "val"):
            (tmp_path / f"annotations/{kind}_{split}2014.json").write_text("{}")
    run = f"test-rehearsal-{os.getpid()}"  # of weights that are there nothing would be written
    moved = {name: folder.replace("/rehearsal/", f"/{run}/") for name, folder in CONFIGURED["models"].items()}
    extractors = json.loads(json.dumps(CONFIGURED["extractors"]).replace("/rehearsal/", f"/{run}/"))
    own = tmp_path / "own.yaml"
    own.write_text(
        yaml.safe_dump({"run": run, "models": moved, "extractors": extractors, "data": {"root": str(tmp_path)}})
    )
    done = snakemake("-n", "--configfile", OVERLAY, str(own))
    assert done.returncode == 0, done.stderr[-2000:]
    stats = done.stdout.split("Job stats:")[1].split("total")[0].splitlines()
    jobs = {
        line.split()[0]: int(line.split()[1]) for line in stats if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    assert "draw_coco" not in jobs
    assert (jobs["write_random_weights"], jobs["count_parameters"]) == (10, 4)
    # Each row on the test sample; held out, the candidates for eta and the row that they are judged against.
    heldout = [*CONFIGURED["alignment"]["calibrate"]["multiples"], CONFIGURED["alignment"]["reference"]]
    assert jobs["sample"] == len(set(TABLED)) + len(heldout)
    assert not (ROOT / "results" / run).exists()
