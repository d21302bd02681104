"""DINOv2's class token after the last norm, of images squashed to 224 px (Stein et al. 2023), by transformers' Dinov2Model.

The published file has the hub's own names and fused attention. Its positions are of 37 x 37 patches: they are interpolated once
to 16 x 16 by the hub's rule, which transformers' own interpolation is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from evaluation.extractors import Extractor, squash
from evaluation.networks import Stanza
from evaluation.weight_files import read_weights
from formats.params import expect

SIDE, PATCH = 224, 14
TRAINED = 37  # patches a side of the published positions
OFFSET = 0.1  # what the hub's rule adds to the patches that are asked for
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Width and blocks; heads are of 64.
SIZES = {"small": (384, 12), "base": (768, 12), "large": (1024, 24)}


@dataclass(frozen=True)
class Params:
    """size: ViT-S, ViT-B or ViT-L, each with patches of 14 px and without registers."""

    size: str = "large"

    def __post_init__(self) -> None:
        expect("size", self.size, lambda size: size in SIZES, f"one of {', '.join(SIZES)}")


def extractor(stanza: Stanza, params: Params, device: torch.device) -> Extractor:
    """Features of 384, 768 or 1,024 dimensions, not of unit length."""
    state = read_weights(stanza.path, f"DINOv2 {params.size}", published(params.size))
    with torch.device("meta"):
        network = Dinov2Model(config(params.size))
    network.load_state_dict(renamed(state), assign=True)
    network.to(device).eval()
    mean, std = (torch.tensor(colour).view(3, 1, 1).to(device) for colour in (MEAN, STD))

    def encode(images_BHW3: torch.Tensor) -> torch.Tensor:
        pixels = images_BHW3.permute(0, 3, 1, 2).float() / 255
        return network((pixels - mean) / std).pooler_output

    return Extractor(f"bicubic {SIDE}", partial(squash, size=SIDE), encode)


def config(size: str) -> Dinov2Config:
    """Of a size, for images of SIDE."""
    width, blocks = SIZES[size]
    return Dinov2Config(
        hidden_size=width, num_hidden_layers=blocks, num_attention_heads=width // 64, image_size=SIDE, patch_size=PATCH
    )


def published(size: str) -> dict[str, torch.Tensor]:
    """The published file's tensors, by the hub's names, on the meta device."""
    width, blocks = SIZES[size]
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "pos_embed": (1, TRAINED**2 + 1, width)}
    shapes |= {"mask_token": (1, width)} | _layer("patch_embed.proj", width, 3, PATCH, PATCH)
    for number in range(blocks):
        block = f"blocks.{number}"
        shapes |= _layer(f"{block}.norm1", width) | _layer(f"{block}.attn.qkv", 3 * width, width)
        shapes |= _layer(f"{block}.attn.proj", width, width) | {f"{block}.ls1.gamma": (width,)}
        shapes |= _layer(f"{block}.norm2", width) | _layer(f"{block}.mlp.fc1", 4 * width, width)
        shapes |= _layer(f"{block}.mlp.fc2", width, 4 * width) | {f"{block}.ls2.gamma": (width,)}
    shapes |= _layer("norm", width)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


# The hub's names as transformers has them; attention's fused projection is split.
NAMES = {
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "blocks.": "encoder.layer.",
    ".attn.proj.": ".attention.o_proj.",
    ".ls1.gamma": ".layer_scale1.lambda1",
    ".ls2.gamma": ".layer_scale2.lambda1",
}
TOP = {"cls_token": "cls_token", "mask_token": "mask_token", "pos_embed": "position_embeddings"}


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published tensors by transformers' names, with positions for SIDE."""
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if name in TOP:
            found[f"embeddings.{TOP[name]}"] = at_side(value) if name == "pos_embed" else value
            continue
        ours = f"layer{name}" if name.startswith("norm.") else name
        for theirs, other in NAMES.items():
            ours = ours.replace(theirs, other)
        if ".attn.qkv." in ours:
            parts = zip("qkv", value.chunk(3), strict=True)
            found |= {ours.replace(".attn.qkv.", f".attention.{part}_proj."): third for part, third in parts}
        else:
            found[ours] = value
    return found


def at_side(positions_1PD: torch.Tensor) -> torch.Tensor:
    """Positions of TRAINED patches a side as the hub's code has them at SIDE: bicubic, by a scale factor, not antialiased."""
    width, side = positions_1PD.shape[-1], SIDE // PATCH
    grid = positions_1PD[:, 1:].reshape(1, TRAINED, TRAINED, width).permute(0, 3, 1, 2)
    factor = (side + OFFSET) / TRAINED
    smaller = nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    return torch.cat([positions_1PD[:, :1], smaller.permute(0, 2, 3, 1).reshape(1, side * side, width)], 1)
