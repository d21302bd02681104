"""GLIGEN (Li et al. 2023): boxes and phrases through gated self-attention in the first part of the sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from formats.layouts import Layout
from formats.params import expect, is_number
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Diffusion, Sampling, decode, encode_text
from hcma.sampling.grounding import denoise_grounded, grounded_passes, grounding_tokens


@dataclass(frozen=True)
class Params:
    """`tau`: fraction of the steps that see the boxes (scheduled sampling); 0.3 in the official script."""

    tau: float = 0.3

    def __post_init__(self) -> None:
        expect("tau", self.tau, lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and boxes."""
    text_BTD, _ = encode_text(sd, [layout.caption for layout in layouts])
    return decode(sd, denoise_grounded(sd, grounding_tokens(sd, layouts), noise_BCHW, text_BTD, params.tau))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What every image takes."""
    return grounded_passes(params.tau, sampling)
