"""Stage `base`: the small U-Net on latents and captions; and the loss that the later stages share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn

from hcma.sampling.text import TextEncoder, Tokenizer, read_tokens
from workflow.miniature.collection import Collection
from workflow.miniature.sizes import SCHEDULER, UNET
from workflow.miniature.text import SHAPES, tokenize
from workflow.miniature.training import BatchLoss, Run, State, train

BATCH = 32
BOX_SLOTS = 30
# A small latent has little redundancy, so the schedule made for 64 x 64 drowns it early; larger latents survive longer,
# and the layout is decided within the first third of the steps, as it is at full size.
LATENT_SPREAD = 1.8
SNR_LIMIT = 5.0
NOISE = DDPMScheduler(**{key: value for key, value in SCHEDULER.items() if key.startswith(("num", "beta"))})
NO_CAPTION_SHARE = 0.1
# Boxes matter while the layout is open, and more so where no caption tells of it; sampling shows boxes no later than this.
GROUNDED_FROM_T = 250
GROUNDED_NO_CAPTION_SHARE = 0.5
NO_BOXES_SHARE = 0.1


@dataclass(frozen=True)
class Material:
    """What both stages train on: the collection, scaled by `scale`, and the frozen text encoder."""

    collection: Collection
    scale: float
    tokenizer: Tokenizer
    text: TextEncoder


def latent_scale(collection: Collection) -> float:
    """The autoencoder's `scaling_factor`: latents get a standard deviation of LATENT_SPREAD."""
    return LATENT_SPREAD / float(collection.latents_NCHW.float().std())


def train_base(run: Run, material: Material) -> tuple[nn.Module, State]:
    """Train the plain U-Net on noise prediction with captions, a tenth of them empty."""
    return train(run, UNet2DConditionModel(**UNET), noise_loss(material, False), noise_loss(material, False))


@dataclass(frozen=True)
class Batch:
    """Scenes of the collection (rows), a caption of each, and noise for each at a timestep."""

    rows_B: torch.Tensor
    tokens_BT: torch.Tensor
    latents_BCHW: torch.Tensor
    noise_BCHW: torch.Tensor
    t_B: torch.Tensor


def draw_batch(material: Material, rng: np.random.Generator, grounded: bool = False) -> Batch:
    """A random batch; some captions are empty, more of them if it is to be `grounded`."""
    rows = torch.from_numpy(rng.integers(0, len(material.collection.latents_NCHW), BATCH))
    latents = material.collection.latents_NCHW[rows].float() * material.scale
    noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    t = torch.from_numpy(rng.integers(GROUNDED_FROM_T if grounded else 0, 1000, BATCH))
    tokens = material.collection.tokens_N5T[rows, torch.from_numpy(rng.integers(0, 5, BATCH))].long()
    no_caption_share = GROUNDED_NO_CAPTION_SHARE if grounded else NO_CAPTION_SHARE
    tokens[torch.from_numpy(rng.random(BATCH) < no_caption_share)] = tokenize(material.tokenizer, [""])[0]
    return Batch(rows, tokens, latents, noise, t)


def noise_error(model: Any, material: Material, batch: Batch, boxes: dict[str, Any] | None = None) -> torch.Tensor:
    """The error of the noise that `model` predicts, weighted by its timestep."""
    device = model.device
    with torch.no_grad():
        states, _ = read_tokens(material.text.to(device), batch.tokens_BT.to(device))
    noisy = NOISE.add_noise(batch.latents_BCHW, batch.noise_BCHW, batch.t_B).to(device)
    predicted = model(noisy, batch.t_B.to(device), states, cross_attention_kwargs=boxes).sample
    error = (predicted - batch.noise_BCHW.to(device)).pow(2).mean((1, 2, 3)).cpu()
    kept = NOISE.alphas_cumprod[batch.t_B]
    ratio = LATENT_SPREAD**2 * kept / (1 - kept)
    return (error * ratio.clamp(max=SNR_LIMIT) / ratio.clamp(min=0.02)).mean()


def noise_loss(material: Material, grounded: bool) -> BatchLoss:
    """The error of the predicted noise on a random batch, with captions, and boxes if `grounded`."""
    kinds_KD = shape_features(material)

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        batch = draw_batch(material, rng, grounded)
        boxes = _boxes(material.collection, batch.rows_B, kinds_KD, rng, model.device) if grounded else None
        return noise_error(model, material, batch, boxes)

    return loss


@torch.no_grad()
def shape_features(material: Material) -> torch.Tensor:
    """Pooled text features of the shapes' names: [K, D], GLIGEN's phrase features."""
    return read_tokens(material.text.to("cpu"), tokenize(material.tokenizer, SHAPES))[1]


def _boxes(
    collection: Collection, rows: torch.Tensor, kinds_KD: torch.Tensor, rng: np.random.Generator, device: torch.device
) -> dict[str, dict[str, torch.Tensor]]:
    """The `gligen` arguments of a batch, a tenth of the layouts emptied."""
    kinds, boxes = collection.kinds_NM[rows].long(), collection.boxes_NM4[rows]
    there = (kinds >= 0) & torch.from_numpy(rng.random(len(rows)) >= NO_BOXES_SHARE)[:, None]
    pad = BOX_SLOTS - kinds.shape[1]
    phrases = kinds_KD[kinds.clamp(min=0)] * there[..., None]
    arguments = {
        "boxes": nn.functional.pad(boxes * there[..., None], (0, 0, 0, pad)),
        "masks": nn.functional.pad(there.float(), (0, pad)),
        "positive_embeddings": nn.functional.pad(phrases, (0, 0, 0, pad)),
    }
    return {"gligen": {name: value.to(device) for name, value in arguments.items()}}
