"""Any text-to-image pipeline of diffusers, a folder as `save_pretrained` writes it, on the captions alone; boxes are ignored.

What the pipeline does is its own: networks, solver, prompt handling. The stanza's `sampling` gives steps, guidance scale and
negative prompt, and says `scheduler: own`; what is random comes from streams of the seed and the layout.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from transformers.utils import logging as text_logging

from formats.checksums import verify_folder
from formats.files import InputError, read_json
from formats.layouts import Layout
from formats.params import expect
from hcma.sampling.diffusion import OWN, PRECISIONS, Diffusion, NonFiniteLatents, Sampling, image_generator
from hcma.sampling.weights import load_pretrained

# Arguments of a pipeline's call that the comparison decides.
DECIDED = (
    "prompt",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "generator",
    "latents",
)


@dataclass(frozen=True)
class Params:
    """What is the pipeline's own.

    size     side of the image in pixels; None: the pipeline's own
    options  further arguments of its call, such as clip_skip, true_cfg_scale or max_sequence_length
    """

    size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect(
            "size", self.size, lambda v: v is None or (type(v) is int and v >= 8), "null or an integer of at least 8"
        )
        expect("options", self.options, lambda v: isinstance(v, Mapping), "a mapping of names to values")
        taken = "names that the comparison does not decide (" + ", ".join(DECIDED) + ")"
        expect("options", self.options, lambda v: not {*DECIDED, "output_type", "return_dict"} & v.keys(), taken)


@dataclass
class Pipeline(Diffusion):
    """A pipeline where others have their models: `unet` is its denoiser, whatever that is."""

    pipe: Any = None
    pixels: int = 0
    limit: int = 0

    @property
    def has_image_latents(self) -> bool:
        """Whether its latents are an image of the autoencoder's channels; else (FLUX packs them) it draws its own."""
        return bool(self.unet.config.in_channels == self.vae.config.latent_channels)

    @property
    def latent_shape_CHW(self) -> tuple[int, int, int]:
        side = self.pixels // self.pipe.vae_scale_factor
        return self.vae.config.latent_channels, side, side

    @property
    def prompt_limit(self) -> int:
        return self.limit

    @property
    def size(self) -> int:
        return self.pixels


def open_model(folder: str | Path, sampling: Sampling, params: Params, device: torch.device) -> Pipeline:
    """The pipeline in a folder, checked against its SHA256SUMS; raises InputError for what it cannot be asked."""
    verify_folder(folder)
    expect("sampling.scheduler", sampling.scheduler, lambda v: v == OWN, f"{OWN!r}, the pipeline's")
    for log in (logging, text_logging):
        log.set_verbosity_error()
    # Whether an image may be seen is not decided here: a checker would blacken some of them. What else is not there, such as
    # the checker's feature extractor, is not needed either, or the pipeline says so.
    index = {name for name, part in read_json(Path(folder) / "model_index.json").items() if isinstance(part, list)}
    left_out = {name: None for name in index if name == "safety_checker" or not (Path(folder) / name).is_dir()}
    pipe = load_pretrained(DiffusionPipeline, Path(folder), dtype=PRECISIONS[sampling.precision], **left_out).to(device)
    pipe.set_progress_bar_config(disable=True)
    known = inspect.signature(pipe.__call__).parameters
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    asked = {"prompt", *params.options, *(["negative_prompt"] if sampling.negative_prompt else [])}
    if denoiser is None or asked - known.keys():
        lacking = ", ".join(sorted(asked - known.keys())) or "unet and no transformer"
        raise InputError(f"{folder}: {type(pipe).__name__} has no {lacking}")
    for network in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        network.eval().requires_grad_(False)
    pipe.vae.enable_slicing()
    texts = [name for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    tokenizer = getattr(pipe, texts[-1].replace("text_encoder", "tokenizer"))
    longest = known["max_sequence_length"].default if "max_sequence_length" in known else tokenizer.model_max_length
    side = getattr(pipe, "default_sample_size", None) or denoiser.config.sample_size
    return Pipeline(
        tokenizer,
        getattr(pipe, texts[-1]),
        denoiser,
        pipe.vae,
        dict(pipe.scheduler.config),
        sampling,
        folder=Path(folder),
        pipe=pipe,
        pixels=params.size or side * pipe.vae_scale_factor,
        limit=params.options.get("max_sequence_length", longest),
    )


@torch.no_grad()
def generate(sd: Pipeline, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions; from the row's noise where the pipeline's latents are an image."""

    def count(network: Any, inputs: Any, output: Any) -> None:
        seen = len(output[0] if isinstance(output, tuple) else output.sample)
        sd.counters.add("unet_forwards", range(len(layouts)), seen // len(layouts))

    sd.counters.add("other_first_noise", range(len(layouts)), int(not sd.has_image_latents))
    handle = sd.unet.register_forward_hook(count)
    try:
        images = sd.pipe(**arguments(sd, layouts, noise_BCHW, params)).images
    finally:
        handle.remove()
    finite_B = images.isfinite().flatten(1).all(1)
    if not finite_B.all():
        raise NonFiniteLatents((~finite_B).nonzero().flatten().tolist())
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def arguments(sd: Pipeline, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> dict[str, Any]:
    """What the pipeline is called with for these layouts; of what the comparison decides, what it knows."""
    known = inspect.signature(sd.pipe.__call__).parameters
    decided: dict[str, Any] = {"height": sd.size, "width": sd.size, "num_inference_steps": sd.sampling.steps}
    decided["guidance_scale"] = sd.sampling.guidance_scale
    if sd.sampling.negative_prompt:
        decided["negative_prompt"] = [sd.sampling.negative_prompt] * len(layouts)
    decided["generator"] = [image_generator(sd.sampling.seed, layout, "pipeline") for layout in layouts]
    if sd.has_image_latents:
        # In the precision of the networks, as the pipeline would draw them.
        decided["latents"] = noise_BCHW.to(sd.device, sd.unet.dtype)
    # PixArt would draw at the nearest of its training's sizes, and resize.
    decided |= {"use_resolution_binning": False, "output_type": "pt"}
    given = {"prompt": [layout.caption for layout in layouts]} | dict(params.options)
    return {name: value for name, value in decided.items() if name in known and name not in given} | given
