"""Plan: rows, shards, paths and keys of a run, and what is written of it."""

import json
from pathlib import Path

import pytest

from tests.dag import ROOT
from workflow.inputs import resolve
from workflow.overlays import merged
from workflow.plan import Plan, read_plan
from workflow.products import clashes, paired_options, table_options
from workflow.settings import SettingsError, read


def planned(scale: str = "miniature", **over) -> Plan:
    return Plan(read(merged(given={"scale": scale} | over), []))


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_rows_are_the_tables_in_their_order_without_those_that_have_no_weights() -> None:
    plan = planned(tables={"table1": ["real", "hcma", "gligen_ldm"], "table2": ["hcma", "sd14"]})
    assert plan.rows == ["real", "hcma", "gligen_ldm", "sd14"]
    assert plan.methods == plan.rows[1:]
    without = planned("paper").rows
    assert "gligen_ldm" not in without and "hcma" in without


def test_seeds_and_candidates_are_rows_of_their_own() -> None:
    plan = planned(seeds=[0, 3, 5], tables={"table1": ["real", "sd14"], "table2": ["hcma"]})
    assert list(plan.repeats) == ["sd14_seed_3", "sd14_seed_5", "hcma_seed_3", "hcma_seed_5"]
    assert plan.repeats_of("hcma") == ["hcma_seed_3", "hcma_seed_5"]
    assert plan.stanza("sd14_seed_5").sampling["seed"] == 5
    assert plan.sampling("sd14_seed_5")["steps"] == plan.settings.sampling.steps
    own = plan.path.train("")
    assert plan.artefacts("hcma_seed_3") == {"alignment": own.alignment, "eta": own.calibration}
    assert plan.artefacts("hcma_eta_0")["eta"] == plan.candidates["hcma_eta_0"].file == own.candidate(0)
    assert plan.artefacts("sd14") == {}


def test_without_an_aligned_row_nothing_is_trained_and_no_weights_of_it_are_needed() -> None:
    few = {"table1": ["real", "sd14", "boxdiff"], "table2": None, "difficulty": None}
    plan = planned(tables=few, models={"gligen": None, "gligen_ldm": None}, compare_with=["boxdiff"])
    assert not {"training", "calibration"} & set(plan.figure_names)
    assert {one.split for one in plan.sampled} == {"test"}
    assert plan.compared_with == ["boxdiff"]
    assert "--mark-against boxdiff" in " ".join(table_options(plan, "table1"))
    without_photos = {"data": {"source": {"reader": "coco", "path": "x.json"}, "draw": None}}
    assert not planned(tables=few, **without_photos).has_photos("test")
    test_alone = {"data": {"dataset": "tests.jsonl_dataset", "root": "x", "draw": None}}
    assert planned(tables=few, **test_alone).splits == ["test"]
    with pytest.raises(SettingsError) as refused:
        planned(**test_alone)
    assert [
        "no photos of the split train, on which aligned rows are trained" in fault for fault in refused.value.faults
    ] == [True]
    studied = {"base": "hcma", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}}
    assert "training" in planned(tables=few, study=studied).figure_names
    against = studied | {"base": "gligen_sd", "against": ["hcma"]}
    assert planned(tables=few | {"table1": ["sd14", "gligen_sd"]}, study=against).settings.aligns
    small = {"data": {"heldout": {"count": 4}, "train": {"count": 8}}, "alignment": {"text": {"model": "gligen"}}}
    assert planned(tables=few, models={"gligen": None}, **small).rows == ["real", "sd14", "boxdiff"]


def test_the_page_opens_with_two_rows() -> None:
    def opened(rows: list[str], compare_with: list[str]) -> list[str]:
        return planned(
            tables={"table1": rows, "table2": None, "difficulty": None}, compare_with=compare_with
        ).opened_with

    assert opened(["real", "sd14", "boxdiff"], ["boxdiff", "sd14"]) == ["boxdiff", "sd14"]
    assert opened(["sd14", "boxdiff"], ["sd14"]) == ["sd14", "boxdiff"]
    assert opened(["real", "sd14"], ["hcma"]) == ["sd14", "real"]
    assert opened(["sd14"], ["sd14"]) == ["sd14", "sd14"]


