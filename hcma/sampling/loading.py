"""A method's specification to a method that is ready to run: its module, and the verified weights and artefacts it runs on."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from formats.checksums import folder_sha256
from formats.device import take_device
from formats.files import InputError
from formats.layouts import Layout
from formats.modules import imported
from formats.params import from_keys
from hcma.sampling.diffusion import Diffusion, Sampling, load_diffusion
from hcma.sampling.spec import Spec, SpecError, artefact_sha256


@dataclass(frozen=True)
class Method:
    """A method ready to run: its module, its Params, the model it runs on, what the module's `load` made of the artefacts, and
    the hashes of the weights and artefacts."""

    module: Any
    params: Any
    sd: Diffusion
    state: Any = None
    weights: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def exact(self) -> "Method":
        """The same method on its model in float32, opened when first asked for: it makes again what half precision spoils."""
        if self.sd.sampling.precision == "float32" or self.sd.folder is None:
            return self
        sampling = replace(self.sd.sampling, precision="float32")
        return replace(self, sd=open_model(self.module, self.sd.folder, sampling, self.params, self.sd.device))

    def generate(self, layouts: Sequence[Layout], noise_BCHW: torch.Tensor) -> torch.Tensor:
        """The module's images; one that has `load` gets its state after the params."""
        state = (self.state,) if hasattr(self.module, "load") else ()
        return self.module.generate(self.sd, layouts, noise_BCHW, self.params, *state)


def load_method(spec: Spec, device: str) -> Method:
    """Import a method's module, check its parameters, then verify and load what it runs on."""
    module = _import(spec)
    params = from_keys(module.Params, spec.params, f"method {spec.method}, params")
    sampling = from_keys(Sampling, spec.sampling, f"method {spec.method}, sampling")
    weights = {"model": folder_sha256(spec.model)}
    _expect(spec, f"{spec.model}/SHA256SUMS", weights["model"], spec.weights_sha256)
    for name, artefact in spec.artefacts.items():
        weights[name] = artefact_sha256(artefact.path)
        _expect(spec, artefact.path, weights[name], artefact.sha256)
    quiet_loading()
    sd = open_model(module, spec.model, sampling, params, take_device(device))
    state = module.load(spec.artefacts, sd) if hasattr(module, "load") else None
    return Method(module, params, sd, state, weights)


def open_model(
    module: Any, folder: str | Path, sampling: Sampling, params: Any, device: str | torch.device
) -> Diffusion:
    """The model in a folder, verified, as the module opens it itself, or as `load_diffusion` does for all that do not."""
    if hasattr(module, "open_model"):
        return module.open_model(folder, sampling, params, torch.device(device))
    return load_diffusion(folder, sampling, device)


def _expect(spec: Spec, path: str, found: str | None, expected: str | None) -> None:
    if expected not in (None, found):
        raise InputError(f"{path}: sha256 is {found}, but method {spec.method} was specified with {expected}")


def _import(spec: Spec) -> Any:
    module = imported(spec.module)
    if module is None:
        raise SpecError(f"method {spec.method}: no module {spec.module!r}")
    for name in ("Params", "generate", *(["load"] if spec.artefacts else [])):
        if not hasattr(module, name):
            raise SpecError(f"method {spec.method}: module {spec.module!r} has no {name}")
    return module


def quiet_loading() -> None:
    """Leave stderr to this program's own progress bar."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
