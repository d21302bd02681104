"""Stages `features` and `scorer`: the networks behind the miniature's Frechet distance and CLIP score.

No method ever sees them; their seeds and their training data are their own.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluation.networks.open_clip import build_clip, clip_tokenizer
from evaluation.networks.small_features import SmallFeatures
from workflow.miniature.autoencoder import pixels
from workflow.miniature.captions import captions
from workflow.miniature.text import SHAPES, kinds, labelled_crops
from workflow.miniature.training import Run, State, train
from workflow.miniature.world import COLOURS, TEXTURES, TONES, draw, scene

BATCH = 48


class Census(nn.Module):
    """The feature network under training: linear readings of its 64 features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = SmallFeatures()
        self.kinds = nn.Linear(64, len(SHAPES) * len(COLOURS))
        self.tone = nn.Linear(64, len(TONES))
        self.texture = nn.Linear(64, len(TEXTURES))
        self.shape = nn.Linear(64, len(SHAPES))


def train_features(run: Run) -> tuple[nn.Module, State]:
    """Count kinds, name tone and texture of whole pictures, name the shape of cut-out objects."""
    return train(run, Census(), _census_loss, _census_loss)


def _census_loss(model: nn.Module, rng: np.random.Generator) -> torch.Tensor:
    assert isinstance(model, Census)
    scenes = [scene(rng, square=True) for _ in range(BATCH)]
    seen = model.features(pixels(np.stack([draw(picture) for picture in scenes])))
    labels, crops = labelled_crops(scenes, rng)
    tones = torch.tensor([list(TONES).index(picture.tone) for picture in scenes])
    textures = torch.tensor([TEXTURES.index(picture.texture) for picture in scenes])
    counts = torch.tensor(np.stack([kinds(picture) for picture in scenes]))
    return (
        10 * nn.functional.mse_loss(model.kinds(seen), counts)
        + nn.functional.cross_entropy(model.tone(seen), tones)
        + nn.functional.cross_entropy(model.texture(seen), textures)
        + nn.functional.cross_entropy(model.shape(model.features(pixels(crops))), torch.tensor(labels))
    )


def train_scorer(run: Run, config: Path) -> tuple[nn.Module, State]:
    """Contrast pictures with captions and cut-out objects with their category, in open_clip's own model."""
    tokens = clip_tokenizer(config)

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        scenes = [scene(rng, square=True) for _ in range(BATCH)]
        texts = [str(rng.choice(captions(picture, rng))) for picture in scenes]
        labels, crops = labelled_crops(scenes, rng)
        scale = model.logit_scale.exp().clamp(max=100)
        # One batch for both, so that the tower's batch normalisation sees what it will see in use.
        seen = pixels(np.concatenate([np.stack([draw(picture) for picture in scenes]), crops]))
        images, cut = (scale * model.encode_image(seen, normalize=True)).split([len(scenes), len(crops)])
        whole = images @ model.encode_text(tokens(texts), normalize=True).T
        cut = cut @ model.encode_text(tokens(SHAPES), normalize=True).T
        return _contrast(whole, texts) + 0.5 * nn.functional.cross_entropy(cut, torch.tensor(labels))

    return train(run, build_clip(config), loss, loss)


@torch.no_grad()
def settle(model: Any, seed: int, batches: int = 40) -> Any:
    """Set the image tower's batch statistics to those of the finished weights; checkpoints hold parameters alone."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    model.train()
    for number in range(batches):
        rng = np.random.default_rng([seed, 10**8 + number])
        scenes = [scene(rng, square=True) for _ in range(BATCH)]
        whole = np.stack([draw(picture) for picture in scenes])
        model.encode_image(pixels(np.concatenate([whole, labelled_crops(scenes, rng)[1]])))
    return model.eval()


def _contrast(logits: torch.Tensor, texts: list[str]) -> torch.Tensor:
    same = torch.tensor([[a == b for b in texts] for a in texts], dtype=torch.float32)
    target = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
