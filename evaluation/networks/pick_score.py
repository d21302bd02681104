"""PickScore by transformers: a CLIP tuned to which of two images of a caption people choose (Kirstain et al. 2023).

A score is exp(logit_scale) times the cosine; among several images of one caption the softmax of scores is the share of people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from transformers import CLIPModel

from evaluation.judges import Judge
from evaluation.networks import Stanza
from evaluation.networks.open_clip import longer_than
from evaluation.networks.pretrained import load_pretrained

FOLDER = True


@dataclass(frozen=True)
class ShortSide:
    """A uint8 image whose shorter side becomes `size` px, by PIL's bicubic, and of that the centre square [size, size, 3]."""

    size: int

    def __call__(self, image_HW3: np.ndarray) -> np.ndarray:
        height, width = image_HW3.shape[:2]
        short = min(height, width)
        resized = (int(self.size * width / short), int(self.size * height / short))
        image = np.asarray(Image.fromarray(image_HW3).resize(resized, Image.Resampling.BICUBIC))
        top, left = (image.shape[0] - self.size) // 2, (image.shape[1] - self.size) // 2
        return image[top : top + self.size, left : left + self.size]


def judge(stanza: Stanza, params: Any, device: torch.device) -> Judge:
    """Captions are cut at CLIP's context."""
    model = load_pretrained(CLIPModel, stanza.path, device)
    size, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    colours = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, std = (torch.tensor(colour).view(3, 1, 1).to(device) for colour in colours)

    def score(images_BHW3: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        pixels = (images_BHW3.permute(0, 3, 1, 2).float() / 255 - mean) / std
        seen_BD = model.get_image_features(pixel_values=pixels).pooler_output
        # Padding comes after a text's end, at which a causal tower reads it.
        read_BD = model.get_text_features(input_ids=tokenizer(list(captions)).to(device)).pooler_output
        return model.logit_scale.exp() * torch.cosine_similarity(seen_BD, read_BD)

    return Judge(f"bicubic {size}, centre", ShortSide(size), score, longer_than(tokenizer, length), length)
