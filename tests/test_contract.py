"""Every method of every shipped configuration keeps the contract, and wrong parameters are refused before the first job."""

import importlib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import get_args

import pytest
import torch

from evaluation.datasets.canvas import FRAMES
from evaluation.datasets.photos import EXIF
from evaluation.datasets.reading import Form
from evaluation.difficulty import Bands
from evaluation.metrics.summary import REFERENCE_SETS
from evaluation.protocol import CROPS, PADS, RESIZES
from formats.layouts import Layout, Object
from formats.params import from_keys
from hcma.alignment import BOX_FEATURES, POOLS, TIME, Alignment, AlignmentConfig, save_alignment
from hcma.denoiser import TRAINED, Denoising
from hcma.sampling.diffusion import OWN, PRECISIONS, SCHEDULERS, Sampling, initial_noise
from hcma.sampling.loading import Method, open_model
from hcma.sampling.spec import Artefact, read_artefact
from hcma.trainer import OPTIMIZERS
from tests.test_config import CONFIG, FILE, OVERLAYS, ROOT, merged
from tests.tiny import WIDTH, write_tiny, write_tiny_ldm
from workflow import overlays, settings
from workflow.consistency import parameter_faults
from workflow.overlays import BASE, content, resolved
from workflow.settings import read


def stanzas() -> list:
    """Every method of every shipped configuration, alike ones once."""
    found: dict[str, object] = {}
    for file in (None, *OVERLAYS):
        for name, stanza in resolved(overlays.merged([ROOT / file] if file else []))["methods"].items():
            key = repr((name, stanza["module"], stanza["base"], stanza.get("params"), stanza.get("sampling")))
            found.setdefault(key, pytest.param(stanza, id=f"{Path(file or FILE).stem}-{name}"))
    return list(found.values())


def test_parameters_are_checked_for_all_methods_at_once() -> None:
    assert parameter_faults(read(CONFIG, [])) == []
    wrong = {
        "hcma": {"params": {"tau": 7}},
        "boxdiff": {"params": {"share": 2}},
    }
    found = parameter_faults(read(merged(CONFIG, {"methods": wrong}), []))
    rows = ("hcma", "hcma_no_c2ia", "hcma_no_o2ra", "boxdiff", "boxdiff_no_refine", "gligen_boxdiff")
    assert [fault.split(":")[0] for fault in found] == [f"methods.{row}.params" for row in rows]
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


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> dict[str, Artefact]:
    """What the run trains and measures for the rows that have artefacts."""
    folder = tmp_path_factory.mktemp("artefacts")
    torch.manual_seed(0)
    module = Alignment(AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2))
    save_alignment(module, folder / "alignment.safetensors")
    (folder / "eta.json").write_text('{"eta": 0.5}')
    files = {"alignment": "alignment.safetensors", "eta": "eta.json"}
    return {name: read_artefact(name, str(folder / file)) for name, file in files.items()}


def state_of(unet) -> list:
    """What a method might leave behind on a U-Net that others use too."""
    parts = [
        (name, getattr(module, "processor", None), getattr(module, "enabled", None), len(module._forward_hooks))
        for name, module in unet.named_modules()
    ]
    return [*parts, [parameter.requires_grad for parameter in unet.parameters()]]


@pytest.mark.parametrize("stanza", stanzas())
def test_every_method_keeps_the_contract(stanza, models, artefacts) -> None:
    """Params is a frozen dataclass; images are uint8, repeatable, and independent of batch and of global random state."""
    module = importlib.import_module(stanza["module"])
    assert is_dataclass(module.Params)
    assert module.Params.__dataclass_params__.frozen
    stated = stanza.get("params", {})
    assert set(stated) <= {field.name for field in fields(module.Params)}
    # The tiny U-Net's finest maps are 8 x 8.
    finest = {"resolution": 8} if "resolution" in stated else {}
    params = from_keys(module.Params, stated | finest, stanza["module"])
    settings = {"steps": 2, "scheduler": stanza.get("sampling", {}).get("scheduler", "pndm")}
    sd = open_model(module, str(models[stanza["base"]]), Sampling(**settings), params, "cpu")
    before = state_of(sd.unet)
    method = Method(module, params, sd, module.load(artefacts, sd) if hasattr(module, "load") else None)

    def images(layouts: list[Layout], seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return method.generate(layouts, initial_noise(layouts, 0, sd.latent_shape_CHW))

    together = images(LAYOUTS, 1)
    assert state_of(sd.unet) == before
    assert together.dtype == torch.uint8
    assert together.shape == (3, 3, sd.size, sd.size)
    assert torch.equal(together, images(LAYOUTS, 2))
    backwards = images(LAYOUTS[::-1], 3).flip(0)
    alone = torch.cat([images([layout], 4) for layout in LAYOUTS])
    assert (together.int() - backwards.int()).abs().max() <= 1
    assert (together.int() - alone.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("section", "key", "known"),
    [
        (settings.Sampling, "scheduler", (*SCHEDULERS, OWN)),
        (settings.Sampling, "precision", PRECISIONS),
        (settings.AlignmentModel, "box_feature", BOX_FEATURES),
        (settings.AlignmentModel, "pool", POOLS),
        (settings.AlignmentModel, "time_conditioning", TIME),
        (settings.AlignmentTraining, "optimizer", OPTIMIZERS),
        (settings.AlignmentTraining, "train_denoiser", TRAINED),
        (settings.NoiseTraining, "optimizer", OPTIMIZERS),
        (settings.SetSource, "frame", FRAMES),
        (settings.SetSource, "boxes", get_args(Form)),
        (settings.Data, "exif", EXIF),
        (settings.Regions, "resize", RESIZES),
        (settings.Regions, "pad", PADS),
        (settings.Evaluation, "reference", REFERENCE_SETS),
        (settings.Method, "crops", CROPS),
    ],
)
def test_the_choices_of_a_key_are_those_of_what_it_configures(section, key, known) -> None:
    choices = get_args(section.model_fields[key].annotation)
    stated = get_args(choices[0]) if type(None) in choices else choices
    assert set(stated) == set(known)


def test_the_defaults_of_base_yaml_are_those_of_what_they_configure() -> None:
    base = content(ROOT / BASE)
    bands = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(Bands()).items()}
    assert bands == base["difficulty"]
    own, stated = asdict(Denoising("fuser")), base["alignment"]["train"]["denoiser"]
    alike = stated.keys() & own.keys() - {"steps", "batch", "micro_batch", "validate_every", "validate_images"}
    assert {key: own[key] for key in alike} == {key: stated[key] for key in alike}
    assert alike >= {"lr", "optimizer", "weight_decay", "caption_dropout", "grounding_dropout", "relative_step"}
