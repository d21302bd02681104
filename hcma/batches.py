"""Batches for training and validation: noised latents and their targets, decided by a generator alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from hcma.cache import Cache
from hcma.sampling.seeds import seeded

PART = 64  # images whose gradients are taken at a time where a result needs each image alone: 3 GB at the paper's size


@dataclass(frozen=True)
class Batch:
    """Arguments of `Alignment.losses` for one batch."""

    latents_BCHW: torch.Tensor
    t_B: torch.Tensor
    caption_BD: torch.Tensor
    boxes_BM4: torch.Tensor
    labels_BMD: torch.Tensor
    mask_BM: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.latents_BCHW, self.t_B, self.caption_BD, self.boxes_BM4, self.labels_BMD, self.mask_BM

    def split(self, size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        return zip(*(x.split(size) for x in self.tensors()), strict=True)

    def on(self, device: torch.device) -> list[torch.Tensor]:
        return [x.to(device) for x in self.tensors()]


def draw(data: Cache, rows: torch.Tensor, generator: torch.Generator, any_caption: bool) -> Batch:
    """Noised latents and targets of `rows`; noise, t and captions come from `generator` on the CPU."""
    return draw_noise(data, rows, generator, any_caption).batch(data)


@dataclass(frozen=True)
class Drawn:
    """What chance decides of a batch: a timestep, a noise and a caption for each of its images `rows_B`, and from which of
    them the denoiser's caption or boxes are kept; all on the CPU."""

    rows_B: torch.Tensor
    t_B: torch.Tensor
    noise_BCHW: torch.Tensor
    which_B: torch.Tensor
    without_caption_B: torch.Tensor
    without_boxes_B: torch.Tensor

    def batch(self, data: Cache) -> Batch:
        return batch_of(data, self.rows_B, noised(data, self.rows_B, self.t_B, self.noise_BCHW), self.t_B, self.which_B)

    def split(self, size: int) -> Iterator[Drawn]:
        tensors = (self.rows_B, self.t_B, self.noise_BCHW, self.which_B, self.without_caption_B, self.without_boxes_B)
        return (Drawn(*parts) for parts in zip(*(x.split(size) for x in tensors), strict=True))


def draw_noise(
    data: Cache,
    rows: torch.Tensor,
    generator: torch.Generator,
    any_caption: bool,
    caption_dropout: float = 0.0,
    grounding_dropout: float = 0.0,
) -> Drawn:
    """Timesteps, noise, captions and dropouts of `rows`, from `generator` alone; the dropouts' shares change nothing else."""
    t_B = torch.randint(len(data.alphas_cumprod_T), (len(rows),), generator=generator)
    noise = torch.randn(len(rows), *data.latents_NCHW.shape[1:], generator=generator)
    which = (torch.rand(len(rows), generator=generator) * data.counts_N[rows]).long() * any_caption
    dropped = [torch.rand(len(rows), generator=generator) < share for share in (caption_dropout, grounding_dropout)]
    return Drawn(rows, t_B, noise, which, *dropped)


def noised(data: Cache, rows: torch.Tensor, t_B: torch.Tensor, noise_BCHW: torch.Tensor) -> torch.Tensor:
    """q_sample: sqrt(a_t) x + sqrt(1 - a_t) noise."""
    kept = data.alphas_cumprod_T[t_B][:, None, None, None]
    return kept.sqrt() * data.latents_NCHW[rows].float() + (1 - kept).sqrt() * noise_BCHW


def batch_of(
    data: Cache, rows: torch.Tensor, latents_BCHW: torch.Tensor, t_B: torch.Tensor, which_B: torch.Tensor
) -> Batch:
    """A batch with the `which_B`-th caption of every image, its slots cut to those in use."""
    labels = data.labels_NM[rows]
    used = max(1, int((labels >= 0).sum(1).max()))
    labels = labels[:, :used]
    features = data.texts_LD[labels.clamp(min=0)] if len(data.texts_LD) else data.captions_NKD[rows, :1]
    caption = data.captions_NKD[rows, which_B]
    return Batch(latents_BCHW, t_B, caption, data.boxes_NM4[rows, :used], features, (labels >= 0).float())


def rows_of(data: Cache, batch: int, seed: int, step: int) -> torch.Tensor:
    """The images of a step: every epoch a new order, of which what does not fill a batch is left out."""
    epoch, number = divmod(step, len(data.latents_NCHW) // batch)
    order = torch.randperm(len(data.latents_NCHW), generator=seeded(seed, 0, epoch))
    return order[number * batch : (number + 1) * batch]


def caption_mean(data: Cache) -> torch.Tensor:
    """Mean feature of all training captions."""
    there_NK = torch.arange(data.captions_NKD.shape[1]) < data.counts_N[:, None]
    return data.captions_NKD[there_NK].mean(0)


def label_mean(data: Cache) -> torch.Tensor:
    """Mean label feature over all training boxes."""
    found = data.labels_NM[data.labels_NM >= 0]
    return data.texts_LD[found].mean(0) if len(found) else data.captions_NKD.new_zeros(data.captions_NKD.shape[2])
