"""Model folders, loaded exactly or not at all, and written; `formats.checksums` verifies them before."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from formats.checksums import SUMS, read_sums, write_sums
from formats.containers import LEGACY_PICKLE, SAFETENSORS, ZIP_PICKLE, container
from formats.files import InputError, read_json, sha256


def write_model(base: str | Path, unet: Any, out: str | Path) -> None:
    """Write a model folder with the files of `base`, but another U-Net; its SHA256SUMS last: it is whole or unusable.

    Raises InputError where `out` is a model folder already, or `base` has no SHA256SUMS.
    """
    base, out = Path(base), Path(out)
    if (out / SUMS).exists():
        raise InputError(f"{out / SUMS}: is there already; remove the folder to write another model there")
    sums = {name: digest for name, digest in read_sums(base).items() if not name.startswith("unet/")}
    for name in sums:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, out / name)
    # Where the U-Net was loaded from says nothing about it, and would make its hash depend on the place.
    unet.register_to_config(_name_or_path="")
    unet.save_pretrained(out / "unet")
    sums |= {path.relative_to(out).as_posix(): sha256(path) for path in sorted((out / "unet").iterdir())}
    write_sums(out, sums)


def load_pretrained(kind: Any, folder: Path, **options: Any) -> Any:
    """What `kind.from_pretrained` makes of a folder on this machine; whatever is wrong there is an InputError of one line."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # damaged JSON, pickles, archives and vocabularies raise errors without a common base
        raise InputError(f"{folder}: cannot be loaded as {kind.__name__}: {_first_line(error)}") from error


def load_frozen(kind: Any, folder: str | Path, component: str) -> Any:
    """One component of a model folder in float32, frozen, in evaluation mode; `kind` is its model class.

    Raises InputError when a weight is missing, unexpected or of another shape than the configuration says.
    """
    path = Path(folder) / component
    config = read_json(path / "config.json")
    if config.get("use_gated_attention"):
        # The flag of GLIGEN's own fork: diffusers would drop it and load a U-Net that ignores boxes.
        raise InputError(f'{path}/config.json: replace the flag `use_gated_attention` by "attention_type": "gated"')
    # transformers would otherwise keep the precision of the file, diffusers would not.
    precision = "dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"
    options = {precision: torch.float32, "output_loading_info": True}
    options |= _stored(path)
    model, info = load_pretrained(kind, path, **options)
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, info.get(fault, ())))
        if names:
            raise InputError(f"{path}: {len(names)} {fault.replace('_', ' ')}, the first is {names[0]}")
    return model.eval().requires_grad_(False)


def _stored(path: Path) -> dict[str, Any]:
    """How a component's weights are stored, as options of the loaders: safetensors before pickles, which are read without
    running what is in them; the .fp16. files where these are all there are, as a half-precision download leaves them.
    """
    names = [file.name for file in path.iterdir() if file.suffix in (".safetensors", ".bin")]
    if not names:
        raise InputError(f"{path}: no weights there, expected a .safetensors or .bin file")
    safe = [name for name in names if name.endswith(".safetensors")]
    half = all(".fp16" in name for name in safe or names)
    for name in safe or names:
        if half or ".fp16" not in name:
            _check_container(path / name)
    return {"use_safetensors": bool(safe), "variant": "fp16" if half else None}


def _check_container(path: Path) -> None:
    """A page or another file under a name of weights is told by its content: the loaders' own words mislead there."""
    found = container(path)
    expected = (SAFETENSORS,) if path.suffix == ".safetensors" else (ZIP_PICKLE, LEGACY_PICKLE)
    if found not in expected:
        raise InputError(f"{path.parent}: cannot be loaded: {path.name} is {found}, expected {' or '.join(expected)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
