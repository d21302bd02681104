"""Stage `text`: the text encoder of the small Stable Diffusion, trained against an image tower that is then thrown away."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from hcma.sampling.text import TextEncoder, Tokenizer, read_tokens
from workflow.miniature.autoencoder import pixels
from workflow.miniature.captions import captions
from workflow.miniature.sizes import CONTEXT, TEXT_WIDTH
from workflow.miniature.training import Run, State, train
from workflow.miniature.world import CATEGORIES, COLOURS, SIDE, Scene, draw, scene

BATCH = 64
SHAPES = list(CATEGORIES.values())


class Pair(nn.Module):
    """A text encoder and the image tower it is trained with; `census` reads the number of each kind off the tokens."""

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.text = text
        width = text.config.hidden_size
        widths = (3, 32, 64, 96, 128)
        self.image = nn.Sequential(
            *(layer for pair in pairwise(widths) for layer in _halving(*pair)),
            nn.Flatten(),
            nn.Linear(128 * 16, width),
        )
        self.census = nn.Linear(width, len(SHAPES) * len(COLOURS))
        self.scale = nn.Parameter(torch.tensor(2.5))


def blank_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _halving(wide_in: int, wide_out: int) -> list[nn.Module]:
    return [nn.Conv2d(wide_in, wide_out, 3, 2, 1), nn.GroupNorm(8, wide_out), nn.SiLU()]


def train_text(run: Run, tokenizer: Tokenizer, text: TextEncoder) -> tuple[torch.nn.Module, State]:
    """Contrast whole pictures with captions and cut-out objects with their category, and count kinds from tokens."""

    def loss(model: nn.Module, rng: np.random.Generator) -> torch.Tensor:
        assert isinstance(model, Pair)
        return _loss(model, tokenizer, rng)

    return train(run, Pair(text), loss, loss)


def _loss(model: Pair, tokenizer: Tokenizer, rng: np.random.Generator) -> torch.Tensor:
    scenes = [scene(rng, square=True) for _ in range(BATCH)]
    texts = [str(rng.choice(captions(picture, rng))) for picture in scenes]
    whole = np.stack([draw(picture) for picture in scenes])
    ids = tokenize(tokenizer, texts)
    states_BTD, pooled_BD = read_tokens(model.text, ids)
    contrast = _contrast(model, whole, pooled_BD, texts)
    census = torch.tensor(np.stack([kinds(picture) for picture in scenes]))
    counted = nn.functional.mse_loss(model.census(states_BTD).mean(1), census)
    labels, crops = labelled_crops(scenes, rng)
    label_text = read_tokens(model.text, tokenize(tokenizer, SHAPES))[1]
    towards = model.scale.exp() * _cosine(model.image(pixels(crops)), label_text)
    return contrast + counted + 0.5 * nn.functional.cross_entropy(towards, torch.tensor(labels))


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def kinds(picture: Scene) -> np.ndarray:
    """How many of each (shape, colour) a scene holds, tiny ones not counted: float32 [25]."""
    counts = np.zeros((len(SHAPES), len(COLOURS)), np.float32)
    for thing in picture.things:
        if thing.size > 8:
            counts[SHAPES.index(thing.shape), list(COLOURS).index(thing.colour)] += 1
    return counts.ravel()


def labelled_crops(scenes: list[Scene], rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """One object of each scene that has one, resized (nearest) to the canvas: (shape numbers, uint8 [N, SIDE, SIDE, 3])."""
    labels, crops = [], []
    for picture in scenes:
        things = [thing for thing in picture.things if thing.size > 8]
        if not things:
            continue
        thing = things[int(rng.integers(len(things)))]
        grid = (np.arange(SIDE) * thing.size) // SIDE
        crops.append(draw(picture)[thing.top + grid][:, thing.left + grid])
        labels.append(SHAPES.index(thing.shape))
    return labels, np.stack(crops)


def _contrast(model: Pair, images: np.ndarray, text: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Symmetric contrastive loss; equal captions in a batch count as right answers of each other."""
    logits = model.scale.exp().clamp(max=50) * _cosine(model.image(pixels(images)), text)
    same = torch.tensor([[a == b for b in texts] for a in texts], dtype=torch.float32)
    target = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(a, dim=-1) @ nn.functional.normalize(b, dim=-1).T
