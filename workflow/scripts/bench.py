"""Speed against the peers, as ratios measured in one run with the results compared.

    python -m workflow.scripts.bench --gligen methods/gligen_sd.json --hcma methods/hcma.json \
        --excite methods/attend_and_excite.json --layouts test.jsonl

prints, and writes as JSON with --out: images per second of GLIGEN and of Attend-and-Excite against diffusers' pipelines
(which guide one layout at a time), HCMA's time over GLIGEN's, the Frechet step at 2048 dimensions against scipy's sqrtm, and
the features of a table against clean-fid's and transformers' loops (bench_evaluation.py). Refinements carry the last digit of
a float32 to the third, so that Attend-and-Excite's latents are compared in float64 as well.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite.pipeline_stable_diffusion_attend_and_excite import (
    GaussianSmoothing,
)
from scipy import linalg

from baselines.attend_and_excite import head_nouns, weakest_token
from evaluation.frechet import frechet_distance, root
from hcma.loading import Method, load_method
from hcma.sampling import excitation
from hcma.sampling.diffusion import Diffusion, denoise, encode_text, identity, initial_noise
from hcma.sampling.excitation import Excitation, excite, pad_positions
from hcma.sampling.grounding import denoise_grounded, grounded_calls, grounding_tokens
from hcma.sampling.layout import Layout, read_layouts
from hcma.sampling.spec import Spec, read_spec
from hcma.sampling.tokens import named_objects
from workflow.scripts import bench_evaluation

BATCH = 32
PEER_IMAGES = 6
DIMENSIONS, ROWS = 2048, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gligen", type=Path, required=True, help="method specification of the GLIGEN row")
    parser.add_argument("--hcma", type=Path, required=True, help="method specification of the HCMA row")
    parser.add_argument("--excite", type=Path, required=True, help="method specification of the Attend-and-Excite row")
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    layouts = [layout for layout in read_layouts(arguments.layouts) if layout.objects][:BATCH]
    excite_spec = read_spec(arguments.excite)
    exciter, peer = load_method(excite_spec, "cpu"), load_method(excite_spec, "cpu").sd
    excite_rows = against_attend_and_excite(exciter, peer, layouts)
    excite_exact = in_float64(load_method(excite_spec, "cpu"), load_method(excite_spec, "cpu").sd, layouts)
    rows = {
        "gligen_over_diffusers": against_diffusers(load_method(read_spec(arguments.gligen), "cpu"), layouts),
        "hcma_over_gligen": overhead(read_spec(arguments.gligen), read_spec(arguments.hcma), layouts),
        "excite_over_diffusers": excite_rows | {"extra_megabytes": excitement_megabytes(exciter, layouts)},
        "excite_over_diffusers_in_float64": excite_exact,
        "frechet_over_sqrtm": frechet(),
        "features_over_libraries": bench_evaluation.compare(),
        "load_average": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(rows, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def against_diffusers(method: Method, layouts: Sequence[Layout], peer_images: int = PEER_IMAGES) -> dict[str, float]:
    """Images per second of both, to latents, and the largest difference of the latents both made."""
    sd = method.sd
    peer = _peer("StableDiffusionGLIGENPipeline", sd)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW)
    tau = method.params.tau

    def ours() -> torch.Tensor:
        text, _ = encode_text(sd, [layout.caption for layout in layouts])
        return denoise_grounded(sd, grounding_tokens(sd, layouts), noise, text, tau)

    def theirs() -> torch.Tensor:
        few = zip(layouts[:peer_images], noise, strict=False)
        return torch.cat([_peer_latents(peer, sd, layout, start, tau) for layout, start in few])

    return _compared(ours, theirs)


def _compared(ours: Callable[[], torch.Tensor], theirs: Callable[[], torch.Tensor]) -> dict[str, float]:
    """Latents an image a second of both, and the largest difference in those that both made."""
    ours_seconds, our_latents = seconds(ours)
    peer_seconds, peer_latents = seconds(theirs)
    difference = (our_latents[: len(peer_latents)] - peer_latents).abs().max()
    ours_rate, peer_rate = len(our_latents) / ours_seconds, len(peer_latents) / peer_seconds
    return {
        "ours_images_per_second": ours_rate,
        "diffusers_images_per_second": peer_rate,
        "ratio": ours_rate / peer_rate,
        "largest_difference_of_latents": float(difference),
    }


def against_attend_and_excite(
    method: Method, peer: Diffusion, layouts: Sequence[Layout], peer_images: int = PEER_IMAGES
) -> dict[str, float]:
    """The same for Attend-and-Excite, with the work of ours an image; diffusers' pipeline changes the model it is given,
    so `peer` is another copy."""
    sd = method.sd
    layouts, positions = exciting(sd, layouts)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW).to(sd.unet.dtype)
    pipeline = _peer("StableDiffusionAttendAndExcitePipeline", peer)

    def theirs() -> torch.Tensor:
        few = zip(layouts[:peer_images], positions, noise, strict=False)
        return torch.cat([_excited(pipeline, sd, method.params, *row) for row in few])

    sd.work.clear()
    rows = _compared(lambda: _our_excited(method, layouts, positions), theirs)
    names = ("guidance_forwards", "guidance_backwards", "refinements")
    return rows | {name: sd.work[name] / len(layouts) for name in names}


def in_float64(method: Method, peer: Diffusion, layouts: Sequence[Layout]) -> dict[str, float]:
    """The largest difference of one image's latents where nothing is rounded, the peer's kernel, which is float32, included."""
    for sd in (method.sd, peer):
        for part in (sd.unet, sd.vae, sd.text_encoder):
            part.double()
    kernel = GaussianSmoothing(channels=1).weight[0, 0].double()
    with patch.object(excitation, "smoothing_kernel", lambda *_: kernel):
        rows = against_attend_and_excite(method, peer, exciting(method.sd, layouts)[0][:1])
    return {name: rows[name] for name in ("largest_difference_of_latents", "refinements")}


def exciting(sd: Diffusion, layouts: Sequence[Layout]) -> tuple[list[Layout], list[list[int]]]:
    """The layouts whose captions name an object, and the positions of those names."""
    found = [(layout, head_nouns(things)) for layout, things in zip(layouts, named_objects(sd, layouts), strict=True)]
    return [layout for layout, rows in found if rows], [rows for _, rows in found if rows]


def _our_excited(
    method: Method, layouts: Sequence[Layout], positions: Sequence[Sequence[int]], guided: bool = True
) -> torch.Tensor:
    sd = method.sd
    padded = pad_positions(positions).to(sd.device)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW).to(sd.unet.dtype)
    text, _ = encode_text(sd, [layout.caption for layout in layouts])
    guide = excite(sd, text, padded, weakest_token(padded), method.params) if guided else identity
    return denoise(sd, noise, text, guide=guide)


def excitement_megabytes(method: Method, layouts: Sequence[Layout]) -> float:
    """The memory that Attend-and-Excite's guidance takes beyond plain sampling, of one batch on the CPU."""
    layouts, positions = exciting(method.sd, layouts)
    short = replace(method, sd=replace(method.sd, sampling=replace(method.sd.sampling, steps=3)))
    guided, plain = (_peak_bytes(partial(_our_excited, short, layouts, positions, on)) for on in (True, False))
    return (guided - plain) / 2**20


