"""HCMA: before every step, move the latent down the gradient of its distance to the caption and to the boxes' labels.

Update (8) of the paper, then GLIGEN's denoising. The gradient passes through the alignment module alone. Artefacts:

    alignment       weights of the trained module, with its configuration
    eta             JSON with `eta`, the step size before its schedule: the paper does not publish it, so a run calibrates it
    text_pooled, text_projected  folder of the text encoder whose pooled or projected states the module was trained on, if that
                    is not the backbone's own, pooled
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from formats.files import InputError
from formats.layouts import Layout
from formats.params import expect, expect_each, is_number
from hcma.alignment import Alignment, load_alignment
from hcma.gradient_weighting import FIXED, RULES, Tally, weighed
from hcma.sampling.counters import Passes
from hcma.sampling.diffusion import (
    Diffusion,
    Guide,
    Sampling,
    decode,
    duplicate_calls,
    encode_text,
    identity,
    make_scheduler,
)
from hcma.sampling.grounding import denoise_grounded, grounded_passes, grounding_tokens, label_features, largest
from hcma.sampling.spec import Artefact
from hcma.sampling.text import FEATURES, TextFeatures, load_text_features

MODES = ("raw", "grad_norm")
TIMESTEPS = 1000  # of the schedules of Stable Diffusion and GLIGEN
# The paper calls eta_t a learning rate and says no more; factors are functions of alpha_cumprod and of t / T.
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda acp, share: 1.0,
    "linear": lambda acp, share: share,
    "sigma2": lambda acp, share: (1 - acp) / acp,
    "sqrt_one_minus_acp": lambda acp, share: math.sqrt(1 - acp),
}


@dataclass(frozen=True)
class Params:
    """Settings of update (8).

    mode           raw: the step is eta * gradient; grad_norm: it is that gradient rescaled to the length eta * |latent|
    schedule       factor of the step over t: constant, linear (t / T), sigma2 ((1 - a) / a) or sqrt_one_minus_acp
    lambda_global  weight of (6), C2IA; 1 in the paper, 0 switches it off
    lambda_local   weight of (7), O2RA; 1 in the paper, 0 switches it off
    weights        how the two weights adapt to the gradients or to t (hcma/gradient_weighting.py); fixed in the paper
    start, stop, every  align at steps start <= step / steps < stop, every so many of them
    tau            fraction of the steps in which GLIGEN sees the boxes
    """

    mode: str = "raw"
    schedule: str = "constant"
    lambda_global: float = 1.0
    lambda_local: float = 1.0
    weights: str = FIXED
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    tau: float = 0.3

    def __post_init__(self) -> None:
        for key, known in (("mode", MODES), ("schedule", tuple(SCHEDULES)), ("weights", RULES)):
            if getattr(self, key) not in known:
                raise InputError(f"{key}: {getattr(self, key)!r} is not one of {', '.join(known)}")
        expect_each(self, "lambda_global lambda_local", lambda v: is_number(v) and v >= 0, "a number of at least 0")
        expect_each(self, "start stop tau", lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
        expect("every", self.every, lambda v: type(v) is int and v >= 1, "a positive integer")

    @property
    def aligns(self) -> bool:
        """Whether any loss has a gradient to follow."""
        return self.lambda_global > 0 or self.lambda_local > 0


@dataclass(frozen=True)
class Targets:
    """What a batch is pulled to: caption_BD, and per slot boxes_BM4, labels_BMD and mask_BM."""

    caption_BD: torch.Tensor
    boxes_BM4: torch.Tensor
    labels_BMD: torch.Tensor
    mask_BM: torch.Tensor


@dataclass(frozen=True)
class State:
    """What the artefacts hold: the trained module, eta, and the encoder of its targets, None: the backbone's own, pooled."""

    module: Alignment
    eta: float
    encoder: TextFeatures | None = None

    def __post_init__(self) -> None:
        expect("eta", self.eta, lambda v: is_number(v) and v >= 0, "a number of at least 0")


def load(artefacts: Mapping[str, Artefact], sd: Diffusion) -> State:
    """The state on the backbone's device; raises InputError where an artefact is missing or is not what it should be."""
    for name in ("alignment", "eta"):
        if name not in artefacts:
            given = ", ".join(artefacts) or "none"
            raise InputError(f"hcma.method needs `{name}` among the artefacts of the method's stanza, found {given}")
    encoders = [
        load_text_features(artefacts[name].path, feature, sd.device)
        for feature in FEATURES
        if (name := f"text_{feature}") in artefacts
    ]
    module = load_alignment(artefacts["alignment"].path).to(sd.device)
    return State(module, artefacts["eta"].value, *encoders[:1])


def generate(
    sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params, state: State
) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W]; without alignments (eta 0, or both weights 0) exactly GLIGEN's."""
    captions = [layout.caption for layout in layouts]
    text_BTD, pooled_BD = encode_text(sd, captions)
    caption_BD = pooled_BD if state.encoder is None else state.encoder(captions)
    tokens = grounding_tokens(sd, layouts)
    guide: Guide = identity
    if params.aligns and state.eta > 0:
        guide = make_guide(sd, make_targets(sd, layouts, caption_BD, tokens, state), params, state)
    return decode(sd, denoise_grounded(sd, tokens, noise_BCHW, text_BTD, params.tau, guide))


