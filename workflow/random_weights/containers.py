"""Tensors into the container of a published file, as its own program wrote it."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from formats.containers import LEGACY_PICKLE, SAFETENSORS, TORCHSCRIPT, ZIP_PICKLE


def write_tensors(state: dict[str, torch.Tensor], container: str, path: Path) -> None:
    """Write a table of tensors into one file; `container` is one of formats.containers.CONTAINERS."""
    writers = {
        SAFETENSORS: lambda: save_file(state, path, metadata={"format": "pt"}),
        ZIP_PICKLE: lambda: torch.save(state, path),
        LEGACY_PICKLE: lambda: torch.save(state, path, _use_new_zipfile_serialization=False),
        TORCHSCRIPT: lambda: torch.jit.script(as_modules(state)).save(path),
    }
    writers[container]()


def as_modules(state: dict[str, torch.Tensor]) -> nn.Module:
    """Nested modules with the tensors of a table at their names, and no program: what an archive holds beside its code."""
    top = nn.Module()
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = top
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        if value.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(leaf, value)
    return top
