"""How many images go through a model at a time: on a GPU as many as fit, found by trying."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from formats.layouts import Layout
from hcma.sampling.diffusion import initial_noise
from hcma.sampling.loading import Method

SHARE = 0.8  # of the free memory; the rest is for fragments and for what other programs take meanwhile
LIMIT = 64  # beyond it a GPU gains little, and a killed job loses more
ELSEWHERE = 8  # where memory cannot be asked for: the CPU, and accelerators other than CUDA's


class _Enough(Exception):
    """Raised when the first whole pass of the U-Net is done; never leaves this module."""


@dataclass(frozen=True)
class Choice:
    """The batch size and, where it was tried out, what was found: `budget` and `peaks` of each size, in bytes."""

    size: int
    probe: dict[str, Any] | None = None


def choose_batch_size(method: Method, layouts: Sequence[Layout]) -> Choice:
    """The largest power of two that stays within SHARE of the free memory, up to LIMIT; ELSEWHERE where that is not known.

    Layouts with most boxes are tried, since some methods work on each box.
    """
    device = method.sd.device
    if device.type != "cuda" or not layouts:
        return Choice(ELSEWHERE)
    torch.cuda.empty_cache()
    budget = int(SHARE * torch.cuda.mem_get_info(device)[0])
    fullest = sorted(layouts, key=lambda layout: -len(layout.objects))

    def peak(size: int) -> int | None:
        return taken(device, lambda: first_pass(method, fullest[:size]))

    return largest(peak, budget, min(LIMIT, len(layouts)))


def largest(peak: Callable[[int], int | None], budget: int, limit: int) -> Choice:
    """Doubled while `peak(size)`, None for out of memory, stays within the budget; at least 1."""
    peaks: dict[int, int] = {}
    size = 1
    while size <= limit:
        found = peak(size)
        if found is None or found > budget:
            break
        peaks[size] = found
        size *= 2
    return Choice(max(peaks, default=1), {"budget": budget, "peaks": peaks})


def taken(device: torch.device, work: Callable[[], None]) -> int | None:
    """Bytes of the device that `work` takes at its peak beyond what is held before it; None if it runs out of memory."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    try:
        work()
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.synchronize(device)
    return torch.cuda.max_memory_reserved(device) - before


def first_pass(method: Method, batch: Sequence[Layout]) -> None:
    """Sample up to the end of the first whole pass of the U-Net, guidance before it included; few later ones take more."""

    def stop(*_: Any) -> None:
        raise _Enough

    sd = method.sd
    noise_BCHW = initial_noise(batch, sd.sampling.seed, sd.latent_shape_CHW)
    hook = sd.unet.register_forward_hook(stop)
    try:
        with suppress(_Enough):
            method.generate(batch, noise_BCHW)
    finally:
        hook.remove()
        sd.counters.clear()
