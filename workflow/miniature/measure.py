"""What the miniature's weights can do, read by the judge: the bars the project holds its miniature to.

Images are sampled with the settings of the miniature's own configuration.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from formats.layouts import Layout, Object
from hcma.sampling.diffusion import Diffusion, Sampling, initial_noise, load_diffusion
from workflow.miniature.autoencoder import pixels
from workflow.miniature.captions import captions, named
from workflow.miniature.shape_classifier import in_boxes, load_judge, somewhere
from workflow.miniature.world import SIDE, Scene, draw, scene
from workflow.overlays import merged

BATCH = 32
CONFIG = Path("workflow/config/miniature.yaml")
BARS = {
    "judge_on_real_crops": (">=", 0.97),
    "autoencoder_keeps": (">=", 0.95),
    "gligen_shape_in_box": (">=", 0.80),
    "sd_shape_in_box": ("<", 0.45),
    "sd_named_objects_found": (">=", 0.60),
}


def measure(weights: Path, count: int = 128, seed: int = 4242) -> dict[str, Any]:
    """Judge readings on `count` fresh scenes: real pictures, reconstructions, images of SD and of both GLIGENs."""
    rng = np.random.default_rng(seed)
    scenes = [scene(rng, square=True) for _ in range(count)]
    texts = [captions(picture, rng)[0] for picture in scenes]
    layouts = [_layout(i, *pair) for i, pair in enumerate(zip(scenes, texts, strict=True))]
    judge, wanted = load_judge(weights / "judge"), [named(text) for text in texts]
    real = np.stack([draw(picture) for picture in scenes])
    config = merged([CONFIG])
    sampling, params = Sampling(**config["sampling"]), config["methods"]["gligen_sd"]["params"]
    sd = load_diffusion(weights / "sd14", sampling)
    kept = in_boxes(judge, _reconstruct(sd.vae, real), scenes)
    plain = _generate(sd, "baselines.stable_diffusion", layouts, {})
    grounded, second = (
        _generate(load_diffusion(weights / name, sampling), "baselines.gligen", layouts, params)
        for name in ("gligen", "gligen_ldm")
    )
    on_real, on_plain, on_grounded, on_second = (
        in_boxes(judge, images, scenes) for images in (real, plain, grounded, second)
    )
    return {
        "scenes": count,
        "sampling": config["sampling"],
        "gligen": params,
        "judge_on_real_crops": on_real["shape"],
        "autoencoder_keeps": kept["shape"] / on_real["shape"],
        "gligen_shape_in_box": on_grounded["shape"],
        "gligen_colour_in_box": on_grounded["colour"],
        "gligen_ldm_shape_in_box": on_second["shape"],
        "sd_shape_in_box": on_plain["shape"],
        "sd_named_objects_found": somewhere(judge, plain[:64], wanted[:64]),
        "gligen_named_objects_found": somewhere(judge, grounded[:64], wanted[:64]),
        "gligen_ldm_named_objects_found": somewhere(judge, second[:64], wanted[:64]),
        "real_named_objects_found": somewhere(judge, real[:64], wanted[:64]),
    }


def verdicts(measured: dict[str, Any]) -> dict[str, str]:
    """Each bar with what was reached: "reached 0.83, bar >= 0.80" or "missed ..."."""
    lines = {}
    for name, (sign, bar) in BARS.items():
        value = measured[name]
        reached = value >= bar if sign == ">=" else value < bar
        lines[name] = f"{'reached' if reached else 'missed'}: {value:.3f}, bar {sign} {bar:.2f}"
    return lines


def _layout(number: int, picture: Scene, text: str) -> Layout:
    things = [thing for thing in picture.things if thing.size > 8]
    boxes = [(x0 / SIDE, y0 / SIDE, x1 / SIDE, y1 / SIDE) for x0, y0, x1, y1 in (thing.box for thing in things)]
    objects = tuple(Object(thing.shape, box, None, i) for i, (thing, box) in enumerate(zip(things, boxes, strict=True)))
    return Layout(number, number, text, objects)


@torch.no_grad()
def _reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    decoded = [vae.decode(vae.encode(part).latent_dist.mean).sample for part in pixels(images).split(BATCH)]
    return _images(((torch.cat(decoded).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))


def _generate(sd: Diffusion, module: str, layouts: list[Layout], params: dict[str, Any]) -> np.ndarray:
    method = importlib.import_module(module)
    made = []
    for start in range(0, len(layouts), BATCH):
        part = layouts[start : start + BATCH]
        made.append(method.generate(sd, part, initial_noise(part, 0, sd.latent_shape_CHW), method.Params(**params)))
    return _images(torch.cat(made))


def _images(pixels_B3HW: torch.Tensor) -> np.ndarray:
    return pixels_B3HW.permute(0, 2, 3, 1).numpy()
