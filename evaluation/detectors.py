"""Object detectors: uint8 images to boxes, labels and scores, by a network whose weights are verified first.

Kinds: `small_detector` for the miniature, `faster_rcnn` (torchvision's fasterrcnn_resnet50_fpn_v2, trained on COCO's 80
categories) at paper scale. Any other detector takes part by one function of the same form.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluation.extractors import CPU, FLOAT32, ImageBatch, precision_of, runner, squash, verified
from evaluation.sizes import BATCH
from evaluation.weight_files import read_weights
from formats.files import InputError

MOST = 100  # detections an image, COCO's own limit
TOGETHER = 8  # images of one size that Faster R-CNN sees at a time on a GPU
LEAST = 0.05  # score below which a detection is not kept


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes_N4 (xyxy in the unit square), scores_N in 0..1 and as many labels; best first."""

    boxes_N4: np.ndarray
    scores_N: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Detector:
    """`labels`: all it can give. `prepare(image)`: a uint8 image [H, W, 3] as the network takes it; it can be pickled.

    `find(prepared)`: one Detections each, of prepared images [H, W, 3] as tensors, BATCH of them at a time.
    """

    name: str
    sha256: str
    labels: list[str]
    prepare: Callable[[np.ndarray], np.ndarray]
    find: Callable[[Sequence[torch.Tensor]], list[Detections]]
    precision: str = FLOAT32

    def detect(self, images: ImageBatch) -> list[Detections]:
        """What is found in uint8 images [H, W, 3] of any sizes, one Detections each."""
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        seen = (self.find([torch.from_numpy(np.array(self.prepare(image))) for image in batch]) for batch in batches)
        return [one for found in seen for one in found]


def load_detector(stanza: dict[str, Any], device: torch.device = CPU) -> Detector:
    """The detector of a config stanza on a device; raises InputError for an unknown kind or weights not as promised."""
    kinds = {"small_detector": _small_detector, "faster_rcnn": _faster_rcnn}
    if stanza["kind"] not in kinds:
        raise InputError(f"extractors.{stanza['name']}: kind {stanza['kind']!r} is not one of {', '.join(kinds)}")
    found = kinds[stanza["kind"]](stanza, verified(stanza), device)
    return replace(found, precision=precision_of(stanza))


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


def _small_detector(stanza: dict[str, Any], digest: str, device: torch.device) -> Detector:
    labels = json.loads((Path(stanza["path"]).parent / "labels.json").read_text())
    network = SmallDetector(len(labels))
    network.load_state_dict(read_weights(Path(stanza["path"]), "the small detector", network.state_dict()))
    network.to(device).eval()
    see = runner(lambda images_BHW3: network(images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1), stanza, device)

    def find(images: Sequence[torch.Tensor]) -> list[Detections]:
        logits_BLHW, edges_B4HW = (maps.float().cpu() for maps in see(torch.stack(list(images))))
        return decode(logits_BLHW, edges_B4HW, labels)

    return Detector(stanza["name"], digest, labels, partial(squash, size=SmallDetector.SIDE), find)


def whole(image_HW3: np.ndarray) -> np.ndarray:
    """The image as it is, for a network that resizes it itself."""
    return image_HW3


def _faster_rcnn(stanza: dict[str, Any], digest: str, device: torch.device) -> Detector:
    """torchvision's detector. It pads a batch to its largest image: on a GPU images of one size share one, elsewhere none."""
    from torchvision.models import detection

    names = detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    network = detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=len(names))
    state = read_weights(Path(stanza["path"]), "fasterrcnn_resnet50_fpn_v2", network.state_dict())
    network.load_state_dict(state, assign=True)
    network.to(device).eval()
    see = runner(lambda images_BHW3: network(list(images_BHW3.permute(0, 3, 1, 2).float() / 255)), stanza, device)
    most = together(device)

    def find(images: Sequence[torch.Tensor]) -> list[Detections]:
        found: dict[int, Detections] = {}
        for places in alike(images, most):
            seen = see(torch.stack([images[place] for place in places]))
            found |= {place: _kept(one, images[place], names) for place, one in zip(places, seen, strict=True)}
        return [found[place] for place in range(len(images))]

    return Detector(stanza["name"], digest, names, whole, find)


def together(device: torch.device) -> int:
    """How many images of one size Faster R-CNN sees at a time: on a CPU more take longer."""
    return 1 if device.type == "cpu" else TOGETHER


def alike(images: Sequence[torch.Tensor], most: int) -> list[list[int]]:
    """Places of the images [H, W, 3], those of one size together, at most so many."""
    sizes: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    return [places[start : start + most] for places in sizes.values() for start in range(0, len(places), most)]


def _kept(seen: dict[str, torch.Tensor], image_HW3: torch.Tensor, names: Sequence[str]) -> Detections:
    """What the network is sure enough of, its boxes in the unit square."""
    height, width = image_HW3.shape[:2]
    scores, boxes, numbers = (seen[name].cpu() for name in ("scores", "boxes", "labels"))
    kept = scores >= LEAST
    unit = (boxes[kept].float() / torch.tensor([width, height, width, height])).clamp(0, 1)
    return Detections(unit.numpy(), scores[kept].float().numpy(), [names[int(number)] for number in numbers[kept]])
