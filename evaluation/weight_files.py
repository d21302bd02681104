"""Files of weights as they are published: TorchScript archives, pickles of both kinds and safetensors, told apart by content.

A suffix says nothing: OpenAI's CLIP is a TorchScript archive named .pt, torchvision's detector a zip of a pickle named .pth,
and the FID Inception, of the same suffix, a pickle from before those zips.
"""

import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from evaluation.files import InputError

TORCHSCRIPT, ZIP_PICKLE, LEGACY_PICKLE, SAFETENSORS = (
    "TorchScript archive",
    "zip pickle",
    "legacy pickle",
    "safetensors",
)
CONTAINERS = (TORCHSCRIPT, ZIP_PICKLE, LEGACY_PICKLE, SAFETENSORS)
# torch.save's number 0x1950a86a20f9469cfc6c, as the first pickle of its format from before zips.
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
# What files from before torch 0.4.1 lack, and the networks here never read.
COUNTER = "num_batches_tracked"


def container(path: Path) -> str:
    """One of CONTAINERS, or what the file is instead, such as "an HTML page"."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.startswith(LEGACY_MAGIC):
        return LEGACY_PICKLE
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return SAFETENSORS
    if not head:
        return "an empty file"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "an HTML page"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file itself"
    return f"no file of weights (it begins with {head[:8]!r})"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            # Every name begins with a folder of the archive's own name.
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "a zip archive that is cut off or damaged"
    if "data.pkl" not in names:
        return "a zip archive of other files"
    scripted = "constants.pkl" in names and any(name.startswith("code/") for name in names)
    return TORCHSCRIPT if scripted else ZIP_PICKLE


def read_weights(
    path: Path, what: str, like: Mapping[str, torch.Tensor], beside: Collection[str] = ()
) -> MutableMapping[str, torch.Tensor]:
    """The tensors of a file whose SHA-256 was verified, those of `like` in names and shapes, in float32 (integers as stored).

    `like` is a network's state_dict, which may be on the meta device; `beside` are entries that are dropped; `what` names the
    network in messages. Raises InputError with the container found, the one expected and the tensors that differ.
    """
    found = container(path)
    if found not in CONTAINERS:
        raise InputError(f"{path}: not {what}'s weights: {found}; expected one of {', '.join(CONTAINERS)}")
    try:
        state = _unwrapped(_load(path, found))
    except Exception as error:  # what a damaged archive or pickle makes its readers raise has no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not {what}'s weights: a {found} that cannot be read ({reason})") from None
    for name in beside:
        state.pop(name, None)
    if faults := _faults(state, like):
        raise InputError(f"{path}: not {what}'s weights: a {found} in which {'; '.join(faults)}")
    for name, value in state.items():  # one after another: the file's precision and float32 are never both there whole
        state[name] = value.float() if value.is_floating_point() else value
    return state


def _load(path: Path, found: str) -> object:
    if found == SAFETENSORS:
        return load_file(path)
    if found == TORCHSCRIPT:
        # An archive holds programs. torch.load refuses it for that reason; torch.jit.load runs none of them, but its reader is
        # not made for strangers' files: the hash, which is checked before, is what makes this one known.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated, and published archives remain
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location="cpu").state_dict()
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(content: object) -> MutableMapping[str, torch.Tensor]:
    """The tensors alone of a training checkpoint, and without the prefix that parallel training leaves."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError("it holds no table of tensors")
    if content and all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return content


def _faults(state: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [name for name in like if name not in state and not name.endswith(COUNTER)]
    unknown = [name for name in state if name not in like]
    shaped = [name for name in like if name in state and state[name].shape != like[name].shape]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(like)} tensors are missing, the first {missing[0]}")
    if unknown:
        faults.append(f"{len(unknown)} are unknown, the first {unknown[0]}")
    if shaped:
        found, expected = (list(tensors[shaped[0]].shape) for tensors in (state, like))
        faults.append(f"{len(shaped)} have another shape, the first {shaped[0]} with {found}, expected {expected}")
    return faults
