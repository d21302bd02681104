"""An estimate counts the work that the loops do, and needs neither weights nor data."""

import importlib
import json
import os
import re
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from baselines import stable_diffusion
from formats.images import write_images
from formats.layouts import Layout, Object
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import State
from hcma.sampling.diffusion import Sampling, initial_noise, load_diffusion
from hcma.sampling.loading import Method
from tests.dag import ROOT, jobs_by_rule, snakemake
from tests.launch import status
from tests.tiny import WIDTH, write_tiny
from workflow.overlays import merged
from workflow.plan import Plan
from workflow.scripts import estimate, pilot
from workflow.scripts.estimate import Counts, an_image, count
from workflow.settings import read

CAT = Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5))
LAYOUT = Layout(1, 1, "a cat", (CAT,))
STEPS = 6
EXCITE = {"resolution": 8, "step": 1.0, "stop": 4, "max_refinements": 3, "thresholds": [[0, 0.5], [2, 0.9]]}


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("gated"), gated=True), Sampling())


def counted(sd, stanza, sampling):
    """The work of one image, as the loop itself tallies it."""
    torch.manual_seed(0)
    module = AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2)
    sd, state = replace(sd, sampling=Sampling(**sampling)), State(Alignment(module).eval().requires_grad_(False), 1.0)
    sd.work.clear()
    method = Method(importlib.import_module(stanza["module"]), estimate.params_of(stanza), sd, state)
    method.generate([LAYOUT], initial_noise([LAYOUT], 0, sd.latent_shape_CHW))
    return dict(sd.work.images[0])


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "lms"])
@pytest.mark.parametrize(
    ("module", "params"),
    [
        ("stable_diffusion", {}),
        ("gligen", {"tau": 0.5}),
        ("attend_and_excite", EXCITE),
        ("attend_and_excite", EXCITE | {"guide_duplicate": False}),
        ("boxdiff", EXCITE),
        ("boxdiff", EXCITE | {"refine": False}),
        ("layout_guidance", {"blocks": ["up_blocks.1"], "stop": 3, "max_iterations": 2}),
    ],
)
def test_counts_are_those_of_the_loops(sd, module, params, scheduler):
    stanza, sampling = {"module": f"baselines.{module}", "params": params}, {"steps": STEPS, "scheduler": scheduler}
    found, work = count(stanza, sampling, most_boxes=30), counted(sd, stanza, sampling)
    assert found.passes == (work["unet_forwards"] // 2,) * 2
    least, most = found.guided
    assert least <= work.get("guidance_forwards", 0) <= most


@pytest.mark.parametrize("out_of_reach", [True, False])
@pytest.mark.parametrize(
    ("module", "reached", "never"),
    [
        ("attend_and_excite", {"thresholds": [[0, 0.0], [2, 0.0]]}, {"thresholds": [[0, 1.0], [2, 1.0]]}),
        ("layout_guidance", {"threshold": 1.0}, {"threshold": 0.0}),
    ],
)
def test_the_ends_of_a_range_are_reached(sd, module, reached, never, out_of_reach):
    base = EXCITE if module == "attend_and_excite" else {"blocks": ["up_blocks.1"], "stop": 3, "max_iterations": 2}
    stanza = {"module": f"baselines.{module}", "params": base | (never if out_of_reach else reached)}
    found = count(stanza, {"steps": STEPS}, most_boxes=30).guided[out_of_reach]
    assert counted(sd, stanza, {"steps": STEPS})["guidance_forwards"] == found


def test_hcmas_alignments_are_counted(sd):
    stanza = {"module": "hcma.method", "params": {"start": 0.2, "every": 2, "tau": 0.5}}
    work = counted(sd, stanza, {"steps": STEPS})
    assert count(stanza, {"steps": STEPS}, 30) == Counts((7, 7), grounded=4, aligned=work["alignments"])


def test_the_published_settings_cost_what_the_literature_says():
    """Counted on the official codes, without their repeated tests: A&E 25 to 85 guided passes, Layout-Guidance 1 to 50."""
    shared = {"steps": 50}
    assert count({"module": "baselines.attend_and_excite"}, shared, 30) == Counts((51, 51), guided=(25, 85))
    guidance = {"module": "baselines.layout_guidance", "sampling": {"scheduler": "lms", "steps": 51}}
    assert count(guidance, shared, 30) == Counts((51, 51), guided=(1, 50))
    assert count({"module": "baselines.gligen"}, shared, 30) == Counts((51, 51), grounded=16)
    many = count({"module": "baselines.multidiffusion"}, shared, 30)
    assert (many.passes, many.coded) == ((51, 51 * 31), (1, 21))
    seconds = {"pass": 2.0, "decoding": 0.5}
    assert [an_image(many, seconds, end) for end in (0, 1)] == [102.5, 2 * 51 * 31 + 10.5]


@pytest.fixture
def as_planned(monkeypatch):
    """A configuration is what was planned of it."""
    for program in (estimate, pilot):
        monkeypatch.setattr(program, "read_plan", lambda path: json.loads(path.read_text()))
    monkeypatch.setattr(estimate, "estimated", lambda plan: plan)


def plan_of(tmp_path, models):
    stanzas = {
        "sd14": {"module": "baselines.stable_diffusion", "base": "sd14"},
        "layout_guidance": {
            "module": "baselines.layout_guidance",
            "base": "sd14",
            "params": {"blocks": ["up_blocks.1"]},
        },
        "hcma": {"module": "hcma.method", "base": "gligen", "artefacts": {"alignment": "a", "eta": "b"}},
    }
    method = {"sampling": {"steps": STEPS}, "split": "test", "images": 5}
    methods = {name: method | {"row": name, "stanza": stanza} for name, stanza in stanzas.items()}
    plan = {"methods": methods, "models": models}
    alignment = {"patch": 2, "width": 16, "blocks": 1, "heads": 2}
    plan |= {
        "alignment": alignment,
        "size": 64,
        "shard_size": 2,
        "most_boxes": 30,
        "batch_size": 2,
        "images_trained": 36,
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return plan


def test_from_a_pilot_to_an_estimate_with_what_was_spent_beside_it(tmp_path, capsys, as_planned):
    models = {"sd14": str(write_tiny(tmp_path / "sd14")), "gligen": str(write_tiny(tmp_path / "gligen", gated=True))}
    plan_of(tmp_path, models)
    assert status(pilot.main, ["--config", str(tmp_path / "plan.json"), "--out", str(tmp_path / "pilot.json")]) == 0
    rows = json.loads((tmp_path / "pilot.json").read_text())["rows"]
    kinds = {name: set(found) - {"batch", "pass", "decoding"} for name, found in rows.items()}
    aligned = {"grounded_pass", "alignment", "training"}
    assert kinds == {"sd14": set(), "layout_guidance": {"guided_pass"}, "hcma": aligned}
    assert all(seconds > 0 for found in rows.values() for seconds in found.values())
    pixels = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    meta = {"images": 2, "seconds": 7200.0, "device": "another device"}
    write_images(tmp_path / "samples/hcma/test/0000.zip", [("000000000001.png", pixels)], meta)
    paths = {"--config": "plan.json", "--pilot": "pilot.json", "--samples": "samples", "--out": "estimate"}
    arguments = [text for flag, name in paths.items() for text in (flag, str(tmp_path / name))]
    capsys.readouterr()
    assert status(estimate.main, arguments) == 0
    assert capsys.readouterr().out == (tmp_path / "estimate.md").read_text()
    found = {row["method"]: row for row in json.loads((tmp_path / "estimate.json").read_text())["rows"]}
    row = rows["sd14"]
    assert found["sd14"]["hours"] == pytest.approx([5 * (7 * row["pass"] + row["decoding"]) / 3600] * 2)
    assert found["sd14"]["jobs"] == 8 and found["sd14"]["measured_images"] == 0
    assert (found["hcma"]["measured_hours"], found["hcma"]["measured_images"]) == (2.0, 2)
    assert found["layout_guidance"]["hours"][0] < found["layout_guidance"]["hours"][1]
    text, hours = (tmp_path / "estimate.md").read_text(), rows["hcma"]["training"] / 100
    assert "Measured on another device: another device." in text
    assert f"Training of the alignment in float32: {hours:.3g} hours on that device" in text


def test_without_a_model_folder_the_published_architecture_is_timed():
    plain, gated = (pilot.network_configs("not/fetched/yet", gated)["unet"] for gated in (False, True))
    assert plain["block_out_channels"] == [320, 640, 1280, 1280] and gated["attention_type"] == "gated"


def test_memory_that_runs_out_halves_the_pilots_batch(tmp_path, monkeypatch):
    folder = str(write_tiny(tmp_path / "sd14"))
    plan = plan_of(tmp_path, {"sd14": folder, "gligen": folder}) | {"batch_size": 4}
    passes = pilot.passes

    def small(sd, plan, name, batch):
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return passes(sd, plan, name, batch)

    monkeypatch.setattr(pilot, "passes", small)
    assert pilot.measure("sd14", plan, torch.device("cpu"))["batch"] == 2
    assert stable_diffusion.Params() == estimate.params_of(plan["methods"]["sd14"]["stanza"])


LATE_BOXES = {"module": "tests.late_boxes", "base": "gligen", "params": {"tau": 1.0}}


def test_a_method_of_ones_own_costs_at_least_its_passes(tmp_path, monkeypatch) -> None:
    """One that shows its boxes costs passes with boxes: that is asked of the model and not of the module's name."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    own = ModuleType("tests.late_boxes")
    monkeypatch.setitem(sys.modules, own.__name__, own)
    exec(compile(code, "README.md", "exec"), own.__dict__)
    models = {"sd14": str(write_tiny(tmp_path / "sd14")), "gligen": str(write_tiny(tmp_path / "gligen", gated=True))}
    plan = plan_of(tmp_path, models)
    late = {"sampling": {"steps": STEPS}, "split": "test", "images": 3600, "row": "late_boxes", "stanza": LATE_BOXES}
    plan["methods"] |= {"late_boxes": late, "plain": late | {"stanza": LATE_BOXES | {"base": "sd14"}}}
    assert "grounded_pass" in pilot.passes(pilot.build(plan, "late_boxes", torch.device("cpu")), plan, "late_boxes", 1)
    seconds = {"pass": 1.0, "grounded_pass": 10.0, "decoding": 0.5}
    row = estimate.row("late_boxes", plan, seconds, tmp_path)
    assert (row["hours"], row["counted"]) == ([70.5, 70.5], False)
    plain = estimate.row("plain", plan, {"pass": 1.0, "decoding": 0.5}, tmp_path)
    assert plain["hours"] == [7.5, 7.5]
    text = estimate.markdown({"device": "cpu", "rows": [row], "training_hours": None})
    assert "| at least 14 | not known | at least 70.5 |" in text
    assert "late_boxes: its module is none of this project's" in text


def test_before_it_is_fetched_a_model_is_gated_if_a_row_needs_it_so(tmp_path) -> None:
    plan = plan_of(tmp_path, {"sd14": "not/fetched", "gligen": "not/fetched/yet"})
    assert [pilot.is_gated(plan, base) for base in ("sd14", "gligen")] == [False, True]


def test_the_estimate_is_planned_with_all_that_is_sampled(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = Plan(read(merged(["tests/config/small.yaml"], {"seeds": [0, 3]}), []))
    content = estimate.estimated(plan)
    assert content["images_trained"] == 4 * 64
    rows = ["attend_and_excite", "gligen_ldm", "gligen_sd", "hcma"]
    expected = [(row, "test", 32) for row in (*rows, *(f"{row}_seed_3" for row in rows))]
    expected += [("hcma_eta_0", "heldout", 16), ("gligen_sd", "heldout", 16)]
    assert sorted((one["row"], one["split"], one["images"]) for one in content["methods"].values()) == sorted(expected)


def test_the_estimate_needs_a_pilot_alone() -> None:
    overlays = ["--configfile", "tests/config/small.yaml", "--config", f"run=test-estimate-{os.getpid()}"]
    planned = snakemake("estimate", "-n", *overlays)
    assert planned.returncode == 0, planned.stderr[-2000:]
    assert jobs_by_rule(planned.stdout) == {"pilot": 1, "estimate": 1, "total": 2}
