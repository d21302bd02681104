"""Cross-attention maps of the frozen U-Net, read in a forward pass that stops once it has them.

A map is the U-Net's own soft-max over the text tokens: probabilities_RHPT for R images, H heads, P = rows * columns of
the layer's grid (rows first), T tokens with the start token at 0.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from formats.files import InputError
from hcma.sampling.diffusion import Diffusion

# maps of the rows (positions in the batch) of latents_RCHW, as the U-Net sees them, at timestep t
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], list[torch.Tensor]]


class _Enough(Exception):
    """Raised inside a forward pass when the last wanted map is there; never leaves this module."""


class _Reader:
    """An attention processor that keeps its probabilities; the arithmetic is that of diffusers' plain processor."""

    def __init__(self, name: str, maps: dict[str, torch.Tensor], wanted: int | None) -> None:
        self.name, self.maps, self.wanted = name, maps, wanted

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        assert encoder_hidden_states is not None, "only cross-attention is read"
        query, key, value = (
            attn.head_to_batch_dim(project(states))
            for project, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        # Maps and their losses are at least float32, whatever the network runs in.
        exact = torch.promote_types(query.dtype, torch.float32)
        probabilities = attn.get_attention_scores(query.to(exact), key.to(exact), attention_mask)
        self.maps[self.name] = probabilities.unflatten(0, (len(hidden_states), -1))
        if len(self.maps) == self.wanted:
            raise _Enough
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probabilities.to(value.dtype), value))))


def cross_attention(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """The U-Net's cross-attention layers by name, in the order in which a forward pass meets them."""
    layers = {name: layer for name, layer in unet.named_modules() if name.endswith("attn2")}
    order = ("down_blocks", "mid_block", "up_blocks")
    return dict(sorted(layers.items(), key=lambda item: order.index(item[0].split(".")[0])))


def grid_side(unet: UNet2DConditionModel, name: str) -> int:
    """Rows (and columns) of the grid on which a layer works, for the U-Net's own latent size."""
    place, number = name.split(".")[:2]
    deepest = len(unet.config.block_out_channels) - 1
    depth = {"down_blocks": lambda: int(number), "up_blocks": lambda: deepest - int(number)}.get(place, lambda: deepest)
    return unet.config.sample_size // 2 ** depth()


def layers_of_side(unet: UNet2DConditionModel, side: int) -> list[str]:
    """Names of the cross-attention layers whose grid is side x side; raises InputError when there is none."""
    sides = {name: grid_side(unet, name) for name in cross_attention(unet)}
    found = [name for name, value in sides.items() if value == side]
    if not found:
        raise InputError(f"resolution: no cross-attention at {side} x {side}; there is {sorted(set(sides.values()))}")
    return found


def layers_of_blocks(unet: UNet2DConditionModel, blocks: Sequence[str]) -> list[str]:
    """Names of the cross-attention layers in blocks such as "mid_block" or "up_blocks.1"; InputError for a block with none."""
    names = list(cross_attention(unet))
    for block in blocks:
        if not any(name.startswith(f"{block}.") for name in names):
            raise InputError(f"blocks: {block!r} has no cross-attention in this U-Net; layers are {', '.join(names)}")
    return [name for name in names if any(name.startswith(f"{block}.") for block in blocks)]


def attention_reader(sd: Diffusion, text_BTD: torch.Tensor, layers: Sequence[str]) -> Attend:
    """Read the maps of `layers` under the captions' text states: one conditional forward that ends at the last of them.

    Gradients flow from the maps to the latents where they are enabled.
    """

    def attend(latents_RCHW: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
        maps: dict[str, torch.Tensor] = {}
        with reading(sd.unet, layers, maps, stop=True), suppress(_Enough):
            sd.network(latents_RCHW, t, text_BTD[rows], maps=True)
        return [maps[name] for name in layers]

    return attend


@contextmanager
def reading(
    unet: UNet2DConditionModel, names: Sequence[str], maps: dict[str, torch.Tensor], stop: bool = False
) -> Iterator[None]:
    """Inside the block a forward pass puts the maps of these layers into `maps`; with `stop` it is cut off after the last.

    Whatever happens in between, the U-Net has its own processors back afterwards.
    """
    layers = cross_attention(unet)
    found = {name: layers[name].processor for name in names}
    try:
        for name in names:
            layers[name].processor = _Reader(name, maps, len(names) if stop else None)
        yield
    finally:
        for name, processor in found.items():
            layers[name].processor = processor
