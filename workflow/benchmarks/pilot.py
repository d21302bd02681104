"""Seconds an image of each kind of network pass on this machine's device: what an estimate of a run's cost is made of.

Networks are built from their configuration with random weights, since time does not depend on values: from a model folder's
own files where it exists, else from the published architecture. So nothing needs to be fetched first.
"""

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from formats.device import device_name, take_device
from formats.files import read_json, write_json
from formats.params import from_keys
from formats.records import SAMPLING, commit, versions
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import Params, Targets, align_step
from hcma.sampling.attention import attention_reader
from hcma.sampling.batch_size import ELSEWHERE
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import Diffusion, Sampling, decode, lower, predict_noise
from hcma.sampling.grounding import SLOTS, fusers_enabled
from workflow.benchmarks.feature_costs import Evaluation, evaluation_of, time_networks
from workflow.benchmarks.rounds import fastest
from workflow.plan import Plan, Sampled, read_plan
from workflow.random_weights.architecture import read_architecture

TOKENS = 77

# Work on a batch of so many images, ready to be timed.
Batch = Callable[[int], Callable[[], torch.Tensor]]


@dataclass(frozen=True)
class TimedRow:
    """A method as a stanza of the configuration has it, with all its sampling settings, on a model folder."""

    name: str
    module: str
    params: dict[str, Any]
    sampling: dict[str, Any]
    model: str


@dataclass(frozen=True)
class Images:
    """Images that a run samples: so many of a split, by a row; they lie in the folders of those names."""

    row: str
    split: str
    count: int


@dataclass(frozen=True)
class Workload:
    """What a run samples, trains and evaluates; `alignment` are the sizes of that module, `batch_size` may be "auto"."""

    rows: Sequence[tuple[TimedRow, Images]]
    alignment: dict[str, Any]
    images_trained: int
    size: int
    shard_size: int
    most_boxes: int
    batch_size: int | str
    evaluation: Evaluation | None = None


def main(config: Path, device: str, out: Path) -> None:
    taken = take_device(device)
    plan = read_plan(config)
    # Before the passes: a device of the evaluation that is not there is a line at once.
    judge = take_device(plan.evaluation_device)
    evaluation = time_networks(read_json(config)["extractors"], judge, plan.settings.data.size)
    write_pilot(taken, workload(plan), out, evaluation)


def write_pilot(device: torch.device, load: Workload, out: Path, evaluation: dict[str, Any] | None = None) -> None:
    """Time the passes of every row on the device, and write them, with those of the evaluation's networks where given."""
    made: dict[str, Any] = {"device": device_name(device), "commit": commit(), "versions": versions(SAMPLING)}
    made |= {"evaluation": evaluation} if evaluation else {}
    write_json(out, made | {"rows": time_rows(load, device)})


