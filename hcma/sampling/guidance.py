"""Moving latents down the gradient of an attention loss before a step: what Attend-and-Excite and BoxDiff share.

Every image of a batch has its own loss, its own tests and its own step; images are worked on together only where each of
them needs the same forward pass.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch

from hcma.sampling.diffusion import Guide
from hcma.sampling.work import Range, Work


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


def refining_guide(evaluate: Evaluate, rows: torch.Tensor, schedule: Schedule, work: Work) -> Guide:
    """Official Attend-and-Excite's loop, image by image in one batch; images that are not in `rows` are left alone.

    A call with a threshold first refines the images that miss it: update and test again, until the test, which sees the
    objective before its update, holds or `max_refinements` are made. Then, as at every call before `stop`, they take one
    update more. The first refinement uses the forward pass that was tested, where the official code repeats it.
    """

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        regular = i < schedule.stop
        if i in schedule.skip or not len(rows) or not (regular or i in schedule.thresholds):
            return latents_BCHW
        moving = Moving(latents_BCHW.clone(), t, float(schedule.steps[i]), evaluate, work)
        if i not in schedule.thresholds:
            moving.update(rows, lambda found: found.regular)
            return moving.latents_BCHW
        limit = 1 - schedule.thresholds[i]

        def first(found: Objectives) -> torch.Tensor:
            return torch.where(found.tested > limit, found.refined, found.regular * regular)

        missed = rows[moving.update(rows, first) > limit]
        weak = missed
        work.add("refinements", missed.tolist())
        for _ in range(schedule.max_refinements - 1):
            if not len(weak):
                break
            work.add("refinements", weak.tolist())
            weak = weak[moving.update(weak, lambda found: found.refined) > limit]
        if regular and len(missed):
            moving.update(missed, lambda found: found.after)
        return moving.latents_BCHW

    return guide


def refining_passes(guided: Set[int], tested: Set[int], max_refinements: int) -> Range:
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
    work: Work

    def update(self, rows: torch.Tensor, objective: Callable[[Objectives], torch.Tensor]) -> torch.Tensor:
        """Move `rows` down their objective's gradient; return what is tested, as it was before.

        An objective of exactly 0 has no gradient: the image stays, and no backward pass is counted for it.
        """
        with torch.enable_grad():
            latents = self.latents_BCHW[rows].detach().requires_grad_()
            found = self.evaluate(latents, self.t, rows)
            followed = objective(found)
            self.work.add_later("guidance_forwards", rows, torch.ones_like(rows))
            if followed.requires_grad:
                (gradient,) = torch.autograd.grad(followed.sum(), latents)
                self.latents_BCHW[rows] = latents.detach() - self.step * gradient
        self.work.add_later("guidance_backwards", rows, (followed.detach() != 0).long())
        return found.tested.detach()
