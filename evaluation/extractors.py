"""Feature networks: an extractor turns uint8 images into float32 features and says by which network and resize.

It works in two steps, so that the first can be done by other processes while a GPU does the second: `prepare` resizes one image
with numpy and PIL, `encode` runs the network on a batch of them, on the extractor's device. The networks themselves are modules
of evaluation.networks, or one's own. Weights are checked against a SHA-256 from the config, or from SHA256SUMS beside them,
before they are used.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evaluation import networks
from evaluation.networks import BATCH, NO_PARAMS, NoParams, Stanza, described, known
from formats.checksums import SUMS, stated_sha256, verify_folder
from formats.files import InputError, sha256
from formats.modules import find_module
from formats.params import from_keys

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = PRECISIONS = ("float32", "bfloat16")
ImageBatch = Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What every network has that was loaded: filled in by `built` for those that a module makes.

    name: the stanza's; sha256: of its weights; precision: of its products; params: the module's.
    """

    name: str = ""
    sha256: str = ""
    device: torch.device = CPU
    precision: str = FLOAT32
    params: Any = NO_PARAMS


@dataclass(frozen=True)
class Extractor(Loaded):
    """resize: how `prepare` does it, for tables. `prepare(image)`: a uint8 image [H, W, 3] of any size to the network's input
    [S, S, 3]; it can be pickled.

    `encode(inputs_BSS3)`: features_BD in float32 of inputs on the device. `texts(strings)`: likewise of texts, for CLIP, as an
    array; `cut(strings)`: which texts, bool [N], are longer than the `context` tokens that CLIP reads, start and end included.

    What `load_extractor` gives takes inputs from anywhere, without gradients and in the stanza's precision; it has `least`.
    """

    resize: str
    prepare: Callable[[np.ndarray], np.ndarray]
    encode: Callable[[torch.Tensor], torch.Tensor]
    texts: Callable[[Sequence[str]], np.ndarray] | None = None
    cut: Callable[[Sequence[str]], np.ndarray] | None = None
    context: int | None = None
    least: int = 2

    def features(self, images: ImageBatch) -> np.ndarray:
        """float32 features [N, D] of uint8 images [H, W, 3] of any sizes; [0, 0] without images."""
        return batched(lambda some: self.encode(stacked([self.prepare(image) for image in some])), images)


def load_extractor(stanza: dict[str, Any], device: torch.device = CPU, key: str = "") -> Extractor:
    """The extractor of a config stanza on a device; raises InputError for another kind or weights not as promised."""
    made = built("extractor", stanza, device, key)
    encode = runner(made.encode, made.precision, device)
    least = stanza.get("least") or (2 if key in networks.ROLES else networks.LEAST)
    return replace(made, encode=lambda inputs: encode(inputs).float(), least=least)


def built(function: str, stanza: dict[str, Any], device: torch.device, key: str = "") -> Any:
    """What the module of the stanza's kind makes of it by that function, a Loaded; raises InputError."""
    key, kind = key or stanza["name"], stanza["kind"]
    described_as = described(kind)
    if described_as is None or described_as.measures != networks.FUNCTIONS[function]:
        of_it = [name for name in known() if networks.measured_by(name) == networks.FUNCTIONS[function]]
        raise InputError(
            f"extractors.{key}: kind {kind!r} is not one of {', '.join(of_it)}, nor a module's dotted name with `{function}`"
        )
    module = find_module("network", kind, networks.__name__, function, lambda: list(known()))
    where = f"extractors.{key}.params"
    params = from_keys(getattr(module, "Params", NoParams), stanza.get("params") or {}, where)
    precision = precision_of(stanza, key)
    if not stanza.get("path") and described_as.own:
        path, digest = described_as.source, sha256(described_as.source)
    else:
        path = Path(stanza["path"])
        digest = verified_folder(stanza, key) if described_as.folder else verified(stanza)
    given = Stanza(key, kind, stanza["name"], path, stanza.get("model") or "", precision)
    made = getattr(module, function)(given, params, device)
    return replace(made, name=given.name, sha256=digest, device=device, precision=precision, params=params)


def stacked(prepared: Sequence[np.ndarray]) -> torch.Tensor:
    """Prepared images [S, S, 3] as one batch [B, S, S, 3]."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(prepared)))


def precision_of(stanza: dict[str, Any], key: str = "") -> str:
    """The precision of a stanza's products, float32 unless it says otherwise; raises InputError for one that there is not."""
    found = stanza.get("precision", FLOAT32)
    if found not in PRECISIONS:
        where = key or stanza["name"]
        raise InputError(f"extractors.{where}: precision {found!r} is not one of {', '.join(PRECISIONS)}")
    return found


def runner(work: Callable[..., Any], precision: str, device: torch.device) -> Callable[..., Any]:
    """`work` without gradients and in a precision, its first argument, if a tensor, brought to the device."""
    half = precision == BFLOAT16

    def run(inputs: Any, *others: Any) -> Any:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            there = inputs.to(device, non_blocking=True) if isinstance(inputs, torch.Tensor) else inputs
            return work(there, *others)

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


def verified_folder(stanza: dict[str, Any], key: str) -> str:
    """SHA-256 of the folder of the stanza's weights, all of whose files are checked; raises InputError."""
    path = Path(stanza["path"])
    if not path.is_file():
        raise InputError(f"{path}: no such file (weights of extractor {stanza['name']})")
    if stated_sha256(path) is None:
        raise InputError(
            f"extractors.{key}: {path.parent / SUMS}: no line for {path.name}, but {stanza['kind']} reads the files beside it"
            f" too; if they are right, write it once: python -m workflow.fetch seal {path.parent}"
        )
    return verify_folder(path.parent)


def squash(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a square with PIL's antialiased bicubic, aspect ignored: uint8 [size, size, 3]."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def batched(work: Callable[[Any], torch.Tensor], items: Sequence[Any]) -> np.ndarray:
    """Apply `work` to items in batches of BATCH; float32 [N, D], or [0, 0] without items."""
    parts = [work(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    return torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, 0), np.float32)
