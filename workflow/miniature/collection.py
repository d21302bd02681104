"""Drawn scenes as the diffusion stages see them: latents, caption tokens, boxes and categories, made once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from formats.files import replacing
from hcma.sampling.text import Tokenizer
from workflow.miniature.autoencoder import pixels
from workflow.miniature.captions import captions
from workflow.miniature.text import SHAPES, tokenize
from workflow.miniature.world import SIDE, Scene, draw, scene

SLOTS = 7
CHUNK = 250


@dataclass(frozen=True)
class Collection:
    """latents_NCHW (float16, unscaled posterior means), tokens_N5T, boxes_NM4 (unit square), kinds_NM (-1: no object)."""

    latents_NCHW: torch.Tensor
    tokens_N5T: torch.Tensor
    boxes_NM4: torch.Tensor
    kinds_NM: torch.Tensor


def collect(vae: AutoencoderKL, tokenizer: Tokenizer, path: Path, seed: int, count: int) -> Collection:
    """Draw, caption and encode `count` scenes, or read them back from `path`."""
    if not path.exists():
        parts = [_chunk(vae, tokenizer, np.random.default_rng([seed, i])) for i in tqdm(range(count // CHUNK))]
        with replacing(path) as beside:
            save_file({name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}, beside)
    return Collection(**load_file(path))


@torch.no_grad()
def _chunk(vae: AutoencoderKL, tokenizer: Tokenizer, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    scenes = [scene(rng, square=True) for _ in range(CHUNK)]
    images = pixels(np.stack([draw(picture) for picture in scenes]))
    texts = [text for picture in scenes for text in captions(picture, rng)]
    boxes, kinds = zip(*(_objects(picture) for picture in scenes), strict=True)
    return {
        "latents_NCHW": torch.cat([vae.encode(part).latent_dist.mean for part in images.split(50)]).half(),
        "tokens_N5T": tokenize(tokenizer, texts).view(CHUNK, 5, -1).short(),
        "boxes_NM4": torch.stack(boxes),
        "kinds_NM": torch.stack(kinds),
    }


def _objects(picture: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    boxes, kinds = torch.zeros(SLOTS, 4), torch.full((SLOTS,), -1, dtype=torch.int8)
    for i, thing in enumerate([thing for thing in picture.things if thing.size > 8][:SLOTS]):
        boxes[i] = torch.tensor(thing.box) / SIDE
        kinds[i] = SHAPES.index(thing.shape)
    return boxes, kinds
