"""Attention of the frozen U-Net: maps, read in a forward pass that stops once it has them, and scores, changed on their way.

A map is a layer's own soft-max: probabilities_RHPT for R images, H heads, P = rows * columns of the layer's grid (rows
first) and, in cross-attention, T tokens with the start token at 0. In self-attention the keys are the P cells, in gated
attention queries and keys are the P cells and after them GLIGEN's 30 grounding tokens.
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
# the U-Net's further keyword arguments for the captions of these rows at the solver's present call
Arguments = Callable[[torch.Tensor], dict[str, Any]]
# an image's new scores_HQK, before their soft-max, from the layer's own; whether the keys are the text's tokens
Change = Callable[[torch.Tensor, bool], torch.Tensor]

# how the names of a kind of layer end
CROSS, SELF, GATED = "attn2", "attn1", "fuser.attn"


class _Enough(Exception):
    """Raised inside a forward pass when the last wanted map is there; never leaves this module."""


class _Reader:
    """An attention processor that keeps its probabilities; the arithmetic is that of diffusers' plain processor.

    Without text the keys and values are the layer's own states: self-attention, or gated attention.
    """

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
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(one) for one in (attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read))
        )
        # Maps and their losses are at least float32, whatever the network runs in.
        exact = torch.promote_types(query.dtype, torch.float32)
        probabilities = attn.get_attention_scores(query.to(exact), key.to(exact), attention_mask)
        self.maps[self.name] = probabilities.unflatten(0, (len(hidden_states), -1))
        if len(self.maps) == self.wanted:
            raise _Enough
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probabilities.to(value.dtype), value))))


class _Changer:
    """An attention processor that lets images of the conditional half change their scores; all others keep `plain`."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        changes: Sequence[Change | None] = (),
        **_: Any,
    ) -> torch.Tensor:
        crossed, half = encoder_hidden_states is not None, len(hidden_states) // 2
        mixed = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask)
        for row, change in enumerate(changes, start=half):
            if change is not None:
                # One image at a time: at 64 x 64 cells the scores of one take half a gigabyte.
                states = hidden_states[row, None]
                read = encoder_hidden_states[row, None] if encoder_hidden_states is not None else states
                query, key, value = (
                    attn.head_to_batch_dim(one) for one in (attn.to_q(states), attn.to_k(read), attn.to_v(read))
                )
                exact = torch.promote_types(query.dtype, torch.float32)
                scores_HQK = attn.scale * (query.to(exact) @ key.to(exact).mT)
                weighed = change(scores_HQK, crossed).softmax(-1).to(value.dtype) @ value
                mixed[row] = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(weighed)))[0]
        return mixed


def cross_attention(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """The U-Net's cross-attention layers by name, in the order in which a forward pass meets them."""
    return attention_layers(unet, CROSS)


def attention_layers(unet: UNet2DConditionModel, *kinds: str) -> dict[str, Attention]:
    """The U-Net's layers of the kinds CROSS, SELF and GATED by name, in the order in which a forward pass meets its blocks."""
    layers = {name: layer for name, layer in unet.named_modules() if name.endswith(kinds)}
    order = ("down_blocks", "mid_block", "up_blocks")
    return dict(sorted(layers.items(), key=lambda item: order.index(item[0].split(".")[0])))


def grid_side(unet: UNet2DConditionModel, name: str) -> int:
    """Rows (and columns) of the grid on which a layer works, for the U-Net's own latent size."""
    place, number = name.split(".")[:2]
    deepest = len(unet.config.block_out_channels) - 1
    depth = {"down_blocks": lambda: int(number), "up_blocks": lambda: deepest - int(number)}.get(place, lambda: deepest)
    return unet.config.sample_size // 2 ** depth()


def layers_of_side(unet: UNet2DConditionModel, side: int, kind: str = CROSS) -> list[str]:
    """Names of a kind's layers whose grid is side x side; raises InputError when no cross-attention has it."""
    sides = {name: grid_side(unet, name) for name in attention_layers(unet, CROSS, kind)}
    found = [name for name, value in sides.items() if value == side]
    if not found:
        raise InputError(f"resolution: no cross-attention at {side} x {side}; there is {sorted(set(sides.values()))}")
    return [name for name in found if name.endswith(kind)]


def layers_of_blocks(unet: UNet2DConditionModel, blocks: Sequence[str]) -> list[str]:
    """Names of the cross-attention layers in blocks such as "mid_block" or "up_blocks.1"; InputError for a block with none."""
    names = list(cross_attention(unet))
    for block in blocks:
        if not any(name.startswith(f"{block}.") for name in names):
            raise InputError(f"blocks: {block!r} has no cross-attention in this U-Net; layers are {', '.join(names)}")
    return [name for name in names if any(name.startswith(f"{block}.") for block in blocks)]


def attention_reader(
    sd: Diffusion, text_BTD: torch.Tensor, layers: Sequence[str], arguments: Arguments | None = None
) -> Attend:
    """Read the maps of `layers` under the captions' text states: one conditional forward that ends at the last of them.

    Gradients flow from the maps to the latents where they are enabled. Gated layers have maps where `arguments` has boxes, and
    are left out of the result elsewhere.
    """

    def attend(latents_RCHW: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
        maps: dict[str, torch.Tensor] = {}
        more = arguments(rows) if arguments else {}
        names = [name for name in layers if more or not name.endswith(GATED)]
        with reading(sd.unet, names, maps, stop=True), suppress(_Enough):
            sd.network(latents_RCHW, t, text_BTD[rows], maps=True, **more)
        return [maps[name] for name in names]

    return attend


@contextmanager
def reading(
    unet: UNet2DConditionModel, names: Sequence[str], maps: dict[str, torch.Tensor], stop: bool = False
) -> Iterator[None]:
    """Inside the block a forward pass puts the maps of these layers into `maps`; with `stop` it is cut off after the last.

    Whatever happens in between, the U-Net has its own processors back afterwards.
    """
    layers = attention_layers(unet, CROSS, SELF, GATED)
    found = {name: layers[name].processor for name in names}
    try:
        for name in names:
            layers[name].processor = _Reader(name, maps, len(names) if stop else None)
        yield
    finally:
        for name, processor in found.items():
            layers[name].processor = processor


@contextmanager
def changing(sd: Diffusion) -> Iterator[None]:
    """Inside the block cross- and self-attention heed `cross_attention_kwargs={"changes": one Change or None an image}`.

    They are asked for in calls on the doubled batch and concern its second half; a call without them is the U-Net's own.
    Whatever happens in between, the U-Net has its own processors back afterwards, and the compiled network its place.
    """
    layers = attention_layers(sd.unet, CROSS, SELF)
    found = {name: layer.processor for name, layer in layers.items()}
    compiled, sd.compiled = sd.compiled, None
    try:
        for layer in layers.values():
            layer.processor = _Changer(layer.processor)
        yield
    finally:
        for name, processor in found.items():
            layers[name].processor = processor
        sd.compiled = compiled
