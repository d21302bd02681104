"""The training of the alignment module on losses (6) and (7): its settings and its steps."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from formats.files import InputError
from formats.params import expect, from_keys
from hcma.alignment import Alignment, AlignmentConfig
from hcma.batches import caption_mean, draw_noise, label_mean, rows_of
from hcma.cache import Cache
from hcma.loop import Loop, identity_of
from hcma.processes import Processes
from hcma.sampling.seeds import seeded
from hcma.train_keys import MEMORY
from hcma.validate import validate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Training:
    """Settings of the training; defaults are the paper's, or the recommended reading where it is silent.

    batch       images an optimiser step; micro_batch at a time, for memory only
    precision   of the module's products in training, float32 or bfloat16; weights, losses and validation stay float32
    optimizer   adam (weight decay as L2, the paper's word) or adamw
    caption     random: one of an image's captions each time; first: always the first
    validate_every  optimiser steps between held-out validations and checkpoints
    validate_images  the best checkpoint is chosen on so many held-out images, the first; None: on all
    """

    epochs: int = 60
    batch: int = 1024
    micro_batch: int = 1024
    precision: str = "float32"
    lr: float = 1e-3
    weight_decay: float = 5e-4
    optimizer: str = "adam"
    lambda_global: float = 1.0
    lambda_local: float = 1.0
    caption: str = "random"
    validate_every: int = 65
    validate_images: int | None = 256
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "precision": ("float32", "bfloat16"),
            "optimizer": tuple(OPTIMIZERS),
            "caption": ("random", "first"),
        }
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise InputError(f"alignment.train.{key}: {getattr(self, key)!r} is not one of {', '.join(known)}")
        for key in ("epochs", "batch", "micro_batch", "validate_every"):
            if type(getattr(self, key)) is not int or getattr(self, key) < 1:
                raise InputError(f"alignment.train.{key}: expected a positive integer, found {getattr(self, key)!r}")
        expect_validated("alignment.train.validate_images", self.validate_images)


class Trainer(Loop):
    """One training: its data, module, optimiser and checkpoint."""

    def __init__(
        self, model: dict[str, Any], settings: Training, train: Cache, heldout: Cache, work: Path, device: str
    ) -> None:
        self.settings, self.data, self.heldout = settings, train, heldout
        check_data("alignment.train", settings.batch, settings.validate_images, train, heldout)
        sizes = {
            "latent_channels": train.latents_NCHW.shape[1],
            "latent_size": train.latents_NCHW.shape[2],
            "text_width": train.captions_NKD.shape[2],
        }
        config = from_keys(AlignmentConfig, model | sizes, "alignment.model")
        processes = Processes(device)
        torch.manual_seed(settings.seed)
        self.module: Alignment = Alignment(config).to(processes.device)
        self.module.caption_mean_D.copy_(caption_mean(train))
        self.module.label_mean_D.copy_(label_mean(train))
        # The held-out images chose the best weights so far, and the curve's losses are of them.
        identity = identity_of([asdict(config), lasting(settings)], [*cached(train), *cached(heldout)])
        optimizer = make_optimizer(self.module.parameters(), settings.optimizer, settings.lr, settings.weight_decay)
        super().__init__(self.module, [optimizer], processes, work, identity)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data.latents_NCHW) // self.settings.batch

    def train(self) -> Alignment:
        """Train to the end; returns the module of the lowest held-out loss."""
        self.run(
            self.settings.epochs * self.steps_per_epoch,
            self.settings.validate_every,
            "alignment",
            self._step,
            self._validate,
        )
        return self.module.eval().requires_grad_(False)

    def _step(self, step: int) -> dict[str, float]:
        """One optimiser step on the batch that (seed, step) decides."""
        self.module.train()
        self._forget_gradients()
        sums, settings = {"global": 0.0, "local": 0.0}, self.settings
        rows, generator = rows_of(self.data, settings.batch, settings.seed, step), seeded(settings.seed, 1, step)
        drawn = draw_noise(self.data, rows, generator, settings.caption == "random")
        for part in self.processes.share(drawn.split(settings.micro_batch)):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                omega_global_B, omega_local_B = self.module.losses(*part.batch(self.data).on(self.device))
            total = (settings.lambda_global * omega_global_B + settings.lambda_local * omega_local_B).sum() / len(rows)
            total.backward()
            sums["global"] += float(omega_global_B.detach().sum())
            sums["local"] += float(omega_local_B.detach().sum())
        means = self._summed(sums, len(rows))
        if not all(map(math.isfinite, means.values())):
            raise InputError(f"the training loss is not finite at step {step}; lower alignment.train.lr")
        self._update()
        return means

    def _validate(self) -> dict[str, float]:
        settings = self.settings
        row = validate(self.module, self.heldout, settings.seed, settings.validate_images)
        loss = settings.lambda_global * row["heldout_global"] + settings.lambda_local * row["heldout_local"]
        return row | {"heldout_loss": loss}


def check_data(section: str, batch: int, validated: int | None, train: Cache, heldout: Cache) -> None:
    """Raise InputError where a batch cannot be drawn, or where no boxes are there to learn from or to be judged on.

    section: of the configuration, whose `batch` and `validate_images` are `batch` and `validated`.
    """
    count = len(train.latents_NCHW)
    if count < batch:
        raise InputError(f"{section}.batch: {batch}, but only {count} training images are there")
    if not len(heldout.latents_NCHW) or not (heldout.labels_NM >= 0).any() or not (train.labels_NM >= 0).any():
        raise InputError("training needs images with boxes in both splits; see the data report")
    if not (heldout.labels_NM[:validated] >= 0).any():
        found = f"{validated}, but none of the first so many held-out images has boxes"
        raise InputError(f"{section}.validate_images: {found}; raise it, or null for all")


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], kind: str, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimiser of OPTIMIZERS: adam decays by L2, inside the gradient that it normalises; adamw decays beside it."""
    return OPTIMIZERS[kind](parameters, lr=lr, weight_decay=weight_decay)


def expect_validated(key: str, images: Any) -> None:
    """Raise InputError unless it says how many held-out images are judged."""
    expect(
        key, images, lambda value: value is None or (type(value) is int and value >= 1), "a positive integer, or null"
    )


def lasting(settings: "DataclassInstance") -> dict[str, Any]:
    """The settings without the size of a batch's parts, which another run, on other devices, may go on with another of."""
    return {name: value for name, value in asdict(settings).items() if name not in MEMORY}


def cached(data: Cache) -> tuple[torch.Tensor, ...]:
    """What tells a cache from another."""
    return *data.latents_NCHW.parts, data.captions_NKD, data.boxes_NM4
