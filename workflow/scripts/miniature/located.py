"""Stage `located`: the base trained on while its hidden states learn to tell where on the canvas they are.

At full size a U-Net's states know their place from depth and padding. Those of a small one hardly do (linear readings of
row and column explain 0.2 to 0.75 of their variance after stage `base`), and then GLIGEN's attention, which must match a
place to a box, cannot learn to. The readings are dropped afterwards: the base stays a plain U-Net.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from workflow.scripts.miniature.diffusion import Material, noise_loss
from workflow.scripts.miniature.training import Run, State, train

WEIGHT = 0.1


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


def train_located(run: Run, material: Material, base: UNet2DConditionModel) -> tuple[nn.Module, State]:
    """Train the base on, noise prediction and places together."""
    predict = noise_loss(material, False)

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        return predict(model.unet, rng) + WEIGHT * model.place_loss().cpu()

    return train(run, Located(base), loss, loss)
