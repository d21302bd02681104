"""A second method that trains something: Stable Diffusion, its images moved to the mean colour of the training photos.

python -m tests.colour_method PHOTOS.zip colour.safetensors
"""

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from baselines import stable_diffusion
from formats.layouts import Layout
from hcma.sampling.diffusion import Diffusion
from hcma.sampling.spec import Artefact


@dataclass(frozen=True)
class Params:
    """How far images are moved: 1 is all the way."""

    strength: float = 1.0


def load(artefacts: Mapping[str, Artefact], sd: Diffusion) -> torch.Tensor:
    """The colour that was trained: [3, 1, 1], from 0 to 255."""
    return load_file(artefacts["colour"].path)["colour"][:, None, None]


def generate(
    sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params, colour_3HW: torch.Tensor
) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W]."""
    pixels = stable_diffusion.generate(sd, layouts, noise_BCHW, stable_diffusion.Params()).float()
    moved = pixels + params.strength * (colour_3HW - pixels.mean((2, 3), keepdim=True))
    return moved.round().clamp(0, 255).to(torch.uint8)


def train(photos: str, out: str) -> None:
    """Write the mean colour of a zip of photos."""
    with zipfile.ZipFile(photos) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        means = [np.asarray(Image.open(io.BytesIO(archive.read(name)))).mean((0, 1)) for name in names]
    save_file({"colour": torch.tensor(np.mean(means, 0), dtype=torch.float32)}, out)


if __name__ == "__main__":
    train(*sys.argv[1:])
