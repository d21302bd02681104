"""Stage `vae`: the autoencoder on crops of drawn scenes; sharp edges count as much as flat colour."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from workflow.miniature.sizes import VAE
from workflow.miniature.training import Run, State, train
from workflow.miniature.world import LATTICE, SIDE, draw, scene

CROP = 32
BATCH = 32
KL_WEIGHT = 1e-5


def canvases(rng: np.random.Generator, count: int) -> np.ndarray:
    """Drawn canvases, uint8 [count, SIDE, SIDE, 3]."""
    return np.stack([draw(scene(rng, square=True)) for _ in range(count)])


def pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(run: Run) -> tuple[torch.nn.Module, State]:
    """Train the autoencoder; its latents are scaled afterwards (`scaling_factor`)."""
    return train(run, AutoencoderKL(**VAE), _loss, _loss)


def _crops(rng: np.random.Generator) -> torch.Tensor:
    images = canvases(rng, BATCH // 2)
    cut = []
    for image in images:
        for _ in range(2):
            y, x = LATTICE * rng.integers(0, (SIDE - CROP) // LATTICE + 1, 2)
            cut.append(image[y : y + CROP, x : x + CROP])
    return pixels(np.stack(cut))


def _loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
    images = _crops(rng).to(model.device)
    posterior = model.encode(images).latent_dist
    noise = torch.from_numpy(rng.standard_normal(posterior.mean.shape, np.float32)).to(model.device)
    decoded = model.decode(posterior.mean + posterior.std * noise).sample
    return reconstruction_loss(decoded, images) + KL_WEIGHT * posterior.kl().mean()


def reconstruction_loss(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Absolute difference of pixels and of their horizontal and vertical steps."""
    error = decoded - images
    steps = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.pow(2).mean() + 0.5 * steps