def test_shards_hold_all_layouts_and_parts_all_shards() -> None:
    plan = planned(data={"train": {"count": 1000}, "shard_size": 300}, resources={"encode_shards": 3})
    assert plan.shards("train") == ["0000", "0001", "0002", "0003"]
    assert plan.parts("train") == {"0000": ["0000", "0001", "0002"], "0001": ["0003"]}
    assert plan.latents("train")[1] == "results/miniature/train/latents/train/0001.safetensors"
    few = planned(alignment={"calibrate": {"images": 20, "count": 20}}, data={"shard_size": 10})
    assert (len(few.shards("heldout")), len(few.sampled_shards("heldout"))) == (5, 2)


def test_candidates_are_sampled_on_as_many_layouts_as_asked_for() -> None:
    heldout = {"alignment": {"calibrate": {"images": 25, "count": 20}}, "data": {"shard_size": 10}}
    plan = planned(**heldout)
    assert plan.settings.data.heldout.count == 48
    # 10, 10 and 5; then 10, 10 and 3.
    assert (len(plan.sampled_shards("heldout")), len(plan.shards("heldout"))) == (3, 6)
    assert {one.images for one in plan.sampled if one.split == "heldout"} == {25}
    assert plan.set_options[-2:] == ["--first", "heldout=25"]
    assert "--first" not in planned().set_options
    paper = planned("paper", data={"root": "/coco"})
    assert (len(paper.sampled_shards("heldout")), len(paper.shards("heldout"))) == (1, 4)


def test_every_pair_of_rows_that_a_table_compares_is_measured_once() -> None:
    plan = planned(tables={"table1": ["real", "sd14", "boxdiff"], "table2": ["hcma", "sd15"]})
    pairs = {frozenset((row, other)) for row in plan.methods for other in plan.partners(row)}
    assert frozenset(("boxdiff", "sd14")) in pairs and frozenset(("hcma", "boxdiff")) in pairs
    assert frozenset(("boxdiff", "sd15")) not in pairs
    assert sum(len(plan.partners(row)) for row in plan.methods) == len(pairs)


def test_a_table_by_difficulty_is_of_all_rows_and_compares_none() -> None:
    two = {"table1": ["real", "sd14", "gligen_sd"], "table2": {"rows": ["hcma"]}}
    plan = planned(tables=two | {"levels": {"by": ["tags.level"], "columns": ["image_success"], "caption": "By level"}})
    assert plan.rows == ["real", "sd14", "gligen_sd", "hcma"] == plan.rows_of("levels") == plan.rows_of("difficulty")
    assert plan.by_difficulty == ["difficulty", "levels"] == plan.figure_names[-2:]
    assert plan.table_names[:4] == ["table1", "table2", "difficulty", "levels"]
    assert plan.against("levels") == "gligen_sd"
    # Neither is compared with the other but by significance: no table but those by difficulty has both.
    pairs = {frozenset((row, other)) for row in plan.methods for other in plan.partners(row)}
    assert pairs == {frozenset(("hcma", "sd14")), frozenset(("hcma", "gligen_sd")), frozenset(("sd14", "gligen_sd"))}
    words = table_options(plan, "levels")
    place = words.index("--by")
    assert words[place : place + 3] == ["--by", "tags.level", "--objects-bands"]
    assert {"--caption=By level", "image_success", plan.path.scores("hcma", "test")} <= set(words)
    assert "levels" not in paired_options(plan, "best")
    without = planned(tables={"table1": ["real", "sd14"], "table2": ["hcma"]})
    assert without.against("difficulty") is None and "--against" not in table_options(without, "difficulty")


