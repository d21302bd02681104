"""An estimate asks each method what it takes, which is what its loop takes, and needs neither weights nor data."""

import importlib
import json
import os
import re
import sys
from dataclasses import fields, replace
from types import ModuleType

import numpy as np
import pytest
import torch

from evaluation.tables.table import markdown, read_frame
from formats.images import write_images
from formats.layouts import Layout, Object
from formats.params import from_keys
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import State
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Sampling, duplicate_calls, initial_noise, load_diffusion, make_scheduler
from hcma.sampling.loading import Method
from tests.dag import ROOT, jobs_by_rule, snakemake
from tests.test_contract import stanzas
from tests.tiny import WIDTH, write_tiny, write_tiny_ldm
from workflow.benchmarks import estimate, feature_costs, pilot
from workflow.overlays import merged
from workflow.plan import Plan
from workflow.settings import read

CAT = Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5))
LAYOUT = Layout(1, 1, "a cat", (CAT,))
STEPS = 12  # so that two of the published thresholds are reached
TESTS = {"resolution": 8, "step": 1.0, "stop": 4, "max_refinements": 3}
EXCITE = TESTS | {"thresholds": [[0, 0.5], [2, 0.9]]}
GUIDANCE = {"blocks": ["up_blocks.1"], "stop": 3, "max_iterations": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("sd14", "gligen", "gligen_ldm")}
    plain = write_tiny(folders["sd14"])
    return {
        "sd14": plain,
        "sd15": plain,
        "gligen": write_tiny(folders["gligen"], gated=True),
        "gligen_ldm": write_tiny_ldm(folders["gligen_ldm"]),
    }


def said_and_done(folder, name, params, sampling, layout=LAYOUT):
    """What a method says an image takes, and what its own run counts."""
    torch.manual_seed(0)
    sd = load_diffusion(folder, Sampling(**sampling))
    config = AlignmentConfig(4, sd.latent_shape_CHW[1], WIDTH, patch=2, width=16, blocks=1, heads=2)
    state, module = State(Alignment(config).eval().requires_grad_(False), eta=1.0), importlib.import_module(name)
    params = from_keys(module.Params, params, name)
    Method(module, params, sd, state).generate([layout], initial_noise([layout], 0, sd.latent_shape_CHW))
    return module.passes(params, sd.sampling), sd.counters.images[0]


def assert_within(passes, work, boxes):
    for name, (least, most) in passes.counts((boxes, boxes)).items():
        assert least <= work[name] <= most, name
    assert set(passes.other) >= {name for name in work if name in ("alignments",)}
    if passes.guided == passes.guided_grounded == (0, 0):
        assert not work["guidance_forwards"] and not work["guidance_backwards"]


@pytest.mark.parametrize("stanza", stanzas())
def test_every_method_takes_what_it_says(stanza, models):
    """Exactly, but for guidance, whose refinements depend on the image: that stays between what is said."""
    params = dict(stanza.get("params", {}))
    known = {field.name for field in fields(importlib.import_module(stanza["module"]).Params)}
    # The tiny U-Net's finest maps are 8 x 8, and it has two blocks on either side.
    params |= {key: value for key, value in {"resolution": 8, "blocks": ["up_blocks.1"]}.items() if key in known}
    sampling = {"steps": STEPS, "scheduler": stanza.get("sampling", {}).get("scheduler", "pndm")}
    if not hasattr(importlib.import_module(stanza["module"]), "passes"):
        assert stanza["module"] == "baselines.pipeline", "only what a folder holds cannot be said before"
        return
    passes, work = said_and_done(models[stanza["base"]], stanza["module"], params, sampling)
    assert_within(passes, work, boxes=1)
    assert work["unet_forwards"] > 0 and bool(work["guidance_forwards"]) == bool(passes.layers)


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "lms"])
@pytest.mark.parametrize(
    ("module", "params"),
    [
        ("gligen", {"tau": 0.5}),
        ("attend_and_excite", EXCITE),
        ("attend_and_excite", EXCITE | {"guide_duplicate": False}),
        ("boxdiff", EXCITE),
        ("boxdiff", EXCITE | {"refine": False}),
        ("layout_guidance", GUIDANCE),
        ("layout_guidance", GUIDANCE | {"sticky": False}),
        ("layout_guidance", GUIDANCE | {"max_iterations": 0}),
        ("multidiffusion", {"bootstrap": 2}),
    ],
)
def test_the_solvers_own_calls_are_in_what_a_method_says(models, module, params, scheduler):
    sampling = {"steps": 6, "scheduler": scheduler}
    passes, work = said_and_done(models["gligen"], f"baselines.{module}", params, sampling)
    assert_within(passes, work, boxes=1)
    sd = load_diffusion(models["gligen"], Sampling(**sampling))
    assert sd.sampling.duplicates == duplicate_calls(make_scheduler(sd))
    assert sd.sampling.calls == len(make_scheduler(sd).timesteps)


