"""Stable Diffusion (Rombach et al. 2022): the caption alone; boxes are ignored."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from formats.layouts import Layout
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Diffusion, Sampling, decode, denoise, encode_text


@dataclass(frozen=True)
class Params:
    """Stable Diffusion has none of its own."""


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions."""
    text_BTD, _ = encode_text(sd, [layout.caption for layout in layouts])
    return decode(sd, denoise(sd, noise_BCHW, text_BTD))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What every image takes."""
    return Passes(calls=sampling.calls)