def test_a_tables_columns_reach_its_program_and_that_of_the_best_rows() -> None:
    plan = planned(tables={"table1": {"columns": ["image_kid", "ap50"]}, "table2": ["gligen_sd", "hcma"]})
    assert plan.rows_of("table1")[-1] == "hcma"  # an overlay adds to the stanza below
    assert table_options(plan, "table1")[-3:] == ["--columns", "image_kid", "ap50"]
    best = paired_options(plan, "best")
    place = best.index("--columns")
    assert best[place : place + 4] == ["--columns", "table1", "image_kid", "ap50"]
    assert best.count("--columns") == 1 and best.count("--table") == 2


def test_paths_left_open_are_wildcards() -> None:
    path = planned().path
    assert path.samples("hcma", "test", "0002") == "results/miniature/samples/hcma/test/0002.zip"
    assert path.samples().format(method="hcma", split="test", shard="0002") == path.samples("hcma", "test", "0002")


def test_a_models_key_is_its_commit_its_recipe_or_its_sums(tmp_path) -> None:
    own = tmp_path / "sd14"
    own.mkdir()
    (own / "SHA256SUMS").write_text("a")
    first = planned(models={"sd14": str(own)}).model_key("sd14")
    (own / "SHA256SUMS").write_text("b")
    assert planned(models={"sd14": str(own)}).model_key("sd14") != first
    hub = {"hub": "one/sd", "revision": "a" * 40, "licence": "free"}
    fetch = {"licences": {"free": ""}, "accept": []}
    plan = planned(models={"sd14": hub}, fetch=fetch)
    assert plan.model_key("sd14") == f"one/sd@{'a' * 40}"
    assert plan.weights_made("sd14", "gligen") == ["downloads/sd14/SHA256SUMS"]
    random = planned("rehearsal", data={"root": "workflow"})
    assert random.model_key("sd14") == "stable-diffusion, random, seed 14"
    assert random.weights_made("sd14") == ["results/rehearsal/weights/sd14/SHA256SUMS"]


KEYS = {
    "data": lambda plan: plan.data_key,
    "training": lambda plan: plan.variants[""].training_key,
    "noise": lambda plan: plan.variants[""].noise_key,
    "calibration": lambda plan: plan.variants[""].calibration_key,
    "training eta": lambda plan: plan.variants[""].training_eta_key,
    "extractors": lambda plan: plan.extractors_key,
    "hcma": lambda plan: plan.method_key("hcma"),
    "sd14": lambda plan: plan.method_key("sd14"),
}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"resources": {"batch_size": 3, "device": "cuda", "gpu": 1, "compile": True}}, set()),
        ({"alignment": {"train": {"micro_batch": 8, "denoiser": {"micro_batch": 2}}}}, set()),
        ({"alignment": {"train": {"lr": 0.5}}}, {"training", "noise"}),
        ({"alignment": {"train": {"denoiser": {"lr": 0.5}}}}, {"noise"}),
        ({"caveat": "other"}, set()),
        ({"run": "other"}, set()),
        ({"data": {"shard_size": 7}}, set()),
        ({"data": {"boxes": {"max": 3}}}, {"data"}),
        ({"sampling": {"steps": 7}}, {"hcma", "sd14"}),
        ({"methods": {"sd14": {"version": 9}}}, {"sd14"}),
        ({"methods": {"hcma": {"params": {"tau": 0.5}}}}, {"hcma", "noise", "calibration", "training eta"}),
        ({"methods": {"hcma": {"version": 2}}}, {"hcma", "noise", "calibration", "training eta"}),
        ({"alignment": {"calibrate": {"multiples": [1.0, 30.0]}}}, {"calibration"}),
        ({"alignment": {"calibrate": {"relative_step": 0.02}}}, {"calibration"}),
        ({"alignment": {"calibrate": {"count": 9}}}, {"calibration", "training eta"}),
        ({"alignment": {"train": {"denoiser": {"relative_step": 0.02}}}}, {"noise", "training eta"}),
        ({"extractors": {"clip": {"name": "other"}}}, {"extractors"}),
        ({"extractors": {"clip": {"precision": "bfloat16"}}}, {"extractors"}),
        ({"resources": {"evaluation_device": "cuda", "evaluation_threads": 7}}, set()),
        ({"seeds": [0, 1]}, set()),
        ({"tables": {"table1": ["real", "sd14", "sd15"]}}, set()),
    ],
)
def test_a_key_changes_with_its_meaning_alone(change, moved) -> None:
    before, after = planned(), planned(**change)
    assert {name for name, key in KEYS.items() if key(before) != key(after)} == moved


