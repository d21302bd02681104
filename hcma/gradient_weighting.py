"""How the gradients of losses (6) and (7) are weighed against each other in update (8): the paper's fixed weights, or a rule.

A rule decides the mixture of two gradients. Where there is only one of them, since the other's weight is 0 or the layout has no
boxes, every rule leaves it as the fixed weights do. All act on each sample by itself, and weights are numbers: no gradient
passes through them. With a = lambda_global * gradient of (6) and b = lambda_local * gradient of (7):

fixed          a + b
equal_norm     |a + b| times the mean of a / |a| and b / |b|, weighed by the lambdas (EnCodec's balancer; Defossez et al. 2022)
conflict_free  where <a, b> < 0, each without its part along the other (PCGrad; Yu et al. 2020); else a + b
layout_first   2 (1 - u) a + 2 u b, where u = t / T: boxes at high noise, the caption at low
log            downhill of lambda_global * log (6) + lambda_local * log (7): each loss weighed by its inverse, and the
               weights' sum kept (the closed form of Kendall et al. 2018, whose variances are learnt)

equal_norm and conflict_free need both gradients: two passes back through the module, of one pass forward. They tell where the
two oppose each other.
"""

from collections.abc import Callable

import torch

# The factors of both weights, of the losses and of t / T; one pass back is enough.
Factors = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, tuple[float, float]], tuple[torch.Tensor, torch.Tensor]]
# The step of both weighted gradients.
Mixture = Callable[[torch.Tensor, torch.Tensor, tuple[float, float]], torch.Tensor]
# What is told of a step: where both gradients are there, and where they oppose each other.
Tally = Callable[[torch.Tensor, torch.Tensor], None]
FIXED = "fixed"
TINY = 1e-12


def weighed(
    rule: str,
    losses: tuple[torch.Tensor, torch.Tensor],
    lambdas: tuple[float, float],
    latents: torch.Tensor,
    share_B: torch.Tensor,
    both_B: torch.Tensor,
    second_order: bool = False,
    tally: Tally | None = None,
) -> torch.Tensor:
    """The gradient that update (8) follows, [B, C, H, W], by one of RULES.

    losses: (6) and (7) of the latents, one value a sample. share_B: t / T. both_B: where a layout has boxes. second_order: the
    result has a gradient itself. tally: told of every step of a rule that knows both gradients.
    """
    global_B, local_B = losses
    if rule == FIXED or 0 in lambdas:
        total = (lambdas[0] * global_B + lambdas[1] * local_B).sum()
        return torch.autograd.grad(total, latents, create_graph=second_order)[0]
    if rule in FACTORS:
        factors = FACTORS[rule](global_B.detach(), local_B.detach(), share_B, lambdas)
        of_global_B, of_local_B = (torch.where(both_B, factor, 1.0) for factor in factors)
        total = (lambdas[0] * of_global_B * global_B + lambdas[1] * of_local_B * local_B).sum()
        return torch.autograd.grad(total, latents, create_graph=second_order)[0]
    a, b = (
        torch.autograd.grad((weight * loss_B).sum(), latents, create_graph=second_order, retain_graph=True)[0]
        for weight, loss_B in zip(lambdas, losses, strict=True)
    )
    if tally:
        tally(both_B, both_B & (_dot(a, b).flatten() < 0))
    return torch.where(both_B[:, None, None, None], MIXTURES[rule](a, b, lambdas), a + b)


def equal_norm(a: torch.Tensor, b: torch.Tensor, lambdas: tuple[float, float]) -> torch.Tensor:
    """As long as a + b where they are parallel, shorter where they are not; rescaling a loss leaves its direction."""
    of_a, of_b = (weight / sum(lambdas) for weight in lambdas)
    mean = of_a * a / _norm(a).clamp(min=TINY) + of_b * b / _norm(b).clamp(min=TINY)
    return _norm(a + b) * mean


def conflict_free(a: torch.Tensor, b: torch.Tensor, lambdas: tuple[float, float]) -> torch.Tensor:
    """Neither part of the step, taken by itself, makes the other loss larger."""
    along = _dot(a, b).clamp(max=0)
    return a + b - along / _dot(b, b).clamp(min=TINY) * b - along / _dot(a, a).clamp(min=TINY) * a


def layout_first(
    global_B: torch.Tensor, local_B: torch.Tensor, share_B: torch.Tensor, lambdas: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """2 (1 - u) and 2 u: the boxes early, where noise is high, the caption late."""
    return 2 * (1 - share_B), 2 * share_B


def inverse_loss(
    global_B: torch.Tensor, local_B: torch.Tensor, share_B: torch.Tensor, lambdas: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses' inverses, by which the weights keep the sum of the lambdas."""
    inverse_global_B, inverse_local_B = (1 / loss_B.clamp(min=TINY) for loss_B in (global_B, local_B))
    scale_B = sum(lambdas) / (lambdas[0] * inverse_global_B + lambdas[1] * inverse_local_B)
    return scale_B * inverse_global_B, scale_B * inverse_local_B


def _dot(a_BCHW: torch.Tensor, b_BCHW: torch.Tensor) -> torch.Tensor:
    """Inner products of samples, as numbers: [B, 1, 1, 1]."""
    return (a_BCHW.detach() * b_BCHW.detach()).flatten(1).sum(1)[:, None, None, None]


def _norm(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.detach().flatten(1).norm(dim=1)[:, None, None, None]


FACTORS: dict[str, Factors] = {"layout_first": layout_first, "log": inverse_loss}
MIXTURES: dict[str, Mixture] = {"equal_norm": equal_norm, "conflict_free": conflict_free}
RULES = (FIXED, *MIXTURES, *FACTORS)