@pytest.mark.parametrize("refinements", [0, 1, 3])
@pytest.mark.parametrize("stop", [1, 4])
def test_the_ends_of_a_range_are_reached(models, stop, refinements):
    thresholds = {end: {"thresholds": [[0, end], [2, end]]} for end in (0.0, 1.0)}
    for number, end in enumerate((0.0, 1.0)):
        params = TESTS | thresholds[end] | {"stop": stop, "max_refinements": refinements}
        passes, work = said_and_done(models["sd14"], "baselines.attend_and_excite", params, {"steps": 6})
        assert work["guidance_forwards"] == passes.guided[number]


@pytest.mark.parametrize("threshold", [1.0, 0.0])
def test_the_ends_of_layout_guidances_range_are_reached(models, threshold):
    params = GUIDANCE | {"threshold": threshold}
    passes, work = said_and_done(models["sd14"], "baselines.layout_guidance", params, {"steps": 6})
    assert work["guidance_forwards"] == passes.guided[threshold == 0.0]


def test_a_view_a_box_is_counted(models):
    two = replace(LAYOUT, objects=(CAT, replace(CAT, box=(0.7, 0.1, 0.9, 0.4))))
    passes, work = said_and_done(models["sd14"], "baselines.multidiffusion", {"bootstrap": 1}, {"steps": 6}, two)
    assert passes.counts((2, 2))["unet_forwards"] == (42, 42) and work["unet_forwards"] == 42


def test_hcmas_alignments_are_counted(models):
    params = {"start": 0.2, "every": 2, "tau": 0.5}
    passes, work = said_and_done(models["gligen"], "hcma.method", params, {"steps": 6})
    assert passes == Passes(calls=3, grounded=4, other={"alignments": work["alignments"]})


def says(module, sampling, **params):
    found = importlib.import_module(module)
    return found.passes(found.Params(**params), Sampling(**sampling))


def test_the_published_settings_cost_what_the_literature_says():
    """Counted on the official codes, without their repeated tests: A&E 25 to 85 guided passes, Layout-Guidance 1 to 50."""
    shared = {"steps": 50}
    excite = says("baselines.attend_and_excite", shared)
    assert (excite.calls, excite.guided) == (51, (25, 85))
    guidance = says("baselines.layout_guidance", {"scheduler": "lms", "steps": 51})
    assert (guidance.calls, guidance.guided) == (51, (1, 50))
    assert says("baselines.gligen", shared) == Passes(calls=35, grounded=16)
    many = says("baselines.multidiffusion", shared)
    assert many.counts((0, 30))["unet_forwards"] == (2 * 51, 2 * 51 * 31)
    seconds = {"pass": {"seconds": 2.0}, "decoding": {"seconds": 0.5}}
    assert [estimate.an_image(many, boxes, seconds) for boxes in (0, 30)] == [102.5, 2 * 51 * 31 + 10.5]


def load_of(sd14, gligen):
    """Three rows, of which HCMA's model alone has layers for boxes."""
    methods = {
        "sd14": ("baselines.stable_diffusion", {}, sd14),
        "layout_guidance": ("baselines.layout_guidance", {"blocks": ["up_blocks.1"]}, sd14),
        "hcma": ("hcma.method", {}, gligen),
    }
    rows = [
        (pilot.TimedRow(name, module, params, {"steps": STEPS}, str(model)), pilot.Images(name, "test", 5))
        for name, (module, params, model) in methods.items()
    ]
    sizes = {"patch": 2, "width": 16, "blocks": 1, "heads": 2}
    return pilot.Workload(rows, sizes, images_trained=36, size=64, shard_size=2, most_boxes=30, batch_size=2)


