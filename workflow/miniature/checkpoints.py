"""The pretraining's finished parts, put together from the stages' checkpoints."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from workflow.miniature.collection import Collection, collect
from workflow.miniature.diffusion import Material, latent_scale
from workflow.miniature.sizes import UNET, VAE
from workflow.miniature.spatial_losses import Located
from workflow.miniature.text import Pair, blank_text_encoder

SCENES = 40_000


def load_average(path: Path, model: nn.Module) -> Any:
    """Put a checkpoint's averaged weights into the trainable parameters of `model`."""
    if not path.exists():
        raise SystemExit(f"error: {path} is missing: run the stage that writes it first (see --help)")
    saved = torch.load(path, weights_only=True, map_location="cpu")
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter, mean in zip(trained, saved["average"], strict=True):
        parameter.data.copy_(mean)
    return model.eval()


def tokenizer(work: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(work / "tokenizer")


def text_encoder(work: Path) -> CLIPTextModel:
    return load_average(work / "text.pt", Pair(blank_text_encoder(tokenizer(work)))).text.requires_grad_(False)


def autoencoder(work: Path, **config: Any) -> AutoencoderKL:
    """The trained autoencoder; `config` holds what is only known after its training, the scale of its latents."""
    return load_average(work / "vae.pt", AutoencoderKL(**VAE, **config))


def collection(work: Path, count: int = SCENES) -> Collection:
    """The scenes that the diffusion stages see; `count` matters only before they are there."""
    return collect(autoencoder(work), tokenizer(work), work / "collection.safetensors", seed=11, count=count)


def material(work: Path) -> Material:
    scenes = collection(work)
    return Material(scenes, latent_scale(scenes), tokenizer(work), text_encoder(work))


def base(work: Path) -> UNet2DConditionModel:
    """The base at the end of stage `base`."""
    return load_average(work / "base.pt", UNet2DConditionModel(**UNET))


def sd14(work: Path) -> UNet2DConditionModel:
    """The earlier of the base's two checkpoints: the snapshot of stage `located`."""
    snapshots = sorted(work.glob("located-*.pt"), key=lambda path: int(path.stem.split("-")[1]))
    path = snapshots[-1] if snapshots else work / "located-0.pt"
    return load_average(path, Located(UNet2DConditionModel(**UNET))).unet


def sd15(work: Path) -> UNet2DConditionModel:
    """The later one: the end of stage `located`."""
    return load_average(work / "located.pt", Located(UNet2DConditionModel(**UNET))).unet
