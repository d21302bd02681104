"""Which text tokens name which boxes: the policy of all methods that guide by cross-attention.

An object's `span`, decided once in the data, is turned into the positions of the prompt's tokens that lie in it, the
start token being 0. What lies beyond the text encoder's length is cut as the prompt is; an object without a token is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from formats.layouts import Box, Layout
from hcma.sampling.diffusion import Diffusion
from hcma.sampling.grounding import largest


@dataclass(frozen=True)
class Named:
    """A box and the positions of the tokens that name it; the last one belongs to the head noun."""

    phrase: str
    box: Box
    positions: tuple[int, ...]


def named_objects(sd: Diffusion, layouts: Sequence[Layout]) -> list[list[Named]]:
    """Of each layout the objects that its prompt names, in their order; at most the 30 largest boxes, as GLIGEN.

    Counts, for each image, `boxes`, `boxes_without_token` and `images_without_token` in the tally of the work.
    """
    found = []
    for row, layout in enumerate(layouts):
        kept = largest(layout.objects)
        offsets = sd.tokenizer(layout.caption, return_offsets_mapping=True, verbose=False).offset_mapping
        named = [Named(thing.phrase, thing.box, _positions(sd, offsets, thing.span)) for thing in kept if thing.span]
        found.append([thing for thing in named if thing.positions])
        sd.counters.add("boxes", [row], len(kept))
        sd.counters.add("boxes_without_token", [row], len(kept) - len(found[-1]))
        sd.counters.add("images_without_token", [row], int(not found[-1]))
    return found


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
