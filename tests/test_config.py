"""The configuration: what its files make together, and that each fault is one line before the first job."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import get_args

import pytest
import yaml
from snakemake.utils import update_config

from tests.dag import environment, snakemake
from workflow import overlays
from workflow.keys import rows, with_tables
from workflow.overlays import resolved
from workflow.settings import Rule, Settings, SettingsError, read

ROOT = Path(__file__).parents[1]
FILE = Path("workflow/config/miniature.yaml")
CONFIG = overlays.merged()
METHODS = resolved(CONFIG)["methods"]
SCALES = ["miniature", "rehearsal", "paper"]
PAPER = overlays.merged(given={"scale": "paper"})
SOURCES = PAPER["data"]["files"]
OWL = {"kind": "owlv2", "name": "OWL", "path": "model.safetensors"}
HUB = {"hub": "a/b", "revision": "0" * 40, "licence": "cc"}
OVERLAYS = [
    "workflow/config/coco.yaml",
    "workflow/config/rehearsal.yaml",
    "workflow/config/paper.yaml",
    "workflow/config/regress.yaml",
    "workflow/config/extras.yaml",
    "workflow/config/readings.yaml",
    "workflow/config/trainings.yaml",
    "tests/config/small.yaml",
]


def merged(base: dict, over: dict) -> dict:
    result = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def faults(config: dict, files: Sequence[Path], over: Sequence[Path] = (), given: dict | None = None) -> list[str]:
    """Lines of all faults of a configuration."""
    try:
        read(config, files, over, given)
    except SettingsError as error:
        return error.faults
    return []


@pytest.mark.parametrize("overlay", [None, *OVERLAYS])
def test_shipped_configurations_have_no_fault(overlay) -> None:
    config = overlays.merged([ROOT / overlay] if overlay else [])
    if not any(config["data"].get(key) for key in ("root", "draw", "files")):
        config["data"]["root"] = "somewhere"
    assert faults(config, []) == []


def leaves(content: object, keys: tuple = ()) -> dict[tuple, object]:
    """Every value that is no mapping, by its keys; an empty mapping is one too."""
    if not (isinstance(content, dict) and content):
        return {keys: content}
    return {key: leaf for name, value in content.items() for key, leaf in leaves(value, (*keys, name)).items()}


def stated(name: str) -> dict[tuple, object]:
    """Every value that a file of workflow/config states."""
    return leaves(yaml.safe_load((ROOT / f"workflow/config/{name}.yaml").read_text()))


@pytest.mark.parametrize(
    ("overlay", "sources"),
    [
        ("miniature", ["base", "miniature"]),
        ("rehearsal", ["base", "rehearsal"]),
        ("paper", ["base", "paper"]),
        ("coco", ["base", "miniature", "coco"]),
        ("regress", ["base", "miniature", "regress"]),
        ("extras", ["base", "miniature", "extras"]),
    ],
)
def test_an_overlay_lies_on_what_it_says_and_nothing_else_leaks_into_it(overlay, sources) -> None:
    """Each value is that of the last file that states it, where a value that replaces a mapping takes it away whole."""
    expected: dict[tuple, object] = {}
    for source in sources:
        new = stated(source)
        under = [keys for keys in expected if any(keys[:length] in new for length in range(1, len(keys)))]
        expected = {keys: value for keys, value in expected.items() if keys not in under} | new
    for keys in [keys for keys in expected if any(keys == other[: len(keys)] for other in expected if other != keys)]:
        del expected[keys]  # null below, a mapping above
    assert leaves(overlays.merged([ROOT / f"workflow/config/{overlay}.yaml"])) == expected


def test_the_paper_has_the_published_values_and_none_of_the_miniatures() -> None:
    """Against the paper's own numbers and those of the baselines' official codes, not against our files."""
    paper = resolved(overlays.merged(given={"scale": "paper"}))
    methods = paper["methods"]
    assert (paper["data"]["size"], paper["data"]["test"]["count"], paper["regions"]["min_side"]) == (512, 30000, 32)
    assert paper["data"]["train"]["count"] + paper["data"]["heldout"]["count"] == 82783
    assert (paper["sampling"]["steps"], paper["sampling"]["guidance_scale"]) == (50, 7.5)
    train = paper["alignment"]["train"]
    assert (train["epochs"], train["batch"], train["lr"], train["weight_decay"]) == (60, 1024, 1e-3, 5e-4)
    assert [methods[name]["params"]["tau"] for name in ("gligen_sd", "gligen_ldm", "hcma", "hcma_no_c2ia")] == [0.3] * 4
    for name in ("attend_and_excite", "boxdiff", "boxdiff_no_refine"):
        assert (methods[name]["params"]["resolution"], methods[name]["params"]["step"]) == (16, 20.0)
    assert methods["layout_guidance"]["base"] == "sd15"
    own = {keys for keys, value in stated("miniature").items() if stated("base").get(keys, value) != value}
    assert own & leaves(paper).keys(), "the test below would compare nothing"
    same = {
        keys for keys in own if leaves(overlays.merged(given={"scale": "paper"})).get(keys) == stated("miniature")[keys]
    }
    assert same == set()


PRINTED = """

