"""Seconds an image of each kind of network pass on this machine's device: what an estimate of a run's cost is made of.

    python -m workflow.scripts.pilot --config results/paper/config.json --device cuda --out results/paper/pilot.json

Networks are built from their configuration with fresh
weights, since time does not depend on values: of a model folder that is there its own files, else the published
architecture. So nothing needs to be fetched first.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats.cli import options, quick_imports, run
from formats.files import replacing
from workflow.plan import read_plan

if TYPE_CHECKING:
    import torch

    from hcma.alignment import Alignment
    from hcma.sampling.diffusion import Diffusion

TOKENS = 77
GROUNDED = ("baselines.gligen", "hcma.method")  # modules that run on gated models alone
REPEATS = 3


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from formats.records import SAMPLING, commit, versions
        from hcma.sampling.device import device_name, take_device

    device = take_device(arguments.device)
    from workflow.scripts.estimate import estimated

    plan = estimated(read_plan(arguments.config))
    seconds: dict[str, dict[str, Any]] = {}
    for name in plan["methods"]:
        alike = signature(name, plan)
        if alike not in seconds:
            seconds[alike] = measure(name, plan, device)
    record = {
        "device": device_name(device),
        "commit": commit(),
        "versions": versions(SAMPLING),
        "rows": {name: seconds[signature(name, plan)] for name in plan["methods"]},
    }
    with replacing(arguments.out) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")


def measure(name: str, plan: dict[str, Any], device: "torch.device") -> dict[str, Any]:
    """{batch, pass, grounded_pass, guided_pass, alignment, training, decoding}: seconds an image, of what the row uses.

    A pass is a call of the sampler, with and without caption; a guided pass is forward to the last map, and back; training is
    that of the alignment module on an image, forward and back.
    """
    import torch

    from hcma.sampling.batch_size import ELSEWHERE

    sd = build(plan, name, device)
    batch = plan["batch_size"] if isinstance(plan["batch_size"], int) else ELSEWHERE
    while True:
        try:
            return {"batch": batch} | {
                kind: timed(work) / batch for kind, work in passes(sd, plan, name, batch).items()
            }
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        torch.cuda.empty_cache()


def signature(name: str, plan: dict[str, Any]) -> str:
    """What the row's passes depend on: rows that agree in it take the same time, and are measured once."""
    from workflow.scripts.estimate import params_of

    method = plan["methods"][name]
    stanza, params = method["stanza"], params_of(method["stanza"])
    gated = is_gated(plan, stanza["base"])
    networks = network_configs(plan["models"][stanza["base"]], gated)
    precision = (method["sampling"] | stanza.get("sampling", {})).get("precision")
    read = [getattr(params, key, None) for key in ("resolution", "blocks")]
    return json.dumps([networks, precision, gated, sorted(stanza.get("artefacts", {})), read], sort_keys=True)


def build(plan: dict[str, Any], name: str, device: "torch.device") -> "Diffusion":
    """A row's U-Net and decoder with fresh weights; the rest of the model is not needed."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from hcma.sampling.diffusion import Diffusion, Sampling, set_precision

    stanza = plan["methods"][name]["stanza"]
    configs = network_configs(plan["models"][stanza["base"]], is_gated(plan, stanza["base"]))
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(configs["unet"]).to(device).eval().requires_grad_(False)
    vae = AutoencoderKL.from_config(configs["vae"]).to(device).eval().requires_grad_(False)
    sampling = Sampling(**(plan["methods"][name]["sampling"] | stanza.get("sampling", {})))
    set_precision(unet, sampling.precision)
    no_text: Any = None
    return Diffusion(no_text, no_text, unet, vae, {}, sampling)


def network_configs(folder: str, gated: bool) -> dict[str, Any]:
    """config.json of U-Net and autoencoder: the folder's, or those of the published architecture where it is not there."""
    autoencoder = "vqvae" if (Path(folder) / "vqvae").is_dir() else "vae"
    if (Path(folder) / "unet/config.json").is_file():
        return {
            name: json.loads((Path(folder) / part / "config.json").read_text())
            for name, part in (("unet", "unet"), ("vae", autoencoder))
        }
    from workflow.scripts.random_weights.architecture import read_architecture

    components = read_architecture("gligen" if gated else "stable-diffusion").components
    return {name: components[name].config for name in ("unet", "vae")}


def is_gated(plan: dict[str, Any], base: str) -> bool:
    """Whether a model's U-Net has layers for boxes: as its folder says or, before it is there, a row that needs them."""
    config = Path(plan["models"][base]) / "unet/config.json"
    if config.is_file():
        return json.loads(config.read_text()).get("attention_type") == "gated"
    stanzas = [method["stanza"] for method in plan["methods"].values()]
    return any(stanza["base"] == base and stanza["module"] in GROUNDED for stanza in stanzas)


