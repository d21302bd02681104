"""Judges: a network that gives an image one number, by its caption. Each is a module of evaluation.networks, or one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from evaluation.extractors import CPU, ImageBatch, Loaded, batched, built, runner, stacked


@dataclass(frozen=True)
class Judge(Loaded):
    """resize, prepare: as an Extractor's. `score(inputs_BSS3, captions)`: a number an image [B], more being better; inputs are
    on the device. `cut(captions)`: which captions, bool [N], are longer than the `context` tokens that it reads.
    """

    resize: str
    prepare: Callable[[np.ndarray], np.ndarray]
    score: Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
    cut: Callable[[Sequence[str]], np.ndarray] | None = None
    context: int | None = None

    def scores(self, images: ImageBatch, captions: Sequence[str]) -> np.ndarray:
        """float32 [N] of uint8 images [H, W, 3] of any sizes."""
        pairs = list(zip(images, captions, strict=True))
        return batched(
            lambda some: self.score(stacked([self.prepare(one) for one, _ in some]), [text for _, text in some])[
                :, None
            ],
            pairs,
        ).reshape(-1)


def load_judge(stanza: dict[str, Any], device: torch.device = CPU, key: str = "") -> Judge:
    """The judge of a config stanza on a device; raises InputError for another kind or weights not as promised."""
    made = built("judge", stanza, device, key)
    score = runner(made.score, made.precision, device)
    return replace(made, score=lambda inputs, captions: score(inputs, captions).float())
