"""The rule that decides every random value: by the tensor's name, its shape and a seed alone.

A plain U-Net and a gated one of one seed therefore share all that both have, as GLIGEN and the model it was made from do.
"""

import math

import torch

from hcma.sampling.seeds import seeded

GATES = ("alpha_attn", "alpha_dense")


def random_value(name: str, like: torch.Tensor, seed: int) -> torch.Tensor:
    """A tensor of the shape of `like` (which may be on the meta device), float32, or its own kind of integer.

    Norms are the identity, biases 0, GLIGEN's gates open; all else is normal with variance 2 / fan-in (He et al. 2015),
    which keeps the activations of every network here of order 1.
    """
    leaf = name.rpartition(".")[2]
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if leaf == "running_var" or leaf in GATES or (leaf == "weight" and like.dim() == 1):
        return torch.ones(like.shape)
    if leaf in ("running_mean", "bias"):
        return torch.zeros(like.shape)
    fan_in = like[0].numel() if like.dim() > 1 else max(1, like.numel())
    return torch.randn(like.shape, generator=seeded(seed, name)) * math.sqrt(2 / fan_in)
