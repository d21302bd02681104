"""A method's specification to a method that is ready to run: its module, and the verified weights that it runs on."""

import importlib
from dataclasses import dataclass
from typing import Any

from formats.checksums import folder_sha256
from formats.files import InputError, sha256
from hcma.alignment import load_alignment
from hcma.sampling.device import take_device
from hcma.sampling.diffusion import Diffusion, Sampling, load_diffusion
from hcma.sampling.spec import Spec, SpecError, from_keys
from hcma.sampling.text import load_text_features


@dataclass(frozen=True)
class Method:
    """A method ready to run: its module, its Params, the model it runs on, and the hashes of the weights in it."""

    module: Any
    params: Any
    sd: Diffusion
    weights: dict[str, str | None]


def load_method(spec: Spec, device: str) -> Method:
    """Import a method's module, check its parameters, then verify and load what it runs on."""
    module = _import(spec)
    params = from_keys(module.Params, spec.params, f"method {spec.method}, params")
    sampling = from_keys(Sampling, spec.sampling, f"method {spec.method}, sampling")
    weights: dict[str, str | None] = {"model": folder_sha256(spec.model), "alignment": None}
    _expect(spec, f"{spec.model}/SHA256SUMS", weights["model"], spec.weights_sha256)
    if spec.alignment is not None:
        weights["alignment"] = sha256(spec.alignment)
        _expect(spec, spec.alignment, weights["alignment"], spec.alignment_sha256)
    if spec.text is not None:
        weights["text"] = folder_sha256(spec.text)
        _expect(spec, f"{spec.text}/SHA256SUMS", weights["text"], spec.text_sha256)
    quiet_loading()
    sd = load_diffusion(spec.model, sampling, take_device(device))
    if spec.text is not None:
        sd.target_encoder = load_text_features(spec.text, spec.text_feature, sd.device)
    if spec.alignment is not None:
        sd.alignment = load_alignment(spec.alignment).to(sd.device)
    return Method(module, params, sd, weights)


def _expect(spec: Spec, path: str, found: str | None, expected: str | None) -> None:
    if expected not in (None, found):
        raise InputError(f"{path}: sha256 is {found}, but method {spec.method} was specified with {expected}")


def _import(spec: Spec) -> Any:
    try:
        module = importlib.import_module(spec.module)
    except ModuleNotFoundError as error:
        if not f"{spec.module}.".startswith(f"{error.name}."):
            raise
        raise SpecError(f"method {spec.method}: no module {spec.module!r}") from None
    for name in ("Params", "generate"):
        if not hasattr(module, name):
            raise SpecError(f"method {spec.method}: module {spec.module!r} has no {name}")
    return module


def quiet_loading() -> None:
    """Leave stderr to this program's own progress bar."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
