"""torchvision's fasterrcnn_resnet50_fpn_v2, trained on COCO's 80 categories."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.models import detection

from evaluation.detectors import Detections, Detector, alike, together, whole
from evaluation.networks import Limits, Stanza, is_share
from evaluation.weight_files import read_weights
from formats.params import expect_each


@dataclass(frozen=True)
class Params(Limits):
    """nms: of two boxes of one label that overlap by more the less sure one is dropped; torchvision's own value."""

    nms: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_each(self, "nms", is_share, "a number from 0 to 1")


def detector(stanza: Stanza, params: Params, device: torch.device) -> Detector:
    """It pads a batch to its largest image: on a GPU images of one size share one, elsewhere none."""
    names = detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    network = detection.fasterrcnn_resnet50_fpn_v2(
        weights=None,
        weights_backbone=None,
        num_classes=len(names),
        box_score_thresh=params.keep,
        box_nms_thresh=params.nms,
        box_detections_per_img=params.most,
    )
    state = read_weights(stanza.path, "fasterrcnn_resnet50_fpn_v2", network.state_dict())
    network.load_state_dict(state, assign=True)
    network.to(device).eval()

    def find(images: Sequence[torch.Tensor], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        found: dict[int, Detections] = {}
        for places in alike(images, together(device)):
            pixels_BHW3 = torch.stack([images[place] for place in places]).to(device, non_blocking=True)
            seen = network(list(pixels_BHW3.permute(0, 3, 1, 2).float() / 255))
            for place, one in zip(places, seen, strict=True):
                found[place] = _kept(one, images[place], names, params.keep)
        return [found[place] for place in range(len(images))]

    return Detector(whole, find, names)


def _kept(seen: dict[str, torch.Tensor], image_HW3: torch.Tensor, names: Sequence[str], least: float) -> Detections:
    """What the network is sure enough of, its boxes in the unit square."""
    height, width = image_HW3.shape[:2]
    scores, boxes, numbers = (seen[name].cpu() for name in ("scores", "boxes", "labels"))
    kept = scores >= least
    unit = (boxes[kept].float() / torch.tensor([width, height, width, height])).clamp(0, 1)
    return Detections(unit.numpy(), scores[kept].float().numpy(), [names[int(number)] for number in numbers[kept]])
