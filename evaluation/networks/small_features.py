"""The miniature's features."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from evaluation.extractors import Extractor, squash
from evaluation.networks import Stanza
from evaluation.weight_files import read_weights

SIZE = 64


class SmallFeatures(nn.Module):
    """The miniature's feature network: images_B3HW in -1..1 at 64 px to features_BD, D = 64."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 64)
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Conv2d(wide_in, wide_out, 3, 2, 1), nn.GroupNorm(8, wide_out), nn.SiLU()]
        self.body = nn.Sequential(*layers)

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return self.body(images_B3HW).mean((2, 3))


def extractor(stanza: Stanza, params: Any, device: torch.device) -> Extractor:
    """Images squashed to 64 px."""
    network = SmallFeatures()
    network.load_state_dict(read_weights(stanza.path, "the small feature network", network.state_dict()))
    network.to(device).eval()

    def encode(images_BHW3: torch.Tensor) -> torch.Tensor:
        return network(images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1)

    return Extractor(f"bicubic {SIZE}", partial(squash, size=SIZE), encode)
