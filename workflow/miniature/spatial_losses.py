"""Stage `located`: fine-tunes the base with two auxiliary losses, probes of position and cross-attention inside words' boxes.

At full size a U-Net's states encode their position, by its depth and padding. Those of a small one hardly do (linear probes
of row and column explain 0.2 to 0.75 of their variance after stage `base`), and then GLIGEN's attention, which must match a
position to a box, cannot learn to. Nor does a small U-Net's cross-attention find the objects that the words name: at full
size it does, and Attend-and-Excite, BoxDiff and Layout-Guidance rely on it. So both are supervised here. The probes are
dropped afterwards: the base stays a plain U-Net.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from hcma.alignment import box_mask
from hcma.sampling.attention import cross_attention, reading
from hcma.sampling.text import Tokenizer
from workflow.miniature.captions import SYNONYMS
from workflow.miniature.diffusion import Material, draw_batch, noise_error
from workflow.miniature.text import SHAPES
from workflow.miniature.training import Run, State, train

PLACE_WEIGHT = 0.1
WORD_WEIGHT = 0.03
WORD_SHARE = 0.6


class Located(nn.Module):
    """A U-Net with a linear reading of the place from the states that a fuser would see in each of its blocks."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        blocks: list[Any] = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
        self.heads = nn.ModuleList(nn.Linear(block.norm2.normalized_shape[0], 10) for block in blocks)
        self.seen: dict[int, torch.Tensor] = {}
        for number, block in enumerate(blocks):
            # The input of the second norm is what leaves the self-attention, and what a fuser takes.
            block.norm2.register_forward_pre_hook(partial(self._see, number))

    def _see(self, number: int, norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.seen[number] = inputs[0]

    def place_loss(self) -> torch.Tensor:
        """Squared error of the readings of the last forward pass."""
        errors = []
        for number, head in enumerate(self.heads):
            states_BND = self.seen.pop(number)
            normal = nn.functional.layer_norm(states_BND, states_BND.shape[-1:])
            errors.append((head(normal) - places(math.isqrt(states_BND.shape[1])).to(normal.device)).pow(2).mean())
        return torch.stack(errors).mean()


def places(side: int) -> torch.Tensor:
    """Row and column of each cell in -1..1, with their sines and cosines: [side * side, 10], rows first."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    waves = [
        line,
        (math.pi * line).sin(),
        (math.pi * line).cos(),
        (2 * math.pi * line).sin(),
        (2 * math.pi * line).cos(),
    ]
    rows_SK = torch.stack(waves, dim=1)
    return torch.cat([rows_SK.repeat_interleave(side, 0), rows_SK.repeat(side, 1)], dim=1)


def shape_of_tokens(tokenizer: Tokenizer) -> torch.Tensor:
    """The number of the shape that a token names, -1 for all others: [V]. Names of several tokens count for none."""
    table = torch.full((len(tokenizer),), -1)
    for kind, shape in enumerate(SHAPES):
        for word in (shape, *SYNONYMS[shape]):
            for form in (word, word + "s"):
                first, *rest = tokenizer(form).input_ids[1:-1]
                if not rest:
                    table[first] = kind
    return table


def word_loss(
    maps: Sequence[torch.Tensor], kinds_BT: torch.Tensor, boxes_BM4: torch.Tensor, kinds_BM: torch.Tensor
) -> torch.Tensor:
    """How far the words of shapes are from attending to their boxes: maps_BHPT, kinds of tokens and of boxes (-1: none).

    Of every layer: (1 - share of a word's attention that lies in the boxes of its shape)^2, head by head, and, at the cells
    of these boxes, minus the logarithm of the attention to their words, as far as it is under WORD_SHARE.
    """
    shapes_BTK = nn.functional.one_hot(kinds_BT.clamp(min=0), len(SHAPES)) * (kinds_BT >= 0)[..., None]
    things_BMK = nn.functional.one_hot(kinds_BM.clamp(min=0), len(SHAPES)) * (kinds_BM >= 0)[..., None]
    losses = []
    for map_BHPT in maps:
        covered_BPK = (box_mask(boxes_BM4, math.isqrt(map_BHPT.shape[2])) @ things_BMK.float()).clamp(max=1)
        own_BPT = covered_BPK @ shapes_BTK.float().mT
        there_BT = own_BPT.amax(1) > 0
        inside_BHT = (map_BHPT * own_BPT[:, None]).sum(2) / map_BHPT.sum(2).clamp(min=1e-8)
        missed_BT = (1 - inside_BHT).square().mean(1)
        named_BP = own_BPT.amax(2)
        told_BP = (map_BHPT.mean(1) * own_BPT).sum(2).clamp(min=1e-4, max=WORD_SHARE) / WORD_SHARE
        losses.append((missed_BT * there_BT).sum() / there_BT.sum().clamp(min=1))
        losses.append(-(told_BP.log() * named_BP).sum() / named_BP.sum().clamp(min=1))
    return torch.stack(losses).mean()


def train_located(run: Run, material: Material, base: UNet2DConditionModel) -> tuple[nn.Module, State]:
    """Train the base on: noise prediction, places and words together."""
    layers, shapes_V = list(cross_attention(base)), shape_of_tokens(material.tokenizer)

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        batch = draw_batch(material, rng)
        maps: dict[str, torch.Tensor] = {}
        with reading(model.unet, layers, maps):
            error = noise_error(model.unet, material, batch)
        scenes = material.collection
        boxes, kinds = scenes.boxes_NM4[batch.rows_B], scenes.kinds_NM[batch.rows_B].long()
        words = word_loss([maps[name].cpu() for name in layers], shapes_V[batch.tokens_BT], boxes, kinds)
        return error + PLACE_WEIGHT * model.place_loss().cpu() + WORD_WEIGHT * words

    return train(run, Located(base), loss, loss)
