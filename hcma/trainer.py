"""The training of the alignment module: its settings, its steps, and a checkpoint that it goes on from."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hcma.alignment import Alignment, AlignmentConfig
from hcma.batches import caption_mean, draw, label_mean, seeded
from hcma.cache import Cache
from hcma.sampling import InputError
from hcma.sampling.atomic import replacing
from hcma.sampling.spec import from_keys
from hcma.validate import validate


@dataclass(frozen=True)
class Training:
    """Settings of the training; defaults are the paper's, or the recommended reading where it is silent.

    batch       images an optimiser step; micro_batch at a time, for memory only
    optimizer   adam (weight decay as L2, the paper's word) or adamw
    caption     random: one of an image's captions each time; first: always the first
    timesteps   uniform over the schedule's
    validate_every  optimiser steps between held-out validations and checkpoints
    """

    epochs: int = 60
    batch: int = 1024
    micro_batch: int = 1024
    lr: float = 1e-3
    weight_decay: float = 5e-4
    optimizer: str = "adam"
    lambda_global: float = 1.0
    lambda_local: float = 1.0
    caption: str = "random"
    timesteps: str = "uniform"
    validate_every: int = 65
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"optimizer": ("adam", "adamw"), "caption": ("random", "first"), "timesteps": ("uniform",)}
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise InputError(f"alignment.train.{key}: {getattr(self, key)!r} is not one of {', '.join(known)}")
        for key in ("epochs", "batch", "micro_batch", "validate_every"):
            if type(getattr(self, key)) is not int or getattr(self, key) < 1:
                raise InputError(f"alignment.train.{key}: expected a positive integer, found {getattr(self, key)!r}")


@dataclass
class Progress:
    """What a checkpoint holds beside weights and optimiser."""

    step: int = 0
    best: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training: its data, module, optimiser and checkpoint."""

    def __init__(
        self, model: dict[str, Any], settings: Training, train: Cache, heldout: Cache, work: Path, device: str
    ) -> None:
        self.settings, self.data, self.heldout, self.device = settings, train, heldout, torch.device(device)
        _check(settings, train, heldout)
        sizes = {
            "latent_channels": train.latents_NCHW.shape[1],
            "latent_size": train.latents_NCHW.shape[2],
            "text_width": train.captions_NKD.shape[2],
        }
        config = from_keys(AlignmentConfig, model | sizes, "alignment.model")
        torch.manual_seed(settings.seed)
        self.module: Alignment = Alignment(config).to(self.device)
        self.module.caption_mean_D.copy_(caption_mean(train))
        self.module.label_mean_D.copy_(label_mean(train))
        self.optimizer = _optimizer(settings, self.module)
        self.identity = _identity(asdict(config), settings, train)
        self.checkpoint = work / "alignment.pt"
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._resume()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data.latents_NCHW) // self.settings.batch

    def train(self) -> Alignment:
        """Train to the end; returns the module of the lowest held-out loss."""
        settings, total = self.settings, self.settings.epochs * self.steps_per_epoch
        recent: list[tuple[float, float]] = []
        for step in tqdm(
            range(self.progress.step, total), initial=self.progress.step, total=total, desc="alignment", mininterval=2
        ):
            recent.append(self._step(step))
            if (step + 1) % settings.validate_every and step + 1 < total:
                continue
            means = [sum(values) / len(recent) for values in zip(*recent, strict=True)]
            recent.clear()
            row = {"step": step + 1.0, "train_global": means[0], "train_local": means[1]}
            row |= validate(self.module, self.heldout, settings.seed)
            loss = settings.lambda_global * row["heldout_global"] + settings.lambda_local * row["heldout_local"]
            self._keep(row | {"heldout_loss": loss})
        self.module.load_state_dict(self.best)
        return self.module.eval().requires_grad_(False)

    def _step(self, step: int) -> tuple[float, float]:
        """One optimiser step on the batch that (seed, step) decides; returns the two mean losses."""
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums, settings = [0.0, 0.0], self.settings
        rows, generator = self._rows(step), seeded(settings.seed, 1, step)
        batch = draw(self.data, rows, generator, settings.caption == "random")
        for part in batch.split(settings.micro_batch):
            omega_global_B, omega_local_B = self.module.losses(*part.on(self.device))
            total = (settings.lambda_global * omega_global_B + settings.lambda_local * omega_local_B).sum() / len(rows)
            if not torch.isfinite(total):
                raise InputError(f"the training loss is not finite at step {step}; lower alignment.train.lr")
            total.backward()
            sums = [sums[0] + float(omega_global_B.detach().sum()), sums[1] + float(omega_local_B.detach().sum())]
        self.optimizer.step()
        return sums[0] / len(rows), sums[1] / len(rows)

    def _rows(self, step: int) -> torch.Tensor:
        epoch, number = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.data.latents_NCHW), generator=seeded(self.settings.seed, 0, epoch))
        return order[number * self.settings.batch : (number + 1) * self.settings.batch]

    def _keep(self, row: dict[str, float]) -> None:
        """Record a validation, keep the best weights, write the checkpoint."""
        self.progress.step = int(row["step"])
        self.progress.curve.append(row)
        if row["heldout_loss"] < self.progress.best:
            self.progress.best = row["heldout_loss"]
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        saved = {
            "identity": self.identity,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "progress": asdict(self.progress),
        }
        with replacing(self.checkpoint) as beside:
            torch.save(saved, beside)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if saved["identity"] != self.identity:
            return  # of another configuration or other data: this run starts afresh
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.progress = saved["best"], Progress(**saved["progress"])


def _check(settings: Training, train: Cache, heldout: Cache) -> None:
    count = len(train.latents_NCHW)
    if count < settings.batch:
        raise InputError(f"alignment.train.batch: {settings.batch}, but only {count} training images are there")
    if not len(heldout.latents_NCHW) or not (heldout.labels_NM >= 0).any() or not (train.labels_NM >= 0).any():
        raise InputError("training needs images with boxes in both splits; see the data report")


def _optimizer(settings: Training, module: Alignment) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)


def _identity(model: dict[str, Any], settings: Training, train: Cache) -> str:
    """What a checkpoint must agree on before it is gone on with."""
    digest = hashlib.sha256(json.dumps([model, asdict(settings)], sort_keys=True).encode())
    for tensor in (train.latents_NCHW, train.captions_NKD, train.boxes_NM4):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
