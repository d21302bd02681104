"""The miniature's detector."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from evaluation.detectors import Detections, Detector
from evaluation.extractors import squash
from evaluation.networks import USUAL, Limits, Stanza
from evaluation.weight_files import read_weights


@dataclass(frozen=True)
class Params(Limits):
    """Its boxes are local maxima, which leave nothing to be suppressed."""


class SmallDetector(nn.Module):
    """The miniature's detector: at every cell of a grid of stride 4, is it an object's centre, and how far are its edges?

    images_B3HW in -1..1 at SIDE px -> label logits [B, L, 16, 16] and edge distances (left, top, right, bottom in units of
    the image's side, positive) [B, 4, 16, 16].
    """

    SIDE, STRIDE = 64, 4

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(*_layer(3, 24, 2), *_layer(24, 40, 2))
        self.coarse = nn.Sequential(*_layer(40, 56, 2), *_layer(56, 56, 1), *_layer(56, 56, 1))
        self.across = nn.Conv2d(56, 40, 1)
        self.head = nn.Sequential(*_layer(40, 48, 1), nn.Conv2d(48, labels + 4, 1))
        self.labels = labels
        nn.init.constant_(self.head[-1].bias[:labels], -4.0)  # type: ignore[index]

    def forward(self, images_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(images_B3HW)
        wide = nn.functional.interpolate(self.across(self.coarse(fine)), scale_factor=2)
        seen = self.head(fine + wide)
        return seen[:, : self.labels], nn.functional.softplus(seen[:, self.labels :])


def _layer(wide_in: int, wide_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(wide_in, wide_out, 3, stride, 1), nn.GroupNorm(8, wide_out), nn.SiLU()]


def decode(
    logits_BLHW: torch.Tensor, edges_B4HW: torch.Tensor, labels: Sequence[str], limits: Limits = USUAL
) -> list[Detections]:
    """Local maxima of each label's map as boxes: a cell counts where no neighbour has a higher score for that label."""
    scores = logits_BLHW.sigmoid()
    peaks = torch.where(nn.functional.max_pool2d(scores, 3, 1, 1) == scores, scores, 0.0)
    side = scores.shape[-1]
    centre = (torch.arange(side) + 0.5) / side
    x, y = centre[None, :].expand(side, side), centre[:, None].expand(side, side)
    left, top, right, bottom = edges_B4HW.unbind(1)
    boxes_BHW4 = torch.stack([x - left, y - top, x + right, y + bottom], -1).clamp(0, 1)
    return [_decoded(*pair, labels, limits) for pair in zip(peaks, boxes_BHW4, strict=True)]


def _decoded(peaks_LHW: torch.Tensor, boxes_HW4: torch.Tensor, labels: Sequence[str], limits: Limits) -> Detections:
    label, row, column = torch.nonzero(peaks_LHW >= limits.keep, as_tuple=True)
    scores = peaks_LHW[label, row, column]
    order = scores.argsort(descending=True, stable=True)[: limits.most]
    boxes = boxes_HW4[row, column][order]
    names = [labels[int(number)] for number in label[order]]
    return Detections(boxes.numpy(), scores[order].numpy(), names)


def detector(stanza: Stanza, params: Params, device: torch.device) -> Detector:
    """Labels are those of labels.json beside the weights; images are squashed to SIDE."""
    labels = json.loads((stanza.path.parent / "labels.json").read_text())
    network = SmallDetector(len(labels))
    network.load_state_dict(read_weights(stanza.path, "the small detector", network.state_dict()))
    network.to(device).eval()

    def find(images: Sequence[torch.Tensor], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        pixels_BHW3 = torch.stack(list(images)).to(device, non_blocking=True)
        seen = network(pixels_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1)
        logits_BLHW, edges_B4HW = (maps.float().cpu() for maps in seen)
        return decode(logits_BLHW, edges_B4HW, labels, params)

    return Detector(partial(squash, size=SmallDetector.SIDE), find, labels)
