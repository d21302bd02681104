"""The frozen diffusion model and the one sampling loop that every method runs in."""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LMSDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from torch._dynamo.exc import TorchDynamoException

from formats.checksums import verify_folder
from formats.files import InputError, read_json
from formats.layouts import Layout
from hcma.sampling.counters import Counters
from hcma.sampling.seeds import seeded
from hcma.sampling.text import TextEncoder, Tokenizer, load_text_encoder, read_tokens, tokenize
from hcma.sampling.weights import load_frozen

SCHEDULERS = {"pndm": PNDMScheduler, "ddim": DDIMScheduler, "lms": LMSDiscreteScheduler}
OWN = "own"  # in their place: the solver of a model that is not sampled by this module
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Images the decoder takes at a time in half precision: more take memory (0.4 GB each at 512 px) and no less time.
DECODED = 8

# Moves latents_BCHW, scaled as the network sees them, before call i at timestep t; returns them themselves where nothing
# moves. Runs without gradients unless it enables them.
Guide = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
# Keyword arguments of the U-Net for the doubled batch of call i out of n_calls.
UNetArguments = Callable[[int, int], dict[str, Any]]
# The noise in scaled latents_BCHW that network call i at timestep t predicts.
Predict = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]


class NonFiniteLatents(ArithmeticError):
    """Some images' latents, or what the decoder makes of them, are not finite; `rows` are their positions in the batch."""

    def __init__(self, rows: list[int], what: str = "latents") -> None:
        super().__init__(f"{what} are not finite in rows {rows} of the batch")
        self.rows = rows


@dataclass(frozen=True)
class Sampling:
    """Settings that all methods of a comparison share; `scheduler` is a key of SCHEDULERS or OWN, `precision` one of
    PRECISIONS."""

    steps: int = 50
    guidance_scale: float = 7.5
    scheduler: str = "pndm"
    negative_prompt: str = ""
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"sampling.precision: {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.scheduler not in (*SCHEDULERS, OWN):
            raise InputError(f"sampling.scheduler: {self.scheduler!r} is not one of {', '.join(SCHEDULERS)}, {OWN}")
        if type(self.steps) is not int or not 1 <= self.steps < 1000:
            raise InputError(f"sampling.steps: expected an integer from 1 to 999, found {self.steps!r}")
        if type(self.guidance_scale) not in (int, float) or not math.isfinite(self.guidance_scale):
            raise InputError(f"sampling.guidance_scale: expected a number, found {self.guidance_scale!r}")
        if type(self.negative_prompt) is not str or type(self.seed) is not int:
            raise InputError(f"sampling: expected text and an integer, found {self.negative_prompt!r}, {self.seed!r}")

    @property
    def duplicates(self) -> range:
        """The network calls whose latents the solver drops; `duplicate_calls` says the same of a scheduler."""
        return range(1, 2) if self.scheduler == "pndm" else range(1, 1)

    @property
    def calls(self) -> int:
        """Network calls of a solve."""
        return self.steps + len(self.duplicates)


@dataclass
class Diffusion:
    """Frozen models in evaluation mode, the settings they sample with, and a tally of the work done with them.

    U-Net and decoder are in the sampling precision; text encoder and the autoencoder's encoder are in float32. `compiled`
    stands in for the U-Net in passes that are only for their result, not for the maps inside. `folder` is where the models
    were loaded from.
    """

    tokenizer: Tokenizer
    text_encoder: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler_config: dict[str, Any]
    sampling: Sampling
    compiled: "Compiled | None" = None
    counters: Counters = field(default_factory=Counters)
    folder: Path | None = None

    @functools.cached_property
    def negative_1TD(self) -> torch.Tensor:
        """Text states of the negative prompt, encoded once a job."""
        return encode_text(self, [self.sampling.negative_prompt])[0]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the U-Net's and the decoder's products and convolutions."""
        return self.unet.conv_in.weight.dtype

    @property
    def is_lowered(self) -> bool:
        """Whether that is half precision."""
        return self.dtype in (torch.bfloat16, torch.float16)

    def network(
        self,
        latents_BCHW: torch.Tensor,
        t: torch.Tensor,
        text_BTD: torch.Tensor,
        *,
        maps: bool = False,
        **unet_kwargs: Any,
    ) -> torch.Tensor:
        """What the U-Net makes of scaled latents, in their own precision whatever the U-Net's is; `maps`: it is asked for the
        attention inside too, which what was compiled does not show."""
        unet = self.unet if maps or self.compiled is None else self.compiled
        return unet(latents_BCHW.to(self.dtype), t, text_BTD.to(self.dtype), **unet_kwargs).sample.to(
            latents_BCHW.dtype
        )

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def latent_shape_CHW(self) -> tuple[int, int, int]:
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def prompt_limit(self) -> int:
        """Longest prompt in tokens, start and end included."""
        return self.text_encoder.config.max_position_embeddings

    @property
    def size(self) -> int:
        """Side of the generated canvas in pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_diffusion(folder: str | Path, sampling: Sampling, device: str | torch.device = "cpu") -> Diffusion:
    """Load a diffusers pipeline folder after checking it against its SHA256SUMS; raises InputError.

    U-Net and decoder are in `sampling.precision` (`lower`), the rest in float32.

    It may be a folder of Stable Diffusion or of the 2022 latent diffusion model, whose parts are `bert` and `vqvae`.
    """
    if sampling.scheduler == OWN:
        raise InputError(f"sampling.scheduler: {OWN!r} is for whole pipelines; expected one of {', '.join(SCHEDULERS)}")
    verify_folder(folder)
    tokenizer, text_encoder = load_text_encoder(folder)
    autoencoder = "vqvae" if (Path(folder) / "vqvae").is_dir() else "vae"
    unet, vae = load_frozen(UNet2DConditionModel, folder, "unet"), load_frozen(AutoencoderKL, folder, autoencoder)
    lower(unet, vae, sampling.precision)
    return Diffusion(
        tokenizer=tokenizer,
        text_encoder=text_encoder.to(device),
        unet=unet.to(device),
        vae=vae.to(device),
        scheduler_config=read_json(Path(folder) / "scheduler/scheduler_config.json"),
        sampling=sampling,
        folder=Path(folder),
    )