print("CONFIG " + json.dumps(config), file=sys.stderr)
sys.exit(0)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--configfile", "workflow/config/paper.yaml"],
        ["--configfile", "workflow/config/coco.yaml", "{mine}", "--config", "run=mine"],
        ["--configfile", "{mine}", "--config", "scale=paper"],
    ],
)
def test_merged_is_what_snakemake_makes_of_the_same_files(arguments, tmp_path) -> None:
    mine = {
        "models": {"sd14": None},
        "data": {"draw": {"seed": 3}},
        "methods": {"mine": {"like": "hcma"}},
        "seeds": [0, 1],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    (tmp_path / "formats").symlink_to(ROOT / "formats")
    head, found, _ = (ROOT / "Snakefile").read_text().partition("report:")
    assert found
    (tmp_path / "Snakefile").write_text(f"import json, sys\n{head}{PRINTED}")
    words = [word.format(mine=tmp_path / "mine.yaml") for word in arguments]
    command = [sys.executable, "-m", "snakemake", "-n", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    (printed,) = [line for line in done.stderr.splitlines() if line.startswith("CONFIG ")] or [done.stderr]
    files = [ROOT / word if word.startswith("workflow") else word for word in words if word.endswith(".yaml")]
    given = dict(word.split("=") for word in words if "=" in word)
    assert json.loads(printed.removeprefix("CONFIG ")) == overlays.merged(files, given)


def test_the_documentation_has_every_key_as_it_is() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    base = overlays.content(ROOT / overlays.BASE)
    assert with_tables(page, Settings, base) == page, "run: python -m workflow.keys docs/configuration.md"
    keys = [row.key for row in rows(Settings, base)]
    assert len(set(keys)) == len(keys) > 140
    assert [key for key in keys if f"| `{key}` |" not in page] == []
    # The test can fail: a key's own words and its published value are in the page.
    line = next(line for line in page.splitlines() if line.startswith("| `sampling.guidance_scale` |"))
    assert line.startswith("| `sampling.guidance_scale` | a number | `7.5` |")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"sampling": {"stepz": 3}}, "sampling.stepz: unknown key, nearest is steps; known are guidance_scale"),
        ({"sampling": {"steps": "many"}}, "sampling.steps: expected an integer from 1 to 999, found 'many'"),
        ({"sampling": {"scheduler": "plms"}}, "sampling.scheduler: expected pndm, ddim, lms or own, found 'plms'"),
        (
            {"methods": {"mine": {"module": "baselines.nobody", "base": "sd14", "version": 1}}},
            "methods.mine.module: no module",
        ),
        ({"methods": {"mine": {"module": "hcma.cache", "base": "sd14", "version": 1}}}, "'hcma.cache' has no Params"),
        (
            {"methods": {"mine": {"module": "hcma.method", "base": "sd21", "version": 1}}},
            "methods.mine.base: 'sd21' is not one",
        ),
        ({"methods": {"mine": {"module": "hcma.method", "base": "sd14"}}}, "methods.mine.version: missing"),
        ({"tables": {"table1": ["real", "boxdif"]}}, "tables.table1: 'boxdif' is not one of methods: real, sd14"),
        ({"data": {"root": "/coco"}}, "data.root: give either data.root or data.draw"),
        (
            {"extractors": {"detector": {"kindly": 1}}},
            "extractors.detector.kindly: unknown key, nearest is kind; known are hub, kind",
        ),
        ({"extractors": {"cmmd": 3}}, "extractors.cmmd: expected a mapping, or null, found 3"),
        ({"extractors": {"mine": 3}}, "extractors.mine: expected a mapping, or null, found 3"),
        ({"extractors": {"mine": {"kind": "owlv2"}}}, "extractors.mine.name: missing"),
        (
            {"extractors": {"mine": OWL | {"knid": 1}}},
            "extractors.mine.knid: unknown key, nearest is kind; known are hub",
        ),
        ({"extractors": {"Mine": OWL}}, "extractors.Mine: not a name of small letters, digits and _"),
        (
            {"extractors": {"mine": OWL | {"kind": "owl"}}},
            "extractors.mine.kind: 'owl' is no network: known are dinov2",
        ),
        ({"extractors": {"mine": OWL | {"path": None}}}, "extractors.mine.path: give either a path or a source"),
        (
            {"extractors": {"mine": OWL | {"hub": "a/b"}}},
            "extractors.mine: give hub, revision and licence, or none of them",
        ),
        (
            {"extractors": {"mine": OWL | HUB | {"kind": "dinov2"}}},
            "extractors.mine.hub: dinov2 is one file, not a folder; give its source",
        ),
        (
            {"models": {"sd15": None}, "methods": {"mine": {"module": "hcma.method", "base": "sd15", "version": 1}}}
            | {"tables": {"table1": ["real", "mine", "hcma"]}},
            "tables.table1: 'mine' cannot be run, since models.sd15 is null, and has no published values",
        ),
        (
            {"architectures": {"sd14": {"kind": "sdxl"}}},
            "architectures.sd14.kind: expected stable-diffusion, gligen, latent-diffusion, clip, inception, detector,"
            " dinov2, grounding-dino or owlv2, found",
        ),
        (
            {"regions": {"max_per_image": 0}},
            "regions.max_per_image: expected an integer of at least 1, or null, found 0",
        ),
        ({"regions": {"pad": "mean", "resize": "short_side_center_crop"}}, "has no use for pad 'mean'; choose one"),
        ({"evaluation": {"resolution": 256}}, "evaluation.resolution: 256, above data.size, 64"),
        (
            {"evaluation": {"reference": "full_val"}},
            "'full_val' needs data.val.count of at least data.test.count, 256; found 0",
        ),
        ({"seeds": [1, 2]}, "seeds: begins with 1, expected sampling.seed, 0: the tables' rows are of it"),
        (
            {"resources": {"rules": {"smaple": {"runtime": 1}}}},
            "resources.rules.smaple: unknown key, nearest is sample; known are bundle, cache_latents",
        ),
        ({"resources": {"device": "gpu"}}, "resources.device: expected cpu, cuda or cuda:N, found 'gpu'"),
        (
            {"data": {"dataset": "cocoo"}},
            "data.dataset: data set 'cocoo': no such module; known are coco, or a module's",
        ),
        (
            {"data": {"dataset": "tests.jsonl_dataset"}},
            "data.draw: what is drawn is a COCO, but data.dataset is 'tests.jsonl_dataset'",
        ),
        (
            {"data": {"draw": None, "files": SOURCES | {"trin2014.zip": SOURCES["train2014.zip"]}}}
            | {"fetch": PAPER["fetch"]},
            "data.files.trin2014.zip: unknown key, nearest is train2014.zip; known are annotations_trainval2014.zip",
        ),
        (
            {"data": {"files": SOURCES | {"train2014.zip": None}}},
            "data.files.train2014.zip: expected a mapping, found null",
        ),
        (
            {"alignment": {"method": "gligen_sd"}},
            "'gligen_sd' is not a method with the artefacts `alignment` and `eta`",
        ),
        (
            {"methods": {"hcma": {"artefacts": {"alignment": "/mine.safetensors"}}}},
            "'hcma' is alignment.method, whose module is the one trained here; give another row its own",
        ),
        (
            {"alignment": {"reference": "hcma_no_c2ia"}},
            "alignment.reference: 'hcma_no_c2ia' is made with what is trained or chosen here, and eta is chosen against it",
        ),
        ({"alignment": {"text": {"model": "clip"}}}, "alignment.text.model: 'clip' is not one of backbone, sd14"),
        (
            {"alignment": {"text": {"feature": "last"}}},
            "alignment.text.feature: expected pooled or projected, found 'last'",
        ),
        ({"alignment": {"train": {"train_denoiser": "unet"}}}, "train_denoiser: 'unet' needs objective: align+noise"),
        ({"alignment": {"train": {"second_order": True}}}, "second_order: true needs objective: align+noise"),
        ({"alignment": {"train": {"objective": "align+noise"}}}, "objective: the noise loss would train nothing"),
        (
            {"alignment": {"train": {"validate_images": 0}}},
            "validate_images: expected an integer of at least 1, or null, found 0",
        ),
        (
            {"alignment": {"train": {"denoiser": {"optimizer": "sgd"}}}},
            "optimizer: expected adam or adamw, found 'sgd'",
        ),
        (
            {"alignment": {"train": {"denoiser": {"weight_decay": -1}}}},
            "weight_decay: expected a number of at least 0, found -1",
        ),
        (
            {"alignment": {"train": {"denoiser": {"caption_dropout": 1.1}}}},
            "caption_dropout: expected a number from 0 to 1, found 1.1",
        ),
        (
            {"alignment": {"train": {"denoiser": {"validate_images": "all"}}}},
            "validate_images: expected an integer of at least 1, or null, found 'all'",
        ),
        ({"alignment": {"train": {"timesteps": "uniform"}}}, "alignment.train.timesteps: unknown key"),
        ({"tables": {"table3": []}}, "tables.table3: expected a list, each item text, not empty, or null, found []"),
        ({"tables": {"table3": "hcma"}}, "tables.table3: expected a mapping, or a list of rows, found 'hcma'"),
        (
            {"tables": {"mine": {"columns": ["image_fid", "imag_clip"]}}},
            "tables.mine.columns: 'imag_clip' is not one of image_fid, image_fid_legacy,",
        ),
        (
            {"tables": {"mine": {"columns": ["image_cmmd"]}}},
            "tables.mine.columns: 'image_cmmd' needs extractors.cmmd, which is null",
        ),
        (
            {"tables": {"mine": {"columns": ["ap50"], "by": ["size"]}}},
            "tables.mine.columns: 'ap50' is no mean over images, boxes or labels, which alone are broken down: image_clip",
        ),
        (
            {"tables": {"mine": {"by": ["objets"]}}},
            "tables.mine.by.0: expected objects, size, overlap, tags or tags.NAME, found 'objets'",
        ),
        (
            {"tables": {"table1": None, "table2": None}},
            "tables: no table names rows; give one of them `rows`",
        ),
        (
            {"difficulty": {"size": [0.2, 0.1]}},
            "difficulty.size: expected an ascending list of numbers between 0 and 1, found [0.2, 0.1]",
        ),
        ({"tables": {"table 3": ["hcma"]}}, "tables.table 3: not a name of letters, digits and _"),
        ({"methods": {"mine": {"like": "hcam"}}}, "methods.mine.like: 'hcam' is not one of sd14"),
        ({"methods": {"mine": {"like": "hcma_no_c2ia"}}}, "methods.mine.like: 'hcma_no_c2ia' is like 'hcma' itself"),
        ({"methods": {"mine": {"like": "mine"}}}, "methods.mine.like: 'mine' is not one of sd14"),
        ({"alignment": {"model": {"heads": 7}}}, "alignment.model.heads: 7 does not divide the width, 64"),
        ({"alignment": {"train": {"batch": 9999}}}, "alignment.train.batch: 9999, but data.train.count is 1536"),
        (
            {"compare_with": ["hcam"]},
            "compare_with: 'hcam' is not one of methods: sd14, sd15, gligen_sd, gligen_ldm, hcma",
        ),
        ({"methods": {"hcma": "foo"}}, "methods.hcma: expected a mapping, found 'foo'"),
        ({"methods": {"hcma": {"params": {"tau": date(2020, 1, 1)}}}}, "found 2020-01-01; write it in quotes"),
        (
            {"methods": {"hcma": {"params": {True: 1}}}},
            "hcma.params.True: expected text as a key, found true; write it",
        ),
        # A fault of a row is that row's alone, whoever is like it.
        (
            {"methods": {"hcma": {"version": "2"}}},
            "methods.hcma.version: expected an integer, found '2', which is text",
        ),
        (
            {"methods": {"boxdiff": {"params": {"sharre": 0.2}}}},
            "methods.boxdiff.params.sharre: unknown key, nearest is share; known are append_missing, guide_duplicate",
        ),
        (
            {"methods": {"layout_guidance": {"sampling": {"steps": 0}}}},
            "methods.layout_guidance.sampling.steps: expected",
        ),
        ({"methods": {"real": {"like": "hcma"}}}, "methods.real: the photos have this name; choose another"),
        (
            {"scale": "papre"},
            "scale: 'papre' is not one of base, coco, extras, miniature, paper, readings, regress, rehearsal, trainings,"
            " nearest is paper",
        ),
        (
            {"sampling": {"guidance_scale": "1e-3"}},
            "expected a number, found '1e-3', which is text: write 0.001 in a file",
        ),
        (
            {"bundle_images": "true"},
            "expected true or false, found 'true', which is text: on the command line write True",
        ),
        (
            {"alignment": {"calibrate": {"multiples": [1.0, 1.0]}}},
            "multiples: expected each value once, found [1.0, 1.0]",
        ),
    ],
)
def test_a_fault_is_one_line_naming_key_and_file(change, line, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    (fault,) = faults(merged(CONFIG, change), [FILE])
    assert fault.startswith(f"{FILE}: ")
    assert line in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("section", "name", "line"),
    [
        ("models", "sd41", "models.sd41: null, but 'sd41' is not one of sd14, sd15, gligen, gligen_ldm, nearest is"),
        ("tables", "tabel1", "tables.tabel1: null, but 'tabel1' is not one of table1, table2, difficulty, nearest is"),
        ("extractors", "detectr", "extractors.detectr: null, but 'detectr' is not one of frechet, clip,"),
        ("metrics", "colur", "metrics.colur: null, but 'colur' is not one of colour, relations, counts"),
    ],
)
def test_a_null_that_leaves_nothing_out_is_one_line(section, name, line) -> None:
    def lines(change: dict) -> list[str]:
        try:
            read(overlays.merged(given=change), [ROOT / overlays.BASE, ROOT / FILE], given=change)
        except SettingsError as error:
            return error.faults
        return []

    (fault,) = lines({section: {name: None}})
    assert fault.startswith(f"the command line: {line}")
    own = {"x": {"module": "baselines.gligen", "base": "mine", "version": 1}}
    assert not lines({"models": {"mine": None}, "methods": own})
    assert not lines(
        {"extractors": {"cmmd": None, "detector": None}, "metrics": {"counts": None}, "tables": {"table2": None}}
    )


