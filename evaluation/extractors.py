"""Feature networks: an extractor turns uint8 images into float32 features and says by which network and resize.

Kinds: `small_features` and `open_clip` for the miniature, `inception_clean`, `inception_legacy` and `open_clip` at paper
scale. Weights are checked against a SHA-256 from the config, or from SHA256SUMS beside them, before they are used.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from PIL import Image
from torch import nn
from torch.func import functional_call

from evaluation.sizes import BATCH
from evaluation.weight_files import read_weights
from formats.checksums import SUMS, stated_sha256
from formats.files import InputError, sha256

SIZE = 64
# What OpenAI's archives hold beside the tensors: sizes, as tensors of one number.
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")
ImageBatch = Sequence[np.ndarray]


@dataclass(frozen=True)
class Extractor:
    """`features(images)`: uint8 images [H, W, 3] of any sizes to float32 [N, D]; `texts(strings)` likewise for CLIP.

    `cut(strings)`: which texts, bool [N], are longer than the `context` tokens that CLIP reads, start and end included.
    """

    name: str
    resize: str
    sha256: str
    features: Callable[[ImageBatch], np.ndarray]
    texts: Callable[[Sequence[str]], np.ndarray] | None = None
    cut: Callable[[Sequence[str]], np.ndarray] | None = None
    context: int | None = None


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


def load_extractor(stanza: dict[str, Any]) -> Extractor:
    """The extractor of a config stanza; raises InputError for an unknown kind or for weights that are not as promised."""
    kinds = {
        "small_features": _small_features,
        "open_clip": _open_clip,
        "inception_clean": _inception,
        "inception_legacy": _inception,
    }
    if stanza["kind"] not in kinds:
        raise InputError(f"extractors.{stanza['name']}: kind {stanza['kind']!r} is not one of {', '.join(kinds)}")
    return kinds[stanza["kind"]](stanza, verified(stanza))


def verified(stanza: dict[str, Any]) -> str:
    """SHA-256 of the stanza's weights, after comparing it with the one expected."""
    path = Path(stanza["path"])
    if not path.is_file():
        raise InputError(f"{path}: no such file (weights of extractor {stanza['name']})")
    expected, found = stanza.get("sha256") or stated_sha256(path), sha256(path)
    if expected is None:
        raise InputError(
            f"{path.parent / SUMS}: no line for {path.name}; give its sha256 in the config's extractors stanza"
        )
    if found != expected:
        raise InputError(
            f"{path}: sha256 {found}, expected {expected}; the weights were changed, or give another file's own sha256"
        )
    return found


def squash(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a square with PIL's antialiased bicubic, aspect ignored: uint8 [size, size, 3]."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


@torch.no_grad()
def _batched(work: Callable[[Any], torch.Tensor], items: Sequence[Any]) -> np.ndarray:
    """Apply `work` to items in batches of BATCH; float32 [N, D], or [0, 0] without items."""
    parts = [work(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    return torch.cat(parts).float().numpy() if parts else np.zeros((0, 0), np.float32)


def _small_features(stanza: dict[str, Any], digest: str) -> Extractor:
    network = SmallFeatures()
    network.load_state_dict(read_weights(Path(stanza["path"]), "the small feature network", network.state_dict()))
    network.eval()

    def work(images: ImageBatch) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([squash(image, SIZE) for image in images])).permute(0, 3, 1, 2)
        return network(pixels.float() / 127.5 - 1)

    return Extractor(stanza["name"], f"bicubic {SIZE}", digest, lambda images: _batched(work, images))


def build_clip(config: Path) -> nn.Module:
    """An untrained open_clip model from the JSON of its architecture."""
    architecture = json.loads(Path(config).read_text())
    return open_clip.CLIP(**architecture)


def clip_tokenizer(config: Path) -> open_clip.SimpleTokenizer:
    """open_clip's own tokenizer: texts to tokens_BT, cut at the model's context length."""
    length = json.loads(Path(config).read_text())["text_cfg"]["context_length"]
    return open_clip.SimpleTokenizer(context_length=length)


def _open_clip(stanza: dict[str, Any], digest: str) -> Extractor:
    model, tokenizer = _load_clip(stanza)
    model.eval()
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    plain = stanza["model"].endswith(".json")  # the miniature's towers take -1..1

    def work(images: ImageBatch) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([squash(image, size) for image in images])).permute(0, 3, 1, 2).float() / 255
        return model.encode_image(pixels * 2 - 1 if plain else (pixels - mean) / std, normalize=True)

    def texts(strings: Sequence[str]) -> np.ndarray:
        return _batched(lambda some: encode_texts(model, tokenizer(some)), strings)

    def cut(strings: Sequence[str]) -> np.ndarray:
        return np.array([len(tokenizer.encode(text)) + 2 > model.context_length for text in strings], bool)

    def features(images: ImageBatch) -> np.ndarray:
        return _batched(work, images)

    return Extractor(stanza["name"], f"bicubic {size}", digest, features, texts, cut, model.context_length)


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


def _load_clip(stanza: dict[str, Any]) -> tuple[Any, open_clip.SimpleTokenizer]:
    """The model of a config JSON, or an open_clip architecture with OpenAI's weights.

    `ViT-B-32` with OpenAI's weights needs its -quickgelu name: with a local file open_clip would not even warn.
    """
    name = stanza["model"]
    if name.endswith(".json"):
        model = build_clip(Path(name))
        model.load_state_dict(read_weights(Path(stanza["path"]), name, model.state_dict()))
        return model, clip_tokenizer(Path(name))
    if not name.endswith("quickgelu"):
        raise InputError(f"extractors.{stanza['name']}: OpenAI's weights need a -quickgelu model, found {name!r}")
    if open_clip.get_model_config(name) is None:
        raise InputError(f"extractors.{stanza['name']}: model {name!r} is not one of open_clip's")
    return _large_clip(name, Path(stanza["path"])), open_clip.get_tokenizer(name)


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
    if torch.backends.mkldnn.is_available():
        for block in filter(lambda module: isinstance(module, ResidualAttentionBlock), model.modules()):
            block.mlp.c_fc.__class__ = block.mlp.c_proj.__class__ = OneDnnLinear
    return model


def _inception(stanza: dict[str, Any], digest: str) -> Extractor:
    from evaluation.inception import inception_features

    mode = stanza["kind"].removeprefix("inception_")
    work = inception_features(Path(stanza["path"]), mode)
    return Extractor(stanza["name"], f"clean-fid {mode} 299", digest, lambda images: _batched(work, images))
