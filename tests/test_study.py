"""The study: what rows a section makes, what they share, its faults, its table and figure, and a run of it."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.figures import study as figure
from evaluation.metrics import METRICS
from evaluation.scores import UNIT
from evaluation.significance import MeasuredRow, holm
from evaluation.tables.study import Studied, study_table
from evaluation.tables.table import markdown, read_table, write_table
from formats.files import InputError
from formats.images import write_images
from hcma.calibrate import multiple_of
from tests.dag import ROOT, jobs_by_rule, snakemake
from workflow.overlays import merged
from workflow.plan import Plan
from workflow.settings import SettingsError, read

FUSER = {"alignment": {"train": {"objective": "align+noise", "train_denoiser": "fuser"}}}
STUDY = {
    "base": "hcma",
    "against": ["gligen_sd"],
    "training_seeds": [0, 3],
    "factors": {
        "tau": {"key": "params.tau", "levels": [0.3, 1.0], "repeated": False},
        "pool": {"key": "alignment.model.pool", "levels": ["area_mean"]},
        "denoiser": {"levels": {"fuser": FUSER}},
        "alignments": {
            "sampling_only": True,
            "levels": {"off": {"params": {"lambda_global": 0.0, "lambda_local": 0.0}}},
        },
        "targets": {"levels": {"sd14": {"alignment": {"text": {"model": "sd14"}}}}},
    },
    "pairs": [["denoiser", "alignments"], ["denoiser.fuser", "tau"]],
}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def planned(study: dict, **over) -> Plan:
    return Plan(read(merged(given={"study": study} | over), []))


def changed(**keys) -> dict:
    return STUDY | keys


def test_a_row_is_the_base_with_one_level_or_two() -> None:
    plan = planned(STUDY)
    assert list(plan.readings) == [
        "hcma",
        "hcma_tau_0_3",
        "hcma_tau_1_0",
        "hcma_pool_area_mean",
        "hcma_denoiser_fuser",
        "hcma_alignments_off",
        "hcma_targets_sd14",
        "hcma_denoiser_fuser_alignments_off",
        "hcma_denoiser_fuser_tau_0_3",
        "hcma_denoiser_fuser_tau_1_0",
    ]
    base = plan.settings.methods["hcma"]
    assert plan.stanza("hcma_tau_0_3").params == base.params | {"tau": 0.3}
    assert plan.stanza("hcma_denoiser_fuser").params == base.params
    assert plan.readings["hcma_denoiser_fuser_tau_1_0"].label == "denoiser = fuser, tau = 1.0"
    assert plan.readings["hcma"].label == "hcma"


def test_what_does_not_differ_is_shared() -> None:
    plan = planned(STUDY)
    own, pool, fuser = (plan.path.train(name) for name in ("", "/hcma_pool_area_mean", "/hcma_denoiser_fuser"))
    # tau decides nothing of the module, but which eta is best.
    assert plan.artefacts("hcma_tau_0_3") == {
        "alignment": own.alignment,
        "eta": plan.path.train("/hcma_tau_0_3").calibration,
    }
    assert plan.artefacts("hcma_pool_area_mean") == {"alignment": pool.alignment, "eta": pool.calibration}
    assert plan.latents("train", "/hcma_pool_area_mean") == plan.latents("train")
    assert plan.latents("train", "/hcma_targets_sd14") != plan.latents("train")
    assert plan.text_artefact("hcma_targets_sd14") == {"text_pooled": "weights/miniature/sd14"}
    assert plan.text_artefact("hcma") == plan.text_artefact("hcma_tau_0_3") == {}
    # The denoiser is trained behind the module of the base, and sampled from with the one that comes out.
    assert plan.untuned_module("/hcma_denoiser_fuser") == own.alignment
    assert plan.base("hcma_denoiser_fuser") == f"{fuser.noise}/model"
    assert plan.base("hcma") == plan.base("hcma_tau_0_3") == "weights/miniature/gligen"
    # The control: the trained denoiser and its eta, and nothing of its own.
    control = "hcma_denoiser_fuser_alignments_off"
    assert plan.artefacts(control) == plan.artefacts("hcma_denoiser_fuser")
    assert plan.base(control) == plan.base("hcma_denoiser_fuser")
    assert plan.artefacts("hcma_alignments_off") == plan.artefacts("hcma")


def test_the_run_itself_is_as_it_is_without_a_study() -> None:
    alone, with_study = planned(None), planned(STUDY)
    assert alone.rows == with_study.rows and alone.tables == with_study.tables
    for row in alone.methods:
        assert alone.method_key(row) == with_study.method_key(row)
        assert alone.artefacts(row) == with_study.artefacts(row)
        assert alone.partners(row) == with_study.partners(row)
    assert alone.candidates.items() <= with_study.candidates.items()
    assert alone.choosing == [""]


def test_a_training_seed_trains_again_and_takes_over_the_multiple_of_eta() -> None:
    plan = planned(STUDY)
    assert "hcma_tau_0_3_training_3" not in plan.retrainings
    again = plan.trained("hcma_training_3")
    assert again.variant == "/hcma_training_3" and again.alignment.train.seed == 3
    assert plan.chosen_first("/hcma_training_3") == [plan.path.train("").eta, plan.path.train("").calibration]
    control, fuser = "hcma_denoiser_fuser_alignments_off_training_3", "/hcma_denoiser_fuser_training_3"
    assert plan.trained(control).variant == fuser
    assert plan.base(control) == f"{plan.path.train(fuser).noise}/model"
    # Its denoiser is trained behind a module of its own seed: the one of the base with that seed.
    assert plan.untuned_module(fuser) == plan.path.train("/hcma_training_3").alignment
    assert not any(candidate.variant.endswith("_training_3") for candidate in plan.candidates.values())
    keys = {plan.trained(row).training_key for row in ("hcma", "hcma_training_3", "hcma_pool_area_mean_training_3")}
    assert len(keys) == 3


def test_rows_are_compared_with_the_base_others_and_their_levels_alone() -> None:
    compared = planned(STUDY).compared
    assert compared["hcma"] == ["gligen_sd"]
    assert compared["hcma_tau_0_3"] == ["hcma", "gligen_sd"]
    assert compared["hcma_denoiser_fuser_alignments_off"] == [
        "hcma",
        "gligen_sd",
        "hcma_denoiser_fuser",
        "hcma_alignments_off",
    ]


def test_programs_read_a_variants_sections(tmp_path, monkeypatch) -> None:
    plan = planned(STUDY)
    monkeypatch.chdir(tmp_path)
    plan.write_config()
    for variant, trained in plan.variants.items():
        wildcards = type("Wildcards", (), {"variant": variant})
        content = json.loads(Path(plan.sections(wildcards, None)).read_text())
        alignment = content["alignment"]
        assert content["methods"][alignment["method"]]["params"] == trained.params, variant
        assert alignment["train"]["seed"] == trained.alignment.train.seed
        assert alignment["model"]["pool"] == trained.alignment.model.pool


def test_any_methods_parameters_are_factors() -> None:
    study = {
        "base": "boxdiff",
        "factors": {
            "step": {"key": "params.step", "levels": [2.5, 10.0]},
            "refine": {"key": "params.refine", "levels": [False]},
            "scale": {"key": "sampling.guidance_scale", "levels": [5.0]},
        },
    }
    plan = planned(study)
    assert list(plan.readings) == [
        "boxdiff",
        "boxdiff_step_2_5",
        "boxdiff_step_10_0",
        "boxdiff_refine_false",
        "boxdiff_scale_5_0",
    ]
    assert plan.sampling("boxdiff_scale_5_0")["guidance_scale"] == 5.0
    assert list(plan.variants) == [""] and plan.artefacts("boxdiff_step_2_5") == {}


@pytest.mark.parametrize(
    ("study", "told"),
    [
        (changed(base="hcna"), "study.base: 'hcna' is not one of methods that have a model: .*nearest is hcma"),
        (
            {"base": "hcma_no_c2ia", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}},
            "study.base: 'hcma_no_c2ia' has the eta of alignment.method, 'hcma', but its readings would have their own; name",
        ),
        (changed(against=["hcma"]), "study.against: 'hcma' is the base"),
        (changed(metrics=["image_fod"]), "study.metrics: 'image_fod' is not one of .*nearest is image_fid"),
        (changed(metrics=["image_precision"]), "study.metrics: 'image_precision' has no standard error"),
        (changed(pairs=[["tau", "poool"]]), "study.pairs: 'poool' is not one of study.factors: .*nearest is pool"),
        (
            changed(pairs=[["tau.0_3", "denoiser.unet"]]),
            "study.pairs: 'unet' is not one of study.factors.denoiser: fuser",
        ),
        (changed(pairs=[["tau", "tau"]]), "study.pairs: expected two factors, found"),
        (changed(pairs=[["tau"]]), "study.pairs.0: expected two names, FACTOR or FACTOR.LEVEL"),
        (changed(training_seeds=[1, 2]), "study.training_seeds: begins with 1, expected alignment.train.seed, 0"),
        (changed(factors={}), "study.factors: "),
    ],
)
def test_what_a_study_names_must_be_there(study, told) -> None:
    assert_told(study, told)


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        ({"levels": [0.3]}, "study.factors.x.key: missing: which key has these levels, such as params.tau"),
        ({"levels": []}, "study.factors.x.levels: expected a list of values of `key`, or a mapping of named levels"),
        ({"key": "tau", "levels": [0.3]}, "study.factors.x.key: 'tau' is no key below params, sampling, alignment"),
        ({"key": "params.tao", "levels": [1]}, r"study.factors.x.levels.1.params.tao: unknown key, nearest is tau"),
        (
            {"key": "params.tau", "levels": [0.7]},
            "study.factors.x.levels.0_7: equals what the base, 'hcma', has; leave this level out",
        ),
        ({"key": "params.tau", "levels": ["a b", "a-b"]}, "study.factors.x.levels: two levels would be called 'a_b'"),
        ({"key": "sampling.stepz", "levels": [3]}, "sampling.stepz: unknown key, nearest is steps"),
        ({"key": "alignment.model.pool", "levels": ["mean"]}, "alignment.model.pool: expected grid_mean or area_mean"),
        ({"key": "alignment.train.second_order", "levels": [True]}, "second_order: true needs objective: align.noise"),
        ({"key": "alignment.text.model", "levels": ["sd99"]}, "alignment.text.model: 'sd99' is not one of"),
        ({"key": "alignment.calibrate.count", "levels": [3]}, "levels.3.alignment.calibrate: unknown key"),
        ({"levels": {"A B": {"params": {"tau": 0.1}}}}, "levels.A B: not a name of small letters, digits and _"),
        ({"levels": {1: {"params": {"tau": 0.1}}}}, "levels.1: expected text as a key, found 1; write it in quotes"),
        ({"levels": {"a": None}}, "levels.a: expected a mapping, found null"),
        ({"levels": {"a": {}}}, "levels.a: changes nothing; give some of params, sampling, alignment"),
        ({"levels": {"a": {"parms": {"tau": 0.1}}}}, "levels.a.parms: unknown key, nearest is params"),
        ({"key": "params.tau", "levels": {"a": {"params": {"tau": 0.1}}}}, "x.key: is for a list of levels"),
        ({"sampling_only": True, "key": "alignment.model.center", "levels": [True]}, "changes what is trained, but"),
    ],
)
def test_a_faulty_level_is_one_line_that_names_it(factor, told) -> None:
    assert_told({"base": "hcma", "factors": {"x": factor}}, told)


def test_two_factors_are_paired_once_and_a_fault_is_the_single_levels() -> None:
    factors = {
        "tau": {"key": "params.tau", "levels": [0.3]},
        "few": {"sampling_only": True, "levels": {"x": {"sampling": {"steps": 3}}}},
    }
    study = {"base": "hcma", "factors": factors}
    assert_told(
        study | {"pairs": [["tau", "few"], ["few", "tau.0_3"]]}, "study.pairs: 'hcma_tau_0_3_few_x' is paired twice"
    )
    factors["tau"] = {"key": "params.tao", "levels": [0.3]}
    assert_told(study | {"pairs": [["tau", "few"]]}, "factors.tau.levels.0_3.params.tao: unknown key")


def test_metrics_of_ones_own_and_by_further_networks_may_be_compared() -> None:
    study = {"base": "hcma", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}}
    extractors = {
        "again": {"kind": "small_detector", "name": "again", "path": "weights/miniature/detector/model.safetensors"}
    }
    planned(study | {"metrics": ["region_colour", "again_ap50"]}, extractors=extractors)
    assert_told(study | {"metrics": ["image_color"]}, "study.metrics: 'image_color' is not one of .*region_colour")
    without = {"extractors": {"cmmd": None}}
    assert_told(study | {"metrics": ["image_cmmd"]}, "'image_cmmd' needs extractors.cmmd, which is null", **without)


def test_levels_of_alignment_need_an_aligned_base() -> None:
    factor = {"key": "alignment.model.center", "levels": [True]}
    assert_told({"base": "gligen_sd", "factors": {"x": factor}}, "'gligen_sd' loads no alignment module")
    seeds = {"base": "boxdiff", "factors": {"x": {"key": "params.step", "levels": [1.0]}}, "training_seeds": [0, 1]}
    assert_told(seeds, "study.training_seeds: 'boxdiff' loads nothing that is trained")


def test_a_row_may_not_have_anothers_name() -> None:
    over = {"methods": {"hcma_tau_0_3": {"like": "hcma", "params": {"tau": 0.3}}}}
    study = {"base": "hcma", "factors": {"tau": {"key": "params.tau", "levels": [0.3]}}}
    assert_told(study, "would be the row 'hcma_tau_0_3', which already exists", **over)


def assert_told(study: dict, told: str, **over) -> None:
    with pytest.raises(SettingsError) as error:
        planned(study, **over)
    assert len(error.value.faults) == 1, error.value.faults
    assert re.search(told, error.value.faults[0]), error.value.faults
    assert error.value.faults[0].startswith("the command line: study")


# The table.

GROUPS = 20


def metrics_file(row: str, clip: np.ndarray, eta: float | None = None) -> dict:
    """What a metrics file has, of images whose CLIP scores are given: image CLIP and a distance."""
    left_out = [float(np.delete(clip, slice(g, None, GROUPS)).mean()) for g in range(GROUPS)]
    error = float(np.sqrt((GROUPS - 1) * np.var(left_out)))
    value = {"value": float(clip.mean()), "se": error, "debiased": None, "left_out": left_out}
    distance = {"value": 10 * float(clip.mean()), "se": 1.0, "debiased": -float(clip.mean()), "left_out": left_out}
    artefacts = {"eta": {"path": "x", "sha256": "y", "value": eta}} if eta else {}
    return {
        "method": row,
        "split": "test",
        "n_images": len(clip),
        "n_regions": 0,
        "protocol": {},
        "metrics": {"image_clip": value, "image_fid": distance},
        "source": {"spec": {"artefacts": artefacts}},
    }


def row_of(content: dict, clip: np.ndarray) -> MeasuredRow:
    ids = np.arange(len(clip))
    scores = {"image_clip": pd.Series(clip, index=pd.MultiIndex.from_arrays([ids, ids, ids * 0 - 1], names=UNIT))}
    return MeasuredRow(content["method"], content["metrics"], {"image": ids, "region": ids[:0]}, scores)


@pytest.fixture
def study() -> Studied:
    rng = np.random.default_rng(0)
    base = rng.normal(0.3, 0.05, 100)
    clips = {"hcma": base, "hcma_a_1": base + rng.normal(0.02, 0.01, 100), "hcma_b_1": base + rng.normal(0, 0.01, 100)}
    clips["hcma_a_1_b_1"], clips["gligen_sd"] = clips["hcma_a_1"] + 0.01, base - 0.05
    content = {row: metrics_file(row, clip, None if row == "gligen_sd" else 0.5) for row, clip in clips.items()}
    again = {"hcma": [base + 0.03, base - 0.01], "hcma_a_1": [base + 0.04, base + 0.03]}
    both = ["hcma", "gligen_sd"]
    return Studied(
        base="hcma",
        rows={row: row_of(content[row], clip) for row, clip in clips.items()},
        content=content,
        labels={"hcma": "HCMA", "hcma_a_1": "a = 1"},
        compared={
            "hcma": ["gligen_sd"],
            "hcma_a_1": both,
            "hcma_b_1": both,
            "hcma_a_1_b_1": [*both, "hcma_a_1", "hcma_b_1"],
        },
        trainings={row: [metrics_file(row, clip) for clip in found] for row, found in again.items()},
    )


def swaps_of(study: Studied) -> dict:
    pairs = [frozenset((row, other)) for row, others in study.compared.items() for other in others]
    return {pair: {"image_fid": [0.1 * (-1) ** g for g in range(GROUPS)]} for pair in pairs}


def test_a_difference_is_that_of_the_rows_and_its_spread_that_over_trainings(study) -> None:
    frame = study_table(study, [], swaps_of(study)).frame().set_index(["method", "against"])
    line = frame.loc["hcma_a_1", "hcma"]
    value = {row: study.content[row]["metrics"]["image_clip"]["value"] for row in study.rows}
    differences = [value["hcma_a_1"] - value["hcma"], 0.01, 0.04]
    assert line["image_clip"] == pytest.approx(differences[0])
    assert (line["image_clip_least"], line["image_clip_most"]) == pytest.approx((min(differences), max(differences)))
    assert line["image_clip_trainings"] == pytest.approx(np.mean(differences))
    assert line["image_clip_trainings_se"] == pytest.approx(np.std(differences, ddof=1))
    # A row of no training is the same with all; one that was trained once has no spread.
    against = frame.loc["hcma_a_1", "gligen_sd"]
    assert against["image_clip_most"] == pytest.approx(value["hcma"] + 0.04 - value["gligen_sd"])
    assert np.isnan(frame.loc["hcma_b_1", "hcma"]["image_clip_trainings"])
    assert np.isnan(frame.loc["hcma_b_1", "gligen_sd"]["image_clip_trainings"])


def test_against_a_row_that_was_trained_once_there_is_no_range(study) -> None:
    aligned = study.content["gligen_sd"] | {"source": metrics_file("x", np.ones(GROUPS), 0.5)["source"]}
    once = replace(study, content=study.content | {"gligen_sd": aligned})
    frame = study_table(once, ["image_clip"], {}).frame().set_index(["method", "against"])
    against = frame.loc["hcma_a_1", "gligen_sd"]
    assert np.isnan(against["image_clip_least"]) and np.isnan(against["image_clip_trainings"])
    assert not np.isnan(frame.loc["hcma_a_1", "hcma"]["image_clip_least"])


def test_a_metric_of_ones_own_is_compared_like_any(study) -> None:
    own = replace(METRICS["image_clip"], quantity="own")
    content = {
        row: one | {"metrics": {"image_own": one["metrics"]["image_clip"]}} for row, one in study.content.items()
    }
    rows = {
        name: replace(
            row,
            metrics=content[name]["metrics"],
            scores={"image_own": row.scores["image_clip"]},
            known=METRICS | {"image_own": own},
        )
        for name, row in study.rows.items()
    }
    ours = replace(study, content=content, rows=rows, trainings={})
    found, usual = study_table(ours, ["image_own"], {}).frame(), study_table(study, ["image_clip"], {}).frame()
    assert found["image_own_p"].equals(usual["image_clip_p"]) and found["image_own_p"].notna().any()


def test_holms_correction_is_over_all_comparisons_of_the_study_by_metric(study) -> None:
    frame = study_table(study, ["image_clip"], {}).frame()
    effects = frame[frame["against"] != ""]
    assert len(effects) == sum(map(len, study.compared.values())) == 9
    assert effects["image_clip_p_holm"].tolist() == pytest.approx(holm(effects["image_clip_p"].tolist()))
    found = effects.set_index(["method", "against"])["image_clip_different"]
    assert (found["hcma_a_1", "hcma"], found["hcma_b_1", "hcma"]) == ("yes", "no")
    assert not any("fid" in column for column in frame)


def test_the_page_has_values_and_a_view_for_each_row_that_is_compared_with(study, tmp_path) -> None:
    table = study_table(study, [], swaps_of(study), "A caveat.")
    leads = [view.lead for view in table.views]
    assert leads == ["Values:", "Minus HCMA:", "Minus gligen_sd:", "Minus a = 1:", "Minus hcma_b_1:"]
    text = markdown(table)
    assert "A caveat." in text and "| a = 1" in text and "[+0.0100, +0.0400]" in text
    places = [place for view in table.views for place in view.rows or []]
    assert sorted(places) == list(range(len(table.rows)))
    write_table(table, tmp_path / "study")
    figure.draw(read_table(tmp_path / "study.json"), METRICS, tmp_path / "drawn")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000 and (tmp_path / "drawn.svg").exists()


def test_trainings_of_other_images_are_refused(study) -> None:
    study.trainings["hcma"][0]["n_images"] = 7
    with pytest.raises(InputError, match="hcma: n_images differs from hcma's, not the training alone"):
        study_table(study, [], swaps_of(study))


def test_the_share_of_opposed_steps_and_layouts_is_of_those_with_both_gradients(study, tmp_path) -> None:
    work = {
        "1": {"alignments_of_both": 4, "alignments_opposed": 1},
        "2": {"alignments_of_both": 4},
        "3": {"alignments": 4},
    }
    shard = tmp_path / "samples/hcma_a_1/test/0000.zip"
    shard.parent.mkdir(parents=True)
    write_images(shard, [("000000000001.png", np.zeros((2, 2, 3), np.uint8))], {"work": work})
    shares = study_table(Studied(**vars(study) | {"shards": [shard]}), ["image_clip"], {}).frame().set_index("method")
    assert shares["opposed_steps"].dropna().to_dict() == {"hcma_a_1": 1 / 8}
    assert shares["opposed_layouts"].dropna().to_dict() == {"hcma_a_1": 1 / 2}


# Eta of another training.


def test_the_multiple_is_the_chosen_eta_over_the_calibrated_one(tmp_path) -> None:
    for name, eta in (("eta", 0.5), ("calibration", 1.5), ("none", 0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"eta": eta}))
    assert multiple_of(tmp_path / "eta.json", tmp_path / "calibration.json") == 3.0
    with pytest.raises(InputError, match=r"none\.json: eta: expected a number above 0, found 0"):
        multiple_of(tmp_path / "none.json", tmp_path / "calibration.json")


# The graph.

CONFIG = ["--configfile", "tests/config/small.yaml", "tests/config/study.yaml"]


def test_the_graph_trains_what_differs_and_nothing_twice() -> None:
    planned = snakemake("-n", "study", *CONFIG)
    assert planned.returncode == 0, planned.stderr[-2000:]
    jobs = jobs_by_rule(planned.stdout)
    # The base and the other targets, each with two seeds; the fusers behind the base's module.
    assert (jobs["train_alignment"], jobs["train_denoiser"], jobs["carry_eta"]) == (4, 1, 2)
    # Latents are those of the run; one eta each for the base, tau, the weights, the targets, the guidance and the fusers.
    assert (jobs["cache_latents"], jobs["choose_eta"]) == (3, 6)
    alone = snakemake("-n", *CONFIG)
    assert "hcma_tau" not in alone.stdout and "tabulate_study" not in alone.stdout


def test_without_a_section_it_says_what_is_missing() -> None:
    failed = snakemake("-n", "study", "--configfile", "tests/config/small.yaml")
    assert failed.returncode == 1
    assert "error: study needs the section `study`" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_a_study_ends_in_its_table_and_figure() -> None:
    run = f"test-study-{os.getpid()}"
    results = ROOT / "results" / run
    try:
        done = snakemake("study", *CONFIG, "--config", f"run={run}")
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Study of hcma" in done.stdout
        frame = pd.read_csv(results / "tables/study.csv", keep_default_na=False, na_values=[""])
        off = frame[(frame["method"] == "hcma_alignments_off") & (frame["against"] == "gligen_sd")]
        # Without alignments it is GLIGEN, bit for bit.
        assert off[["image_fid", "image_clip"]].to_numpy().tolist() == [[0.0, 0.0]]
        conflict = frame[(frame["method"] == "hcma_weights_conflict_free") & frame["against"].isna()]
        assert 0 <= conflict["opposed_steps"].item() <= 1
        trained = frame[(frame["method"] == "hcma_targets_true") & (frame["against"] == "hcma")]
        assert trained["image_clip_least"].item() <= trained["image_clip"].item() <= trained["image_clip_most"].item()
        assert (results / "figures/study.png").stat().st_size > 10_000
        curves = [(results / f"train{name}/curves.csv").read_text() for name in ("", "/hcma_training_1")]
        assert curves[0] != curves[1]
        again = snakemake("-n", "study", *CONFIG, "--config", f"run={run}")
        assert set(jobs_by_rule(again.stdout)) <= {"study", "total"}
    finally:
        shutil.rmtree(results, ignore_errors=True)


def test_the_shipped_readings_are_planned() -> None:
    plan = Plan(read(merged([Path("workflow/config/readings.yaml")]), []))
    assert {"hcma_denoiser_fuser", "hcma_denoiser_fuser_alignment_off", "hcma_text_scorer"} <= {*plan.readings}
    assert plan.path.folder == "results/miniature"
    trained, usual = plan.variants, Plan(read(merged(), []))
    modules = {plan.untuned_module(variant) for variant in trained}
    denoisers = {one.denoiser_key for one in trained.values() if one.noise_loss}
    rows = len({*plan.readings, *plan.retrainings} - {*usual.rows})
    held_out = sum(one.images for one in plan.sampled if one.split == "heldout") - sum(
        one.images for one in usual.sampled if one.split == "heldout"
    )
    page = " ".join((ROOT / "docs/study.md").read_text(encoding="utf-8").split())
    said = f"{rows} rows of 256 images and {held_out:,} held-out ones, {len(modules) - 1} further modules"
    said += f" and {len(denoisers)} denoisers"
    assert said in page
