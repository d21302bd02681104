"""Inception V3 features as clean-fid computes them, in its `clean` and `legacy_pytorch` modes, from one state dict.

clean-fid's port of the FID network takes its weights from the network when it is built; here it takes them from a
file that was verified before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from cleanfid import inception_pytorch
from cleanfid.resize import build_resizer
from torch import nn

from evaluation.extractors import Extractor
from evaluation.networks import Stanza
from evaluation.weight_files import read_weights

# Images at a time on a CPU: the early maps of more take memory and no less time, and fewer leave torch's fast convolutions.
PART = 16


@dataclass(frozen=True)
class Resize:
    """A uint8 image [H, W, 3] of any size as clean-fid's mode resizes it: float32 [299, 299, 3] in 0..255.

    mode "clean": PIL bicubic in float, unquantised; "legacy": bilinear without antialiasing, as pytorch-fid.
    """

    mode: str

    def __call__(self, image_HW3: np.ndarray) -> np.ndarray:
        return _resizer(self.mode)(image_HW3)


@cache
def _resizer(mode: str) -> Callable[[np.ndarray], np.ndarray]:
    return build_resizer("clean" if mode == "clean" else "legacy_pytorch")


def of_mode(mode: str, stanza: Stanza, device: torch.device) -> Extractor:
    """The extractor of a mode, "clean" or "legacy"."""
    return Extractor(f"clean-fid {mode} 299", Resize(mode), inception_features(stanza.path, mode, device))


def inception_features(weights: Path, mode: str, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from images that `Resize(mode)` made, [N, 299, 299, 3] on the device, to float32 pool features [N, 2048].

    mode "clean" scales by (x - 128) / 128; "legacy" by x / 127.5 - 1, as pytorch-fid. `weights` is pytorch-fid's
    pt_inception-2015-12-05 file.
    """
    network = load_inception(weights).to(device)

    def part(images_BHW3: torch.Tensor) -> torch.Tensor:
        pixels = images_BHW3.permute(0, 3, 1, 2).float()
        scaled = (pixels - 128) / 128 if mode == "clean" else pixels / 127.5 - 1
        # Channels last: a third faster on a CPU than what the resizers leave, and the same sums in both modes.
        return network(scaled.contiguous(memory_format=torch.channels_last))[0].flatten(1)

    def features(images_BHW3: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(some) for some in images_BHW3.split(PART if device.type == "cpu" else len(images_BHW3))])

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