def test_rules_that_ask_by_the_configuration_are_those_it_may_name() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert sorted(re.findall(r'\*\*(?:plan\.)?needs\("(\w+)"\)', rules)) == list(get_args(Rule))


def test_the_alignment_needs_a_model_that_is_there(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    (found,) = faults(merged(CONFIG, {"alignment": {"base": "sd15"}, "models": {"sd15": None}}), [FILE])
    assert "alignment.base: 'sd15' has no model folder: it is null under models" in found
    # Without its own model the aligned row shows published values, and nothing is trained for it.
    assert not faults(merged(CONFIG, {"models": {"gligen": None}}), [FILE])


def test_the_readings_of_algorithm_1_have_no_fault(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for readings in (
        {"train_denoiser": "fuser"},
        {"train_denoiser": "unet", "second_order": True},
        {"second_order": True},
        {
            "train_denoiser": "fuser",
            "validate_images": None,
            "denoiser": {"validate_images": None, "grounding_dropout": 0},
        },
    ):
        change = {"alignment": {"train": {"objective": "align+noise"} | readings, "text": {"model": "sd14"}}}
        assert faults(merged(CONFIG, change), [FILE]) == []


def test_the_file_named_is_the_one_that_holds_the_key(tmp_path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("sampling: {stepz: 3}")
    (fault,) = faults(merged(CONFIG, yaml.safe_load(overlay.read_text())), [ROOT / FILE, overlay])
    assert fault.startswith(f"{overlay}: sampling.stepz")


def blamed(tmp_path: Path, *contents: dict, given: dict | None = None) -> str:
    """Who is blamed for the first fault of the miniature under these files and values of the command line."""
    paths = [tmp_path / f"{number}.yaml" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(yaml.safe_dump(content))
    config, over = copy.deepcopy(CONFIG), {}
    for content in (*contents, given or {}):
        update_config(over, content)
    update_config(config, over)
    found = faults(config, [ROOT / FILE], paths, given)
    return found[0].partition(": ")[0].replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("contents", "given", "who"),
    [
        ([{"sampling": {"steps": "many"}}], {}, "0.yaml"),
        ([{"sampling": {"steps": "many"}}, {"sampling": {"seed": 3}}], {}, "0.yaml"),
        ([{"sampling": {"steps": 7}}, {"sampling": {"steps": "many"}}], {}, "1.yaml"),
        ([{"sampling": {"steps": "many"}}, {"sampling": {"steps": "more"}}], {}, "1.yaml"),
        ([{"sampling": {"steps": 7}}], {"sampling": {"steps": "8"}}, "the command line"),
        ([{"sampling": {"steps": "many"}}], {"run": "mine"}, "0.yaml"),
        ([], {"sampling": "50"}, "the command line"),
        # A mapping that replaces null has the keys that it states alone; one over a mapping keeps the others.
        ([{"evaluation": None}, {"evaluation": {"reference": "same_ids"}}], {"run": 1}, "the command line"),
        ([{"methods": {"mine": {"module": "hcma.method"}}}, {"methods": {"mine": {"version": 1}}}], {}, "1.yaml"),
        ([{"methods": {"Mine": {}}}, {"methods": {"sd14": {"version": 2}}}], {}, "0.yaml"),
        ([{"resources": {"rules": {"smaple": {}}}}, {"resources": {"rules": {"sample": {}}}}], {}, "0.yaml"),
        ([{"seeds": [0, "1"]}], {"run": "mine"}, "0.yaml"),
        # Two values that contradict each other: the one that came last.
        ([{"evaluation": {"resolution": 48}}, {"data": {"size": 32}}], {}, "1.yaml"),
        ([{"data": {"size": 32}}, {"evaluation": {"resolution": 48}}], {}, "1.yaml"),
        ([{"data": {"root": "/coco"}}], {}, "0.yaml"),
        ([{"models": {"sd15": None}}, {"alignment": {"base": "sd15"}}], {"run": "mine"}, "1.yaml"),
        ([{"data": {"heldout": {"count": 8}}}], {}, "0.yaml"),
        ([{"methods": {"hcma": {"artefacts": {"eta": None}}}}], {}, "0.yaml"),
        ([{"sampling": {"seed": 3}, "seeds": [3, 4]}], {"seeds": [4]}, "the command line"),
    ],
)
def test_the_source_whose_value_won_is_blamed(contents, given, who, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert blamed(tmp_path, *contents, given=given) == who


@pytest.mark.parametrize(
    ("arguments", "who", "line"),
    [
        (["--configfile", "{0}"], "{0}", "sampling.steps: expected an integer from 1 to 999, found 'many'"),
        (["--configfile", "{1}", "{0}"], "{0}", "sampling.steps: expected an integer from 1 to 999, found 'many'"),
        (["--configfile", "{0}", "{1}"], None, ""),
        (
            ["--configfile", "{0}", "--config", "sampling={steps: x}"],
            "the command line",
            "steps: expected an integer from 1 to 999, found 'x'",
        ),
        (
            ["--config", 'data={"size": "64px"}'],
            "the command line",
            "data.size: expected an integer of at least 1, found '64px'",
        ),
        (["--configfile", "{2}"], "{2}", "run: expected a name of letters, digits, _ and -, found 'a b'"),
        (["--config", "run=a b"], "the command line", "run: expected a name of letters, digits, _ and -, found 'a b'"),
    ],
)
def test_snakemake_names_the_source_too(arguments, who, line, tmp_path) -> None:
    (tmp_path / "bad.yaml").write_text("sampling: {steps: many}")
    (tmp_path / "good.yaml").write_text("sampling: {steps: 4, seed: 1}")
    (tmp_path / "run.json").write_text('{\n\t"run": "a b"\n}')
    files = [str(tmp_path / name) for name in ("bad.yaml", "good.yaml", "run.json")]
    done = snakemake(
        "-n", *(word.replace("{0}", files[0]).replace("{1}", files[1]).replace("{2}", files[2]) for word in arguments)
    )
    lines = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    if who is None:
        assert (done.returncode, lines) == (0, [])
        return
    (found,) = lines
    assert found.startswith(f"error: {who.format(*files)}: {line if line.startswith(('data', 'run')) else 'sampling.'}")
    assert line in found
    assert done.returncode == 1 and "Traceback" not in done.stderr