def _excited(
    peer: Any, sd: Diffusion, params: Excitation, layout: Layout, positions: Sequence[int], noise_CHW: torch.Tensor
) -> torch.Tensor:
    return peer(
        layout.caption,
        list(positions),
        num_inference_steps=sd.sampling.steps,
        guidance_scale=sd.sampling.guidance_scale,
        latents=noise_CHW[None].clone(),
        output_type="latent",
        max_iter_to_alter=params.stop,
        thresholds={int(call): share for call, share in params.thresholds},
        scale_factor=int(params.step),
        attn_res=(params.resolution, params.resolution),
    ).images


def _peak_bytes(work: Callable[[], Any]) -> float:
    """The most bytes that tensors held at a time during `work`, by torch's profiler."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def _peer(name: str, sd: Diffusion) -> Any:
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = getattr(diffusers, name)(
            vae=sd.vae,
            text_encoder=sd.text_encoder,
            tokenizer=sd.tokenizer,
            unet=sd.unet,
            scheduler=diffusers.PNDMScheduler.from_config(sd.scheduler_config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _peer_latents(peer: Any, sd: Diffusion, layout: Layout, noise_CHW: torch.Tensor, tau: float) -> torch.Tensor:
    """diffusers counts its grounded calls as int(beta * calls); this beta gives as many as ours."""
    calls = sd.sampling.steps + 1
    return peer(
        layout.caption,
        gligen_phrases=[thing.phrase for thing in layout.objects],
        gligen_boxes=[list(thing.box) for thing in layout.objects],
        gligen_scheduled_sampling_beta=(grounded_calls(tau, sd.sampling.steps, calls) + 0.5) / calls,
        num_inference_steps=sd.sampling.steps,
        guidance_scale=sd.sampling.guidance_scale,
        latents=noise_CHW[None].clone(),
        output_type="latent",
    ).images


def overhead(gligen: Spec, hcma: Spec, layouts: Sequence[Layout]) -> dict[str, float]:
    """Time of HCMA over GLIGEN, pixels to pixels, better of two; with eta 0 the images must be the same."""
    rows: dict[str, float] = {}
    images: dict[str, torch.Tensor] = {}
    still = replace(hcma, params=hcma.params | {"eta": 0.0})
    for name, spec in {"gligen": gligen, "hcma": hcma, "hcma_eta_0": still}.items():
        timed = [_generate(load_method(spec, "cpu"), layouts) for _ in range(2)]
        rows[f"{name}_seconds"], images[name] = min(timed, key=lambda pair: pair[0])
    rows["ratio"] = rows["hcma_seconds"] / rows["gligen_seconds"]
    rows["largest_pixel_difference_at_eta_0"] = float((images["gligen"].int() - images["hcma_eta_0"].int()).abs().max())
    return rows


def _generate(method: Method, layouts: Sequence[Layout]) -> tuple[float, torch.Tensor]:
    sd = method.sd
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW)
    return seconds(lambda: method.module.generate(sd, layouts, noise, method.params))


def frechet() -> dict[str, float]:
    """Our distance, the root of the reference at hand, against the textbook one with scipy's matrix square root."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, DIMENSIONS + 1) ** -0.5
    a, b = (rng.standard_normal((ROWS, DIMENSIONS)) * spectrum + shift for shift in (0.0, 0.02))
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (a, b)]
    factor = root(moments[0][1])  # the reference's, kept for all rows and all that is left out of them
    ours_seconds, ours = seconds(lambda: frechet_distance(*moments[0], *moments[1], factor))
    peer_seconds, peer = seconds(lambda: _textbook(*moments[0], *moments[1]))
    return {
        "ours_seconds": ours_seconds,
        "sqrtm_seconds": peer_seconds,
        "ratio": peer_seconds / ours_seconds,
        "relative_difference": abs(ours - peer) / abs(peer),
    }


def _textbook(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    root = linalg.sqrtm(cov_a @ cov_b)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))


if __name__ == "__main__":
    main()
