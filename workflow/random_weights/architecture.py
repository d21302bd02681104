"""The architectures as data: what a folder of the hub holds, each network's configuration and its published parameter count.

`architectures/{name}.json` holds `hub` (whose layout it is), `model_index`, `scheduler` and `tokenizer` (contents of those
files, for a pipeline), and `components`: folder ("." for the top) to a network with

    class       key of CLASSES
    config      the published config.json
    file, container
                where its weights are stored, and in what (formats/containers.py)
    dtype       how: float16, float32, or "clip", OpenAI's mixture: products in float16, embeddings and norms in float32
    beside      whole numbers that the file holds beside the weights
    parameters  the published count, `all`, and those of the submodules of a name
    renamed     where the published keys differ from today's: regular expression to replacement
    by          "transformers" where its class writes the folder, with the published keys: its own `save_pretrained`
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
)

from evaluation.networks import dinov2
from evaluation.networks.inception import untrained_inception
from formats.files import InputError
from workflow.random_weights.containers import as_modules

FOLDER = Path(__file__).parent / "architectures"


CLASSES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
    "AutoencoderKL": AutoencoderKL.from_config,
    "CLIPTextModel": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    "LDMBertModel": lambda config: LDMBertModel(LDMBertConfig(**config)),
    "CLIP": lambda config: open_clip.CLIP(**config),
    "InceptionV3": lambda config: untrained_inception(),
    "FasterRCNN": lambda config: fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **config),
    "DINOv2": lambda config: as_modules(dinov2.published(**config)),
    "GroundingDinoForObjectDetection": lambda config: GroundingDinoForObjectDetection(GroundingDinoConfig(**config)),
    "Owlv2ForObjectDetection": lambda config: Owlv2ForObjectDetection(Owlv2Config(**config)),
}


@dataclass(frozen=True)
class Network:
    """One network of an architecture; see the module's docstring."""

    kind: str
    config: dict[str, Any]
    file: str
    container: str
    dtype: str
    parameters: dict[str, int]
    beside: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    by: str = ""

    def build(self) -> nn.Module:
        """The network on the meta device: shapes, and no memory."""
        with torch.device("meta"):
            # A class may make a parameter by torch.Tensor, which knows no default device.
            return CLASSES[self.kind](self.config).to("meta")

    def stored(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """The network's state_dict in the types that the file has; floating-point tensors alone differ."""
        if self.dtype == "clip":
            open_clip.convert_weights_to_fp16(network)
        else:
            network.to(getattr(torch, self.dtype))
        return network.state_dict()

    def published_name(self, name: str) -> str:
        """The key under which the hub's file holds what today's class calls `name`."""
        for pattern, replacement in self.renamed.items():
            name = re.sub(pattern, replacement, name)
        return name


@dataclass(frozen=True)
class Architecture:
    """What a folder of the hub holds; see the module's docstring."""

    hub: str
    components: dict[str, Network]
    model_index: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    tokenizer: dict[str, Any] | None = None


def read_architecture(name: str | Path) -> Architecture:
    """The shipped architecture of that name, or one from a JSON file; raises InputError."""
    path = Path(name) if str(name).endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise InputError(f"architecture {name!r} is not one of {known}, nor a JSON file")
    content = json.loads(path.read_text(encoding="utf-8"))
    components = {
        folder: Network(kind=row["class"], **{key: value for key, value in row.items() if key != "class"})
        for folder, row in content.pop("components").items()
    }
    return Architecture(components=components, **content)


def count_parameters(network: nn.Module, parts: dict[str, int]) -> dict[str, int]:
    """Parameters of the whole (`all`) and of the submodules that bear the other names of `parts`."""
    sizes = {f".{name}.": parameter.numel() for name, parameter in network.named_parameters()}
    return {part: sum(size for name, size in sizes.items() if part == "all" or f".{part}." in name) for part in parts}


def check_count(where: str, network: nn.Module, published: dict[str, int]) -> dict[str, int]:
    """The counts of a network; raises InputError when one differs from what was published."""
    found = count_parameters(network, published)
    for part, count in published.items():
        if found[part] != count:
            raise InputError(f"{where}: {found[part]:,} parameters ({part}), expected the published {count:,}")
    return found
