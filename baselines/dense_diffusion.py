"""DenseDiffusion (Kim et al. 2023): the scores of attention are raised within a segment and lowered elsewhere; no gradient.

Modulation, text and schedule are those of the official code at 54a2ea6. Its segments part the canvas; boxes do so by the
settings `background` and `overlap`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from formats.layouts import Layout
from formats.params import expect, expect_each, is_number
from hcma.sampling.attention import changing
from hcma.sampling.caption_tokens import Thing, append_missing, named_objects, things_of, visible
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Diffusion, Sampling, decode, denoise, encode_text, make_scheduler
from hcma.sampling.token_maps import inside

BACKGROUNDS = ("rest", "silent", "none")
OVERLAPS = ("smallest", "literal", "clamp")


@dataclass(frozen=True)
class Params:
    """Official values; the official solver is DDIM (the stanza's `sampling`).

    creg, sreg      strength in cross- and in self-attention
    sizereg         how much less large segments are modulated: a cell's factor is 1 - sizereg * its segment's share
    share           share of the steps that are modulated
    power           the strength falls with (t / 1000) to this power
    replace_text    True, as the official code: a name's text states are those of the name encoded alone
    background      cells of no box; rest: a segment, whose words are the caption's that name no box; silent: a segment without
                    words; none: of no segment, so that every score there is lowered
    overlap         cells of several boxes; smallest: of the smallest alone, so that segments part the canvas; literal: of all,
                    where the factor may become negative, as the official code's would; clamp: of all, with one of at least 0
    append_missing  False: boxes that the caption does not name are left out; True: they are named after the caption
    """

    creg: float = 1.0
    sreg: float = 0.3
    sizereg: float = 1.0
    share: float = 0.3
    power: float = 5.0
    replace_text: bool = True
    background: str = "rest"
    overlap: str = "smallest"
    append_missing: bool = False

    def __post_init__(self) -> None:
        expect_each(self, "creg sreg sizereg power", lambda v: is_number(v) and v >= 0, "a number of at least 0")
        expect_each(self, "share", lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
        expect_each(self, "replace_text append_missing", lambda v: type(v) is bool, "true or false")
        expect("background", self.background, lambda v: v in BACKGROUNDS, f"one of {', '.join(BACKGROUNDS)}")
        expect("overlap", self.overlap, lambda v: v in OVERLAPS, f"one of {', '.join(OVERLAPS)}")


@dataclass(frozen=True)
class Segments:
    """0/1 the cells of an image's segments, layouts_SYX, and the segment each text token belongs to, token_T, -1 for none."""

    layouts_SYX: torch.Tensor
    token_T: torch.Tensor


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and of the boxes that these name, where they cover a cell."""
    prompts = append_missing(layouts) if params.append_missing else layouts
    text_BTD, _ = encode_text(sd, [prompt.caption for prompt in prompts])
    named, side = enumerate(named_objects(sd, prompts)), noise_BCHW.shape[-1]
    things = [visible(sd.counters, row, things_of(found), [side]) for row, found in named]
    if params.replace_text:
        text_BTD = torch.stack([replaced(sd, states, found) for states, found in zip(text_BTD, things, strict=True)])
    words = [len(sd.tokenizer(prompt.caption, verbose=False).input_ids) - 2 for prompt in prompts]
    segments = [
        make_segments(found, side, text_BTD.shape[1], min(count, sd.prompt_limit - 2), params, sd.device)
        if found
        else None
        for found, count in zip(things, words, strict=True)
    ]
    return decode(sd, denoise_dense(sd, segments, noise_BCHW, text_BTD, params))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What every image takes; a modulated call takes longer than another, since its scores are spelt out."""
    return Passes(calls=sampling.calls)


def denoise_dense(
    sd: Diffusion,
    segments: Sequence[Segments | None],
    noise_BCHW: torch.Tensor,
    text_BTD: torch.Tensor,
    params: Params,
) -> torch.Tensor:
    """`denoise` with modulated attention in the first steps; an image without segments is Stable Diffusion's."""
    timesteps = make_scheduler(sd).timesteps.tolist()

    def unet_kwargs(i: int, n_calls: int) -> dict[str, Any]:
        # As the official code counts: a step is modulated while its number is below share * steps; PLMS's first has two calls.
        if max(0, i - (n_calls - sd.sampling.steps)) >= params.share * sd.sampling.steps or not any(segments):
            return {}
        strength = (timesteps[i] / 1000) ** params.power
        changes = [partial(modulate, one, strength, params) if one else None for one in segments]
        return {"cross_attention_kwargs": {"changes": changes}}

    with changing(sd):
        return denoise(sd, noise_BCHW, text_BTD, unet_kwargs=unet_kwargs)


def modulate(
    segments: Segments, strength: float, params: Params, scores_HQK: torch.Tensor, crossed: bool
) -> torch.Tensor:
    """Scores on their way to the query's largest where the key is of its segment, and to its smallest elsewhere."""
    cells_SQ = on_grid(segments.layouts_SYX, math.isqrt(scores_HQK.shape[1])).flatten(1).to(scores_HQK)
    same_QQ = cells_SQ.T @ cells_SQ
    size_Q1 = 1 - params.sizereg * same_QQ.mean(1, keepdim=True)
    if params.overlap == "clamp":
        size_Q1 = size_Q1.clamp(min=0)
    within_QK = same_QQ > 0
    if crossed:
        within_QK = (cells_SQ[segments.token_T].T > 0) & (segments.token_T >= 0)
    factor = (params.creg if crossed else params.sreg) * strength * size_Q1
    up, down = scores_HQK.amax(-1, True) - scores_HQK, scores_HQK - scores_HQK.amin(-1, True)
    return scores_HQK + factor * torch.where(within_QK, up, -down)


def on_grid(layouts_SYX: torch.Tensor, side: int) -> torch.Tensor:
    """Layouts on a coarser grid: the nearest cell, which is the first."""
    every = layouts_SYX.shape[-1] // side
    return layouts_SYX[:, ::every, ::every]


def make_segments(
    things: Sequence[Thing], side: int, tokens: int, words: int, params: Params, device: Any = None
) -> Segments:
    """The segments of an image on a grid of side x side, the background's first; of `tokens` text states `words` are words."""
    layouts = [inside(thing.boxes, side) for thing in things]
    if params.overlap == "smallest":
        taken = torch.zeros(side, side)
        for n in sorted(range(len(layouts)), key=lambda n: float(layouts[n].sum())):
            layouts[n] = layouts[n] * (1 - taken)
            taken = taken.maximum(layouts[n])
    first = int(params.background != "none")
    token_T = torch.full((tokens,), -1)
    if params.background == "rest":
        token_T[1 : 1 + words] = 0
    for number, thing in enumerate(things, start=first):
        token_T[list(thing.positions)] = number
    outside = [1 - torch.stack(layouts).amax(0)] * first
    return Segments(torch.stack([*outside, *layouts]).to(device), token_T.to(device))


def replaced(sd: Diffusion, states_TD: torch.Tensor, things: Sequence[Thing]) -> torch.Tensor:
    """A caption's text states, where a thing is named with those of its name encoded alone; later things overwrite earlier."""
    states_TD = states_TD.clone()
    for thing in things:
        own_TD = encode_text(sd, [thing.words])[0][0]
        states_TD[list(thing.positions)] = own_TD[1 : 1 + len(thing.positions)]
    return states_TD
