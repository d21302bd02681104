"""GroundingDINO by transformers: what it is asked for of an image, it finds.

An image's phrases make one text, "a cat. a dog.", in which the network keeps those apart that its separators part. A phrase's
score of a box is the largest of its own tokens'. Where an image has more phrases than a text holds, it is seen once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizer, GroundingDinoForObjectDetection
from transformers.image_transforms import get_size_with_aspect_ratio

from evaluation.detectors import Detections, Detector, alike, chosen, together, xyxy
from evaluation.networks import Phrases, Stanza
from evaluation.networks.pretrained import load_pretrained
from formats.files import InputError

FOLDER = True
SHORTEST, LONGEST = 800, 1333
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Tokens that part phrases, by the ids that the network knows them by.
SEPARATORS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
FIRST, LAST, DOT, _ = SEPARATORS.values()


@dataclass(frozen=True)
class Params(Phrases):
    """What it is sure of has lower scores than those of Faster R-CNN."""

    sure: float = 0.25
    nms: float = 0.8


def detector(stanza: Stanza, params: Params, device: torch.device) -> Detector:
    """Any phrases; images at a shortest side of 800 px and a longest of at most 1,333, those of one size together on a GPU."""
    model = load_pretrained(GroundingDinoForObjectDetection, stanza.path, device)
    texts = Texts(stanza.path.parent / "vocab.txt", model.config.max_text_len)
    mean, std = (torch.tensor(colour).view(3, 1, 1).to(device) for colour in (MEAN, STD))

    def find(images: Sequence[torch.Tensor], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        # Of each text an image has a row of scores a box; only images that are asked for something are seen.
        boxes: dict[int, list[torch.Tensor]] = {place: [] for place in range(len(images))}
        scores: dict[int, list[torch.Tensor]] = {place: [] for place in range(len(images))}
        parts = [(place, part) for place, some in enumerate(phrases) for part in texts.parts(some)]
        for group in alike([images[place] for place, _ in parts], together(device)):
            asked = [parts[number] for number in group]
            pixels_BHW3 = torch.stack([images[place] for place, _ in asked]).to(device, non_blocking=True)
            tokens_BT = texts.joined([part for _, part in asked]).to(device)
            seen = model(
                pixel_values=(pixels_BHW3.permute(0, 3, 1, 2).float() / 255 - mean) / std,
                input_ids=tokens_BT,
                attention_mask=(tokens_BT != 0).long(),
            )
            for row, (place, part) in enumerate(asked):
                boxes[place].append(xyxy(seen.pred_boxes[row]))
                scores[place].append(scored(seen.logits[row], part))
        return [found_of(boxes[place], scores[place], phrases[place], params) for place in range(len(images))]

    return Detector(prepare, find, cut=texts.cut)


def prepare(image_HW3: np.ndarray) -> np.ndarray:
    """A uint8 image at the network's size, aspect kept, by PIL's bilinear."""
    height, width = get_size_with_aspect_ratio(image_HW3.shape[:2], SHORTEST, LONGEST)
    return np.asarray(Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BILINEAR))


def scored(logits_NT: torch.Tensor, part: Sequence[Sequence[int]]) -> torch.Tensor:
    """Scores of the boxes [N, P] by the phrases of a text, from those by its tokens; a phrase without tokens is never found."""
    found, start = [], 1
    for tokens in part:
        own_NT = logits_NT[:, start : start + len(tokens)]
        found.append(own_NT.sigmoid().amax(1) if len(tokens) else torch.zeros_like(logits_NT[:, 0]))
        start += len(tokens) + 1
    return torch.stack(found, 1)


def found_of(
    boxes: Sequence[torch.Tensor], scores: Sequence[torch.Tensor], phrases: Sequence[str], params: Params
) -> Detections:
    """What is found by all texts of an image, each with boxes of its own."""
    if not boxes:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [])
    parts, start = [], 0
    for some_N4, by_NP in zip(boxes, scores, strict=True):
        parts.append(chosen(some_N4, by_NP, phrases[start : start + by_NP.shape[1]], params))
        start += by_NP.shape[1]
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(-np.concatenate([part.scores_N for part in parts]), kind="stable")
    labels = [label for part in parts for label in part.labels]
    return Detections(
        np.concatenate([part.boxes_N4 for part in parts])[order],
        np.concatenate([part.scores_N for part in parts])[order],
        [labels[place] for place in order],
    )


class Texts:
    """Phrases as BERT's tokens, each phrase encoded once; what would part it in two (dots, question marks) is left out."""

    def __init__(self, vocabulary: Path, longest: int) -> None:
        if not vocabulary.is_file():
            raise InputError(f"{vocabulary}: no such file; expected BERT's vocabulary beside GroundingDINO's weights")
        self._tokenizer = BertTokenizer(vocab=str(vocabulary))
        if odd := [
            word for word, number in SEPARATORS.items() if self._tokenizer.convert_tokens_to_ids(word) != number
        ]:
            raise InputError(
                f"{vocabulary}: not BERT's: {odd[0]!r} is not its token {SEPARATORS[odd[0]]}, which parts phrases"
            )
        self._longest = longest - 3  # the first and last token, and a dot
        self._known: dict[str, list[int]] = {}

    def tokens(self, phrase: str) -> list[int]:
        """Of a phrase, at most as many as a text holds."""
        return self._whole(phrase)[: self._longest]

    def _whole(self, phrase: str) -> list[int]:
        if phrase not in self._known:
            numbers = self._tokenizer.encode(phrase, add_special_tokens=False)
            self._known[phrase] = [number for number in numbers if number not in SEPARATORS.values()]
        return self._known[phrase]

    def cut(self, phrases: Sequence[str]) -> np.ndarray:
        """Which phrases are longer than a text, bool [N]."""
        return np.array([len(self._whole(phrase)) > self._longest for phrase in phrases], bool)

    def parts(self, phrases: Sequence[str]) -> list[list[list[int]]]:
        """The phrases' tokens, in order, as many texts as they need."""
        found: list[list[list[int]]] = []
        for tokens in map(self.tokens, phrases):
            held = sum(len(one) + 1 for one in found[-1]) if found else 0
            if not found or held + len(tokens) + 1 > self._longest + 1:
                found.append([])
            found[-1].append(tokens)
        return found

    def joined(self, parts: Sequence[Sequence[Sequence[int]]]) -> torch.Tensor:
        """Texts as tokens [B, T]: each phrase and a dot, between the first and last token; filled up with 0."""
        rows = [[FIRST, *(number for tokens in part for number in [*tokens, DOT]), LAST] for part in parts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