def lower(unet: UNet2DConditionModel, vae: AutoencoderKL, precision: str) -> None:
    """Turn the weights of the U-Net and of the decoder into a precision of PRECISIONS.

    Boxes become features in float32, whose frequencies half precision would blur, and photos become latents in float32. What
    goes in and out (`Diffusion.network`, `decode`), the solver and losses of attention maps stay float32 too.
    """
    dtype = PRECISIONS[precision]
    if dtype == torch.float32:
        return
    for name, part in unet.named_children():
        if name != "position_net":
            part.to(dtype)
    if (boxes := getattr(unet, "position_net", None)) is not None:
        boxes.register_forward_hook(lambda module, given, tokens: tokens.to(dtype))
    for part in (vae.decoder, vae.post_quant_conv):
        if part is not None:
            part.to(dtype)


def speed_up(sd: Diffusion, compile: bool, channels_last: bool) -> None:
    """Let torch compile the U-Net, and lay out images channels last: both change no more than the last digits."""
    if channels_last:
        for network in (sd.unet, sd.vae):
            network.to(memory_format=torch.channels_last)
    if compile:
        sd.compiled = Compiled(sd.unet)


class Compiled:
    """The U-Net as torch compiles it for batches of the size that it is first given.

    Other sizes run as they are: each would be compiled for a minute, which a shard's last batch, or MultiDiffusion with its
    views, is not worth. So does all where compiling fails, as without a C compiler; that is said once.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet, self.size = unet, 0
        self.network = torch.compile(unet, dynamic=False)

    @property
    def works(self) -> bool:
        """Whether compiling has not failed."""
        return self.network is not self.unet

    def __call__(self, latents_BCHW: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        self.size = self.size or len(latents_BCHW)
        if self.works and len(latents_BCHW) == self.size:
            try:
                return self.network(latents_BCHW, *arguments, **options)
            except TorchDynamoException as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"torch.compile fails here, the U-Net runs as it is: {reason}", file=sys.stderr)
                self.network = self.unet
        return self.unet(latents_BCHW, *arguments, **options)


def identity(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
    """The guide that moves nothing."""
    return latents_BCHW


def none(i: int, n_calls: int) -> dict[str, Any]:
    """No further U-Net arguments."""
    return {}


@torch.no_grad()
def encode_text(sd: Diffusion, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states_BTD after the final norm, and pooled_BD, one state a text (`read_tokens`).

    Texts are padded and truncated to the text encoder's length, and no attention mask is used, as Stable Diffusion does;
    the pooled state of a phrase is GLIGEN's phrase feature.
    """
    return read_tokens(sd.text_encoder, tokenize(sd.tokenizer, texts, sd.prompt_limit).to(sd.device))


def count_truncated(sd: Diffusion, texts: Sequence[str]) -> int:
    """How many texts are longer than the text encoder takes, start and end tokens included."""
    return sum(len(ids) > sd.prompt_limit for ids in sd.tokenizer(list(texts), verbose=False).input_ids)


def initial_noise(layouts: Sequence[Layout], seed: int, shape_CHW: tuple[int, int, int]) -> torch.Tensor:
    """Standard normal noise_BCHW in float32 on the CPU; an image's noise depends on (seed, layout id) alone."""
    return torch.stack([torch.randn(shape_CHW, generator=image_generator(seed, layout)) for layout in layouts])


def image_generator(seed: int, layout: Layout, purpose: str = "") -> torch.Generator:
    """A generator on the CPU for what is drawn for one image: a stream a purpose, that of the initial noise without a name."""
    return seeded(seed, layout.id, purpose)


