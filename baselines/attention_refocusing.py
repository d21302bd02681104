"""Attention-Refocusing (Phung et al. 2024) on GLIGEN: words, image cells and grounding tokens shall attend within their boxes.

Loss and loop are those of the official code at 2c265cb; weights, limits, schedule and the gated term are found there alone.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from formats.layouts import Layout
from formats.params import expect_each, is_count, is_number
from hcma.sampling.attention import CROSS, GATED, SELF, Attend, attention_reader, layers_of_side
from hcma.sampling.caption_tokens import Thing, a_thing_a_token, cells_of, named_objects, things_of, visible
from hcma.sampling.counters import Counters, Passes
from hcma.sampling.diffusion import Diffusion, Guide, Sampling, decode, encode_text
from hcma.sampling.grounding import SLOTS, Grounding, guided_passes
from hcma.sampling.token_maps import aggregate, smooth, smoothing_kernel, text_maps

Objects = Sequence[Sequence[Thing]]  # of each image


@dataclass(frozen=True)
class Params:
    """Official values. A step is a network call, but that PLMS's second call belongs to step 0 and is not guided.

    resolution      side of the maps
    tau             share of the steps in which the gated U-Net sees the boxes
    step            an update is step * gradient
    schedule        (steps before, factor of the loss, updates at most)
    dense, stop     every step before `dense` is guided, then every fifth before `stop`
    reached         smallest share of attention inside a box that ends a step's updates
    early           before this step terms count that are within their limits already, and the gated term
    split_names     True, as the official code: every token of a name is an object with the name's boxes
    count_up_twice  True, as the official code: gated maps of upward blocks count twice in their mean
    own_slot        False, as the official code: the gated term spares the token with the object's number; True: the box's own
    """

    resolution: int = 16
    tau: float = 0.3
    step: float = 1.0
    schedule: Sequence[Sequence[int]] = ((2, 4, 2), (5, 4, 6), (10, 3, 3), (20, 3, 2), (1000, 1, 2))
    dense: int = 10
    stop: int = 36
    reached: float = 0.2
    early: int = 15
    split_names: bool = True
    count_up_twice: bool = True
    own_slot: bool = False

    def __post_init__(self) -> None:
        expect_each(self, "resolution dense stop early", is_count, "an integer of at least 0")
        expect_each(self, "step", lambda v: is_number(v) and v > 0, "a positive number")
        expect_each(self, "tau reached", lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
        rows = "rows of a step, a factor and a number of updates, integers of at least 0"
        expect_each(self, "schedule", lambda v: all(len(row) == 3 and all(map(is_count, row)) for row in v), rows)
        expect_each(self, "split_names count_up_twice own_slot", lambda v: type(v) is bool, "true or false")


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and boxes; those that have no cell or no word do not guide."""
    text_BTD, _ = encode_text(sd, [layout.caption for layout in layouts])
    named = enumerate(named_objects(sd, layouts))
    things = [visible(sd.counters, row, things_of(found), [params.resolution]) for row, found in named]
    objects = [a_thing_a_token(found) if params.split_names else found for found in things]
    grounding, layers = Grounding(sd, layouts, params.tau), layers_of(sd.unet, params)
    attend = attention_reader(sd, text_BTD, layers, grounding.conditional)
    guide = make_guide(attend, layers, objects, params, sd.sampling.duplicates, sd.counters)
    return decode(sd, grounding.denoise(noise_BCHW, text_BTD, guide))


def layers_of(unet: UNet2DConditionModel, params: Params) -> list[str]:
    """Names of the layers whose maps are used, those of the middle aside."""
    found = [name for kind in (CROSS, SELF, GATED) for name in layers_of_side(unet, params.resolution, kind)]
    return [name for name in found if not name.startswith("mid")]


def at_step(s: int, params: Params) -> tuple[int, int]:
    """Factor of the loss and updates at most of solver step s."""
    guided = s < params.dense or (s < params.stop and s % 5 == 0)
    return next(((factor, most) for end, factor, most in params.schedule if s < end and guided), (0, 0))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes: how soon its words are attended to depends on it."""
    calls = [i for i in range(sampling.calls) if i not in sampling.duplicates]
    most = {i: at_step(s, params)[1] for s, i in enumerate(calls)}

    def of(some: Set[int]) -> tuple[int, int]:
        return sum(min(1, most.get(i, 0)) for i in some), sum(most.get(i, 0) for i in some)

    return guided_passes(params.tau, sampling, of, lambda unet: layers_of(unet, params))


def make_guide(
    attend: Attend, layers: Sequence[str], objects: Objects, params: Params, skip: range, counters: Counters
) -> Guide:
    """The guide of a batch whose captions name `objects`, from maps of `layers`; without an object an image is GLIGEN's."""
    there = torch.tensor([bool(found) for found in objects])

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        s = i - len([one for one in skip if one < i])
        factor, most = (0, 0) if i in skip else at_step(s, params)
        latents, rows = latents_BCHW, there.nonzero().flatten().to(latents_BCHW.device)
        for _ in range(most if len(rows) else 0):
            with torch.enable_grad():
                moving, present = latents[rows].detach().requires_grad_(), [objects[row] for row in rows.tolist()]
                *terms, least_R = losses(attend(moving, t, rows), layers, present, s, params)
                loss_R = factor * (terms[0] + terms[1] + 3 * terms[2])
                (gradient,) = torch.autograd.grad(loss_R.sum(), moving)
            latents = latents.index_copy(0, rows, moving.detach() - params.step * gradient)
            for name in ("guidance_forwards", "guidance_backwards"):
                counters.add(name, rows.tolist())
            rows = rows[(least_R < params.reached) & ((loss_R.detach() > 0.1) | (s >= params.dense))]
            if not len(rows):
                break
        return latents

    return guide