def workload(plan: Plan) -> Workload:
    """All that a run samples, and what it trains its alignment on."""
    settings, train = plan.settings, plan.settings.alignment.train
    return Workload(
        rows=[(plan_row(plan, images), Images(*images)) for images in plan.sampled],
        alignment=settings.alignment.model.model_dump(),
        # What does not fill a batch is left out of its epoch.
        images_trained=train.epochs * (plan.count("train") // train.batch) * train.batch,
        size=settings.data.size,
        shard_size=settings.data.shard_size,
        most_boxes=settings.data.boxes.max,
        batch_size=settings.resources.batch_size,
        evaluation=evaluation_of(plan),
    )


def plan_row(plan: Plan, images: Sampled) -> TimedRow:
    """A row as the plan samples it; the one that candidates for eta are judged against is sampled on both splits."""
    held_out = images.split == "heldout" and images.row not in plan.candidates
    stanza, name = plan.stanza(images.row), f"{images.row}, held out" if held_out else images.row
    return TimedRow(name, stanza.module, stanza.params, plan.sampling(images.row), plan.model(stanza.base))


def passes_of(row: TimedRow) -> tuple[Passes, bool]:
    """What an image of the row takes, and whether its method says so; else it is taken for plain sampling."""
    module, sampling = importlib.import_module(row.module), sampling_of(row)
    if not hasattr(module, "passes"):
        return Passes(calls=sampling.calls), False
    return module.passes(from_keys(module.Params, row.params, f"{row.module}, params"), sampling), True


def sampling_of(row: TimedRow) -> Sampling:
    """The row's sampling settings."""
    return Sampling(**row.sampling)


def time_rows(load: Workload, device: torch.device) -> dict[str, dict[str, Any]]:
    """row -> kind of pass -> {seconds an image, batch}, of the kinds that the row uses.

    `pass` and `grounded_pass` are calls of the sampler, with and without caption, the latter with boxes; `guided_pass` and
    `guided_grounded_pass` are forward to the last map that is read, and back; `training` is the alignment module's on an
    image, forward and back.
    Networks that rows share are timed once, and one model is held at a time.
    """
    batch = load.batch_size if isinstance(load.batch_size, int) else ELSEWHERE
    alike: defaultdict[str, list[TimedRow]] = defaultdict(list)
    seconds: dict[str, dict[str, Any]] = {}
    for row, _ in load.rows:
        if hasattr(importlib.import_module(row.module), "open_model"):
            seconds[row.name] = {}  # networks of its own, which are not built here
            continue
        alike[json.dumps([networks(row.model, is_gated(load, row.model)), sampling_of(row).precision])].append(row)
    for rows in alike.values():
        sd, timed = build(rows[0], is_gated(load, rows[0].model), device), {}
        for row in rows:
            passes, _ = passes_of(row)
            layers = tuple(passes.layers(sd.unet)) if passes.layers else ()
            seconds[row.name] = {}
            for kind, work in kinds(sd, passes, layers, load.alignment).items():
                read = (kind, layers if kind.startswith("guided") else ())
                if read not in timed:
                    timed[read] = seconds_an_image(work, batch)
                seconds[row.name][kind] = timed[read]
    return {row.name: seconds[row.name] for row, _ in load.rows}


def build(row: TimedRow, gated: bool, device: torch.device) -> Diffusion:
    """A row's U-Net and decoder with random weights; the rest of the model is not needed."""
    configs, sampling = networks(row.model, gated), sampling_of(row)
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(configs["unet"]).to(device).eval().requires_grad_(False)
    vae = AutoencoderKL.from_config(configs["vae"]).to(device).eval().requires_grad_(False)
    lower(unet, vae, sampling.precision)
    no_text: Any = None
    return Diffusion(no_text, no_text, unet, vae, {}, sampling)


def networks(folder: str, gated: bool) -> dict[str, Any]:
    """config.json of U-Net and autoencoder: the folder's, or those of the published architecture where it is not there."""
    autoencoder = "vqvae" if (Path(folder) / "vqvae").is_dir() else "vae"
    if (Path(folder) / "unet/config.json").is_file():
        return {
            name: json.loads((Path(folder) / part / "config.json").read_text())
            for name, part in (("unet", "unet"), ("vae", autoencoder))
        }
    components = read_architecture("gligen" if gated else "stable-diffusion").components
    return {name: components[name].config for name in ("unet", "vae")}


def is_gated(load: Workload, folder: str) -> bool:
    """Whether a model's U-Net has layers for boxes: as its folder says or, before it is there, a row that needs them."""
    config = Path(folder) / "unet/config.json"
    if config.is_file():
        return bool(json.loads(config.read_text()).get("attention_type") == "gated")
    return any(row.model == folder and passes_of(row)[0].grounded for row, _ in load.rows)


def kinds(sd: Diffusion, passes: Passes, layers: Sequence[str], alignment: dict[str, Any]) -> dict[str, Batch]:
    """What is timed for a method that takes such passes."""
    t = torch.tensor(500, device=sd.device)

    def latents(batch: int) -> torch.Tensor:
        return torch.randn(batch, *sd.latent_shape_CHW, device=sd.device)

    def plain(batch: int) -> Callable[[], torch.Tensor]:
        x, text = latents(batch), texts(sd, 2 * batch)
        return torch.no_grad()(lambda: predict_noise(sd, x, t, text))

    def decoding(batch: int) -> Callable[[], torch.Tensor]:
        x = latents(batch)
        return lambda: decode(sd, x)

    found: dict[str, Batch] = {"pass": plain, "decoding": decoding}
    if passes.grounded:
        found["grounded_pass"] = lambda batch: grounded(sd, latents(batch), t)
    if passes.guided[1]:
        found["guided_pass"] = lambda batch: guided(sd, latents(batch), t, layers)
    if passes.guided_grounded[1]:
        found["guided_grounded_pass"] = lambda batch: guided(sd, latents(batch), t, layers, tokens(sd, batch))
    if "alignments" in passes.other:
        found["alignments"] = lambda batch: aligning(sd, alignment, latents(batch), t)
        found["training"] = lambda batch: training(sd, alignment, latents(batch), t)
    return found


def texts(sd: Diffusion, batch: int) -> torch.Tensor:
    """Random text states."""
    return torch.randn(batch, TOKENS, sd.unet.config.cross_attention_dim, device=sd.device)


def grounded(sd: Diffusion, latents_BCHW: torch.Tensor, t: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A call of the sampler that sees boxes."""
    text, arguments = texts(sd, 2 * len(latents_BCHW)), tokens(sd, 2 * len(latents_BCHW))

    @torch.no_grad()
    def call() -> torch.Tensor:
        with fusers_enabled(sd.unet):
            return predict_noise(sd, latents_BCHW, t, text, **arguments)

    return call


def tokens(sd: Diffusion, batch: int) -> dict[str, Any]:
    """The U-Net's further arguments for random boxes in all slots."""
    shape = (batch, SLOTS)
    values = {"boxes": torch.rand(*shape, 4), "masks": torch.ones(shape)}
    values |= {"positive_embeddings": torch.randn(*shape, sd.unet.config.cross_attention_dim)}
    return {"cross_attention_kwargs": {"gligen": {name: value.to(sd.device) for name, value in values.items()}}}


def guided(
    sd: Diffusion,
    latents_BCHW: torch.Tensor,
    t: torch.Tensor,
    layers: Sequence[str],
    boxes: dict[str, Any] | None = None,
) -> Callable[[], torch.Tensor]:
    """A pass of guidance: to the last map, and the gradient back to the latents."""
    attend = attention_reader(sd, texts(sd, len(latents_BCHW)), layers, lambda rows: boxes or {})
    rows = torch.arange(len(latents_BCHW), device=sd.device)

    def call() -> torch.Tensor:
        moving = latents_BCHW.detach().requires_grad_()
        with fusers_enabled(sd.unet):
            total = torch.stack([one.square().sum() for one in attend(moving, t, rows)]).sum()
        return torch.autograd.grad(total, moving)[0]

    return call


def aligning(
    sd: Diffusion, model: dict[str, Any], latents_BCHW: torch.Tensor, t: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """One step of update (8)."""
    module, targets = aligner(sd, model, len(latents_BCHW))
    module.eval().requires_grad_(False)
    t_B, pulled = t.expand(len(latents_BCHW)), Targets(*targets)
    return lambda: align_step(module, latents_BCHW, t_B, pulled, Params(), 1.0)


def training(
    sd: Diffusion, model: dict[str, Any], latents_BCHW: torch.Tensor, t: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """A part of a batch of the alignment's training, in float32."""
    module, targets = aligner(sd, model, len(latents_BCHW))

    def call() -> torch.Tensor:
        omega_global_B, omega_local_B = module.losses(latents_BCHW, t.expand(len(latents_BCHW)), *targets)
        loss = (omega_global_B + omega_local_B).sum()
        loss.backward()
        return loss.detach()

    return call


def aligner(sd: Diffusion, model: dict[str, Any], batch: int) -> tuple[Alignment, list[torch.Tensor]]:
    """An untrained module, and targets of as many boxes as an image of COCO has on average, 7.3, rounded up."""
    channels, side, _ = sd.latent_shape_CHW
    width, boxes = sd.unet.config.cross_attention_dim, 8
    module = Alignment(AlignmentConfig(channels, side, width, **model)).to(sd.device)
    targets = [torch.randn(batch, width), torch.rand(batch, boxes, 4), torch.randn(batch, boxes, width)]
    return module, [target.to(sd.device) for target in (*targets, torch.ones(batch, boxes))]


def seconds_an_image(work: Batch, batch: int) -> dict[str, float | int]:
    """Seconds an image, and the largest batch up to `batch` that fits into the device's memory by halving."""
    while True:
        try:
            return {"seconds": _awaited(work(batch)) / batch, "batch": batch}
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        torch.cuda.empty_cache()


def _awaited(work: Callable[[], torch.Tensor]) -> float:
    """Seconds of the fastest of a few calls; reading a value of the result waits for the device."""
    return fastest(lambda: float(work().flatten()[0]))
