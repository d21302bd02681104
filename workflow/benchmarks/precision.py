"""What half precision does to a row's images, against what a table can tell apart.

The same layouts and noise are sampled in float32 and in each half precision by the rows' specifications (SPECS/{row}.json), on
one device. Printed, and written as JSON: the Frechet distance between the two sets of images as a share of the finite-sample
floor (what two samples of one distribution of this size would differ by), and the change of the mean CLIP score in units of its
standard error. A row's half precision changes no table where the first is below SHARE and the second below 1.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.extractors import Extractor, load_extractor
from evaluation.metrics.frechet import floor, frechet_distance
from formats.device import device_name
from formats.files import read_json, write_json
from formats.layouts import Layout, read_layouts
from formats.records import SAMPLING, commit, versions
from hcma.sampling.fallback import REDONE, generate_with_fallback
from hcma.sampling.loading import load_method
from hcma.sampling.spec import Spec, read_spec
from workflow.benchmarks.rounds import seconds

EXACT = "float32"
SHARE = 0.1


def main(
    config: Path,
    specs: Path,
    layouts: Path,
    rows: Sequence[str],
    precisions: Sequence[str],
    device: str,
    batch: int,
    images: int | None,
    out: Path,
) -> None:
    """Sample, compare, print and write row after row."""
    some = read_layouts(layouts)[:images]
    stanzas = read_json(config)["extractors"]
    frechet, clip = load_extractor(stanzas["frechet"]), load_extractor(stanzas["clip"])
    record: dict[str, Any] = {
        "command": "python -m workflow.benchmarks precision",
        "commit": commit(),
        "versions": versions(SAMPLING),
        "images": len(some),
        "rows": {},
    }
    for row in rows:
        spec, sampled = read_spec(specs / f"{row}.json"), {}
        for precision in (EXACT, *precisions):
            took, (pixels, redone, name) = seconds(partial(sample, spec, precision, some, device, batch))
            sampled[precision] = pixels
            record["device"] = name
            figures = {"seconds": took, "redone_in_float32": redone}
            if precision != EXACT:
                figures |= compare(sampled[EXACT], pixels, [layout.caption for layout in some], frechet, clip)
            record["rows"].setdefault(row, {})[precision] = figures
            print(row, precision, " ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
        write_json(out, record)


def sample(
    spec: Spec, precision: str, layouts: Sequence[Layout], device: str, batch: int
) -> tuple[np.ndarray, int, str]:
    """uint8 pixels [N, H, W, 3] of the row in this precision, how many were made again in float32, and the device's name."""
    method = load_method(replace(spec, sampling=spec.sampling | {"precision": precision}), device)
    parts, redone = [], 0
    for start in range(0, len(layouts), batch):
        pixels, counters = generate_with_fallback(method, layouts[start : start + batch])
        parts.append(pixels)
        redone += counters[REDONE]
    return torch.cat(parts).permute(0, 2, 3, 1).numpy(), redone, device_name(method.sd.device)


def compare(
    exact_NHW3: np.ndarray, half_NHW3: np.ndarray, captions: Sequence[str], frechet: Extractor, clip: Extractor
) -> dict[str, float]:
    """How far two sets of images of the same layouts are from each other; `clip` reads texts."""
    assert clip.texts is not None
    exact, half = (np.asarray(frechet.features(list(images)), np.float64) for images in (exact_NHW3, half_NHW3))
    moments = [(features.mean(0), np.cov(features, rowvar=False)) for features in (exact, half)]
    distance, floored = frechet_distance(*moments[0], *moments[1]), floor(moments[0][1], len(exact), len(half))
    texts = clip.texts(captions)
    scores = [(clip.features(list(images)) * texts).sum(1).astype(np.float64) for images in (exact_NHW3, half_NHW3)]
    error = scores[0].std(ddof=1) / len(texts) ** 0.5
    return {
        "image_fd": distance,
        "floor": floored,
        "fd_over_floor": distance / floored,
        "clip": scores[0].mean(),
        "clip_change": scores[1].mean() - scores[0].mean(),
        "clip_change_over_se": (scores[1].mean() - scores[0].mean()) / error,
        "mean_pixel_difference": float(np.abs(exact_NHW3.astype(np.int16) - half_NHW3).mean()),
    }
