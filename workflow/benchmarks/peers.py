"""Speed against the peers, as ratios measured in one run with the results compared.

prints, and writes as JSON with --out: images per second of GLIGEN and of Attend-and-Excite against diffusers' pipelines
(which guide one layout at a time), HCMA's time over GLIGEN's, the Frechet step at 2048 dimensions against scipy's sqrtm, and
the features of a table against clean-fid's and transformers' loops (features.py). Refinements carry the last digit of
a float32 to the third, so that Attend-and-Excite's latents are compared in float64 as well.

A figure is made of the quickest of several rounds of either side, in turn. It says what processor it is of and what else ran
meanwhile, and when for that reason it is not to be trusted (rounds.py); the status is 0 all the same.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
    pipeline_stable_diffusion_attend_and_excite as their_excite,
)
from scipy import linalg

from baselines.attend_and_excite import head_nouns, weakest_token
from evaluation.metrics.frechet import frechet_distance, root
from formats.files import InputError, write_json
from formats.layouts import Layout, read_layouts
from hcma.sampling.attention_guidance import Excitation, excite, pad_positions
from hcma.sampling.caption_tokens import named_objects
from hcma.sampling.diffusion import Diffusion, denoise, encode_text, identity, initial_noise
from hcma.sampling.grounding import denoise_grounded, grounded_calls, grounding_tokens
from hcma.sampling.loading import Method, load_method
from hcma.sampling.spec import Spec, read_spec
from hcma.sampling.token_maps import smoothing_kernel
from workflow.benchmarks import features
from workflow.benchmarks.rounds import ROUNDS, processor, quickest, seconds, stated, take_turns, told

ROWS = 4000


@dataclass(frozen=True)
class Size:
    """How much is timed: rounds of a side, layouts a batch, those of them that the peers guide, the Frechet step's dimensions,
    and images of a row whose features are taken."""

    rounds: int = ROUNDS
    batch: int = 32
    peer_images: int = 6
    dimensions: int = 2048
    images: int = 16


# Shows that it runs and that results are equal; its times mean nothing.
QUICK = Size(rounds=1, batch=4, peer_images=1, dimensions=256, images=2)


def main(
    gligen: Path,
    hcma: Path,
    excite: Path,
    layouts: Path,
    rounds: int | None,
    quick: bool,
    only: Sequence[str] | None,
    out: Path | None,
) -> None:
    """Print the figures, all or those that are named, and write them as JSON."""
    size = QUICK if quick else Size()
    size = replace(size, rounds=rounds or size.rounds)
    some = [layout for layout in read_layouts(layouts) if layout.objects][: size.batch]
    figures = figures_of(read_spec(gligen), read_spec(hcma), read_spec(excite), some, size)
    for name in only or []:
        if name not in figures:
            raise InputError(f"--only {name}: not one of {', '.join(figures)}")
    machine = processor() | {"threads": torch.get_num_threads(), "kernels": torch.backends.cpu.get_cpu_capability()}
    rows = {}
    for name in only or figures:
        rows[name] = figures[name]()
        print(told(name, rows[name], machine), flush=True)
    if out:
        write_json(out, {"processor": machine} | rows)


def figures_of(
    gligen: Spec, hcma: Spec, excite: Spec, layouts: Sequence[Layout], size: Size
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name of a figure -> what measures it; each loads the models that it needs."""

    def excited() -> dict[str, Any]:
        method = load_method(excite, "cpu")
        rows = against_attend_and_excite(method, load_method(excite, "cpu").sd, layouts, size)
        return rows | {"extra_megabytes": excitement_megabytes(method, layouts)}

    def exactly() -> dict[str, Any]:
        return in_float64(load_method(excite, "cpu"), load_method(excite, "cpu").sd, layouts, size)

    return {
        "gligen_over_diffusers": lambda: against_itself(load_method(gligen, "cpu"), layouts, size),
        "hcma_over_gligen": lambda: overhead(gligen, hcma, layouts, size),
        "excite_over_diffusers": excited,
        "excite_over_diffusers_in_float64": exactly,
        "frechet_over_sqrtm": lambda: frechet(size),
        "features_over_libraries": lambda: features.compare(size.rounds, size.images),
    }