@torch.no_grad()
def denoise(
    sd: Diffusion,
    noise_BCHW: torch.Tensor,
    text_BTD: torch.Tensor,
    *,
    guide: Guide = identity,
    unet_kwargs: UNetArguments = none,
) -> torch.Tensor:
    """Denoise standard normal noise into latents_BCHW under classifier-free guidance, with a new scheduler.

    `guide(latents, i, t)` may move the latents before network call i; `unet_kwargs(i, n_calls)` gives the U-Net's
    further arguments for the doubled batch. PNDM makes steps + 1 calls, and call 1 ignores the latents it is given.
    Raises NonFiniteLatents.
    """
    scheduler = make_scheduler(sd)
    text_2BTD = with_negative(sd, text_BTD)
    n_calls = len(scheduler.timesteps)

    def predict(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        sd.counters.add("unet_forwards", range(len(latents_BCHW)), 2)
        return predict_noise(sd, latents_BCHW, t, text_2BTD, **unet_kwargs(i, n_calls))

    return iterate(scheduler, predict, noise_BCHW.to(sd.device) * scheduler.init_noise_sigma, guide)


def predict_noise(
    sd: Diffusion, latents_BCHW: torch.Tensor, t: torch.Tensor, text_2BTD: torch.Tensor, **unet_kwargs: Any
) -> torch.Tensor:
    """The noise in scaled latents under classifier-free guidance: one network call on the doubled batch."""
    doubled = torch.cat([latents_BCHW, latents_BCHW])
    unconditional, conditional = sd.network(doubled, t, text_2BTD, **unet_kwargs).chunk(2)
    return unconditional + sd.sampling.guidance_scale * (conditional - unconditional)


def iterate(scheduler: Any, predict: Predict, latents_BCHW: torch.Tensor, guide: Guide = identity) -> torch.Tensor:
    """Solve from the scheduler's first timestep to its last.

    Guides work on what the network sees, so the same update means the same under every solver; solvers that keep their
    latents at another scale (LMS: sqrt(1 + sigma^2) larger) get them back at theirs. The solver counts on the CPU, network
    and guide get their timesteps on the latents' device: no step waits for the device. Raises NonFiniteLatents.
    """
    latents, on_device = latents_BCHW, scheduler.timesteps.to(latents_BCHW.device)
    for i, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(latents, t)
        moved = guide(seen, i, on_device[i])
        if moved is not seen:
            latents = moved / scheduler.scale_model_input(torch.ones_like(latents[:1]), t)
        latents = scheduler.step(predict(moved, i, on_device[i]), t, latents).prev_sample
    _check_finite(latents)
    return latents


def make_scheduler(sd: Diffusion) -> Any:
    """A fresh scheduler of the model folder's own noise schedule, its timesteps set, on the CPU; it holds one batch's state."""
    # Latents are not bounded as pixels are; DDIM would clip them unless told otherwise, and PNDM's own file need not.
    config = sd.scheduler_config | {"clip_sample": False}
    if config.get("_class_name") != "PNDMScheduler":
        # A file of another solver says nothing of PNDM's first steps; GLIGEN's are PLMS.
        config = {"skip_prk_steps": True} | config
    scheduler = SCHEDULERS[sd.sampling.scheduler].from_config(config)
    if sd.sampling.scheduler == "pndm" and not scheduler.config.skip_prk_steps:
        raise InputError("scheduler_config.json: PNDM is PLMS only with `skip_prk_steps: true`, found false")
    scheduler.set_timesteps(sd.sampling.steps)
    return scheduler


def duplicate_calls(scheduler: Any) -> range:
    """The calls whose latents the solver drops: PLMS restarts at call 1 from what it was given at call 0."""
    return range(1, 1 + len(scheduler.timesteps) - scheduler.num_inference_steps)


def noise_share(scheduler: Any, i: int) -> float:
    """1 - alpha_cumprod at network call i, the noise's share of the variance; LMS also stands between timesteps."""
    if isinstance(scheduler, LMSDiscreteScheduler):
        variance = float(scheduler.sigmas[i]) ** 2
        return variance / (1 + variance)
    return 1 - float(scheduler.alphas_cumprod[int(scheduler.timesteps[i])])


def with_negative(sd: Diffusion, text_BTD: torch.Tensor) -> torch.Tensor:
    """Text states of the doubled batch: first the negative prompt's, once a row, then the given ones."""
    return torch.cat([sd.negative_1TD.expand_as(text_BTD), text_BTD])


def _check_finite(values_BCHW: torch.Tensor, what: str = "latents") -> None:
    finite_B = values_BCHW.isfinite().flatten(1).all(dim=1)
    if not finite_B.all():
        raise NonFiniteLatents((~finite_B).nonzero().flatten().tolist(), what)


@torch.no_grad()
def decode(sd: Diffusion, latents_BCHW: torch.Tensor) -> torch.Tensor:
    """Pixels of latents: uint8 [B, 3, size, size] on the CPU, rounded to the nearest level. Raises NonFiniteLatents.

    In float32 images are decoded one at a time: at 512 px one takes more of the decoder than of the U-Net.
    """
    scaled = (latents_BCHW / sd.vae.config.scaling_factor).to(sd.dtype)
    parts = scaled.split(DECODED if sd.is_lowered else 1)
    images = torch.cat([sd.vae.decode(part).sample.to(latents_BCHW.dtype).clamp(-1, 1).cpu() for part in parts])
    _check_finite(images, "pixels")
    return ((images + 1) * 127.5).round().to(torch.uint8)
