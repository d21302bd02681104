"""Attend-and-Excite (Chefer et al. 2023): some cell shall attend to every thing the caption names; boxes are not used."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from formats.layouts import Layout
from hcma.sampling.attention_guidance import (
    Excitation,
    ImageObjectives,
    Objectives,
    excite,
    excited_passes,
    pad_positions,
)
from hcma.sampling.caption_tokens import Named, append_missing, named_objects
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Diffusion, Sampling, decode, encode_text
from hcma.sampling.grounding import Grounding


@dataclass(frozen=True)
class Params(Excitation):
    """The official values; see Excitation."""


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions; which words count is told by the objects' spans."""
    prompts = append_missing(layouts) if params.append_missing else layouts
    text_BTD, _ = encode_text(sd, [prompt.caption for prompt in prompts])
    positions_BM = pad_positions([head_nouns(things) for things in named_objects(sd, prompts)]).to(sd.device)
    grounding = Grounding(sd, layouts, params.tau)
    guide = excite(sd, text_BTD, positions_BM, weakest_token(positions_BM), params, grounding)
    return decode(sd, grounding.denoise(noise_BCHW, text_BTD, guide))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes; its refinements depend on it."""
    return excited_passes(params, sampling)


def head_nouns(things: Sequence[Named]) -> list[int]:
    """Positions of the last token of each thing's name, each position once."""
    return list(dict.fromkeys(thing.positions[-1] for thing in things))


def weakest_token(positions_BM: torch.Tensor) -> ImageObjectives:
    """The one loss, tested and followed alike: 1 - the peak of the token image with the lowest peak, at least 0."""

    def objectives(images_RMYX: torch.Tensor, rows: torch.Tensor) -> Objectives:
        missing_RM = (1 - images_RMYX.flatten(2).max(-1).values).relu()
        loss_R = missing_RM.where(positions_BM[rows] > 0, -1.0).max(1).values
        return Objectives(tested=loss_R, refined=loss_R, regular=loss_R, after=loss_R)

    return objectives
