"""The paper's Algorithm 1 to the letter: the noise loss behind update (8), which trains the denoiser.

||eps - eps_theta(Z_t^(a), t, f^T(c), B)||^2, where Z_t^(a) is update (8) of the noised latent, and eps is still the noise of
Z_t, though Z_t^(a) has left the forward process.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from formats.files import InputError
from formats.layouts import Layout
from formats.params import expect, is_number
from hcma.batches import Drawn, draw_noise, rows_of
from hcma.cache import Cache, captions_of
from hcma.loop import Loop, identity_of
from hcma.method import Params, State, Targets, align_step, schedule_at
from hcma.processes import Processes
from hcma.sampling.diffusion import Diffusion, encode_text
from hcma.sampling.grounding import fusers_enabled, grounding_tokens, require_gated
from hcma.sampling.seeds import seeded
from hcma.trainer import OPTIMIZERS, Training, cached, check_data, expect_validated, lasting, make_optimizer
from hcma.validate import TIMES, heldout_at, validate

TRAINED = ("none", "fuser", "unet")
GLIGENS_OWN = ("fuser", "position_net")  # the layers that GLIGEN added to Stable Diffusion, and trains


@dataclass(frozen=True)
class Denoising:
    """Settings of the noise loss.

    train_denoiser  what it trains of the U-Net: GLIGEN's own layers (fuser), all of it (unet), or nothing (none)
    second_order    let it reach the alignment module through Z_t^(a), which then trains on, on (6) and (7) too
    steps, batch    optimiser steps, and images a step; micro_batch at a time, for memory only
    lr, optimizer, weight_decay  of the U-Net's parameters: GLIGEN's; the module keeps those of alignment.train, in an
                    optimiser of its own
    caption_dropout, grounding_dropout  shares of the training images whose caption, and whose boxes, the U-Net is not shown,
                    as in guidance's unconditional half: GLIGEN's
    relative_step   share of a latent's norm that the eta of training is calibrated to, by hcma.calibrate
    validate_images  the best checkpoint is chosen on so many held-out images, the first; None: on all
    """

    train_denoiser: str
    second_order: bool = False
    steps: int = 3840
    batch: int = 1024
    micro_batch: int = 8
    lr: float = 5e-5
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    caption_dropout: float = 0.1
    grounding_dropout: float = 0.1
    relative_step: float = 0.01
    validate_every: int = 64
    validate_images: int | None = 64

    def __post_init__(self) -> None:
        section, known = "alignment.train.denoiser", ", ".join(OPTIMIZERS)
        expect(f"{section}.optimizer", self.optimizer, lambda value: value in OPTIMIZERS, f"one of {known}")
        decay = self.weight_decay
        expect(f"{section}.weight_decay", decay, lambda v: is_number(v) and v >= 0, "a number of at least 0")
        for key in ("caption_dropout", "grounding_dropout"):
            share = getattr(self, key)
            expect(f"{section}.{key}", share, lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
        expect_validated(f"{section}.validate_images", self.validate_images)
        if self.train_denoiser not in TRAINED:
            raise InputError(f"train_denoiser: {self.train_denoiser!r} is not one of {', '.join(TRAINED)}")
        if self.train_denoiser == "none" and not self.second_order:
            raise InputError("train_denoiser: with `none`, and without second_order, the noise loss trains nothing")


@dataclass(frozen=True)
class Split:
    """The cached images of a split and their layouts, in the same order."""

    cache: Cache
    layouts: Sequence[Layout]

    def __post_init__(self) -> None:
        if [layout.id for layout in self.layouts] != self.cache.ids_N.tolist():
            raise InputError(
                f"the {len(self.layouts)} layouts are not those of the {len(self.cache.counts_N)} cached images"
            )


class DenoiserTrainer(Loop):
    """The training of `sd`'s U-Net, and with second_order of the state's alignment module: both are changed."""

    def __init__(
        self,
        sd: Diffusion,
        state: State,
        params: Params,
        aligning: Training,
        denoising: Denoising,
        train: Split,
        heldout: Split,
        work: Path,
        base_sha256: str,
    ) -> None:
        self.sd, self.params, self.eta = sd, params, state.eta
        self.aligning, self.settings, self.data, self.heldout = aligning, denoising, train, heldout
        section, images = "alignment.train.denoiser", self.settings.validate_images
        check_data(section, self.settings.batch, images, self.data.cache, self.heldout.cache)
        require_gated(sd.unet)
        self.module = state.module.requires_grad_(self.settings.second_order)
        described = [lasting(self.aligning), lasting(self.settings), asdict(params), state.eta, base_sha256]
        caches = [*cached(self.data.cache), *cached(self.heldout.cache)]
        identity = identity_of(described, [*caches, *self.module.state_dict().values()])
        # Each with its own decay: the pretrained U-Net as GLIGEN was trained, the module as it was before.
        optimizers, unets, modules = [], self.settings, self.aligning
        if ours := choose(sd.unet, unets.train_denoiser):
            optimizers.append(make_optimizer(ours, unets.optimizer, unets.lr, unets.weight_decay))
        if unets.second_order:
            theirs = self.module.parameters()
            optimizers.append(make_optimizer(theirs, modules.optimizer, modules.lr, modules.weight_decay))
        weights = torch.nn.ModuleDict({"unet": sd.unet, "alignment": self.module})
        super().__init__(weights, optimizers, Processes(sd.device), work, identity)

    def train(self) -> None:
        """Train to the end; `sd` then holds the weights of the lowest held-out loss."""
        self.run(self.settings.steps, self.settings.validate_every, "denoiser", self._step, self._validate)
        self.weights.requires_grad_(False)

    def _step(self, step: int) -> dict[str, float]:
        self._forget_gradients()
        seed, data, settings = self.aligning.seed, self.data.cache, self.settings
        rows, generator = rows_of(data, settings.batch, seed, step), seeded(seed, 4, step)
        shares = {"caption_dropout": settings.caption_dropout, "grounding_dropout": settings.grounding_dropout}
        drawn = draw_noise(data, rows, generator, self.aligning.caption == "random", **shares)
        sums: dict[str, float] = {}
        for part in self.processes.share(drawn.split(settings.micro_batch)):
            losses = self._losses(self.data, part)
            (self._total(losses).sum() / len(rows)).backward()
            for name, loss_B in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss_B.detach().sum())
        means = self._summed(sums, len(rows))
        if not all(map(math.isfinite, means.values())):
            raise InputError(f"the noise loss is not finite at step {step}; lower alignment.train.denoiser.lr")
        self._update()
        return means

    def _total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        weights = {"global": self.aligning.lambda_global, "local": self.aligning.lambda_local}
        return torch.stack([weights.get(name, 1.0) * loss_B for name, loss_B in losses.items()]).sum(0)

    def _losses(self, split: Split, drawn: Drawn) -> dict[str, torch.Tensor]:
        """The noise loss, one value a sample, and with second_order (6) and (7)."""
        latents, t_B, *targets = drawn.batch(split.cache).on(self.device)
        second_order, losses = self.settings.second_order, {}
        alphas = split.cache.alphas_cumprod_T.tolist()
        # The fused attention kernels have no second derivative; plain products have.
        with sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext():
            shift = align_step(
                self.module, latents, t_B, Targets(*targets), self.params, self.eta, second_order, len(alphas)
            )
            if second_order:
                losses["global"], losses["local"] = self.module.losses(latents, t_B, *targets)
        factors = [schedule_at(self.params, alphas, t) for t in drawn.t_B.tolist()]
        aligned = latents - shift * torch.tensor(factors, device=self.device)[:, None, None, None]
        return {"noise": self._noise_loss(split, drawn, aligned)} | losses

    def _noise_loss(self, split: Split, drawn: Drawn, aligned_BCHW: torch.Tensor) -> torch.Tensor:
        layouts = conditioned_on(split.layouts, drawn)
        text_BTD, _ = encode_text(self.sd, [layout.caption for layout in layouts])
        # The doubled batch of guidance: its second half sees the boxes.
        gligen = {name: value[len(layouts) :] for name, value in grounding_tokens(self.sd, layouts).items()}
        # Training alone: what is held out is judged in float32.
        lowered = self.aligning.precision == "bfloat16" and torch.is_grad_enabled()
        with fusers_enabled(self.sd.unet), torch.autocast(self.device.type, torch.bfloat16, enabled=lowered):
            found = self.sd.unet(
                aligned_BCHW, drawn.t_B.to(self.device), text_BTD, cross_attention_kwargs={"gligen": gligen}
            ).sample
        return (found.float() - drawn.noise_BCHW.to(self.device)).square().flatten(1).mean(1)

    @torch.no_grad()
    def _heldout_noise(self) -> float:
        """Mean noise loss of the first held-out images over TIMES, always with the same noise, captions and boxes shown."""
        images = self.settings.validate_images
        drawn = [heldout_at(self.heldout.cache, t, self.aligning.seed, images) for t in TIMES]
        parts = [part for one in drawn for part in one.split(self.settings.micro_batch)]
        return float(torch.cat([self._losses(self.heldout, part)["noise"] for part in parts]).mean())

    def _validate(self) -> dict[str, float]:
        noise = self._heldout_noise()
        untrained = self.progress.curve[0]["heldout_noise"] if self.progress.curve else noise
        row = {"heldout_noise": noise, "baseline_noise": untrained}
        if not self.settings.second_order:
            return row | {"heldout_loss": row["heldout_noise"]}
        row |= validate(self.module, self.heldout.cache, self.aligning.seed, self.aligning.validate_images)
        lambdas = self.aligning.lambda_global, self.aligning.lambda_local
        aligned = lambdas[0] * row["heldout_global"] + lambdas[1] * row["heldout_local"]
        return row | {"heldout_loss": row["heldout_noise"] + aligned}


def conditioned_on(layouts: Sequence[Layout], drawn: Drawn) -> list[Layout]:
    """What the U-Net is shown of the drawn images: one caption, or the empty one; the boxes, or none, so null tokens alone.

    Guidance's unconditional half is both. Update (8) keeps the caption and boxes all the same: in sampling it comes before the
    latents are doubled, so that the unconditional half sees aligned latents too.
    """
    found = []
    for number, row in enumerate(drawn.rows_B.tolist()):
        caption = captions_of(layouts[row])[int(drawn.which_B[number])]
        objects = layouts[row].objects
        found.append(
            replace(
                layouts[row],
                caption="" if drawn.without_caption_B[number] else caption,
                objects=() if drawn.without_boxes_B[number] else objects,
            )
        )
    return found


def choose(unet: UNet2DConditionModel, trained: str) -> list[torch.nn.Parameter]:
    """Let the parameters that `trained`, one of TRAINED, names have gradients, and no other; returns them."""
    for name, parameter in unet.named_parameters():
        ours = any(part in name.split(".") for part in GLIGENS_OWN)
        parameter.requires_grad_(trained == "unet" or (trained == "fuser" and ours))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]
