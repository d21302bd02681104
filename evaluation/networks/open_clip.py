"""CLIP by open_clip: features of images and of texts, both of unit length."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn
from torch.func import functional_call

from evaluation.extractors import FLOAT32, Extractor, batched, runner, squash
from evaluation.networks import Stanza
from evaluation.weight_files import read_weights
from formats.files import InputError

# What OpenAI's archives hold beside the tensors: sizes, as tensors of one number.
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")


def build_clip(config: Path) -> nn.Module:
    """An untrained open_clip model from the JSON of its architecture."""
    architecture = json.loads(Path(config).read_text())
    return open_clip.CLIP(**architecture)


def clip_tokenizer(config: Path) -> open_clip.SimpleTokenizer:
    """open_clip's own tokenizer: texts to tokens_BT, cut at the model's context length."""
    length = json.loads(Path(config).read_text())["text_cfg"]["context_length"]
    return open_clip.SimpleTokenizer(context_length=length)


def extractor(stanza: Stanza, params: Any, device: torch.device) -> Extractor:
    """CLIP's image and text towers; whole images and regions squashed to its size."""
    model, tokenizer = _load_clip(stanza, device)
    model.to(device).eval()
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    colours = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, std = (torch.tensor(v).view(3, 1, 1).to(device) for v in colours)
    plain = stanza.model.endswith(".json")  # the miniature's towers take -1..1

    def encode(images_BHW3: torch.Tensor) -> torch.Tensor:
        pixels = images_BHW3.permute(0, 3, 1, 2).float() / 255
        return model.encode_image(pixels * 2 - 1 if plain else (pixels - mean) / std, normalize=True)

    encode_tokens = runner(lambda tokens_BT: encode_texts(model, tokens_BT).float(), stanza.precision, device)

    def texts(strings: Sequence[str]) -> np.ndarray:
        return batched(lambda some: encode_tokens(tokenizer(some)), strings)

    cut = longer_than(tokenizer, model.context_length)
    prepare = partial(squash, size=size)
    return Extractor(f"bicubic {size}", prepare, encode, texts, cut, model.context_length)


def longer_than(tokenizer: open_clip.SimpleTokenizer, context: int) -> Callable[[Sequence[str]], np.ndarray]:
    """Which texts, bool [N], have more tokens than a context, start and end included."""
    return lambda strings: np.array([len(tokenizer.encode(text)) + 2 > context for text in strings], bool)


def encode_texts(model: Any, tokens_BT: torch.Tensor) -> torch.Tensor:
    """What `model.encode_text` makes of the tokens, [B, D] of unit length, from the positions up to the longest text's end.

    A causal tower that reads a text at its end, the largest token, never sees the padding behind it.
    """
    if getattr(model, "text_pool_type", None) != "argmax" or model.attn_mask is None:
        return model.encode_text(tokens_BT, normalize=True)
    longest = int(tokens_BT.argmax(1).max()) + 1
    shorter = {
        "positional_embedding": model.positional_embedding[:longest],
        "attn_mask": model.attn_mask[:longest, :longest],
    }
    return functional_call(model, shorter, kwargs={"text": tokens_BT[:, :longest]})[1]


def _load_clip(stanza: Stanza, device: torch.device) -> tuple[Any, open_clip.SimpleTokenizer]:
    """The model of a config JSON, or an open_clip architecture with OpenAI's weights.

    `ViT-B-32` with OpenAI's weights needs its -quickgelu name: with a local file open_clip would not even warn.
    """
    name = stanza.model
    if name.endswith(".json"):
        model = build_clip(Path(name))
        model.load_state_dict(read_weights(stanza.path, name, model.state_dict()))
        return model, clip_tokenizer(Path(name))
    if not name.endswith("quickgelu"):
        raise InputError(f"extractors.{stanza.key}: OpenAI's weights need a -quickgelu model, found {name!r}")
    if open_clip.get_model_config(name) is None:
        raise InputError(f"extractors.{stanza.key}: model {name!r} is not one of open_clip's")
    model = _large_clip(name, stanza.path)
    if device.type == "cpu" and stanza.precision == FLOAT32 and torch.backends.mkldnn.is_available():
        for block in model.modules():
            if isinstance(block, ResidualAttentionBlock):
                block.mlp.c_fc.__class__ = block.mlp.c_proj.__class__ = OneDnnLinear
    return model, open_clip.get_tokenizer(name)


class OneDnnLinear(nn.Linear):
    """nn.Linear by oneDNN, float32 as before: as fast as MKL on Intel's processors, twice as fast on AMD's; no gradients."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (part.to_mkldnn() for part in (x, self.weight, self.bias))
        return torch.ops.aten.mkldnn_linear(*parts).to_dense()


def _large_clip(name: str, weights: Path) -> nn.Module:
    """open_clip's model of a name with the weights of a file, such as OpenAI's archive (half precision in part), in float32.

    open_clip's own loading holds a model two or three times, and its reader refuses OpenAI's archives; here the model's
    weights are the file's from the start.
    """
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(name))
    model.load_state_dict(read_weights(weights, name, model.state_dict(), beside=OPENAI_NUMBERS), assign=True)
    model.attn_mask = torch.full(model.attn_mask.shape, -torch.inf).triu(1)  # no file has it
    return model
