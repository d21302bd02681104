"""BoxDiff (Xie et al. 2023), on Stable Diffusion: a box's word shall be attended to inside the box, and at its borders.

Loss and loop are those of the official code at b0d5d3b.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from formats.layouts import Box, Layout
from formats.params import expect, expect_each, is_count, is_number
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
    """The values of the official configuration; those it shares with Attend-and-Excite stand in Excitation.

    share        P: share of the cells inside (and outside) a box whose strongest enter the inner (and outer) term
    window       L: cells to each side of a box's edges that enter the corner term
    refine       True as in the configuration; the official README's first example switches it off
    stale_terms  True, as the official code: the update after a refinement follows the inner terms alone
    small_boxes  False, as the official code: a box under 1 / share cells has no inner term; True: it has its strongest cell
    union        False, as the official code: one entry a box; True: one entry a phrase, with its boxes' union
    """

    share: float = 0.2
    window: int = 1
    refine: bool = True
    stale_terms: bool = True
    small_boxes: bool = False
    union: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect("share", self.share, lambda v: is_number(v) and 0 < v <= 1, "a number above 0, at most 1")
        expect("window", self.window, is_count, "an integer of at least 0")
        expect_each(self, "refine stale_terms small_boxes union", lambda v: type(v) is bool, "true or false")


# One entry of the loss: the token's position and the boxes that it stands for.
Entry = tuple[int, list[Box]]


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and of the boxes that these name."""
    prompts = append_missing(layouts) if params.append_missing else layouts
    text_BTD, _ = encode_text(sd, [prompt.caption for prompt in prompts])
    entries = [make_entries(things, params.union) for things in named_objects(sd, prompts)]
    positions_BM = pad_positions([[position for position, _ in row] for row in entries])
    areas = make_areas([[boxes for _, boxes in row] for row in entries], params).to(sd.device)
    grounding = Grounding(sd, layouts, params.tau)
    guide = excite(sd, text_BTD, positions_BM.to(sd.device), box_terms(areas, params), loop_of(params), grounding)
    return decode(sd, grounding.denoise(noise_BCHW, text_BTD, guide))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes; its refinements depend on it."""
    return excited_passes(loop_of(params), sampling)


def loop_of(params: Params) -> Excitation:
    """The settings of the loop: without refinements no call has a threshold."""
    return params if params.refine else replace(params, thresholds=())


def make_entries(things: Sequence[Named], union: bool) -> list[Entry]:
    """An entry for every thing, or with `union` for every phrase; its token is the head noun's last."""
    if not union:
        return [(thing.positions[-1], [thing.box]) for thing in things]
    heads = {thing.phrase: thing.positions[-1] for thing in things}
    return [(head, [thing.box for thing in things if thing.phrase == phrase]) for phrase, head in heads.items()]


@dataclass(frozen=True)
class Areas:
    """Per image and entry, 0/1: cells inside, and the columns and rows near the box's edges; entries past the last are 0.

    inner_BM and outer_BM are how many of the strongest cells inside and outside count; there_BM tells entries from filling.
    """

    inside_BMYX: torch.Tensor
    columns_BMX: torch.Tensor
    rows_BMY: torch.Tensor
    inner_BM: torch.Tensor
    outer_BM: torch.Tensor
    there_BM: torch.Tensor

    def to(self, device: torch.device) -> "Areas":
        """The same on another device."""
        return Areas(*(getattr(self, key.name).to(device) for key in fields(self)))

    def of(self, rows: torch.Tensor) -> "Areas":
        """Those of some images."""
        return Areas(*(getattr(self, key.name)[rows] for key in fields(self)))


def make_areas(boxes: Sequence[Sequence[Sequence[Box]]], params: Params) -> Areas:
    """Areas of the boxes of every entry of every image, on the grid of the attention maps."""
    side, longest = params.resolution, max([1, *map(len, boxes)])
    shape = (len(boxes), longest)
    inside, there = torch.zeros(*shape, side, side), torch.zeros(*shape)
    columns, rows = torch.zeros(*shape, side), torch.zeros(*shape, side)
    for b, entries in enumerate(boxes):
        for m, entry in enumerate(entries):
            there[b, m] = 1
            for x0, y0, x1, y1 in (cells(box, side) for box in entry):
                inside[b, m, y0:y1, x0:x1] = 1
                columns[b, m] = torch.maximum(columns[b, m], _near(side, (x0, x1), params.window))
                rows[b, m] = torch.maximum(rows[b, m], _near(side, (y0, y1), params.window))
    area = inside.sum((2, 3)).double()
    inner, outer = (params.share * area).floor(), (params.share * (side**2 - area)).floor()
    if params.small_boxes:
        inner = inner.maximum((area > 0).double())
    return Areas(inside, columns, rows, inner * there, outer * there, there)


def cells(box: Box, side: int) -> tuple[int, int, int, int]:
    """First and past-the-last columns and rows of a box: rounded half to even as the official code does, kept on the grid."""
    x0, y0, x1, y1 = (min(max(round(edge * side), 0), side) for edge in box)
    return x0, y0, x1, y1


def _near(side: int, edges: tuple[int, int], window: int) -> torch.Tensor:
    """1 for the lines within `window` of either edge; the second edge is the first line outside."""
    line = torch.arange(side)
    return torch.stack([(line - edge).abs() <= window for edge in edges]).any(0).float()


def box_terms(areas: Areas, params: Params) -> ImageObjectives:
    """The official loss of each image: the sum over its entries of inner, outer and corner terms; the largest inner term is
    tested and refined."""

    def objectives(images_RMYX: torch.Tensor, rows: torch.Tensor) -> Objectives:
        own = areas.of(rows)
        inner_RM, outer_RM, corner_RM = terms(images_RMYX, own)
        inner_R = inner_RM.sum(1)
        regular_R = inner_R + (outer_RM + corner_RM).sum(1)
        worst_R = inner_RM.max(1).values
        return Objectives(worst_R, worst_R, regular_R, after=inner_R if params.stale_terms else regular_R)

    return objectives


def terms(images_RMYX: torch.Tensor, areas: Areas) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inner, outer and corner terms [R, M] of the entries' token images; 0 for filling."""
    inside = areas.inside_BMYX.to(images_RMYX)
    inner = (1 - _strongest(images_RMYX * inside, areas.inner_BM)).relu() * (areas.inner_BM > 0)
    outer = _strongest(images_RMYX * (1 - inside), areas.outer_BM).relu()
    corner = sum(
        (near.to(images_RMYX) * (images_RMYX.max(axis).values - inside.max(axis).values).abs()).mean(-1)
        for near, axis in ((areas.columns_BMX, 2), (areas.rows_BMY, 3))
    )
    return inner, outer, corner * areas.there_BM.to(images_RMYX)


def _strongest(images_RMYX: torch.Tensor, counts_RM: torch.Tensor) -> torch.Tensor:
    """Mean of the `counts` largest cells of each image, 0 where that is none: [R, M]."""
    ranked = images_RMYX.flatten(2).sort(-1, descending=True).values
    among = torch.arange(ranked.shape[-1], device=ranked.device) < counts_RM[..., None]
    return (ranked * among).sum(-1) / counts_RM.clamp(min=1).to(ranked)
