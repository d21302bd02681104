"""Stage `grounding`: GLIGEN's layers on the frozen base (GLIGEN, section 3), with an auxiliary per-cell shape loss.

Noise prediction alone takes very long to discover that a box token belongs to the cells inside its box. So, in training, the
states that leave the fusers are also probed for which shapes cover each cell; the probes are dropped afterwards.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from hcma.alignment import box_mask
from workflow.miniature.diffusion import Material, noise_loss, shape_features
from workflow.miniature.sizes import UNET
from workflow.miniature.training import Run, State, train

WEIGHT = 0.05
OPEN_GATE = 0.5


def gated(base: nn.Module, sizes: dict[str, Any] = UNET) -> UNet2DConditionModel:
    """The gated U-Net around a base, with everything but fusers and grounding tokenizer frozen and the gates ajar."""
    model = UNet2DConditionModel(**sizes, attention_type="gated")
    missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected and all("fuser" in name or "position_net" in name for name in missing)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("fuser" in name or "position_net" in name)
        if name.endswith(("alpha_attn", "alpha_dense")):
            parameter.data.fill_(OPEN_GATE)
    return model


class Grounded(nn.Module):
    """A gated U-Net with a linear reading, in each block, of the shapes that cover a cell; shapes_KD are their phrases."""

    shapes_KD: torch.Tensor

    def __init__(self, unet: UNet2DConditionModel, shapes_KD: torch.Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("shapes_KD", nn.functional.normalize(shapes_KD, dim=-1), persistent=False)
        blocks: list[Any] = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
        self.heads = nn.ModuleList(nn.Linear(block.norm2.normalized_shape[0], len(shapes_KD)) for block in blocks)
        self.seen: dict[int, torch.Tensor] = {}
        self.told: dict[str, torch.Tensor] = {}
        for number, block in enumerate(blocks):
            # The input of the second norm is what leaves the fuser.
            block.norm2.register_forward_pre_hook(partial(self._see, number))
        tokenizer: Any = unet.position_net
        tokenizer.register_forward_pre_hook(self._tell, with_kwargs=True)

    def _see(self, number: int, norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.seen[number] = inputs[0]

    def _tell(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, torch.Tensor]) -> None:
        self.told = named

    def cover_loss(self) -> torch.Tensor:
        """Cross entropy of the readings of the last forward pass against the share of each cell that a shape covers."""
        kinds_BMK = (self.told["positive_embeddings"] @ self.shapes_KD.T).argmax(-1)
        shapes_BMK = nn.functional.one_hot(kinds_BMK, len(self.shapes_KD)) * self.told["masks"][..., None]
        losses = []
        for number, head in enumerate(self.heads):
            states_BND = self.seen.pop(number)
            cover_BNM = box_mask(self.told["boxes"], math.isqrt(states_BND.shape[1]))
            wanted_BNK = torch.einsum("bnm,bmk->bnk", cover_BNM, shapes_BMK).clamp(max=1)
            normal = nn.functional.layer_norm(states_BND, states_BND.shape[-1:])
            losses.append(nn.functional.binary_cross_entropy_with_logits(head(normal), wanted_BNK))
        return torch.stack(losses).mean()


def train_grounding(run: Run, material: Material, unet: UNet2DConditionModel) -> tuple[nn.Module, State]:
    """Train the gated layers and the grounding tokenizer of a `gated` U-Net, its base frozen."""
    predict = noise_loss(material, True)

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        return predict(model.unet, rng) + WEIGHT * model.cover_loss().cpu()

    return train(run, Grounded(unet, shape_features(material)), loss, loss)