def losses(
    maps: Sequence[torch.Tensor], layers: Sequence[str], objects: Objects, s: int, params: Params
) -> tuple[torch.Tensor, ...]:
    """Cross-, self- and gated term at solver step s, and the smallest share of attention inside a box: [R] each.

    The maps are those of the first of `layers`: gated ones stand last, and are not read where no boxes are seen.
    """
    crossed, selfs, gated = ([n for n in range(len(maps)) if layers[n].endswith(kind)] for kind in (CROSS, SELF, GATED))
    gated += [n for n in gated if params.count_up_twice and layers[n].startswith("up")]
    cross_RYXK, found = text_maps(aggregate([maps[n] for n in crossed])), []
    for r, things in enumerate(objects):
        words, least = refocus_words(cross_RYXK[r], things, s < params.early)
        cells = torch.stack([refocus_cells(maps[n][r], things) for n in selfs]).mean(0)
        tokens = torch.zeros_like(cells)
        if gated and s < params.early:
            mean_HQK = torch.stack([maps[n][r] for n in gated]).mean(0)
            tokens = refocus_tokens(mean_HQK, things, params.resolution, params.own_slot)
        found.append(torch.stack([words, cells, tokens, least * len(things)]) / len(things))
    return torch.stack(found).unbind(1)


def refocus_words(maps_YXK: torch.Tensor, things: Sequence[Thing], early: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed over tokens: what they lack inside each of their boxes, have in the others' and outside all; the least peak."""
    mask_NP, owner_N = cells_of(things, maps_YXK.shape[0], maps_YXK)
    named = [(o, position) for o, thing in enumerate(things) for position in thing.positions]
    images_1JYX = maps_YXK[..., [position - 1 for _, position in named]].movedim(-1, 0)[None]
    image_JP = smooth(images_1JYX, smoothing_kernel(3, 0.5))[0].flatten(1)
    own_JN = torch.tensor([o for o, _ in named]).to(owner_N)[:, None] == owner_N
    own_JP = (own_JN.to(mask_NP) @ mask_NP) > 0
    peak_JN = (image_JP[:, None] * mask_NP).amax(-1).where(mask_NP.any(1), 1.0)
    other_JN = (image_JP.masked_fill(own_JP, 0)[:, None] * mask_NP).amax(-1)
    peaks, others, within = peak_JN.detach(), other_JN.detach(), float(early)
    lack_JN = ((peaks < 0.2) * (1 - within) + within + 5 * (peaks < 0.1)) * (1 - peak_JN)
    gain_JN = ((others > 0.1) * (1 - within) + within + 3 * (others > 0.15)) * other_JN
    around_J = image_JP.masked_fill(mask_NP.any(0), 0).amax(-1) * own_JN.sum(1) / 2
    return lack_JN.where(own_JN, gain_JN).sum() + around_J.sum(), peaks[own_JN].min()


def refocus_cells(map_HPP: torch.Tensor, things: Sequence[Thing]) -> torch.Tensor:
    """Summed over the boxes: the share of attention that their cells pay to cells outside."""
    mask_NP, _ = cells_of(things, round(map_HPP.shape[1] ** 0.5), map_HPP)
    return (_mean_in(mask_NP, map_HPP) * (1 - mask_NP)).sum(-1).mean(0).sum()


def refocus_tokens(map_HQK: torch.Tensor, things: Sequence[Thing], side: int, own_slot: bool) -> torch.Tensor:
    """Summed over the boxes: the largest attention that their cells pay to a grounding token that is not theirs."""
    mask_NP, owner_N = cells_of(things, side, map_HQK)
    theirs_N = owner_N.new_tensor([slot for thing in things for slot in thing.slots]) if own_slot else owner_N
    paid_HNS = _mean_in(mask_NP, map_HQK[:, : side**2, -SLOTS:])
    return paid_HNS.masked_fill(theirs_N[:, None] == torch.arange(SLOTS).to(owner_N), 0).amax(-1).mean(0).sum()


def _mean_in(mask_NP: torch.Tensor, map_HPK: torch.Tensor) -> torch.Tensor:
    """Mean over the queries in each box; 0, where the official code has no number, for a box without a cell: [H, N, K]."""
    return torch.einsum("np,hpk->hnk", mask_NP / mask_NP.sum(1, keepdim=True).clamp(min=1), map_HPK)
