"""Moving latents down the gradient of an attention loss before a step: the settings and the loop of Attend-and-Excite, which
BoxDiff took over.

Every image of a batch has its own loss, its own tests and its own step; images are worked on together only where each of
them needs the same forward pass.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch

from formats.params import expect, expect_each, is_count, is_number
from hcma.sampling.attention import Attend, attention_reader, layers_of_side
from hcma.sampling.counters import Counters, Passes
from hcma.sampling.diffusion import Diffusion, Guide, Sampling, duplicate_calls, make_scheduler
from hcma.sampling.grounding import Grounding, guided_passes, is_tau
from hcma.sampling.token_maps import aggregate, smooth, smoothing_kernel, text_maps, token_images

# objectives from the token images_RMYX of the rows (positions in the batch)
ImageObjectives = Callable[[torch.Tensor, torch.Tensor], "Objectives"]


@dataclass(frozen=True)
class Objectives:
    """Per image [R]: `tested` against the thresholds, and what is followed in a refinement, in the regular update, and in the
    regular update right after a refinement."""

    tested: torch.Tensor
    refined: torch.Tensor
    regular: torch.Tensor
    after: torch.Tensor


# objectives of the rows (positions in the batch) of latents_RCHW at timestep t, with their graph
Evaluate = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Objectives]


@dataclass(frozen=True)
class Schedule:
    """When and how far: calls before `stop` are guided; `thresholds` maps a call to the share of attention to be reached
    before it; `steps` holds a call's step size; calls in `skip` are not guided."""

    stop: int
    thresholds: Mapping[int, float]
    max_refinements: int
    steps: torch.Tensor
    skip: range = range(0)


def step_sizes(factor: float, scale_range: Sequence[float], n_calls: int) -> torch.Tensor:
    """factor * sqrt of a line from scale_range[0] to scale_range[1], one value a network call; float64."""
    return factor * torch.linspace(scale_range[0], scale_range[1], n_calls, dtype=torch.float64).sqrt()


def refining_guide(evaluate: Evaluate, rows: torch.Tensor, schedule: Schedule, counters: Counters) -> Guide:
    """Official Attend-and-Excite's loop, image by image in one batch; images that are not in `rows` are left alone.

    A call with a threshold first refines the images that miss it: update and test again, until the test, which sees the
    objective before its update, holds or `max_refinements` are made. Then, as at every call before `stop`, they take one
    update more. The first refinement uses the forward pass that was tested, where the official code repeats it.
    """

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        regular = i < schedule.stop
        if i in schedule.skip or not len(rows) or not (regular or i in schedule.thresholds):
            return latents_BCHW
        moving = Moving(latents_BCHW.clone(), t, float(schedule.steps[i]), evaluate, counters)
        if i not in schedule.thresholds:
            moving.update(rows, lambda found: found.regular)
            return moving.latents_BCHW
        limit = 1 - schedule.thresholds[i]

        def first(found: Objectives) -> torch.Tensor:
            return torch.where(found.tested > limit, found.refined, found.regular * regular)

        missed = rows[moving.update(rows, first) > limit]
        weak = missed
        counters.add("refinements", missed.tolist())
        for _ in range(schedule.max_refinements - 1):
            if not len(weak):
                break
            counters.add("refinements", weak.tolist())
            weak = weak[moving.update(weak, lambda found: found.refined) > limit]
        if regular and len(missed):
            moving.update(missed, lambda found: found.after)
        return moving.latents_BCHW

    return guide


def refining_passes(guided: Set[int], tested: Set[int], max_refinements: int) -> tuple[int, int]:
    """Least and most updates that `refining_guide` makes for an image, guided before some calls and tested before some."""
    # The pass that is tested is the first refinement; one update more follows where the call is guided anyway.
    least = len(tested | guided)
    return least, least + sum(max(1, max_refinements) - (i not in guided) for i in tested)


@dataclass
class Moving:
    """Latents on their way during one call: every update is one forward pass and one gradient an image."""

    latents_BCHW: torch.Tensor
    t: torch.Tensor
    step: float
    evaluate: Evaluate
    counters: Counters

    def update(self, rows: torch.Tensor, objective: Callable[[Objectives], torch.Tensor]) -> torch.Tensor:
        """Move `rows` down their objective's gradient; return what is tested, as it was before.

        An objective of exactly 0 has no gradient: the image stays, and no backward pass is counted for it.
        """
        with torch.enable_grad():
            latents = self.latents_BCHW[rows].detach().requires_grad_()
            found = self.evaluate(latents, self.t, rows)
            followed = objective(found)
            self.counters.add_later("guidance_forwards", rows, torch.ones_like(rows))
            if followed.requires_grad:
                (gradient,) = torch.autograd.grad(followed.sum(), latents)
                self.latents_BCHW[rows] = latents.detach() - self.step * gradient
        self.counters.add_later("guidance_backwards", rows, (followed.detach() != 0).long())
        return found.tested.detach()


