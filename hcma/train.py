"""Train the alignment module on cached latents, the diffusion model untouched: losses (6) and (7), Adam.

    python -m hcma.train --train train/latents-train.safetensors --heldout train/latents-heldout.safetensors \
        --config alignment.json --work work/train --out train/alignment.safetensors --curves train/curves.csv

The checkpoint with the lowest held-out loss is written. A killed run goes on from the work folder and ends with the same
bytes as an uninterrupted one, on one device and thread count.
"""

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcma.program import status
from hcma.sampling import InputError
from hcma.sampling.atomic import replacing
from hcma.sampling.spec import from_keys

# Heavy imports stand inside the functions: `--help` and a misspelt key should answer at once.
if TYPE_CHECKING:
    import torch

    from hcma.alignment import Alignment
    from hcma.cache import Cache


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; bad input is one line on stderr and status 1."""
    parser = argparse.ArgumentParser(prog="hcma.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="JSON with the sections `model` and `train`")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint of an unfinished run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--curves", type=Path, required=True, help="CSV; a plot is written beside it as PNG")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    return status(lambda: _run(args), str(args.out))


def _run(args: argparse.Namespace) -> None:
    sections = json.loads(args.config.read_text(encoding="utf-8"))
    settings = from_keys(Training, sections["train"], "alignment.train")
    from hcma.cache import read_cache

    run = Trainer(sections["model"], settings, read_cache(args.train), read_cache(args.heldout), args.work, args.device)
    module = run.train()
    write_curves(run.progress.curve, args.curves)
    from hcma.alignment import save_alignment

    save_alignment(module, args.out)
    run.checkpoint.unlink(missing_ok=True)


class Trainer:
    """One training: its data, module, optimiser and checkpoint."""

    def __init__(
        self, model: dict[str, Any], settings: Training, train: "Cache", heldout: "Cache", work: Path, device: str
    ) -> None:
        import torch

        from hcma.alignment import Alignment, AlignmentConfig

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

    def train(self) -> "Alignment":
        """Train to the end; returns the module of the lowest held-out loss."""
        from tqdm import tqdm

        from hcma.validate import validate

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
        import torch

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

    def _rows(self, step: int) -> "torch.Tensor":
        import torch

        epoch, number = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.data.latents_NCHW), generator=seeded(self.settings.seed, 0, epoch))
        return order[number * self.settings.batch : (number + 1) * self.settings.batch]

    def _keep(self, row: dict[str, float]) -> None:
        """Record a validation, keep the best weights, write the checkpoint."""
        import torch

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
        import torch

        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if saved["identity"] != self.identity:
            return  # of another configuration or other data: this run starts afresh
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.progress = saved["best"], Progress(**saved["progress"])


@dataclass(frozen=True)
class Batch:
    """Arguments of `Alignment.losses` for one batch."""

    latents_BCHW: "torch.Tensor"
    t_B: "torch.Tensor"
    caption_BD: "torch.Tensor"
    boxes_BM4: "torch.Tensor"
    labels_BMD: "torch.Tensor"
    mask_BM: "torch.Tensor"

    def tensors(self) -> "tuple[torch.Tensor, ...]":
        return self.latents_BCHW, self.t_B, self.caption_BD, self.boxes_BM4, self.labels_BMD, self.mask_BM

    def split(self, size: int) -> "Iterator[Batch]":
        return (Batch(*parts) for parts in zip(*(x.split(size) for x in self.tensors()), strict=True))

    def on(self, device: "torch.device") -> "list[torch.Tensor]":
        return [x.to(device) for x in self.tensors()]


def draw(data: "Cache", rows: "torch.Tensor", generator: "torch.Generator", any_caption: bool) -> Batch:
    """Noised latents and targets of `rows`; noise, t and captions come from `generator` on the CPU."""
    import torch

    t_B = torch.randint(len(data.alphas_cumprod_T), (len(rows),), generator=generator)
    latents = noised(data, rows, t_B, generator)
    which = (torch.rand(len(rows), generator=generator) * data.counts_N[rows]).long() * any_caption
    return batch_of(data, rows, latents, t_B, which)


def noised(data: "Cache", rows: "torch.Tensor", t_B: "torch.Tensor", generator: "torch.Generator") -> "torch.Tensor":
    """q_sample: sqrt(a_t) x + sqrt(1 - a_t) noise."""
    import torch

    clean = data.latents_NCHW[rows].float()
    kept = data.alphas_cumprod_T[t_B][:, None, None, None]
    return kept.sqrt() * clean + (1 - kept).sqrt() * torch.randn(clean.shape, generator=generator)


def batch_of(
    data: "Cache", rows: "torch.Tensor", latents_BCHW: "torch.Tensor", t_B: "torch.Tensor", which_B: "torch.Tensor"
) -> Batch:
    """A batch with the `which_B`-th caption of every image, its slots cut to those in use."""
    labels = data.labels_NM[rows]
    used = max(1, int((labels >= 0).sum(1).max()))
    labels = labels[:, :used]
    features = data.texts_LD[labels.clamp(min=0)] if len(data.texts_LD) else data.captions_NKD[rows, :1]
    caption = data.captions_NKD[rows, which_B]
    return Batch(latents_BCHW, t_B, caption, data.boxes_NM4[rows, :used], features, (labels >= 0).float())


def caption_mean(data: "Cache") -> "torch.Tensor":
    """Mean feature of all training captions."""
    import torch

    there_NK = torch.arange(data.captions_NKD.shape[1]) < data.counts_N[:, None]
    return data.captions_NKD[there_NK].mean(0)


def label_mean(data: "Cache") -> "torch.Tensor":
    """Mean label feature over all training boxes."""
    found = data.labels_NM[data.labels_NM >= 0]
    return data.texts_LD[found].mean(0) if len(found) else data.captions_NKD.new_zeros(data.captions_NKD.shape[2])


def seeded(*numbers: int) -> "torch.Generator":
    """A CPU generator that depends on the numbers alone."""
    import torch

    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _check(settings: Training, train: "Cache", heldout: "Cache") -> None:
    count = len(train.latents_NCHW)
    if count < settings.batch:
        raise InputError(f"alignment.train.batch: {settings.batch}, but only {count} training images are there")
    if not len(heldout.latents_NCHW) or not (heldout.labels_NM >= 0).any() or not (train.labels_NM >= 0).any():
        raise InputError("training needs images with boxes in both splits; see the data report")


def _optimizer(settings: Training, module: "Alignment") -> "torch.optim.Optimizer":
    import torch

    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)


def _identity(model: dict[str, Any], settings: Training, train: "Cache") -> str:
    """What a checkpoint must agree on before it is gone on with."""
    digest = hashlib.sha256(json.dumps([model, asdict(settings)], sort_keys=True).encode())
    for tensor in (train.latents_NCHW, train.captions_NKD, train.boxes_NM4):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def write_curves(curve: list[dict[str, float]], path: Path) -> None:
    """Write the curve as CSV and, beside it, as PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(curve[0])
    lines = [",".join(names)] + [",".join(f"{row[name]:.6g}" for name in names) for row in curve]
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + os.linesep, encoding="utf-8")
    figure, (losses, retrieval) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    steps = [row["step"] for row in curve]
    for name in ("train_global", "heldout_global", "train_local", "heldout_local", "baseline_global", "baseline_local"):
        losses.plot(steps, [row[name] for row in curve], "--" if "baseline" in name else "-", label=name)
    for name in (name for name in names if name.startswith(("recall_", "label_accuracy_"))):
        retrieval.plot(steps, [row[name] for row in curve], label=name)
    losses.set(xlabel="step", ylabel="1 - cos", title="losses (6) and (7)")
    retrieval.set(xlabel="step", title="held out: caption recall@1, label accuracy at t")
    for axis in (losses, retrieval):
        axis.legend(fontsize=6)
    figure.tight_layout()
    with replacing(path.with_suffix(".png")) as beside:
        figure.savefig(beside, format="png", dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