def test_files_that_change_places_are_other_artefacts() -> None:
    def key(**artefacts: str) -> str:
        mine = {"module": "tests.colour_method", "base": "sd14", "version": 1, "artefacts": artefacts}
        return planned(methods={"mine": mine}).method_key("mine")

    assert key(colour="a.json", other="b.json") != key(colour="b.json", other="a.json")
    assert key(colour="a.json", other="b.json") == key(other="b.json", colour="a.json")


@pytest.mark.parametrize(
    ("over", "device", "gpus", "threads"),
    [
        ({}, "cpu", 0, 2),
        ({"device": "cuda", "gpu": 4}, "cuda", 1, 2),
        ({"device": "cuda", "gpu": 1, "evaluation_device": "cpu"}, "cpu", 0, 2),
        ({"evaluation_device": "cuda:1", "evaluation_threads": 16}, "cuda:1", 1, 16),
    ],
)
def test_a_job_of_features_asks_for_the_evaluations_device(over, device, gpus, threads) -> None:
    plan = planned(resources={"threads": 2} | over)
    assert (plan.evaluation_device, plan.evaluation_gpus, plan.evaluation_threads) == (device, gpus, threads)


def test_config_json_is_written_once_and_read_as_the_same_plan(tmp_path, monkeypatch) -> None:
    hub = {"hub": "one/sd", "revision": "a" * 40, "licence": "free"}
    plan = planned(models={"sd14": hub}, fetch={"licences": {"free": ""}, "accept": []})
    monkeypatch.chdir(tmp_path)
    plan.write_config()
    written = Path(plan.path.config).stat().st_mtime_ns
    plan.write_config()
    assert Path(plan.path.config).stat().st_mtime_ns == written
    again = read_plan(Path(plan.path.config))
    assert again.settings == plan.settings
    assert again.downloads == plan.downloads
    assert again.model("sd14") == json.loads(Path(plan.path.config).read_text())["models"]["sd14"]["path"]
    assert resolve(plan.settings)[0] == plan.settings


def many() -> dict:
    """Forty rows and thirty seeds."""
    rows = [f"copy_of_stable_diffusion_{number}" for number in range(38)]
    return {
        "methods": {row: {"module": "baselines.stable_diffusion", "base": "sd14", "version": 1} for row in rows},
        "tables": {"table1": ["real", *rows], "table2": ["gligen_sd", "hcma"]},
        "seeds": list(range(30)),
    }


def test_forty_rows_and_thirty_seeds_are_planned() -> None:
    plan = planned(**many())
    assert (len(plan.methods), len(plan.repeats)) == (40, 40 * 29)
    assert len({plan.method_key(row) for row in plan.repeats}) == 29 * 3


