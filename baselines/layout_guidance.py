"""Layout-Guidance (Chen et al. 2024), backward guidance: a word's attention is to lie inside its boxes.

Loss and loop are those of the official code at 50fcf75. That code moves the latent of the sigma frame, z, by
eta sigma^2 dL/dz; here the same step is made in the frame that the network sees, x = z / sqrt(1 + sigma^2), where it is
eta (1 - alpha_cumprod) dL/dx.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch

from formats.layouts import Layout
from formats.params import expect, expect_each, is_count, is_number
from hcma.sampling.attention import Attend, attention_reader, grid_side, layers_of_blocks
from hcma.sampling.caption_tokens import Thing, append_missing, named_objects, things_of, visible
from hcma.sampling.counters import Counters, Passes
from hcma.sampling.diffusion import (
    Diffusion,
    Guide,
    Sampling,
    decode,
    duplicate_calls,
    encode_text,
    make_scheduler,
    noise_share,
)
from hcma.sampling.grounding import Grounding, guided_passes, is_tau
from hcma.sampling.token_maps import inside


@dataclass(frozen=True)
class Params:
    """Official values; the official solver is LMS with 51 steps (the stanza's `sampling`).

    blocks           whose cross-attention is used: the middle and the first upward block that has any
    eta              loss_scale
    threshold        guidance ends at a loss of at most this
    max_iterations   updates at most before a call
    stop             calls before this one are guided
    sticky           True, as the official code: once the threshold is reached, guidance is over for the image; False: the
                     loss is tested again at every call
    drop_empty       False: an object whose boxes cover no cell keeps a loss of 1 and no gradient; True: it is left out
    guide_duplicate  False: not before PLMS's second call, whose latents the solver drops (LMS has no such call)
    append_missing   False: boxes that the caption does not name are left out; True: they are named after the caption
    tau              None: the network sees no boxes; a share of the steps in which a gated U-Net sees them, as GLIGEN
    """

    blocks: Sequence[str] = ("mid_block", "up_blocks.1")
    eta: float = 30.0
    threshold: float = 0.2
    max_iterations: int = 5
    stop: int = 10
    sticky: bool = True
    drop_empty: bool = False
    guide_duplicate: bool = False
    append_missing: bool = False
    tau: float | None = None

    def __post_init__(self) -> None:
        strings = "a list of block names such as mid_block, up_blocks.1"
        expect("blocks", self.blocks, lambda v: isinstance(v, list | tuple) and len(v) > 0, strings)
        expect("blocks", self.blocks, lambda v: all(type(name) is str for name in v), strings)
        expect_each(self, "eta threshold", lambda v: is_number(v) and v >= 0, "a number of at least 0")
        expect_each(self, "max_iterations stop", is_count, "an integer of at least 0")
        expect("tau", self.tau, is_tau, "null or a number from 0 to 1")
        switches = "sticky drop_empty guide_duplicate append_missing"
        expect_each(self, switches, lambda v: type(v) is bool, "true or false")


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and of the boxes that these name."""
    prompts = append_missing(layouts) if params.append_missing else layouts
    text_BTD, _ = encode_text(sd, [prompt.caption for prompt in prompts])
    layers = layers_of_blocks(sd.unet, params.blocks)
    sides = sorted({grid_side(sd.unet, layer) for layer in layers})
    things = [
        visible(sd.counters, row, things_of(named), sides, params.drop_empty)
        for row, named in enumerate(named_objects(sd, prompts))
    ]
    grounding = Grounding(sd, layouts, params.tau)
    attend = attention_reader(sd, text_BTD, layers, grounding.conditional)
    guide = make_guide(attend, things, params, make_scheduler(sd), sd.counters)
    return decode(sd, grounding.denoise(noise_BCHW, text_BTD, guide))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes: how soon its loss reaches the threshold depends on it."""
    guided = set(range(min(params.stop, sampling.calls)))
    if not params.guide_duplicate:
        guided -= set(sampling.duplicates)
    tested = guided & {0} if params.sticky else guided

    def of(some: Set[int]) -> tuple[int, int]:
        return len(tested & some) * min(1, params.max_iterations), len(guided & some) * params.max_iterations

    return guided_passes(params.tau, sampling, of, lambda unet: layers_of_blocks(unet, params.blocks))


def make_guide(
    attend: Attend, things: Sequence[Sequence[Thing]], params: Params, scheduler: Any, counters: Counters
) -> Guide:
    """The guide of a batch whose images show `things`; an image without any is left alone."""
    loss = Loss(things)
    skip = range(0) if params.guide_duplicate else duplicate_calls(scheduler)
    last_B = torch.tensor([math.inf if found else -math.inf for found in things])

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        if i >= params.stop or i in skip:
            return latents_BCHW
        if not params.sticky:
            last_B[last_B.isfinite()] = math.inf
        latents, step = latents_BCHW, params.eta * noise_share(scheduler, i)
        for _ in range(params.max_iterations):
            rows = (last_B > params.threshold).nonzero().flatten().to(latents.device)
            if not len(rows):
                break
            latents = latents.clone() if latents is latents_BCHW else latents
            with torch.enable_grad():
                moving = latents[rows].detach().requires_grad_()
                loss_R = loss(attend(moving, t, rows), rows)
                (gradient,) = torch.autograd.grad(loss_R.sum(), moving)
            latents[rows] = moving.detach() - step * gradient
            # Tested next time: as in the official code, an update more is made than the test alone would ask for.
            last_B[rows.cpu()] = loss_R.detach().float().cpu()
            for name in ("guidance_iterations", "guidance_forwards", "guidance_backwards"):
                counters.add(name, rows.tolist())
        return latents

    return guide


class Loss:
    """The official loss of a batch's images, from the maps of some of them."""

    def __init__(self, things: Sequence[Sequence[Thing]]) -> None:
        self.things = things
        most = max([1, *map(len, things)])
        width = 1 + max([0, *(position for row in things for thing in row for position in thing.positions)])
        self.share_BOT = torch.zeros(len(things), most, width, dtype=torch.float64)
        for row, found in enumerate(things):
            for number, thing in enumerate(found):
                self.share_BOT[row, number, list(thing.positions)] = 1 / (len(thing.positions) * len(found))
        self.inside_BOP: dict[int, torch.Tensor] = {}

    def __call__(self, maps: Sequence[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Mean over layers and objects, and over an object's tokens, of the heads' mean (1 - share of a token's attention
        that lies in the boxes)^2: [R], between 0 and 1."""
        share_ROT = self.share_BOT.to(maps[0])[rows]
        losses = []
        for map_RHPT in maps:
            attention_RHPT = map_RHPT[..., : share_ROT.shape[-1]]
            in_boxes_RHOT = torch.einsum("rop,rhpt->rhot", self._inside(map_RHPT, rows), attention_RHPT)
            missing_RHOT = 1 - in_boxes_RHOT / attention_RHPT.sum(2, keepdim=True)
            losses.append((missing_RHOT.square().mean(1) * share_ROT).sum((1, 2)))
        return torch.stack(losses).mean(0)

    def _inside(self, map_RHPT: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        cells = map_RHPT.shape[2]
        if cells not in self.inside_BOP:
            masks = torch.zeros(*self.share_BOT.shape[:2], cells)
            for row, found in enumerate(self.things):
                for number, thing in enumerate(found):
                    masks[row, number] = inside(thing.boxes, math.isqrt(cells)).flatten()
            self.inside_BOP[cells] = masks
        return self.inside_BOP[cells].to(map_RHPT)[rows]
