"""Inception V3 features as clean-fid computes them, in its `clean` and `legacy_pytorch` modes, from one state dict.

clean-fid's port of the FID network takes its weights from the network when it is built; here it takes them from a
file that was verified before.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from cleanfid import inception_pytorch
from cleanfid.resize import build_resizer
from torch import nn

from evaluation.weight_files import read_weights

# Images at a time: the early maps of more take memory and no less time, and fewer leave torch's fast convolutions.
PART = 16


def inception_features(weights: Path, mode: str) -> Callable[[Sequence[np.ndarray]], torch.Tensor]:
    """A function from uint8 images [H, W, 3] of any sizes to float32 pool features [N, 2048].

    mode "clean": PIL bicubic to 299 in float, unquantised, then (x - 128) / 128; mode "legacy": bilinear without
    antialiasing, then x / 127.5 - 1, as pytorch-fid. `weights` is pytorch-fid's pt_inception-2015-12-05 file.
    """
    network = load_inception(weights)
    resize = build_resizer("clean" if mode == "clean" else "legacy_pytorch")

    def part(images: Sequence[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([resize(image) for image in images])).permute(0, 3, 1, 2).float()
        scaled = (pixels - 128) / 128 if mode == "clean" else pixels / 127.5 - 1
        # Channels last: a third faster on a CPU than what the resizers leave, and the same sums in both modes.
        return network(scaled.contiguous(memory_format=torch.channels_last))[0].flatten(1)

    @torch.no_grad()
    def features(images: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.cat([part(images[start : start + PART]) for start in range(0, len(images), PART)])

    return features


def untrained_inception() -> nn.Module:
    """The whole FID network of clean-fid's port, which would fetch its weights while it is built."""
    with (
        patch.object(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(nn.Module, "load_state_dict", lambda *_, **__: None),
    ):
        return inception_pytorch.fid_inception_v3()


def load_inception(weights: Path) -> nn.Module:
    """clean-fid's InceptionV3 up to its last pooling, from a local state dict; raises InputError for another file."""
    with torch.device("meta"):
        like = untrained_inception().state_dict()
    state = read_weights(weights, "the FID Inception", like)
    with patch.object(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state):
        network = inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False, normalize_input=False)
    return network.eval()
