"""Models of transformers from a folder of the hub whose files were verified: whole, in float32, and without a word."""

from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from formats.containers import SAFETENSORS, container
from formats.files import InputError

WEIGHTS = "model.safetensors"


def load_pretrained(kind: Any, weights: Path, device: torch.device) -> Any:
    """A model of a class of transformers from the folder of its weights, evaluating, on a device.

    Raises InputError for another file, and for tensors of another network, which transformers would make up.
    """
    what = f"{weights}: not {kind.__name__}'s weights"
    found = container(weights)
    if found != SAFETENSORS or weights.name != WEIGHTS:
        raise InputError(f"{what}: {found} named {weights.name}; expected {SAFETENSORS} named {WEIGHTS}")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        model, told = kind.from_pretrained(
            weights.parent, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what}, or a config.json beside them of another network ({reason})") from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    faults = {
        "missing": sorted(told["missing_keys"]),
        "unknown": sorted(told["unexpected_keys"]),
        "of another shape": sorted(str(fault[0]) for fault in told["mismatched_keys"]),
    }
    if said := [f"{len(names)} tensors are {how}, the first {names[0]}" for how, names in faults.items() if names]:
        raise InputError(f"{what}: {'; '.join(said)}")
    return model.to(device).eval()
