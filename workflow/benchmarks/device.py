"""Images a second and peak memory of the rows on one accelerator, and the speed of two against diffusers' pipelines.

The rows are those of the configuration's tables, with its parameters and its sampling settings but for the precision. FOLDER
holds a model folder for each of their `base`; random weights do, as `workflow.random_weights` writes them, since time and
memory do not depend on values (only the guided rows' early exits do: their counts stand beside the times). A peer in half
precision runs the same autocast U-Net. Every cell is one call from layouts to pixels after a short one to warm up; a cell that
fails says why. The file is written after every cell, and no cell begins once --budget seconds are over.
"""

import importlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from formats.device import device_name
from formats.files import InputError, read_json, write_json
from formats.layouts import Layout, read_layouts
from formats.records import SAMPLING, commit, versions
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import State
from hcma.sampling.diffusion import Diffusion, Sampling, load_diffusion, set_precision
from hcma.sampling.fallback import generate
from hcma.sampling.loading import Method, quiet_loading
from hcma.sampling.spec import from_keys
from workflow.benchmarks.peers import Size, against_attend_and_excite, against_diffusers
from workflow.benchmarks.pilot import Row, passes_of
from workflow.benchmarks.rounds import seconds
from workflow.settings import Settings

PRODUCTS = 20


def main(config: Path, weights: Path, layouts: Path, out: Path, device: str, side: int, budget: float) -> None:
    """Measure cell after cell."""
    began = time.perf_counter()
    quiet_loading()
    some = [layout for layout in read_layouts(layouts) if layout.objects]
    models: dict[str, Diffusion] = {}
    record: dict[str, Any] = {
        "command": "python -m workflow.benchmarks device",
        "commit": commit(),
        "device": device_name(torch.device(device)),
        "versions": versions(SAMPLING),
        "ceilings_tflops": {name: ceiling(name, device, side) for name in ("bfloat16", "float32")},
        "cells": [],
    }
    make = partial(make_method, models, device)
    for cell in plan(read_rows(config, weights)):
        figures: dict[str, Any] = {"not_measured": "no time left"}
        if time.perf_counter() - began <= budget:
            figures = attempt(partial(run, cell, make, some))
        record["cells"].append(cell.label | figures)
        print(json.dumps(cell.label | figures), f"{time.perf_counter() - began:.0f} s", flush=True)
        write_json(out, record)


def run(cell: "Cell", make: Callable[[Row, str], Method], layouts: Sequence[Layout]) -> dict[str, Any]:
    """The figures of one cell; its model is loaded now, not before."""
    return cell.work(make(cell.row, cell.precision), layouts[: cell.batch])


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or the first line of why there are none."""
    try:
        return work()
    except (RuntimeError, ArithmeticError, InputError) as error:
        return {"failed": str(error).strip().splitlines()[0]}


def read_rows(config: Path, weights: Path) -> list[Row]:
    """The methods of a configuration's tables, each once, on the model folders below `weights`."""
    settings = Settings.model_validate(read_json(config))
    shown = dict.fromkeys(name for rows in settings.tables.values() for name in rows if name != "real")
    return [
        Row(
            name,
            method.module,
            method.params,
            settings.sampling.model_dump() | method.sampling,
            str(weights / method.base),
        )
        for name, method in ((name, settings.methods[name]) for name in shown)
    ]


def make_method(models: dict[str, Diffusion], device: str, row: Row, precision: str) -> Method:
    """A row ready to run; a model folder is loaded once, and one is held at a time."""
    module = importlib.import_module(row.module)
    if row.model not in models:
        models.clear()
        models[row.model] = load_diffusion(row.model, Sampling(), device)
    sd = models[row.model]
    set_precision(sd.unet, precision)
    sd = replace(sd, sampling=Sampling(**row.sampling | {"precision": precision}))
    state = State(random_alignment(sd), 1.0) if "alignments" in passes_of(row)[0].other else None
    return Method(module, from_keys(module.Params, row.params, row.name), sd, state)


def random_alignment(sd: Diffusion) -> Alignment:
    """The paper's module for this model, untrained: fresh weights from a fixed seed."""
    torch.manual_seed(0)
    channels, side, _ = sd.latent_shape_CHW
    return Alignment(AlignmentConfig(channels, side, sd.text_encoder.config.hidden_size)).to(sd.device).eval()


def measure(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Seconds, images a second, peak GiB of tensors and the work an image, of one batch from layouts to pixels."""
    short = replace(method.sd, sampling=replace(method.sd.sampling, steps=2))
    generate(replace(method, sd=short), layouts)
    method.sd.counters.clear()
    on_card = method.sd.device.type == "cuda"
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    took, _ = seconds(lambda: generate(method, layouts))
    figures: dict[str, Any] = {"seconds": took, "images_per_second": len(layouts) / took}
    if on_card:
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    work = sum(method.sd.counters.images.values(), Counter())
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
    row: Row
    precision: str
    batch: int


def plan(rows: Sequence[Row]) -> list[Cell]:
    """All cells, the most telling first: guided rows apart, whose batches are smaller."""
    plain = [row for row in rows if not passes_of(row)[0].layers]
    guided = [row for row in rows if passes_of(row)[0].layers]
    gligen = [row for row in plain if row.module == "baselines.gligen"][:1]
    excite = [row for row in guided if row.module == "baselines.attend_and_excite"][:1]
    # torch's counter does not pass a method's own gradient.
    counted = [row for row in plain if not passes_of(row)[0].other]
    return [
        *_speeds(plain, "bfloat16", (1, 8, 32)),
        *_gligen_peers(gligen, "bfloat16"),
        *(Cell({"row": row.name, "flops_of": "one image"}, flops, row, "bfloat16", 1) for row in counted),
        *_speeds(plain, "float32", (1, 8)),
        *_gligen_peers(gligen, "float32"),
        *_speeds(guided, "bfloat16", (1, 4)),
        *(_peer("Attend-and-Excite", excite_over_peer, row, "bfloat16", 4) for row in excite),
        *_speeds(plain, "bfloat16", (64, 128)),
        *_speeds(guided, "float32", (1,)),
        *_speeds(guided, "bfloat16", (16,)),
    ]


def _speeds(rows: Sequence[Row], precision: str, batches: Sequence[int]) -> list[Cell]:
    return [
        Cell({"row": row.name, "precision": precision, "batch": batch}, measure, row, precision, batch)
        for row in rows
        for batch in batches
    ]


def _gligen_peers(rows: Sequence[Row], precision: str) -> list[Cell]:
    return [_peer("GLIGEN", gligen_over_peer, row, precision, batch) for row in rows for batch in (1, 8)]


def _peer(
    name: str, work: Callable[[Method, Sequence[Layout]], dict[str, Any]], row: Row, precision: str, batch: int
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
