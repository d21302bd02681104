"""GLIGEN's grounding: boxes and phrases as tokens of the gated self-attention layers."""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense

from formats.files import InputError
from formats.layouts import Layout, Object, area
from formats.params import is_number
from hcma.sampling.counters import Passes, Range
from hcma.sampling.diffusion import Diffusion, Guide, Sampling, denoise, encode_text, identity

# Null slots take part in the attention, so the number of slots is part of the model.
SLOTS = 30


def grounding_tokens(sd: Diffusion, layouts: Sequence[Layout]) -> dict[str, torch.Tensor]:
    """The U-Net's `gligen` argument for the doubled batch: the first half all null, the second the layouts' objects.

    boxes [2B, 30, 4], masks [2B, 30], positive_embeddings [2B, 30, D]. A layout with more than 30 objects keeps the
    largest by area, and the others are counted as `dropped_boxes`. A phrase's feature is its own pooled text state.
    """
    for row, layout in enumerate(layouts):
        sd.counters.add("dropped_boxes", [row], max(0, len(layout.objects) - SLOTS))
    kept = [largest(layout.objects) for layout in layouts]
    boxes, masks = torch.zeros(2 * len(layouts), SLOTS, 4), torch.zeros(2 * len(layouts), SLOTS)
    for row, things in enumerate(kept, start=len(layouts)):
        for slot, thing in enumerate(things):
            boxes[row, slot] = torch.tensor(thing.box)
            masks[row, slot] = 1
    labels = label_features(
        [[thing.phrase for thing in things] for things in kept], lambda texts: encode_text(sd, texts)[1]
    )
    embeddings = torch.cat([torch.zeros_like(labels), labels])
    return {"boxes": boxes.to(sd.device), "masks": masks.to(sd.device), "positive_embeddings": embeddings}


def label_features(texts: Sequence[Sequence[str]], encode: Callable[[Sequence[str]], torch.Tensor]) -> torch.Tensor:
    """What `encode` gives for the texts in each layout's slots, [B, 30, D], zero where there is none; each is encoded once."""
    different = sorted({text for row in texts for text in row})
    features_LD = encode(different or [""])
    labels = features_LD.new_zeros(len(texts), SLOTS, features_LD.shape[1])
    for row, slots in enumerate(texts):
        for slot, text in enumerate(slots):
            labels[row, slot] = features_LD[different.index(text)]
    return labels


def largest(objects: Sequence[Object]) -> list[Object]:
    """The objects that have a slot: all in their order, or the 30 largest by area."""
    if len(objects) <= SLOTS:
        return list(objects)
    return sorted(objects, key=lambda thing: -area(thing.box))[:SLOTS]


def grounded_calls(tau: float, steps: int, n_calls: int) -> int:
    """How many of the first network calls see the boxes: int(tau * steps) solver steps, as GLIGEN's own script.

    PLMS spends two calls on its first step, so 0.3 of 50 steps are 16 of 51 calls.
    """
    grounded_steps = int(tau * steps)
    return grounded_steps + (n_calls - steps) if grounded_steps else 0


def grounded_passes(tau: float, sampling: Sampling) -> Passes:
    """What `denoise_grounded` takes for an image."""
    grounded = grounded_calls(tau, sampling.steps, sampling.calls)
    return Passes(calls=sampling.calls - grounded, grounded=grounded)


def denoise_grounded(
    sd: Diffusion,
    tokens: dict[str, torch.Tensor],
    noise_BCHW: torch.Tensor,
    text_BTD: torch.Tensor,
    tau: float,
    guide: Guide = identity,
) -> torch.Tensor:
    """`denoise` with the layouts' `grounding_tokens` given to a gated U-Net in the first fraction `tau` of the steps.

    Without the `gligen` argument a gated U-Net skips its fusers, which is plain Stable Diffusion.
    """
    require_gated(sd.unet)
    arguments = {"cross_attention_kwargs": {"gligen": tokens}}

    def unet_kwargs(i: int, n_calls: int) -> dict[str, Any]:
        return arguments if i < grounded_calls(tau, sd.sampling.steps, n_calls) else {}

    with fusers_enabled(sd.unet):
        return denoise(sd, noise_BCHW, text_BTD, guide=guide, unet_kwargs=unet_kwargs)


class Grounding:
    """What the network sees of a batch's boxes from call to call: their tokens first, nothing after, or nothing at all.

    For methods that guide while a gated U-Net sees the boxes: passes of guidance get, through `conditional`, what the sampling
    pass of the same call gets. `tau` as in `denoise_grounded`; None: Stable Diffusion, whatever the U-Net.
    """

    def __init__(self, sd: Diffusion, layouts: Sequence[Layout], tau: float | None) -> None:
        self.sd, self.tau, self.call = sd, tau, 0
        self.tokens, self.calls = {}, 0
        if tau is not None:
            require_gated(sd.unet)
            self.tokens = grounding_tokens(sd, layouts)
            self.calls = grounded_calls(tau, sd.sampling.steps, sd.sampling.calls)

    def conditional(self, rows: torch.Tensor) -> dict[str, Any]:
        """The U-Net's further arguments at the present call for these rows of the batch, under their captions."""
        if self.call >= self.calls:
            return {}
        return {"cross_attention_kwargs": {"gligen": {key: all.chunk(2)[1][rows] for key, all in self.tokens.items()}}}

    def denoise(self, noise_BCHW: torch.Tensor, text_BTD: torch.Tensor, guide: Guide) -> torch.Tensor:
        """latents_BCHW of `denoise`, or of `denoise_grounded`, under the guide."""
        if self.tau is None:
            return denoise(self.sd, noise_BCHW, text_BTD, guide=guide)

        def following(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
            self.call = i
            return guide(latents_BCHW, i, t)

        return denoise_grounded(self.sd, self.tokens, noise_BCHW, text_BTD, self.tau, following)


def guided_passes(
    tau: float | None,
    sampling: Sampling,
    guided: Callable[[Set[int]], Range],
    layers: Callable[[UNet2DConditionModel], Sequence[str]],
) -> Passes:
    """What sampling under a guide takes; `guided` says how many passes of guidance there are before some of the calls."""
    plain = grounded_passes(tau or 0.0, sampling)
    seeing = set(range(plain.grounded))
    return replace(
        plain,
        guided=guided(set(range(sampling.calls)) - seeing),
        guided_grounded=guided(seeing),
        layers=layers,
    )


def is_tau(value: Any) -> bool:
    """Whether a method's `tau` may be this: a share of the steps, or None."""
    return value is None or (is_number(value) and 0 <= value <= 1)


def require_gated(unet: UNet2DConditionModel) -> None:
    """Raise InputError unless the U-Net has gated self-attention, without which boxes have no meaning."""
    found = unet.config.attention_type
    if found != "gated":
        raise InputError(f'this method needs a U-Net with attention_type "gated", found "{found}" in unet/config.json')


@contextmanager
def fusers_enabled(unet: UNet2DConditionModel) -> Iterator[None]:
    """Enable every fuser inside the block, and leave each as it was found."""
    fusers = [module for module in unet.modules() if isinstance(module, GatedSelfAttentionDense)]
    found = [fuser.enabled for fuser in fusers]
    try:
        for fuser in fusers:
            fuser.enabled = True
        yield
    finally:
        for fuser, enabled in zip(fusers, found, strict=True):
            fuser.enabled = enabled