def test_the_noise_loss_makes_the_aligned_rows_model_and_module() -> None:
    train = {"objective": "align+noise", "train_denoiser": "fuser", "second_order": True}
    plan = planned(alignment={"train": train, "text": {"model": "sd14"}})
    noise = plan.path.train("").noise
    assert plan.base("hcma") == "results/miniature/train/noise/model"
    assert plan.base("gligen_sd") == "weights/miniature/gligen"
    assert plan.trained("hcma").noise_trains == ["fuser", "alignment"]
    assert plan.sampling_models("hcma") == ["gligen", "sd14"]
    assert plan.sampling_models("gligen_sd") == ["gligen"]
    assert plan.artefacts("hcma")["alignment"] == f"{noise}/alignment.safetensors"
    assert f"{noise}/model/SHA256SUMS" in plan.artefacts_made("hcma")
    assert plan.text_artefact("hcma") == {"text_pooled": "weights/miniature/sd14"}
    assert plan.text_artefact("gligen_sd") == {}
    assert plan.text_options("") == ["--text", "weights/miniature/sd14", "--text-feature", "pooled"]


def test_a_module_of_ones_own_stays_ones_own() -> None:
    mine = {"like": "hcma", "artefacts": {"alignment": "/mine/alignment.safetensors"}}
    other = {"like": "hcma", "artefacts": {"alignment": "train/other.safetensors", "eta": "/mine/eta.json"}}
    rows = {"methods": {"mine": mine, "other": other}, "tables": {"table1": ["sd14", "mine", "other", "hcma"]}}
    train = {"objective": "align+noise", "train_denoiser": "fuser"}
    plan = planned(alignment={"train": train, "text": {"model": "sd14"}}, **rows)
    assert plan.artefacts("mine") == {
        "alignment": "/mine/alignment.safetensors",
        "eta": plan.path.train("").calibration,
    }
    assert plan.artefacts("other")["alignment"] == "results/miniature/train/other.safetensors"
    for row in ("mine", "other"):
        assert plan.base(row) == plan.model("gligen")
        assert plan.text_artefact(row) == {}
        assert plan.sampling_models(row) == ["gligen"]
    study = {"base": "mine", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}}
    studied = planned(study=study, **rows)
    assert studied.artefacts("mine_tau_0_3") == plan.artefacts("mine")
    assert list(studied.variants) == [""]


def test_a_row_like_another_has_a_name_of_its_own() -> None:
    rows = {"mine": {"like": "rnb", "params": {"step": 1.0}}, "named": {"like": "rnb", "label": "Mine"}}
    methods = planned(methods=rows).settings.methods
    assert [methods[row].label for row in ("rnb", "mine", "named")] == ["R&B", None, "Mine"]
    assert methods["mine"].source == methods["rnb"].source


def test_a_row_with_the_name_of_one_that_is_made_of_another_is_refused() -> None:
    def told(**over) -> list[str]:
        return [line.partition(";")[0] for line in clashes(planned(**over))]

    assert told() == told(seeds=[0, 3]) == []
    named = {name: {"like": "sd14"} for name in ("sd14_seed_3", "hcma_eta_0", "hcma_training_3")}
    assert told(methods=named) == ["methods.hcma_eta_0: hcma with a candidate for eta is called hcma_eta_0 too"]
    study = {"base": "hcma", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}, "training_seeds": [0, 3]}
    assert told(methods=named, seeds=[0, 3], study=study) == [
        "methods.sd14_seed_3: sd14 with another seed or place of images is called sd14_seed_3 too",
        "methods.hcma_eta_0: hcma with a candidate for eta is called hcma_eta_0 too",
        "methods.hcma_training_3: hcma with another training seed is called hcma_training_3 too",
    ]
    levels = {"3": {"params": {"tau": 0.2}}}
    factors = {"seed": {"levels": levels}, "eta": {"levels": {"0": {"params": {"tau": 0.4}}}}}
    assert told(seeds=[0, 3], study={"base": "hcma", "factors": factors}) == [
        "the reading hcma_seed_3 of the study: hcma with another seed or place of images is called hcma_seed_3 too",
        "the reading hcma_eta_0 of the study: hcma with a candidate for eta is called hcma_eta_0 too",
    ]
