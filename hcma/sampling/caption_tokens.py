"""Which text tokens name which boxes: the policy of all methods that guide by cross-attention.

An object's `span`, decided once in the data, is turned into the positions of the prompt's tokens that lie in it, the
start token being 0. What lies beyond the text encoder's length is cut as the prompt is; an object without a token is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from formats.layouts import Box, Layout, Object
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import Diffusion
from hcma.sampling.grounding import largest
from hcma.sampling.token_maps import inside


@dataclass(frozen=True)
class Named:
    """A box and the positions of the tokens that name it; the last one belongs to the head noun.

    slot   the box's number among the grounding tokens of a gated U-Net
    words  what the caption calls it
    """

    phrase: str
    box: Box
    positions: tuple[int, ...]
    slot: int = 0
    words: str = ""


@dataclass(frozen=True)
class Thing:
    """All boxes of one phrase, with the slot of each, and the tokens of its last mention that has a box."""

    positions: tuple[int, ...]
    boxes: tuple[Box, ...]
    slots: tuple[int, ...] = ()
    words: str = ""


def things_of(named: Sequence[Named]) -> list[Thing]:
    """One thing a phrase, in the order of the phrases."""
    found = []
    for phrase, last in {one.phrase: one for one in named}.items():
        alike = [one for one in named if one.phrase == phrase]
        boxes, slots = tuple(one.box for one in alike), tuple(one.slot for one in alike)
        found.append(Thing(last.positions, boxes, slots, last.words))
    return found


def named_objects(sd: Diffusion, layouts: Sequence[Layout]) -> list[list[Named]]:
    """Of each layout the objects that its prompt names, in their order; at most the 30 largest boxes, as GLIGEN.

    Counts, for each image, `boxes`, `boxes_without_token` and `images_without_token` in the tally of the work.
    """
    found = []
    for row, layout in enumerate(layouts):
        kept = largest(layout.objects)
        offsets = sd.tokenizer(layout.caption, return_offsets_mapping=True, verbose=False).offset_mapping
        named = [_named(sd, thing, slot, layout.caption, offsets) for slot, thing in enumerate(kept) if thing.span]
        found.append([thing for thing in named if thing.positions])
        sd.counters.add("boxes", [row], len(kept))
        sd.counters.add("boxes_without_token", [row], len(kept) - len(found[-1]))
        sd.counters.add("images_without_token", [row], int(not found[-1]))
    return found


def a_thing_a_token(things: Sequence[Thing]) -> list[Thing]:
    """Every token of a thing as a thing of its own, with the same boxes."""
    return [replace(thing, positions=(position,)) for thing in things for position in thing.positions]


def visible(
    counters: Counters, row: int, things: Sequence[Thing], sides: Sequence[int], drop: bool = True
) -> list[Thing]:
    """Count the things of an image whose boxes cover no cell of any grid of these sides; with `drop` all such boxes go."""
    kept = []
    for thing in things:
        seen = [n for n, box in enumerate(thing.boxes) if any(inside([box], side).any() for side in sides)]
        boxes, slots = (
            tuple(thing.boxes[n] for n in seen),
            tuple(slot for n, slot in enumerate(thing.slots) if n in seen),
        )
        kept += [replace(thing, boxes=boxes, slots=slots)] if seen else []
    counters.add("objects_without_cell", [row], len(things) - len(kept))
    return kept if drop else list(things)


def cells_of(things: Sequence[Thing], side: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells of every box of some things, 0/1 [N, P], and the number of the thing that it belongs to [N]; as `like`."""
    boxes = [(o, inside([box], side).flatten()) for o, thing in enumerate(things) for box in thing.boxes]
    return torch.stack([cells for _, cells in boxes]).to(like), torch.tensor([o for o, _ in boxes], device=like.device)


def _named(sd: Diffusion, thing: Object, slot: int, caption: str, offsets: Sequence[tuple[int, int]]) -> Named:
    span = thing.span or (0, 0)
    return Named(thing.phrase, thing.box, _positions(sd, offsets, span), slot, caption[slice(*span)])


def _positions(sd: Diffusion, offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> tuple[int, ...]:
    """Positions of the tokens that overlap the span; start and end tokens, whose offsets are empty, never do."""
    last = sd.prompt_limit - 2
    return tuple(
        position
        for position, (start, end) in enumerate(offsets[: last + 1])
        if start < span[1] and end > span[0] and end > start
    )


def append_missing(layouts: Sequence[Layout]) -> list[Layout]:
    """The other policy: boxes that the caption does not name are named after it, "..., a dog, a cat", once a phrase."""
    return [_appended(layout) for layout in layouts]


def _appended(layout: Layout) -> Layout:
    caption, spans = layout.caption.rstrip(), {}
    for thing in layout.objects:
        if thing.span is None and thing.phrase not in spans:
            caption += f", a {thing.phrase}" if caption else f"a {thing.phrase}"
            spans[thing.phrase] = (len(caption) - len(thing.phrase), len(caption))
    objects = tuple(replace(thing, span=thing.span or spans[thing.phrase]) for thing in layout.objects)
    return replace(layout, caption=caption, objects=objects)
