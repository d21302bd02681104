"""Inception V3 features as clean-fid computes them, in its `clean` and its `legacy_pytorch` mode, from one state dict."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cleanfid.inception_pytorch import InceptionV3
from cleanfid.resize import build_resizer
from torch import nn


def inception_features(weights: Path | None, mode: str) -> Callable[[Sequence[np.ndarray]], torch.Tensor]:
    """A function from uint8 images [H, W, 3] of any sizes to float32 pool features [N, 2048].

    mode "clean": PIL bicubic to 299 in float, unquantised; "legacy": bilinear without antialias, as pytorch-fid.
    Both end in (x - 128) / 128 or 2x/255 - 1 as their originals do. Without weights the network is random (tests).
    """
    network = _network(weights)
    resize = build_resizer("clean" if mode == "clean" else "legacy_pytorch")

    @torch.no_grad()
    def features(images: Sequence[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([resize(image) for image in images])).permute(0, 3, 1, 2).float()
        scaled = (pixels - 128) / 128 if mode == "clean" else pixels / 127.5 - 1
        return network(scaled)[0].flatten(1)

    return features


def _network(weights: Path | None) -> nn.Module:
    network = InceptionV3(output_blocks=[3], resize_input=False, normalize_input=False)
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()
