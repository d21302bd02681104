"""The configuration is checked before the first job, and every method in it keeps the contract."""

import copy
import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
import yaml
from snakemake.utils import update_config

from formats.layouts import Layout, Object
from hcma.sampling.diffusion import Sampling, initial_noise, load_diffusion
from hcma.sampling.spec import from_keys
from tests.dag import snakemake
from tests.tiny import WIDTH, write_tiny, write_tiny_ldm
from workflow.scripts import check_methods
from workflow.scripts.check_config import SCHEMA, faults

ROOT = Path(__file__).parents[1]
FILE = Path("workflow/config/miniature.yaml")
CONFIG = yaml.safe_load((ROOT / FILE).read_text())
METHODS = CONFIG["methods"]
SOURCES = yaml.safe_load((ROOT / "workflow/config/paper.yaml").read_text())["data"]["source"]
OVERLAYS = [
    "workflow/config/coco.yaml",
    "workflow/config/rehearsal.yaml",
    "workflow/config/paper.yaml",
    "workflow/config/regress.yaml",
    "tests/config/small.yaml",
]


def merged(base: dict, over: dict) -> dict:
    result = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def stanzas() -> list:
    """Every method of every shipped configuration, alike ones once."""
    found: dict[str, object] = {}
    for file in (None, *OVERLAYS):
        config = merged(CONFIG, yaml.safe_load((ROOT / file).read_text())) if file else CONFIG
        for name, stanza in config["methods"].items():
            key = repr((name, stanza["module"], stanza["base"], stanza.get("params"), stanza.get("sampling")))
            found.setdefault(key, pytest.param(stanza, id=f"{Path(file or FILE).stem}-{name}"))
    return list(found.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shipped_configurations_have_no_fault(overlay, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert faults(CONFIG, [FILE]) == []
    over = yaml.safe_load((ROOT / overlay).read_text())
    if over["data"].get("root", 1) is None:
        over["data"]["root"] = "somewhere"
    assert faults(merged(CONFIG, over), [FILE, Path(overlay)]) == []


def leaves(content: object, keys: tuple = ()) -> dict[tuple, object]:
    """Every value that is no mapping, by its keys; an empty mapping is one too."""
    if not (isinstance(content, dict) and content):
        return {keys: content}
    return {key: leaf for name, value in content.items() for key, leaf in leaves(value, (*keys, name)).items()}


def test_nothing_of_the_miniature_is_left_in_the_papers_configuration() -> None:
    """What Snakemake makes of the two files, by its own function, key by key: all of it stands in paper.yaml."""
    paper = yaml.safe_load((ROOT / "workflow/config/paper.yaml").read_text())
    resolved = copy.deepcopy(CONFIG)
    update_config(resolved, paper)
    stated = leaves(paper)
    left = {".".join(map(str, keys)): value for keys, value in leaves(resolved).items() if keys not in stated}
    assert left == {}
    assert leaves(resolved) == stated
    # The test can fail: an overlay that is not to name every key leaves much.
    other = copy.deepcopy(CONFIG)
    update_config(other, yaml.safe_load((ROOT / "workflow/config/rehearsal.yaml").read_text()))
    assert leaves(other).keys() - leaves(yaml.safe_load((ROOT / "workflow/config/rehearsal.yaml").read_text())).keys()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"sampling": {"stepz": 3}}, "sampling.stepz: unknown key; known are guidance_scale"),
        ({"sampling": {"steps": "many"}}, "sampling.steps: expected integer, found 'many'"),
        ({"sampling": {"scheduler": "plms"}}, "sampling.scheduler: 'plms' is not one of 'pndm', 'ddim', 'lms'"),
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
        ({"tables": {"table1": ["real", "boxdif"]}}, "tables.table1: 'boxdif' is not one of methods"),
        ({"data": {"root": "/coco"}}, "data.root: give either data.root or data.draw"),
        ({"extractors": {"detector": {"kindly": 1}}}, "extractors.detector.kindly: unknown key; known are kind"),
        ({"extractors": {"cmmd": 3}}, "extractors.cmmd: expected ['object', 'null'], found 3"),
        (
            {"models": {"sd15": None}, "methods": {"mine": {"module": "hcma.method", "base": "sd15", "version": 1}}}
            | {"tables": {"table1": ["real", "mine", "hcma"]}},
            "tables.table1: 'mine' cannot be run, since models.sd15 is null, and has no published values",
        ),
        (
            {"architectures": {"sd14": {"kind": "sdxl"}}},
            "architectures.sd14.kind: 'sdxl' is not one of 'stable-diffusion'",
        ),
        ({"regions": {"max_per_image": 0}}, "regions.max_per_image: 0 is less than the minimum of 1"),
        ({"regions": {"pad": "mean", "resize": "short_side_center_crop"}}, "has no use for pad 'mean'; choose one"),
        ({"evaluation": {"resolution": 256}}, "evaluation.resolution: 256, above data.size, 64"),
        (
            {"evaluation": {"reference": "full_val"}},
            "'full_val' needs data.val.count of at least data.test.count, 256; found 0",
        ),
        ({"seeds": [1, 2]}, "seeds: begins with 1, expected sampling.seed, 0: the tables' rows are of it"),
        (
            {"resources": {"rules": {"smaple": {"runtime": 1}}}},
            "resources.rules: 'smaple' is not one of 'cache_latents'",
        ),
        ({"resources": {"device": "gpu"}}, "resources.device: 'gpu' does not match"),
        (
            {"data": {"source": SOURCES | {"train2014.zip": None}}},
            "data.source.train2014.zip: expected object, found None",
        ),
        ({"alignment": {"method": "gligen_sd"}}, "'gligen_sd' is not a method with `aligned: true`"),
        ({"alignment": {"text": {"model": "clip"}}}, "alignment.text.model: 'clip' is not one of backbone, gligen"),
        ({"alignment": {"text": {"feature": "last"}}}, "'last' is not one of 'pooled', 'projected'"),
        ({"alignment": {"train": {"train_denoiser": "unet"}}}, "train_denoiser: 'unet' needs objective: align+noise"),
        ({"alignment": {"train": {"second_order": True}}}, "second_order: True needs objective: align+noise"),
        ({"alignment": {"train": {"objective": "align+noise"}}}, "objective: the noise loss would train nothing"),
        ({"alignment": {"train": {"validate_images": 0}}}, "validate_images: 0 is less than the minimum of 1"),
        ({"alignment": {"train": {"denoiser": {"optimizer": "sgd"}}}}, "'sgd' is not one of 'adam', 'adamw'"),
        (
            {"alignment": {"train": {"denoiser": {"weight_decay": -1}}}},
            "weight_decay: -1 is less than the minimum of 0",
        ),
        (
            {"alignment": {"train": {"denoiser": {"caption_dropout": 1.1}}}},
            "caption_dropout: 1.1 is greater than the maximum of 1",
        ),
        (
            {"alignment": {"train": {"denoiser": {"validate_images": "all"}}}},
            "validate_images: expected ['integer', 'null'], found 'all'",
        ),
        ({"alignment": {"calibrate": {"multiples": [1.0, 1.0]}}}, "[1.0, 1.0] has non-unique elements"),
    ],
)
def test_a_fault_is_one_line_naming_key_and_file(change, line, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    (fault,) = faults(merged(CONFIG, change), [FILE])
    assert fault.startswith(f"{FILE}: ")
    assert line in fault
    assert "\n" not in fault


def test_rules_that_ask_by_the_configuration_are_those_it_may_name() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    resources = yaml.safe_load(SCHEMA.read_text())["properties"]["resources"]["properties"]
    assert sorted(re.findall(r'\*\*needs\("(\w+)"\)', rules)) == resources["rules"]["propertyNames"]["enum"]


def test_the_alignment_needs_a_model_that_is_there(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    found = faults(merged(CONFIG, {"models": {"gligen": None}}), [FILE])
    assert len(found) == 3
    assert all("has no model folder: it is null under models" in fault for fault in found)


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
        ([{"models": {"gligen": None}}], {"run": "mine"}, "0.yaml"),
        ([{"data": {"heldout": {"count": 8}}}], {}, "0.yaml"),
        ([{"methods": {"hcma": {"aligned": False}}}], {}, "0.yaml"),
        ([{"sampling": {"seed": 3}, "seeds": [3, 4]}], {"seeds": [4]}, "the command line"),
    ],
)
def test_the_source_whose_value_won_is_blamed(contents, given, who, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert blamed(tmp_path, *contents, given=given) == who


@pytest.mark.parametrize(
    ("arguments", "who", "line"),
    [
        (["--configfile", "{0}"], "{0}", "sampling.steps: expected integer, found 'many'"),
        (["--configfile", "{1}", "{0}"], "{0}", "sampling.steps: expected integer, found 'many'"),
        (["--configfile", "{0}", "{1}"], None, ""),
        (
            ["--configfile", "{0}", "--config", "sampling={steps: x}"],
            "the command line",
            "steps: expected integer, found 'x'",
        ),
        (["--config", 'data={"size": "64px"}'], "the command line", "data.size: expected integer, found '64px'"),
        (["--configfile", "{2}"], "{2}", "run: 'a b' does not match"),
        (["--config", "run=a b"], "the command line", "run: 'a b' does not match"),
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


def test_parameters_are_checked_for_all_methods_at_once() -> None:
    methods = {name: {"stanza": stanza, "sampling": CONFIG["sampling"]} for name, stanza in METHODS.items()}
    assert check_methods.faults(methods) == []
    wrong = {
        "hcma": {"stanza": {"params": {"tau": 7}}},
        "boxdiff": {"stanza": {"params": {"sharre": 0.2}}},
        "layout_guidance": {"stanza": {"sampling": {"steps": 0}}},
    }
    found = check_methods.faults(merged(methods, wrong))
    assert [fault.split(":")[0] for fault in found] == [
        f"methods.{key}" for key in ("hcma.params", "boxdiff.params", "layout_guidance.sampling")
    ]
    assert "tau: expected a number from 0 to 1, found 7" in found[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folders = {
        kind: write_tiny(tmp_path_factory.mktemp(kind), gated=kind == "gligen") for kind in ("sd14", "sd15", "gligen")
    }
    return folders | {"gligen_ldm": write_tiny_ldm(tmp_path_factory.mktemp("ldm"))}


LAYOUTS = [
    Layout(3, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5)),)),
    Layout(1, 2, "cat " * 60, (Object("cat", (0.0, 0.0, 0.5, 0.5), (0, 3)),) * 40),
    Layout(2, 3, "nothing", ()),
]


def state_of(unet) -> list:
    """What a method might leave behind on a U-Net that others use too."""
    parts = [
        (name, getattr(module, "processor", None), getattr(module, "enabled", None), len(module._forward_hooks))
        for name, module in unet.named_modules()
    ]
    return [*parts, [parameter.requires_grad for parameter in unet.parameters()]]


@pytest.mark.parametrize("stanza", stanzas())
def test_every_method_keeps_the_contract(stanza, models) -> None:
    """Params is a frozen dataclass; images are uint8, repeatable, and independent of batch and of global random state."""
    module = importlib.import_module(stanza["module"])
    assert is_dataclass(module.Params)
    assert module.Params.__dataclass_params__.frozen
    extra = {"eta": 0.5} if stanza.get("aligned") else {}
    stated = stanza.get("params", {})
    assert set(stated) <= {field.name for field in fields(module.Params)}
    # The tiny U-Net's finest maps are 8 x 8.
    finest = {"resolution": 8} if "resolution" in stated else {}
    params = from_keys(module.Params, stated | finest | extra, stanza["module"])
    settings = {"steps": 2, "scheduler": stanza.get("sampling", {}).get("scheduler", "pndm")}
    sd = load_diffusion(models[stanza["base"]], Sampling(**settings))
    before = state_of(sd.unet)
    if stanza.get("aligned"):
        from hcma.alignment import Alignment, AlignmentConfig

        torch.manual_seed(0)
        sd.alignment = Alignment(AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2)).requires_grad_(
            False
        )

    def images(layouts: list[Layout], seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return module.generate(sd, layouts, initial_noise(layouts, 0, sd.latent_shape_CHW), params)

    together = images(LAYOUTS, 1)
    assert state_of(sd.unet) == before
    assert together.dtype == torch.uint8
    assert together.shape == (3, 3, sd.size, sd.size)
    assert torch.equal(together, images(LAYOUTS, 2))
    backwards = images(LAYOUTS[::-1], 3).flip(0)
    alone = torch.cat([images([layout], 4) for layout in LAYOUTS])
    assert (together.int() - backwards.int()).abs().max() <= 1
    assert (together.int() - alone.int()).abs().max() <= 1
