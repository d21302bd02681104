"""Object detectors: uint8 images to boxes, labels and scores. Each is a module of evaluation.networks, or one's own.

A detector with labels of its own finds those; one without is asked for phrases, which it takes as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from evaluation.extractors import CPU, ImageBatch, Loaded, built, runner
from evaluation.networks import BATCH, USUAL, Limits, Phrases

TOGETHER = 8  # images of one size that a detector sees at a time on a GPU


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes_N4 (xyxy in the unit square), scores_N in 0..1 and as many labels; best first."""

    boxes_N4: np.ndarray
    scores_N: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Detector(Loaded):
    """`prepare(image)`: a uint8 image [H, W, 3] as the network takes it; it can be pickled.

    `find(prepared, phrases)`: one Detections each, of prepared images [H, W, 3] as tensors, BATCH of them at a time, and of the
    phrases that each is searched for. `labels`: all that it can give, whatever it is asked for; None: it takes any phrase.
    `cut(phrases)`: which phrases, bool [N], are longer than it reads.

    What `load_detector` gives runs without gradients and in the stanza's precision.
    """

    prepare: Callable[[np.ndarray], np.ndarray]
    find: Callable[[Sequence[torch.Tensor], Sequence[Sequence[str]]], list[Detections]]
    labels: list[str] | None = None
    cut: Callable[[Sequence[str]], np.ndarray] | None = None
    params: Limits = field(default=USUAL, kw_only=True)

    def detect(self, images: ImageBatch, phrases: Sequence[Sequence[str]] | None = None) -> list[Detections]:
        """What is found in uint8 images [H, W, 3] of any sizes, one Detections each."""
        asked, found = phrases or [[]] * len(images), []
        for start in range(0, len(images), BATCH):
            prepared = [torch.from_numpy(np.array(self.prepare(one))) for one in images[start : start + BATCH]]
            found += self.find(prepared, asked[start : start + BATCH])
        return found


def load_detector(stanza: dict[str, Any], device: torch.device = CPU, key: str = "") -> Detector:
    """The detector of a config stanza on a device; raises InputError for another kind or weights not as promised."""
    made = built("detector", stanza, device, key)
    return replace(made, find=runner(made.find, made.precision, device))


def whole(image_HW3: np.ndarray) -> np.ndarray:
    """The image as it is, for a network that resizes it itself."""
    return image_HW3


def together(device: torch.device) -> int:
    """How many images of one size a detector sees at a time: on a CPU more take longer."""
    return 1 if device.type == "cpu" else TOGETHER


def alike(images: Sequence[torch.Tensor], most: int) -> list[list[int]]:
    """Places of the images [H, W, 3], those of one size together, at most so many."""
    sizes: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    return [places[start : start + most] for places in sizes.values() for start in range(0, len(places), most)]


def chosen(boxes_N4: torch.Tensor, scores_NP: torch.Tensor, phrases: Sequence[str], limits: Phrases) -> Detections:
    """What of a network's boxes, xyxy in units of the image's sides, counts as found of each of P phrases.

    Boxes are cut off at the image's edges, and what has no area in it is dropped; then those of a phrase that are sure enough
    are thinned by torchvision's non-maximum suppression, and the best are kept.
    """
    boxes_N4, scores_NP = boxes_N4.float().cpu().clamp(0, 1), scores_NP.float().cpu()
    inside_N = (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(1)
    parts = []
    for number in range(len(phrases)):
        places = torch.nonzero(inside_N & (scores_NP[:, number] >= limits.keep))[:, 0]
        scores = scores_NP[places, number]
        best = nms(boxes_N4[places], scores, limits.nms)[: limits.most]
        parts += [(scores[place], boxes_N4[places[place]], phrases[number]) for place in best]
    parts.sort(key=lambda part: -float(part[0]))
    return Detections(
        np.array([box.numpy() for _, box, _ in parts], np.float32).reshape(-1, 4),
        np.array([float(score) for score, _, _ in parts], np.float32),
        [phrase for _, _, phrase in parts],
    )


def xyxy(boxes_N4: torch.Tensor) -> torch.Tensor:
    """Boxes of centre, width and height as corners."""
    centre, half = boxes_N4[..., :2], boxes_N4[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)
