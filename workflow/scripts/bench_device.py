"""Images a second and peak memory of the rows on one accelerator, and the speed of two against diffusers' pipelines.

    python -m workflow.scripts.bench_device --weights FOLDER --layouts test.jsonl --out device.json

FOLDER holds the model folders sd14, gligen and gligen_ldm; random weights do, as `workflow.scripts.random_weights` writes
them, since time and memory do not depend on values (only the guided rows' early exits do: their counts stand beside the
times). A peer in half precision runs the same autocast U-Net. Every cell is one call from layouts to pixels after a short
one to warm up; a cell that fails says why. The file is written after every cell, and no cell begins once --budget seconds
are over.
"""

import argparse
import importlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from formats.files import InputError, replacing
from formats.layouts import Layout, read_layouts
from formats.records import SAMPLING, commit, versions
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import State
from hcma.sampling.device import device_name
from hcma.sampling.diffusion import Diffusion, Sampling, load_diffusion, set_precision
from hcma.sampling.fallback import generate
from hcma.sampling.loading import Method, quiet_loading
from workflow.scripts.bench import Size, against_attend_and_excite, against_diffusers
from workflow.scripts.rounds import seconds

SIDE, PRODUCTS = 8192, 20


@dataclass(frozen=True)
class Row:
    """A method at its published settings; `model` is a folder of --weights."""

    module: str
    model: str
    params: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "sd14": Row("baselines.stable_diffusion", "sd14"),
    "gligen_sd": Row("baselines.gligen", "gligen"),
    "hcma": Row("hcma.method", "gligen"),
    "gligen_ldm": Row("baselines.gligen", "gligen_ldm"),
    "attend_and_excite": Row("baselines.attend_and_excite", "sd14"),
    "boxdiff": Row("baselines.boxdiff", "sd14"),
    "layout_guidance": Row("baselines.layout_guidance", "sd14", {}, {"scheduler": "lms", "steps": 51}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--layouts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", type=int, default=SIDE, help="of the matrix product that shows what the card can do")
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds after which no cell begins")
    arguments = parser.parse_args()
    began = time.perf_counter()
    quiet_loading()
    layouts = [layout for layout in read_layouts(arguments.layouts) if layout.objects]
    models: dict[str, Diffusion] = {}
    record: dict[str, Any] = {
        "command": "python -m workflow.scripts.bench_device",
        "commit": commit(),
        "device": device_name(torch.device(arguments.device)),
        "versions": versions(SAMPLING),
        "ceilings_tflops": {name: ceiling(name, arguments.device, arguments.side) for name in ("bfloat16", "float32")},
        "cells": [],
    }
    make = partial(make_method, models, arguments.weights, arguments.device)
    for cell in plan():
        figures: dict[str, Any] = {"not_measured": "no time left"}
        if time.perf_counter() - began <= arguments.budget:
            figures = attempt(partial(run, cell, make, layouts))
        record["cells"].append(cell.label | figures)
        print(json.dumps(cell.label | figures), f"{time.perf_counter() - began:.0f} s", flush=True)
        with replacing(arguments.out) as path:
            path.write_text(json.dumps(record, indent=1) + "\n")


def run(cell: "Cell", make: Callable[[str, str], Method], layouts: Sequence[Layout]) -> dict[str, Any]:
    """The figures of one cell; its model is loaded now, not before."""
    return cell.work(make(cell.row, cell.precision), layouts[: cell.batch])


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or the first line of why there are none."""
    try:
        return work()
    except (RuntimeError, ArithmeticError, InputError) as error:
        return {"failed": str(error).strip().splitlines()[0]}


def make_method(models: dict[str, Diffusion], weights: Path, device: str, name: str, precision: str) -> Method:
    """A row ready to run; a model folder is loaded once, and one is held at a time."""
    row = ROWS[name]
    module = importlib.import_module(row.module)
    if row.model not in models:
        models.clear()
        models[row.model] = load_diffusion(weights / row.model, Sampling(), device)
    sd = models[row.model]
    set_precision(sd.unet, precision)
    sd = replace(sd, sampling=Sampling(**row.sampling, precision=precision))
    state = State(random_alignment(sd), 1.0) if row.module == "hcma.method" else None
    return Method(module, module.Params(**row.params), sd, state)


def random_alignment(sd: Diffusion) -> Alignment:
    """The paper's module for this model, untrained: fresh weights from a fixed seed."""
    torch.manual_seed(0)
    channels, side, _ = sd.latent_shape_CHW
    return Alignment(AlignmentConfig(channels, side, sd.text_encoder.config.hidden_size)).to(sd.device).eval()


def measure(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Seconds, images a second, peak GiB of tensors and the work an image, of one batch from layouts to pixels."""
    short = replace(method.sd, sampling=replace(method.sd.sampling, steps=2))
    generate(replace(method, sd=short), layouts)
    method.sd.work.clear()
    on_card = method.sd.device.type == "cuda"
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    took, _ = seconds(lambda: generate(method, layouts))
    figures: dict[str, Any] = {"seconds": took, "images_per_second": len(layouts) / took}
    if on_card:
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    work = sum(method.sd.work.images.values(), Counter())
    return figures | {"work_per_image": {name: count / len(layouts) for name, count in work.items()}}


def flops(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Floating-point operations an image of everything from layout to pixels, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        generate(method, layouts)
    return {"tflop_per_image": counter.get_total_flops() / len(layouts) / 1e12}


def gligen_over_peer(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Ours against diffusers' GLIGEN, which runs the same U-Net in the same precision, on at most two images."""
    return against_diffusers(method, layouts, Size(rounds=1, peer_images=min(2, len(layouts))))


def excite_over_peer(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Ours against diffusers' Attend-and-Excite on a copy of the model, in the same precision, on one image."""
    sd = method.sd
    set_precision(sd.unet, "float32")  # a lowered forward would be copied with the original's weights
    peer = deepcopy(sd)
    for unet in (sd.unet, peer.unet):
        set_precision(unet, sd.sampling.precision)
    return against_attend_and_excite(method, peer, layouts, Size(rounds=1, peer_images=1))


@dataclass(frozen=True)
class Cell:
    """What is measured: `work` on the first `batch` layouts of a row; `label` names it in the file."""

    label: dict[str, Any]
    work: Callable[[Method, Sequence[Layout]], dict[str, Any]]
    row: str
    precision: str
    batch: int


def plan() -> list[Cell]:
    """All cells, the most telling first."""
    plain, guided = ("gligen_sd", "hcma", "sd14"), ("attend_and_excite", "boxdiff", "layout_guidance")
    return [
        *_speeds(plain, "bfloat16", (1, 8, 32)),
        *_gligen_peers("bfloat16"),
        # torch's counter does not pass HCMA's own gradient; its U-Net calls are GLIGEN's.
        *(Cell({"row": row, "flops_of": "one image"}, flops, row, "bfloat16", 1) for row in ("gligen_sd", "sd14")),
        *_speeds(plain, "float32", (1, 8)),
        *_gligen_peers("float32"),
        *_speeds(("gligen_ldm",), "bfloat16", (1, 32)),
        *_speeds(guided, "bfloat16", (1, 4)),
        _peer("Attend-and-Excite", excite_over_peer, "attend_and_excite", "bfloat16", 4),
        *_speeds(plain, "bfloat16", (64, 128)),
        *_speeds(guided, "float32", (1,)),
        *_speeds(guided, "bfloat16", (16,)),
    ]


def _speeds(rows: Sequence[str], precision: str, batches: Sequence[int]) -> list[Cell]:
    return [
        Cell({"row": row, "precision": precision, "batch": batch}, measure, row, precision, batch)
        for row in rows
        for batch in batches
    ]


def _gligen_peers(precision: str) -> list[Cell]:
    return [_peer("GLIGEN", gligen_over_peer, "gligen_sd", precision, batch) for batch in (1, 8)]


def _peer(
    name: str, work: Callable[[Method, Sequence[Layout]], dict[str, Any]], row: str, precision: str, batch: int
) -> Cell:
    label = {"peer": f"diffusers {name}, one image at a time", "precision": precision, "our_batch": batch}
    return Cell(label, work, row, precision, batch)


def ceiling(precision: str, device: str, side: int) -> float:
    """TFLOP/s of a large matrix product of random numbers: what the card gives at most in this precision."""
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))

    def products() -> float:
        for _ in range(PRODUCTS):
            last = a @ b
        return float(last[0, 0])  # waits for the card

    products()
    return 2 * side**3 * PRODUCTS / seconds(products)[0] / 1e12


if __name__ == "__main__":
    main()
