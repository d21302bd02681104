"""OWLv2 by transformers: of every patch of an image one box, scored by each phrase that it is asked for.

An image is padded to a square on its right and below, so that boxes are shares of its longer side. Text queries are CLIP's, of
at most 16 tokens, each phrase by itself and encoded once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessor

from evaluation.detectors import Detections, Detector, alike, chosen, together, whole, xyxy
from evaluation.networks import Phrases, Stanza
from evaluation.networks.open_clip import longer_than
from evaluation.networks.pretrained import load_pretrained

FOLDER = True


@dataclass(frozen=True)
class Params(Phrases):
    """What it is sure of has lower scores than those of Faster R-CNN."""

    sure: float = 0.1


def detector(stanza: Stanza, params: Params, device: torch.device) -> Detector:
    """Any phrases; images at transformers' own size, those of one size together on a GPU."""
    model = load_pretrained(Owlv2ForObjectDetection, stanza.path, device)
    side = model.config.vision_config.image_size
    processor = Owlv2ImageProcessor(size={"height": side, "width": side})
    length = model.config.text_config.max_position_embeddings
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    known: dict[str, torch.Tensor] = {}

    def queries(phrases: Sequence[str]) -> torch.Tensor:
        if new := [phrase for phrase in dict.fromkeys(phrases) if phrase not in known]:
            tokens_PT = tokenizer(new).to(device)
            text = model.owlv2.get_text_features(input_ids=tokens_PT, attention_mask=(tokens_PT != 0).long())
            known.update(zip(new, torch.nn.functional.normalize(text.pooler_output, dim=-1), strict=True))
        return torch.stack([known[phrase] for phrase in phrases])

    def find(images: Sequence[torch.Tensor], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        found = {
            place: Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), []) for place in range(len(images))
        }
        asked = [place for place, some in enumerate(phrases) if some]
        for group in alike([images[place] for place in asked], together(device)):
            places = [asked[number] for number in group]
            pixels = [images[place].to(device, non_blocking=True).permute(2, 0, 1) for place in places]
            inputs = processor(images=pixels, input_data_format="channels_first", return_tensors="pt")
            maps_BHWD, _ = model.image_embedder(pixel_values=inputs["pixel_values"])
            features_BND = maps_BHWD.flatten(1, 2)
            boxes_BN4 = xyxy(model.box_predictor(features_BND, maps_BHWD))
            for row, place in enumerate(places):
                logits_1NP, _ = model.class_predictor(features_BND[row : row + 1], queries(phrases[place])[None])
                found[place] = chosen(
                    boxes_BN4[row].cpu() * padding(images[place]), logits_1NP[0].sigmoid(), phrases[place], params
                )
        return [found[place] for place in range(len(images))]

    return Detector(whole, find, cut=longer_than(tokenizer, length))


def padding(image_HW3: torch.Tensor) -> torch.Tensor:
    """By how much the padded square is longer than an image's width and height [4]."""
    height, width = image_HW3.shape[:2]
    longer = max(height, width)
    return torch.tensor([longer / width, longer / height] * 2)