def against_itself(method: Method, layouts: Sequence[Layout], size: Size) -> dict[str, Any]:
    """`against_diffusers` on one and the same model."""
    return against_diffusers(method, method.sd, layouts, size)


def against_stable_diffusion(method: Method, model: Diffusion, layouts: Sequence[Layout], size: Size) -> dict[str, Any]:
    """Images per second of both, to latents, and the difference of the latents; diffusers' pipeline runs `model`, all layouts
    in one batch."""
    sd, peer = method.sd, _peer("StableDiffusionPipeline", model)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW)

    def ours() -> torch.Tensor:
        return denoise(sd, noise, encode_text(sd, [layout.caption for layout in layouts])[0])

    def theirs() -> torch.Tensor:
        return peer(
            [layout.caption for layout in layouts],
            num_inference_steps=sd.sampling.steps,
            guidance_scale=sd.sampling.guidance_scale,
            latents=noise.to(model.dtype),
            output_type="latent",
        ).images

    return _compared(ours, theirs, size.rounds)


def against_diffusers(method: Method, model: Diffusion, layouts: Sequence[Layout], size: Size) -> dict[str, Any]:
    """Images per second of both, to latents, and the difference of the latents both made; diffusers' GLIGEN runs `model`."""
    sd = method.sd
    peer = _peer("StableDiffusionGLIGENPipeline", model)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW)
    tau = method.params.tau

    def ours() -> torch.Tensor:
        text, _ = encode_text(sd, [layout.caption for layout in layouts])
        return denoise_grounded(sd, grounding_tokens(sd, layouts), noise, text, tau)

    def theirs() -> torch.Tensor:
        few = zip(layouts[: size.peer_images], noise, strict=False)
        return torch.cat([_peer_latents(peer, sd, layout, start.to(model.dtype), tau) for layout, start in few])

    return _compared(ours, theirs, size.rounds)


def _compared(ours: Callable[[], torch.Tensor], theirs: Callable[[], torch.Tensor], rounds: int) -> dict[str, Any]:
    """Images a second of both, to latents, and the largest difference of any round in those that both made."""
    # To the CPU: a GPU's work is done only then.
    sides = {"ours": lambda: seconds(lambda: ours().cpu()), "diffusers": lambda: seconds(lambda: theirs().cpu())}
    turns = take_turns(sides, rounds)
    rates = {name: len(side[0].result) / quickest(side) for name, side in turns.items()}
    pairs = [
        (mine.result[: len(other.result)].double(), other.result.double())
        for mine, other in zip(turns["ours"], turns["diffusers"], strict=True)
    ]
    return {
        "ours_images_per_second": rates["ours"],
        "diffusers_images_per_second": rates["diffusers"],
        "ratio": rates["ours"] / rates["diffusers"],
        "largest_difference_of_latents": float(max((mine - other).abs().max() for mine, other in pairs)),
        "relative_difference_of_latents": float(max((mine - other).norm() / other.norm() for mine, other in pairs)),
    } | stated(turns)


def against_attend_and_excite(method: Method, peer: Diffusion, layouts: Sequence[Layout], size: Size) -> dict[str, Any]:
    """The same for Attend-and-Excite, with the work of ours an image; diffusers' pipeline changes the model it is given,
    so `peer` is another copy."""
    sd = method.sd
    layouts, positions = exciting(sd, layouts)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW).to(peer.dtype)
    pipeline = _peer("StableDiffusionAttendAndExcitePipeline", peer)

    def theirs() -> torch.Tensor:
        few = zip(layouts[: size.peer_images], positions, noise, strict=False)
        return torch.cat([_excited(pipeline, sd, method.params, *row) for row in few])

    def ours() -> torch.Tensor:
        sd.counters.clear()
        return _our_excited(method, layouts, positions)

    rows = _compared(ours, theirs, size.rounds)
    names = ("guidance_forwards", "guidance_backwards", "refinements")
    return rows | {name: sd.counters[name] / len(layouts) for name in names}


