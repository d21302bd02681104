"""Object detectors: uint8 images to boxes, labels and scores, by a network whose weights are verified first.

Kinds: `small_detector` for the miniature, `faster_rcnn` (torchvision's fasterrcnn_resnet50_fpn_v2, trained on COCO's 80
categories) at paper scale. Any other detector takes part by one function of the same form.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluation.extractors import ImageBatch, squash, verified
from evaluation.sizes import BATCH
from evaluation.weight_files import read_weights
from formats.files import InputError

MOST = 100  # detections an image, COCO's own limit
LEAST = 0.05  # score below which a detection is not kept


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes_N4 (xyxy in the unit square), scores_N in 0..1 and as many labels; best first."""

    boxes_N4: np.ndarray
    scores_N: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Detector:
    """`detect(images)`: uint8 images [H, W, 3] of any sizes to one Detections each; `labels`: all it can give."""

    name: str
    sha256: str
    labels: list[str]
    detect: Callable[[ImageBatch], list[Detections]]


def load_detector(stanza: dict[str, Any]) -> Detector:
    """The detector of a config stanza; raises InputError for an unknown kind or for weights that are not as promised."""
    kinds = {"small_detector": _small_detector, "faster_rcnn": _faster_rcnn}
    if stanza["kind"] not in kinds:
        raise InputError(f"extractors.{stanza['name']}: kind {stanza['kind']!r} is not one of {', '.join(kinds)}")
    digest = verified(stanza)
    return Detector(stanza["name"], digest, *kinds[stanza["kind"]](stanza))


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


def decode(logits_BLHW: torch.Tensor, edges_B4HW: torch.Tensor, labels: Sequence[str]) -> list[Detections]:
    """Local maxima of each label's map as boxes: a cell counts where no neighbour has a higher score for that label."""
    scores = logits_BLHW.sigmoid()
    peaks = torch.where(nn.functional.max_pool2d(scores, 3, 1, 1) == scores, scores, 0.0)
    side = scores.shape[-1]
    centre = (torch.arange(side) + 0.5) / side
    x, y = centre[None, :].expand(side, side), centre[:, None].expand(side, side)
    left, top, right, bottom = edges_B4HW.unbind(1)
    boxes_BHW4 = torch.stack([x - left, y - top, x + right, y + bottom], -1).clamp(0, 1)
    return [_decoded(*pair, labels) for pair in zip(peaks, boxes_BHW4, strict=True)]


def _decoded(peaks_LHW: torch.Tensor, boxes_HW4: torch.Tensor, labels: Sequence[str]) -> Detections:
    label, row, column = torch.nonzero(peaks_LHW >= LEAST, as_tuple=True)
    scores = peaks_LHW[label, row, column]
    order = scores.argsort(descending=True, stable=True)[:MOST]
    boxes = boxes_HW4[row, column][order]
    names = [labels[int(number)] for number in label[order]]
    return Detections(boxes.numpy(), scores[order].numpy(), names)


def _small_detector(stanza: dict[str, Any]) -> tuple[list[str], Callable[[ImageBatch], list[Detections]]]:
    labels = json.loads((Path(stanza["path"]).parent / "labels.json").read_text())
    network = SmallDetector(len(labels))
    network.load_state_dict(read_weights(Path(stanza["path"]), "the small detector", network.state_dict()))
    network.eval()

    @torch.no_grad()
    def detect(images: ImageBatch) -> list[Detections]:
        found = []
        for start in range(0, len(images), BATCH):
            squashed = np.stack([squash(image, SmallDetector.SIDE) for image in images[start : start + BATCH]])
            logits, edges = network(torch.from_numpy(squashed).permute(0, 3, 1, 2).float() / 127.5 - 1)
            found += decode(logits, edges, labels)
        return found

    return labels, detect


def _faster_rcnn(stanza: dict[str, Any]) -> tuple[list[str], Callable[[ImageBatch], list[Detections]]]:
    """torchvision's detector, one image at a time, since it pads a batch to its largest image."""
    from torchvision.models import detection

    names = detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    network = detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=len(names))
    state = read_weights(Path(stanza["path"]), "fasterrcnn_resnet50_fpn_v2", network.state_dict())
    network.load_state_dict(state, assign=True)
    network.eval()

    @torch.no_grad()
    def detect(images: ImageBatch) -> list[Detections]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            seen = network([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255])[0]
            kept = seen["scores"] >= LEAST
            boxes = (seen["boxes"][kept] / torch.tensor([width, height, width, height])).clamp(0, 1)
            labels = [names[int(number)] for number in seen["labels"][kept]]
            found.append(Detections(boxes.numpy(), seen["scores"][kept].numpy(), labels))
        return found

    return names, detect
