"""Generate a batch of layouts; images that half precision spoils are generated again in float32."""

import sys
from collections.abc import Sequence

import torch

from formats.files import InputError
from formats.layouts import Layout
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import NonFiniteLatents, count_truncated, initial_noise
from hcma.sampling.loading import Method

# Per-image events, whose ids are listed in meta.json.
LISTED = REDONE, BLACK = "redone_in_float32", "black_images"


def generate(method: Method, batch: Sequence[Layout]) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of a batch; `method.sd.counters` is this batch's. Raises NonFiniteLatents."""
    sd = method.sd
    sd.counters = Counters()
    for row, layout in enumerate(batch):
        sd.counters.add("truncated_captions", [row], count_truncated(sd, [layout.caption]))
    noise_BCHW = initial_noise(batch, sd.sampling.seed, sd.latent_shape_CHW)
    pixels = method.generate(batch, noise_BCHW)
    if pixels.dtype != torch.uint8 or pixels.shape != (len(batch), 3, sd.size, sd.size):
        found = f"{pixels.dtype} {tuple(pixels.shape)}"
        raise TypeError(f"{method.module.__name__}.generate gave {found} for {len(batch)} layouts of {sd.size} px")
    return pixels


def generate_with_fallback(method: Method, batch: Sequence[Layout]) -> tuple[torch.Tensor, Counters]:
    """uint8 pixels [B, 3, H, W] of a batch, and its counters.

    Under half precision, images whose latents are not finite or that are black are made again in float32 and counted as
    `redone_in_float32`; black ones that remain are counted as `black_images`. Raises InputError naming the layouts whose
    latents are not finite in float32.
    """
    lowered = method.sd.sampling.precision != "float32"
    pixels, bad = _attempt(method, batch)
    counters = method.sd.counters
    if pixels is None and not lowered:
        raise _not_finite([batch[row] for row in bad])
    if lowered and bad:
        pixels, counters = _mended(method, batch, pixels, bad)
    assert pixels is not None
    counters.add(BLACK, _black(pixels))
    counters.settle()
    return pixels, counters


def _attempt(method: Method, batch: Sequence[Layout]) -> tuple[torch.Tensor | None, list[int]]:
    """The batch's pixels and the rows that are black; or no pixels and the rows that are not finite."""
    try:
        pixels = generate(method, batch)
    except NonFiniteLatents as error:
        return None, error.rows
    return pixels, _black(pixels)


def _black(pixels_B3HW: torch.Tensor) -> list[int]:
    return (pixels_B3HW.flatten(1).amax(1) == 0).nonzero().flatten().tolist()


def _mended(
    method: Method, batch: Sequence[Layout], pixels: torch.Tensor | None, bad: Sequence[int]
) -> tuple[torch.Tensor, Counters]:
    """The batch with its bad rows from float32. Without pixels the good rows are made again too, alone."""
    good, counters = [row for row in range(len(batch)) if row not in bad], Counters()
    parts = {}
    if pixels is not None:
        counters.take_over(method.sd.counters, range(len(batch)))
        for row in bad:
            counters.images.pop(row, None)
        parts = {row: pixels[row] for row in good}
    elif good:
        again, own = generate_with_fallback(method, [batch[row] for row in good])
        counters.take_over(own, good)
        parts = dict(zip(good, again, strict=True))
    wrong = [batch[row] for row in bad]
    redone, rows = _attempt(method.exact, wrong)
    if redone is None:
        raise _not_finite([wrong[row] for row in rows])
    print(f"layouts {_ids(wrong)}: made again in float32", file=sys.stderr)
    counters.take_over(method.exact.sd.counters, bad)
    counters.add(REDONE, bad)
    parts |= dict(zip(bad, redone, strict=True))
    return torch.stack([parts[row] for row in range(len(batch))]), counters


def _not_finite(layouts: Sequence[Layout]) -> InputError:
    return InputError(
        f"layouts {_ids(layouts)}: latents are not finite in float32; check the method's parameters and weights"
    )


def _ids(layouts: Sequence[Layout]) -> str:
    return ", ".join(str(layout.id) for layout in layouts)