def passes(params: Params, sampling: Sampling) -> Passes:
    """What every image takes: GLIGEN's passes, and those of the alignment module, forward and back."""
    aligned = sum(aligns_at(step, sampling.steps, params) for step in range(sampling.steps)) if params.aligns else 0
    return replace(grounded_passes(params.tau, sampling), other={"alignments": aligned})


def make_guide(sd: Diffusion, targets: Targets, params: Params, state: State) -> Guide:
    """Update (8) as a guide: once a step, so not before PLMS's duplicate call, whose latents are ignored.

    Nothing in a step waits for the device: factors are numbers, and the tally is read when the batch is done.
    """
    scheduler = make_scheduler(sd)
    duplicates, alphas = duplicate_calls(scheduler), scheduler.alphas_cumprod.tolist()
    factors = [schedule_at(params, alphas, int(t)) for t in scheduler.timesteps.tolist()]
    rows = torch.arange(len(targets.caption_BD), device=sd.device)

    def tally(both_B: torch.Tensor, opposed_B: torch.Tensor) -> None:
        sd.counters.add_later("alignments_of_both", rows, both_B.int())
        sd.counters.add_later("alignments_opposed", rows, opposed_B.int())

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        step = max(0, i - len(duplicates))
        if i in duplicates or not aligns_at(step, sd.sampling.steps, params):
            return latents_BCHW
        t_B = t.expand(len(latents_BCHW))
        # In half precision the module's products are too; targets, losses and the step are float32.
        with torch.autocast(sd.device.type, sd.dtype, enabled=sd.is_lowered):
            pull = align_step(
                state.module, latents_BCHW, t_B, targets, params, state.eta, timesteps=len(alphas), tally=tally
            )
            shift = pull * factors[i]
        sd.counters.add("alignments", range(len(latents_BCHW)))
        sd.counters.add_later("alignment_shift_ppm", rows, (_norm(shift) / _norm(latents_BCHW)).flatten())
        return latents_BCHW - shift

    return guide


def aligns_at(step: int, steps: int, params: Params) -> bool:
    """Whether step `step` of `steps` is aligned."""
    first = math.ceil(params.start * steps)
    return first <= step < params.stop * steps and (step - first) % params.every == 0


def make_targets(
    sd: Diffusion, layouts: Sequence[Layout], caption_BD: torch.Tensor, tokens: dict[str, torch.Tensor], state: State
) -> Targets:
    """Targets by the state's encoder; the boxes are those of GLIGEN's `tokens`, and so are the labels' features where the
    encoder is the backbone's own and there is no template. Raises InputError where the module was trained on others."""
    config = state.module.config
    if caption_BD.shape[1] != config.text_width:
        wide = f"{config.text_width}, but its text encoder's are {caption_BD.shape[1]} wide"
        raise InputError(
            f"the alignment module was trained on targets of width {wide}: give `text_pooled` or `text_projected` among the"
            " artefacts of the method's stanza"
        )
    boxes, masks, labels = (tokens[key][len(layouts) :] for key in ("boxes", "masks", "positive_embeddings"))
    if config.label_template != "{label}" or state.encoder is not None:
        phrases = [[thing.phrase for thing in largest(layout.objects)] for layout in layouts]
        said = [[config.label_template.format(label=phrase) for phrase in row] for row in phrases]
        labels = label_features(said, state.encoder or (lambda texts: encode_text(sd, texts)[1]))
    # Slots that no layout of the batch uses change nothing and cost time.
    used = max(1, int(masks.sum(1).max()))
    return Targets(caption_BD, boxes[:, :used], labels[:, :used], masks[:, :used])


def schedule_at(params: Params, alphas_cumprod: Sequence[float], t: int) -> float:
    """eta_t over eta at a timestep."""
    return SCHEDULES[params.schedule](alphas_cumprod[t], t / len(alphas_cumprod))


def align_step(
    module: Alignment,
    latents_BCHW: torch.Tensor,
    t_B: torch.Tensor,
    targets: Targets,
    params: Params,
    eta: float,
    second_order: bool = False,
    timesteps: int = TIMESTEPS,
    tally: Tally | None = None,
) -> torch.Tensor:
    """eta * gradient of lambda_global * (6) + lambda_local * (7), weighed by `params.weights`; no sample feels its batch.

    With `second_order` the step itself has a gradient, to the module's parameters. timesteps: T, for rules over t.
    tally: as hcma.gradient_weighting.weighed has it.
    """
    with torch.enable_grad():
        latents = latents_BCHW.detach().requires_grad_()
        losses = module.losses(latents, t_B, targets.caption_BD, targets.boxes_BM4, targets.labels_BMD, targets.mask_BM)
        lambdas, both_B = (params.lambda_global, params.lambda_local), targets.mask_BM.any(1)
        gradient = weighed(params.weights, losses, lambdas, latents, t_B / timesteps, both_B, second_order, tally)
        if params.mode == "raw":
            return eta * gradient
        return eta * gradient * _norm(latents_BCHW) / _norm(gradient).clamp(min=1e-12)


def _norm(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.flatten(1).norm(dim=1)[:, None, None, None]