def test_from_a_pilot_to_an_estimate_with_what_was_spent_beside_it(tmp_path, capsys):
    load = load_of(write_tiny(tmp_path / "sd14"), write_tiny(tmp_path / "gligen", gated=True))
    pilot.write_pilot(torch.device("cpu"), load, tmp_path / "pilot.json")
    rows = json.loads((tmp_path / "pilot.json").read_text())["rows"]
    kinds = {name: set(found) - {"pass", "decoding"} for name, found in rows.items()}
    aligned = {"grounded_pass", "alignments", "training"}
    assert kinds == {"sd14": set(), "layout_guidance": {"guided_pass"}, "hcma": aligned}
    assert all(timed["seconds"] > 0 and timed["batch"] == 2 for found in rows.values() for timed in found.values())
    pixels = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    meta = {"images": 2, "seconds": 7200.0, "device": "another device"}
    write_images(tmp_path / "samples/hcma/test/0000.zip", [("000000000001.png", pixels)], meta)
    capsys.readouterr()
    estimate.print_table(load, tmp_path / "pilot.json", tmp_path / "samples", tmp_path / "estimate")
    assert capsys.readouterr().out == (tmp_path / "estimate.md").read_text()
    found = read_frame(tmp_path / "estimate.json").set_index("method")
    row = {kind: timed["seconds"] for kind, timed in rows["sd14"].items()}
    hours = 5 * ((STEPS + 1) * row["pass"] + row["decoding"]) / 3600
    assert found.loc["sd14", ["hours_least", "hours_most"]].tolist() == pytest.approx([hours, hours])
    assert found.loc["sd14", "jobs"] == 8 and np.isnan(found.loc["sd14", "images_measured"])
    assert found.loc["hcma", ["hours_measured", "images_measured"]].tolist() == [2.0, 2]
    assert found.loc["layout_guidance", "hours_least"] < found.loc["layout_guidance", "hours_most"]
    text, hours = (tmp_path / "estimate.md").read_text(), rows["hcma"]["training"]["seconds"] / 100
    assert "Measured on another device: another device." in text
    assert f"Training of the alignment in float32: {hours:.3g} hours on that device" in text


def test_the_evaluation_is_part_of_the_estimate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    plan = Plan(read(merged(["tests/config/small.yaml"], {"seeds": [0, 3]}), []))
    run = feature_costs.evaluation_of(plan)
    # Six rows of 32, two held-out ones of 16, and the photos of both.
    assert (run.images, run.test, run.rows, run.workers) == (6 * 32 + 2 * 16 + 32 + 16, 32, 7, 0)
    wide = {"data": {"val": {"count": 40}}, "evaluation": {"reference": "full_val"}}
    of_val = Plan(read(merged(["tests/config/small.yaml"], {"seeds": [0, 3]} | wide), []))
    assert feature_costs.evaluation_of(of_val).images == run.images + 40
    stanzas = {name: one.model_dump(exclude_none=True) for name, one in plan.extractors.items()}
    timed = feature_costs.time_networks(stanzas, torch.device("cpu"), 64)
    assert set(timed["networks"]) == set(stanzas)
    assert all(seconds > 0 for each in timed["networks"].values() for seconds in each.values())
    (tmp_path / "pilot.json").write_text(json.dumps({"device": "cpu", "rows": {}, "evaluation": timed}))
    load = replace(pilot.workload(plan), rows=[])
    estimate.print_table(load, tmp_path / "pilot.json", tmp_path / "samples", tmp_path / "estimate")
    text = capsys.readouterr().out
    assert f"for features and detections of {run.images} images" in text
    assert "features and metrics" not in text


