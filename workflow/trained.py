"""What is trained, calibrated and chosen for aligned rows: by the section `alignment`, and by each reading of it in a study."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from hcma.train_keys import MEMORY, NOISE
from workflow.settings import Alignment


@dataclass(frozen=True)
class Trained:
    """One reading of the section `alignment`.

    variant: of its paths, "" for the configuration's own. row, params, version: of the row whose update (8) is calibrated,
    and trained behind where there is a noise loss. after: the variant whose chosen multiple of eta it takes over, being
    that one with another training seed; None: it is chosen on held-out data.
    """

    variant: str
    alignment: Alignment
    row: str
    params: dict[str, Any]
    version: int
    after: str | None = None

    @property
    def noise_loss(self) -> bool:
        """Whether aligned rows run on a denoiser and a module that are trained further (denoiser.smk)."""
        return self.alignment.train.objective == "align+noise"

    @property
    def noise_trains(self) -> list[str]:
        """What the noise loss trains."""
        train = self.alignment.train
        parts = {train.train_denoiser: train.train_denoiser != "none", "alignment": train.second_order}
        return [part for part, trained in parts.items() if trained]

    @property
    def text_model(self) -> str | None:
        """The model whose text encoder makes the targets; None where it is the base's own, pooled."""
        text = self.alignment.text
        if text.model != "backbone":
            return text.model
        return None if text.feature == "pooled" else self.alignment.base

    @property
    def encoding_models(self) -> list[str]:
        """The models that latents and text features are made with."""
        return [self.alignment.base, *([self.text_model] if self.text_model else [])]

    # Keys for `params` of rules, and to find what variants share.

    @property
    def cache_key(self) -> str:
        """What cached latents and text features depend on beside photos and layouts."""
        return digest([self.encoding_models, self.alignment.text.feature, self.alignment.model.label_template])

    @property
    def training_key(self) -> str:
        """What the training of the alignment module depends on beside its data."""
        alignment = self.alignment
        return digest([alignment.model.model_dump(), alignment.train.model_dump(exclude=NOISE | MEMORY)])

    @property
    def noise_key(self) -> str:
        """What the training on the noise loss depends on beside its data."""
        train = self.alignment.train
        own = train.model_dump(exclude=MEMORY | {"denoiser"})
        return digest([own, train.denoiser.model_dump(exclude=MEMORY), *self._update])

    @property
    def calibration_key(self) -> str:
        """What the calibration of eta depends on beside its inputs."""
        calibrate = self.alignment.calibrate
        params, *version = self._update
        return digest([params, calibrate.relative_step, calibrate.count, calibrate.multiples, *version])

    @property
    def training_eta_key(self) -> str:
        """What the eta of the training on the noise loss depends on beside its inputs: a wider sweep does not train again."""
        return digest([*self._update, self.alignment.calibrate.count, self.alignment.train.denoiser.relative_step])

    @property
    def _update(self) -> list[Any]:
        """Which update (8) is: the row's params and, once it is raised, its module's version."""
        return [self.params, *([self.version] if self.version > 1 else [])]

    @property
    def module_key(self) -> str:
        """What the alignment module is."""
        return digest([self.cache_key, self.training_key])

    @property
    def denoiser_key(self) -> str:
        """What the module and the denoiser are that come out of the noise loss."""
        return digest([self.module_key, self.noise_key, self.alignment.train.denoiser.relative_step])


def digest(content: Any) -> str:
    """A short hash of JSON content; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