@dataclass(frozen=True)
class Excitation:
    """Values of the official Attend-and-Excite (163efdf), which BoxDiff (b0d5d3b) took over.

    resolution         side of the attention maps: a quarter of the latent's 64
    stop               network calls before this one are guided (PLMS makes 51 for 50 steps)
    thresholds         (call, attention that must be reached before it)
    max_refinements    updates at most at such a call
    step, step_range   an update is step * sqrt(a line over all calls from step_range[0] to [1]) * gradient
    smoothing, sigma, kernel_size  filter of the token images
    true_gaussian      False, as the official code: the kernel's exponent is (d / (2 sigma))^2, a Gaussian of 1.41 sigma
    guide_duplicate    True, as the official code: update also before PLMS's second call, whose latents the solver drops
    append_missing     False: boxes that the caption does not name are left out; True: they are named after the caption
    tau                None: the network sees no boxes; a share of the steps in which a gated U-Net sees them, as GLIGEN
    """

    resolution: int = 16
    stop: int = 25
    thresholds: Sequence[Sequence[float]] = ((0, 0.05), (10, 0.5), (20, 0.8))
    max_refinements: int = 20
    step: float = 20.0
    step_range: Sequence[float] = (1.0, 0.5)
    smoothing: bool = True
    sigma: float = 0.5
    kernel_size: int = 3
    true_gaussian: bool = False
    guide_duplicate: bool = True
    append_missing: bool = False
    tau: float | None = None

    def __post_init__(self) -> None:
        expect_each(self, "resolution stop max_refinements kernel_size", is_count, "an integer of at least 0")
        expect_each(self, "step sigma", lambda v: is_number(v) and v > 0, "a positive number")
        switches = "smoothing true_gaussian guide_duplicate append_missing"
        expect_each(self, switches, lambda v: type(v) is bool, "true or false")
        expect("kernel_size", self.kernel_size, lambda v: v % 2 == 1, "an odd number")
        expect("tau", self.tau, is_tau, "null or a number from 0 to 1")
        expect("step_range", self.step_range, lambda v: _pair(v) and min(v) >= 0, "two numbers of at least 0")
        pairs = "pairs of a call's number and a share from 0 to 1"
        expect("thresholds", self.thresholds, lambda v: _list(v) and all(map(_pair, v)), pairs)
        expect("thresholds", self.thresholds, lambda v: all(type(i) is int and 0 <= x <= 1 for i, x in v), pairs)


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _pair(value: Any) -> bool:
    return _list(value) and len(value) == 2 and all(map(is_number, value))


def excite(
    sd: Diffusion,
    text_BTD: torch.Tensor,
    positions_BM: torch.Tensor,
    objectives: ImageObjectives,
    params: Excitation,
    grounding: Grounding | None = None,
) -> Guide:
    """The guide of a batch: `positions_BM` are the tokens whose images enter an image's loss, 0 where there is none.

    An image without a token is left alone: what the network makes of it by itself. With `grounding` it is read as it is
    sampled.
    """
    arguments = grounding.conditional if grounding else None
    attend = attention_reader(sd, text_BTD, layers_of_side(sd.unet, params.resolution), arguments)
    schedule = make_schedule(params, make_scheduler(sd))
    return make_guide(attend, positions_BM.to(sd.device), objectives, params, schedule, sd.counters)


def excited_passes(params: Excitation, sampling: Sampling) -> Passes:
    """What sampling under the guide of `excite` takes."""
    calls = set(range(sampling.calls)) - set(() if params.guide_duplicate else sampling.duplicates)
    guided, tested = {i for i in calls if i < params.stop}, calls & {int(i) for i, _ in params.thresholds}
    return guided_passes(
        params.tau,
        sampling,
        lambda some: refining_passes(guided & some, tested & some, params.max_refinements),
        lambda unet: layers_of_side(unet, params.resolution),
    )


def make_schedule(params: Excitation, scheduler: Any) -> Schedule:
    """When to guide and how far, for the solver's calls."""
    return Schedule(
        stop=params.stop,
        thresholds={int(call): share for call, share in params.thresholds},
        max_refinements=params.max_refinements,
        steps=step_sizes(params.step, params.step_range, len(scheduler.timesteps)),
        skip=range(0) if params.guide_duplicate else duplicate_calls(scheduler),
    )


def make_guide(
    attend: Attend,
    positions_BM: torch.Tensor,
    objectives: ImageObjectives,
    params: Excitation,
    schedule: Schedule,
    counters: Counters,
) -> Guide:
    """The guide for any source of attention maps; see `excite`."""

    def evaluate(latents_RCHW: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> Objectives:
        maps_RYXK = text_maps(aggregate(attend(latents_RCHW, t, rows)))
        return objectives(read_images(maps_RYXK, positions_BM[rows], params), rows)

    return refining_guide(evaluate, positions_BM.any(dim=1).nonzero().flatten(), schedule, counters)


def read_images(maps_RYXK: torch.Tensor, positions_RM: torch.Tensor, params: Excitation) -> torch.Tensor:
    """Token images [R, M, Y, X], smoothed if the settings say so; those of position 0 mean nothing."""
    images_RMYX = token_images(maps_RYXK, positions_RM.clamp(min=1))
    if not params.smoothing:
        return images_RMYX
    return smooth(images_RMYX, smoothing_kernel(params.kernel_size, params.sigma, params.true_gaussian))


def pad_positions(entries: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token positions of each image, filled with 0, the start token, to the longest: [B, M], M at least 1."""
    longest = max([1, *map(len, entries)])
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in entries], dtype=torch.long)
