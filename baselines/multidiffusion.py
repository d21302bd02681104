"""MultiDiffusion (Bar-Tal et al. 2023) with regions: every box is denoised under its own prompt, and all are averaged.

As the official region_based.py (omerbt/MultiDiffusion, acee950) but for what the stanza's `source` says. The average is taken
of the predicted noise. For DDIM, the official solver, that is the official average of the denoised latents, since the views of
an image agree in every cell where they count.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from formats.layouts import Box, Layout
from formats.params import expect, is_count
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import (
    Diffusion,
    Sampling,
    decode,
    encode_text,
    image_generator,
    iterate,
    make_scheduler,
    noise_share,
    predict_noise,
    with_negative,
)
from hcma.sampling.grounding import largest


@dataclass(frozen=True)
class Params:
    """Settings of the views of boxes.

    bootstrap  first calls in which a view has a plain colour outside its box, and how many colours an image draws for that
    template   a view's prompt
    """

    bootstrap: int = 20
    template: str = "a {label}"

    def __post_init__(self) -> None:
        expect("bootstrap", self.bootstrap, is_count, "an integer of at least 0")
        expect("template", self.template, lambda v: isinstance(v, str) and "{label}" in v, "text with {label}")


@dataclass(frozen=True)
class View:
    """One prompt for some cells (mask_HW) of the image in a row of the batch; `boxed` unless it is the caption's."""

    row: int
    prompt: str
    mask_HW: torch.Tensor
    boxed: bool = True


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W]; the caption rules where no box is."""
    side = noise_BCHW.shape[-1]
    views = [view for row, layout in enumerate(layouts) for view in make_views(row, layout, side, params)]
    rows_V = torch.tensor([view.row for view in views], device=sd.device)
    masks_V1HW = torch.stack([view.mask_HW for view in views])[:, None].to(sd.device)
    boxed_V111 = torch.tensor([view.boxed for view in views], device=sd.device)[:, None, None, None]
    texts_VTD, _ = encode_text(sd, [view.prompt for view in views])
    texts_2VTD = with_negative(sd, texts_VTD)
    plain_BKCHW, choices_KV = draw_backgrounds(sd, layouts, views, params.bootstrap)
    noise_VCHW = noise_BCHW.to(sd.device)[rows_V]
    scheduler = make_scheduler(sd)

    def predict(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        seen_VCHW = latents_BCHW[rows_V]
        if i < params.bootstrap:
            share = noise_share(scheduler, i)
            around_VCHW = (1 - share) ** 0.5 * plain_BKCHW[rows_V, choices_KV[i]] + share**0.5 * noise_VCHW
            seen_VCHW = torch.where((masks_V1HW == 0) & boxed_V111, around_VCHW, seen_VCHW)
        sd.counters.add("unet_forwards", rows_V.tolist(), 2)
        epsilon_VCHW = predict_noise(sd, seen_VCHW, t, texts_2VTD)
        summed = torch.zeros_like(latents_BCHW).index_add_(0, rows_V, epsilon_VCHW * masks_V1HW)
        return summed / torch.zeros_like(latents_BCHW[:, :1]).index_add_(0, rows_V, masks_V1HW)

    with torch.no_grad():
        latents = iterate(scheduler, predict, noise_BCHW.to(sd.device) * scheduler.init_noise_sigma)
    return decode(sd, latents)


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes, if a cell is left to its caption; a box without a cell takes nothing."""
    return Passes(calls=sampling.calls, each_box=sampling.calls, encoded=params.bootstrap)


def make_views(row: int, layout: Layout, side: int, params: Params) -> list[View]:
    """A view for every box that has a cell, and the caption's view of the cells that are left, if any."""
    things = [(thing, cells(thing.box, side)) for thing in largest(layout.objects)]
    boxes = [View(row, params.template.format(label=thing.phrase), mask) for thing, mask in things if mask.any()]
    left = 1 - torch.stack([torch.zeros(side, side), *(view.mask_HW for view in boxes)]).amax(0)
    return [View(row, layout.caption, left, boxed=False), *boxes] if left.any() else boxes


def cells(box: Box, side: int) -> torch.Tensor:
    """1 for the cells [side, side] whose centre lies in the box."""
    centre = (torch.arange(side) + 0.5) / side
    x0, y0, x1, y1 = box
    return (((centre >= y0) & (centre < y1))[:, None] & ((centre >= x0) & (centre < x1))).float()


@torch.no_grad()
def draw_backgrounds(
    sd: Diffusion, layouts: Sequence[Layout], views: Sequence[View], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents [B, K, C, H, W] of K = count plain canvases an image, zeros where it has no box, and which of them each
    view sees at each of the first K calls [K, V].

    Colours are uniform in RGB, latents samples of the autoencoder's posterior, choices with replacement; all are drawn from
    the image's own generator, so that they depend on (seed, layout) alone.
    """
    numbers, boxed = Counter(view.row for view in views), {view.row for view in views if view.boxed}
    plain_BKCHW = torch.zeros(len(layouts), count, *sd.latent_shape_CHW, device=sd.device)
    choices = []
    for row, layout in enumerate(layouts):
        rng = image_generator(sd.sampling.seed, layout, "background")
        choices.append(torch.randint(max(count, 1), (count, numbers[row]), generator=rng))
        colours_K3 = torch.rand(count if row in boxed else 0, 3, generator=rng).to(plain_BKCHW.device)
        for number, colour_3 in enumerate(2 * colours_K3 - 1):
            canvas_1CHW = colour_3[None, :, None, None].expand(1, 3, sd.size, sd.size)
            posterior = sd.vae.encode(canvas_1CHW).latent_dist
            plain_BKCHW[row, number] = posterior.sample(generator=rng)[0] * sd.vae.config.scaling_factor
    return plain_BKCHW, torch.cat(choices, dim=1).to(plain_BKCHW.device)
