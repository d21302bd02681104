"""Feature networks: an extractor turns uint8 images into float32 features and says by which network and resize.

It works in two steps, so that the first can be done by other processes while a GPU does the second: `prepare` resizes one image
with numpy and PIL, `encode` runs the network on a batch of them, on the extractor's device.

Kinds: `small_features` and `open_clip` for the miniature, `inception_clean`, `inception_legacy` and `open_clip` at paper
scale. Weights are checked against a SHA-256 from the config, or from SHA256SUMS beside them, before they are used.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
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
CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = PRECISIONS = ("float32", "bfloat16")
# What OpenAI's archives hold beside the tensors: sizes, as tensors of one number.
OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")
ImageBatch = Sequence[np.ndarray]


@dataclass(frozen=True)
class Extractor:
    """`prepare(image)`: a uint8 image [H, W, 3] of any size to the network's input [S, S, 3]; it can be pickled.

    `encode(inputs_BSS3)`: features_BD in float32, on `device`. `texts(strings)`: likewise of texts, for CLIP, as an array;
    `cut(strings)`: which texts, bool [N], are longer than the `context` tokens that CLIP reads, start and end included.
    """

    name: str
    resize: str
    sha256: str
    prepare: Callable[[np.ndarray], np.ndarray]
    encode: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[Sequence[str]], np.ndarray] | None = None
    cut: Callable[[Sequence[str]], np.ndarray] | None = None
    context: int | None = None
    device: torch.device = CPU
    precision: str = FLOAT32

    def features(self, images: ImageBatch) -> np.ndarray:
        """float32 features [N, D] of uint8 images [H, W, 3] of any sizes; [0, 0] without images."""
        return _batched(lambda some: self.encode(stacked([self.prepare(image) for image in some])), images)


def stacked(prepared: Sequence[np.ndarray]) -> torch.Tensor:
    """Prepared images [S, S, 3] as one batch [B, S, S, 3]."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(prepared)))


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


def load_extractor(stanza: dict[str, Any], device: torch.device = CPU) -> Extractor:
    """The extractor of a config stanza on a device; raises InputError for an unknown kind or weights not as promised."""
    kinds = {
        "small_features": _small_features,
        "open_clip": _open_clip,
        "inception_clean": _inception,
        "inception_legacy": _inception,
    }
    if stanza["kind"] not in kinds:
        raise InputError(f"extractors.{stanza['name']}: kind {stanza['kind']!r} is not one of {', '.join(kinds)}")
    found = kinds[stanza["kind"]](stanza, verified(stanza), device)
    return replace(found, device=device, precision=precision_of(stanza))


def precision_of(stanza: dict[str, Any]) -> str:
    """The precision of a stanza's products, float32 unless it says otherwise; raises InputError for one that there is not."""
    found = stanza.get("precision", FLOAT32)
    if found not in PRECISIONS:
        raise InputError(f"extractors.{stanza['name']}: precision {found!r} is not one of {', '.join(PRECISIONS)}")
    return found


def runner(
    work: Callable[[torch.Tensor], Any], stanza: dict[str, Any], device: torch.device
) -> Callable[[torch.Tensor], Any]:
    """`work` without gradients on what is brought to the device, in the stanza's precision."""
    half = precision_of(stanza) == BFLOAT16

    def run(inputs: torch.Tensor) -> Any:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            return work(inputs.to(device, non_blocking=True))

    return run


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


def _batched(work: Callable[[Any], torch.Tensor], items: Sequence[Any]) -> np.ndarray:
    """Apply `work` to items in batches of BATCH; float32 [N, D], or [0, 0] without items."""
    parts = [work(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    return torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, 0), np.float32)


def _small_features(stanza: dict[str, Any], digest: str, device: torch.device) -> Extractor:
    network = SmallFeatures()
    network.load_state_dict(read_weights(Path(stanza["path"]), "the small feature network", network.state_dict()))
    network.to(device).eval()

    def work(images_BHW3: torch.Tensor) -> torch.Tensor:
        return network(images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1).float()

    prepare = partial(squash, size=SIZE)
    return Extractor(stanza["name"], f"bicubic {SIZE}", digest, prepare, runner(work, stanza, device))


def build_clip(config: Path) -> nn.Module:
    """An untrained open_clip model from the JSON of its architecture."""
    architecture = json.loads(Path(config).read_text())
    return open_clip.CLIP(**architecture)


def clip_tokenizer(config: Path) -> open_clip.SimpleTokenizer:
    """open_clip's own tokenizer: texts to tokens_BT, cut at the model's context length."""
    length = json.loads(Path(config).read_text())["text_cfg"]["context_length"]
    return open_clip.SimpleTokenizer(context_length=length)


def _open_clip(stanza: dict[str, Any], digest: str, device: torch.device) -> Extractor:
    model, tokenizer = _load_clip(stanza, device)
    model.to(device).eval()
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    colours = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    mean, std = (torch.tensor(v).view(3, 1, 1).to(device) for v in colours)
    plain = stanza["model"].endswith(".json")  # the miniature's towers take -1..1

    def work(images_BHW3: torch.Tensor) -> torch.Tensor:
        pixels = images_BHW3.permute(0, 3, 1, 2).float() / 255
        return model.encode_image(pixels * 2 - 1 if plain else (pixels - mean) / std, normalize=True).float()

    encode_tokens = runner(lambda tokens_BT: encode_texts(model, tokens_BT).float(), stanza, device)

    def texts(strings: Sequence[str]) -> np.ndarray:
        return _batched(lambda some: encode_tokens(tokenizer(some)), strings)

    def cut(strings: Sequence[str]) -> np.ndarray:
        return np.array([len(tokenizer.encode(text)) + 2 > model.context_length for text in strings], bool)

    prepare, encode = partial(squash, size=size), runner(work, stanza, device)
    return Extractor(stanza["name"], f"bicubic {size}", digest, prepare, encode, texts, cut, model.context_length)


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


def _load_clip(stanza: dict[str, Any], device: torch.device) -> tuple[Any, open_clip.SimpleTokenizer]:
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
    model = _large_clip(name, Path(stanza["path"]))
    if device.type == "cpu" and precision_of(stanza) == FLOAT32 and torch.backends.mkldnn.is_available():
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


def _inception(stanza: dict[str, Any], digest: str, device: torch.device) -> Extractor:
    from evaluation.inception import Resize, inception_features

    mode = stanza["kind"].removeprefix("inception_")
    work = inception_features(Path(stanza["path"]), mode, device)
    encode = runner(lambda images_BHW3: work(images_BHW3).float(), stanza, device)
    return Extractor(stanza["name"], f"clean-fid {mode} 299", digest, Resize(mode), encode)