def test_a_gpu_waits_for_its_workers_or_they_for_it() -> None:
    pictures = 1 + feature_costs.REGIONS
    networks = {
        "frechet": {"computed": 0.1, "prepared": 1.0, "pictures": pictures},
        "detector": {"computed": 1.0, "prepared": 0.0, "pictures": 1},
    }
    timed = {"device": "x", "type": "cuda", "networks": networks, "reading": 0.7}
    assert feature_costs.an_image(timed, 1) == pytest.approx(pictures + 0.7)
    assert feature_costs.an_image(timed, 100) == pytest.approx(0.1 * pictures + 1.0)
    assert feature_costs.an_image(timed | {"type": "cpu"}, 0) == pytest.approx(1.1 * pictures + 1.7)


def test_rows_that_share_a_network_share_its_times(tmp_path):
    shared = write_tiny(tmp_path / "gligen", gated=True)
    rows = pilot.time_rows(load_of(shared, shared), torch.device("cpu"))
    assert rows["sd14"]["pass"] is rows["hcma"]["pass"]


def test_without_a_model_folder_the_published_architecture_is_timed():
    plain, gated = (pilot.networks("not/fetched/yet", gated)["unet"] for gated in (False, True))
    assert plain["block_out_channels"] == [320, 640, 1280, 1280] and gated["attention_type"] == "gated"


def test_memory_that_runs_out_halves_the_pilots_batch():
    def small(batch):
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: torch.zeros(1)

    assert pilot.seconds_an_image(small, 8)["batch"] == 2


def test_a_method_that_does_not_say_is_estimated_as_plain_sampling_and_marked(tmp_path, monkeypatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    own = ModuleType("tests.late_boxes")
    monkeypatch.setitem(sys.modules, own.__name__, own)
    exec(compile(code, "README.md", "exec"), own.__dict__)
    load = load_of("not/fetched", "not/fetched/yet")
    late = replace(load.rows[0][0], name="late_boxes", module=own.__name__, params={"tau": 1.0})
    seconds = {"pass": {"seconds": 1.0}, "decoding": {"seconds": 0.5}}
    row = estimate.estimated(late, 3600, load, seconds)
    assert (row["hours"], row["known"]) == ([STEPS + 1.5] * 2, False)
    measured = estimate.measured(tmp_path / "none")
    text = markdown(estimate.as_table([row | measured], "cpu", None))
    assert re.search(rf"\| at least {2 * STEPS + 2} +\| not known +\| at least {STEPS + 1.5} +\|", text), text
    assert "late_boxes: its method does not say all that it takes" in text


def test_a_network_of_its_own_that_nobody_times_is_marked() -> None:
    load = load_of("not/fetched", "not/fetched/yet")
    seconds = {kind: {"seconds": 1.0} for kind in ("pass", "grounded_pass", "decoding")}
    hcma, timed = load.rows[2][0], seconds | {"alignments": {"seconds": 1.0}}
    assert [estimate.estimated(hcma, 5, load, found)["known"] for found in (seconds, timed)] == [False, True]


def test_before_it_is_fetched_a_model_is_gated_if_a_row_needs_it_so() -> None:
    load = load_of("not/fetched", "not/fetched/yet")
    assert [pilot.is_gated(load, folder) for folder in ("not/fetched", "not/fetched/yet")] == [False, True]


def test_the_estimate_is_of_all_that_is_sampled(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    load = pilot.workload(Plan(read(merged(["tests/config/small.yaml"], {"seeds": [0, 3]}), [])))
    assert load.images_trained == 4 * 64
    rows = ["attend_and_excite", "gligen_sd", "hcma"]
    expected = [(row, "test", 32) for row in (*rows, *(f"{row}_seed_3" for row in rows))]
    expected += [("hcma_eta_0", "heldout", 16), ("gligen_sd", "heldout", 16)]
    assert sorted((images.row, images.split, images.count) for _, images in load.rows) == sorted(expected)
    assert len({row.name for row, _ in load.rows}) == len(load.rows)
    assert {row.sampling["seed"] for row, _ in load.rows} == {0, 3}


def test_the_estimate_needs_a_pilot_alone() -> None:
    overlays = ["--configfile", "tests/config/small.yaml", "--config", f"run=test-estimate-{os.getpid()}"]
    planned = snakemake("estimate", "-n", *overlays)
    assert planned.returncode == 0, planned.stderr[-2000:]
    assert jobs_by_rule(planned.stdout) == {"pilot": 1, "estimate": 1, "total": 2}
