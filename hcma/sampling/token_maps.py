"""Images of single text tokens from cross-attention maps, as Attend-and-Excite and BoxDiff read them."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from formats.layouts import Box

FACTOR = 100.0


def aggregate(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Plain mean over all heads of all layers: maps_RHPT of one grid to maps_RYXT, every head of equal weight."""
    mean_RPT = torch.cat(list(maps), dim=1).mean(1)
    side = math.isqrt(mean_RPT.shape[1])
    return mean_RPT.unflatten(1, (side, side))


def text_maps(maps_RYXT: torch.Tensor, end: int | None = None) -> torch.Tensor:
    """Soft-max of 100 times the probabilities over the tokens 1 .. end - 1, so that token k stands at k - 1.

    By default `end` is the last position: end-of-text and most of the padding stay in, as the official code has it for
    Stable Diffusion 1.x. For 2.1 it drops them: `end` is the position of end-of-text.
    """
    return (maps_RYXT[..., 1 : maps_RYXT.shape[-1] - 1 if end is None else end] * FACTOR).softmax(-1)


def smoothing_kernel(side: int, sigma: float, true_gaussian: bool = False) -> torch.Tensor:
    """Weights [side, side], float64, of sum 1.

    The official kernel's exponent is (d / (2 sigma))^2, which makes sigma 0.5 a Gaussian of sigma 0.71; with
    `true_gaussian` it is d^2 / (2 sigma^2).
    """
    line = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    exponent = line**2 / (2 * sigma**2) if true_gaussian else (line / (2 * sigma)) ** 2
    weights = (-exponent).exp()
    kernel = weights[:, None] * weights
    return kernel / kernel.sum()


def smooth(images_RMYX: torch.Tensor, kernel_KK: torch.Tensor) -> torch.Tensor:
    """Each image filtered with the kernel under reflect padding."""
    pad = kernel_KK.shape[0] // 2
    padded = _reflected(_reflected(images_RMYX.flatten(0, 1)[:, None], pad).mT, pad).mT
    return functional.conv2d(padded, kernel_KK.to(images_RMYX)[None, None])[:, 0].view_as(images_RMYX)


def slopes(images_NYX: torch.Tensor) -> torch.Tensor:
    """Sobel's slope at the inner cells, [N, Y - 2, X - 2]; where it is 0, its gradient is 0 too, not infinite."""
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]).to(images_NYX)
    kernels = torch.stack([sobel, sobel.T])[:, None]
    squares_NYX = functional.conv2d(images_NYX[:, None], kernels).square().sum(1)
    flat = squares_NYX == 0
    return squares_NYX.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)


def _reflected(images_RCYX: torch.Tensor, pad: int) -> torch.Tensor:
    """Reflect padding of the columns; torch's own has no gradient that is the same twice on a GPU."""
    left, right = images_RCYX[..., 1 : pad + 1], images_RCYX[..., -pad - 1 : -1]
    return torch.cat([left.flip(-1), images_RCYX, right.flip(-1)], -1)


def enlarge(maps_RPT: torch.Tensor, side: int) -> torch.Tensor:
    """Maps brought from their own grid to side x side by bilinear interpolation, corners not aligned: [R, side, side, T].

    As two products of matrices: torch's own has no gradient that is the same twice on a GPU.
    """
    own = math.isqrt(maps_RPT.shape[1])
    at = ((torch.arange(side, dtype=torch.float64) + 0.5) * own / side - 0.5).clamp(0, own - 1)
    weights_SO = (1 - (at[:, None] - torch.arange(own)).abs()).clamp(min=0).to(maps_RPT)
    return torch.einsum("yp,xq,rpqt->ryxt", weights_SO, weights_SO, maps_RPT.unflatten(1, (own, own)))


def inside(boxes: Sequence[Box], side: int) -> torch.Tensor:
    """Union of the boxes as 0/1 cells [side, side]: edges are truncated, as most official codes do."""
    mask = torch.zeros(side, side)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0 * side) : int(y1 * side), int(x0 * side) : int(x1 * side)] = 1
    return mask


def token_images(maps_RYXK: torch.Tensor, positions_RM: torch.Tensor) -> torch.Tensor:
    """The images of the tokens at `positions` (start token 0, so that 1 is the first map): [R, M, Y, X]."""
    rows, slots = positions_RM.shape
    index = (positions_RM - 1)[:, None, None, :].expand(rows, *maps_RYXK.shape[1:3], slots)
    return maps_RYXK.gather(3, index).permute(0, 3, 1, 2)