def in_float64(method: Method, peer: Diffusion, layouts: Sequence[Layout], size: Size) -> dict[str, float]:
    """The largest difference of one image's latents where nothing is rounded to float32."""
    for sd in (method.sd, peer):
        for part in (sd.unet, sd.vae, sd.text_encoder):
            part.double()
    layouts, once = exciting(method.sd, layouts)[0][:1], replace(size, rounds=1)
    # The peer computes its kernel in float32 whatever its networks' precision, and has no argument for it.
    with patch.object(their_excite, "GaussianSmoothing", partial(_exact_smoothing, their_excite.GaussianSmoothing)):
        rows = against_attend_and_excite(method, peer, layouts, once)
    return {name: rows[name] for name in ("largest_difference_of_latents", "refinements")}


def _exact_smoothing(smoothing: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    filtered = smoothing()
    filtered.weight = smoothing_kernel(3, 0.5)[None, None]
    return filtered


def exciting(sd: Diffusion, layouts: Sequence[Layout]) -> tuple[list[Layout], list[list[int]]]:
    """The layouts whose captions name an object, and the positions of those names."""
    found = [(layout, head_nouns(things)) for layout, things in zip(layouts, named_objects(sd, layouts), strict=True)]
    return [layout for layout, rows in found if rows], [rows for _, rows in found if rows]


def _our_excited(
    method: Method, layouts: Sequence[Layout], positions: Sequence[Sequence[int]], guided: bool = True
) -> torch.Tensor:
    sd = method.sd
    padded = pad_positions(positions).to(sd.device)
    exact = torch.promote_types(sd.dtype, torch.float32)
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW).to(exact)
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


def overhead(gligen: Spec, hcma: Spec, layouts: Sequence[Layout], size: Size) -> dict[str, Any]:
    """Time of HCMA over GLIGEN, noise to pixels; with eta 0 the images must be the same."""
    specs = {"hcma": hcma, "gligen": gligen}
    turns = take_turns(
        {name: partial(_generate, load_method(spec, "cpu"), layouts) for name, spec in specs.items()}, size.rounds
    )
    moving = load_method(hcma, "cpu")
    _, unmoved = _generate(replace(moving, state=replace(moving.state, eta=0.0)), layouts)
    gaps = [(turn.result.int() - unmoved.int()).abs().max() for turn in turns["gligen"]]
    rows: dict[str, Any] = {f"{name}_seconds": quickest(side) for name, side in turns.items()}
    rows["ratio"] = rows["hcma_seconds"] / rows["gligen_seconds"]
    return rows | {"largest_pixel_difference_at_eta_0": float(max(gaps))} | stated(turns)


def _generate(method: Method, layouts: Sequence[Layout]) -> tuple[float, torch.Tensor]:
    sd = method.sd
    noise = initial_noise(layouts, sd.sampling.seed, sd.latent_shape_CHW)
    return seconds(lambda: method.generate(layouts, noise))


def frechet(size: Size) -> dict[str, Any]:
    """Our distance, the root of the reference at hand, against the textbook one with scipy's matrix square root."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, size.dimensions + 1) ** -0.5
    a, b = (rng.standard_normal((ROWS, size.dimensions)) * spectrum + shift for shift in (0.0, 0.02))
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (a, b)]
    factor = root(moments[0][1])  # the reference's, kept for all rows and all that is left out of them
    turns = take_turns(
        {
            "ours": lambda: seconds(lambda: frechet_distance(*moments[0], *moments[1], factor)),
            "sqrtm": lambda: seconds(lambda: _textbook(*moments[0], *moments[1])),
        },
        size.rounds,
    )
    ours, peer = (side[0].result for side in turns.values())
    rows = {f"{name}_seconds": quickest(side) for name, side in turns.items()}
    rows["ratio"] = rows["sqrtm_seconds"] / rows["ours_seconds"]
    return rows | {"relative_difference": abs(ours - peer) / abs(peer)} | stated(turns)


def _textbook(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    root = linalg.sqrtm(cov_a @ cov_b)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))
