"""Features on disk, read back without the networks that made them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.files import InputError


def read_features(paths: Sequence[Path]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a method's shards, concatenated, and what `about` says of all; raises InputError naming a shard."""
    shards, abouts = [], []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                shards.append({name: arrays[name] for name in arrays.files if name != "about"})
                abouts.append(json.loads(str(arrays["about"])))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not readable features ({error}); delete it and run again") from None
        if abouts[-1] != abouts[0]:
            raise InputError(f"{path}: other networks than {paths[0]} ({abouts[-1]}); delete both and run again")
        bad = [
            name for name, values in shards[-1].items() if values.dtype.kind == "f" and not np.isfinite(values).all()
        ]
        if bad:
            raise InputError(f"{path}: {bad[0]} is not finite")
    return {name: _joined([shard[name] for shard in shards]) for name in shards[0]}, abouts[0]


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Rows of all shards; a shard without regions has features of no width."""
    return np.concatenate([array for array in arrays if len(array)] or arrays[:1])