def passes(sd: "Diffusion", plan: dict[str, Any], name: str, batch: int) -> dict[str, Callable[[], Any]]:
    """What is timed for a row, on `batch` images at once."""
    import torch

    from hcma.sampling.diffusion import decode, predict_noise
    from hcma.sampling.grounding import SLOTS, fusers_enabled

    device, width = sd.device, sd.unet.config.cross_attention_dim
    latents, t = torch.randn(batch, *sd.latent_shape_CHW, device=device), torch.tensor(500, device=device)
    text = torch.randn(2 * batch, TOKENS, width, device=device)
    stanza = plan["methods"][name]["stanza"]
    found: dict[str, Callable[[], Any]] = {
        "pass": torch.no_grad()(lambda: predict_noise(sd, latents, t, text)),
        "decoding": lambda: decode(sd, latents),
    }
    if is_gated(plan, stanza["base"]):
        shape = (2 * batch, SLOTS)
        tokens = {"boxes": torch.rand(*shape, 4, device=device), "masks": torch.ones(shape, device=device)}
        tokens["positive_embeddings"] = torch.randn(*shape, width, device=device)

        @torch.no_grad()
        def grounded() -> torch.Tensor:
            with fusers_enabled(sd.unet):
                return predict_noise(sd, latents, t, text, cross_attention_kwargs={"gligen": tokens})

        found["grounded_pass"] = grounded
    if layers := attended(sd, stanza):
        found["guided_pass"] = lambda: guided(sd, latents, t, text[:batch], layers)
    if "alignment" in stanza.get("artefacts", {}):
        found["alignment"] = alignment(sd, plan["alignment"], latents, t)
        found["training"] = training(sd, plan["alignment"], latents, t)
    return found


def attended(sd: "Diffusion", stanza: dict[str, Any]) -> list[str]:
    """The layers whose maps a row follows, if any."""
    from hcma.sampling.attention import layers_of_blocks, layers_of_side
    from workflow.scripts.estimate import params_of

    params = params_of(stanza)
    if hasattr(params, "resolution"):
        return layers_of_side(sd.unet, params.resolution)
    return layers_of_blocks(sd.unet, params.blocks) if hasattr(params, "blocks") else []


def guided(
    sd: "Diffusion", latents: "torch.Tensor", t: "torch.Tensor", text: "torch.Tensor", layers: Sequence[str]
) -> "torch.Tensor":
    """One pass of guidance: to the last map, and the gradient back to the latents."""
    import torch

    from hcma.sampling.attention import attention_reader

    moving = latents.detach().requires_grad_()
    maps = attention_reader(sd, text, layers)(moving, t, torch.arange(len(latents), device=latents.device))
    return torch.autograd.grad(torch.stack([one.square().sum() for one in maps]).sum(), moving)[0]


def alignment(
    sd: "Diffusion", model: dict[str, Any], latents: "torch.Tensor", t: "torch.Tensor"
) -> Callable[[], "torch.Tensor"]:
    """One step of update (8)."""
    from hcma.method import Params, Targets, align_step

    module, targets = aligner(sd, model, len(latents))
    module.eval().requires_grad_(False)
    return lambda: align_step(module, latents, t.expand(len(latents)), Targets(*targets), Params(), 1.0)


def training(
    sd: "Diffusion", model: dict[str, Any], latents: "torch.Tensor", t: "torch.Tensor"
) -> Callable[[], "torch.Tensor"]:
    """A part of a batch of the alignment's training, in float32."""
    module, targets = aligner(sd, model, len(latents))

    def part() -> "torch.Tensor":
        omega_global_B, omega_local_B = module.losses(latents, t.expand(len(latents)), *targets)
        loss = (omega_global_B + omega_local_B).sum()
        loss.backward()
        return loss.detach()

    return part


def aligner(sd: "Diffusion", model: dict[str, Any], batch: int) -> tuple["Alignment", list["torch.Tensor"]]:
    """A fresh module, and targets of as many boxes as an image of COCO has on average, 7.3, rounded up."""
    import torch

    from hcma.alignment import Alignment, AlignmentConfig

    channels, side, _ = sd.latent_shape_CHW
    width, boxes = sd.unet.config.cross_attention_dim, 8
    module = Alignment(AlignmentConfig(channels, side, width, **model)).to(sd.device)
    targets = [torch.randn(batch, width), torch.rand(batch, boxes, 4), torch.randn(batch, boxes, width)]
    return module, [target.to(sd.device) for target in (*targets, torch.ones(batch, boxes))]


def timed(work: Callable[[], "torch.Tensor"]) -> float:
    """Seconds of the fastest of a few calls, after one to warm up; reading a value of the result waits for the device."""

    def once() -> float:
        began = time.perf_counter()
        float(work().flatten()[0])
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(REPEATS))


if __name__ == "__main__":
    run(main)
