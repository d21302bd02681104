"""The tensors of a published file of weights, whatever its container, held against the network that is to have them."""

import warnings
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from formats.containers import CONTAINERS, SAFETENSORS, TORCHSCRIPT, container
from formats.files import InputError

# What files from before torch 0.4.1 lack, and the networks here never read.
COUNTER = "num_batches_tracked"


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
