"""Images a second and peak memory of the rows on one accelerator, and the speed of three against diffusers' pipelines.

The rows are those of the configuration's tables, with its parameters and its sampling settings but for the precision. FOLDER
holds a model folder for each of their `base`; random weights do, as `workflow.random_weights` writes them, since time and
memory do not depend on values (only the guided rows' early exits do: their counts stand beside the times). In half precision
the U-Net is compiled and channels last, as `paper.yaml` runs it; a peer is diffusers' pipeline with its networks converted to
the same precision, and compiled where ours is. Every cell is one call from layouts to pixels after a short one to warm up and
to compile (`warm_up_seconds`); a cell that fails says why. The file is written after every cell, no cell begins once --budget
seconds are over, and cells that --out already has, made by the same commit on the same kind of device, are not made again.
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
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from formats.device import device_name, repeat_exactly
from formats.files import InputError, read_json, write_json
from formats.layouts import Layout, read_layouts
from formats.params import from_keys
from formats.records import SAMPLING, commit, versions
from hcma.alignment import Alignment, AlignmentConfig
from hcma.method import State
from hcma.sampling.diffusion import Diffusion, Sampling, load_diffusion, speed_up
from hcma.sampling.fallback import generate
from hcma.sampling.loading import Method, quiet_loading
from hcma.sampling.weights import load_frozen
from workflow.benchmarks.peers import Size, against_attend_and_excite, against_diffusers, against_stable_diffusion
from workflow.benchmarks.pilot import TimedRow, passes_of
from workflow.benchmarks.rounds import seconds
from workflow.settings import Settings

PRODUCTS = 20


def main(config: Path, weights: Path, layouts: Path, out: Path, device: str, side: int, budget: float) -> None:
    """Measure cell after cell."""
    began = time.perf_counter()
    quiet_loading()
    if device.startswith("cuda"):
        repeat_exactly()
    some = [layout for layout in read_layouts(layouts) if layout.objects]
    models: dict[tuple[str, str], Diffusion] = {}
    record: dict[str, Any] = {
        "command": "python -m workflow.benchmarks device",
        "commit": commit(),
        "device": device_name(torch.device(device)),
        "versions": versions(SAMPLING),
    }
    before = measured_before(out, record)
    record |= {
        "ceilings_tflops": {name: ceiling(name, device, side) for name in ("bfloat16", "float32")},
        "cells": [],
    }
    make = partial(make_method, models, device)
    for cell in plan(read_rows(config, weights)):
        figures = before.get(json.dumps(cell.label))
        if figures is None and time.perf_counter() - began <= budget:
            figures = attempt(partial(run, cell, make, some))
        record["cells"].append(cell.label | (figures or {"not_measured": "no time left"}))
        print(json.dumps(record["cells"][-1]), f"{time.perf_counter() - began:.0f} s", flush=True)
        write_json(out, record)


def measured_before(out: Path, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures of the cells of an earlier call by the JSON of their label; none unless all of `record` is the same."""
    found = read_json(out) if out.is_file() else {}
    if any(found.get(key) != value for key, value in record.items()):
        return {}
    rows = {}
    for cell in found["cells"]:
        label = {key: cell[key] for key in LABELS if key in cell}
        if "not_measured" not in cell and "failed" not in cell:
            rows[json.dumps(label)] = {key: value for key, value in cell.items() if key not in label}
    return rows


def run(cell: "Cell", make: Callable[[TimedRow, str, int], Method], layouts: Sequence[Layout]) -> dict[str, Any]:
    """The figures of one cell; its model is loaded now, not before."""
    some = [layouts[number % len(layouts)] for number in range(cell.batch)]
    some = [replace(layout, id=number) for number, layout in enumerate(some)]
    return cell.measure(make(cell.row, cell.precision, cell.batch), some)


def attempt(measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or the first line of why there are none."""
    try:
        return measured()
    except (RuntimeError, ArithmeticError, InputError, TypeError, ValueError) as error:
        return {"failed": str(error).strip().splitlines()[0]}


def read_rows(config: Path, weights: Path) -> list[TimedRow]:
    """The methods of a configuration's tables, each once, on the model folders below `weights`."""
    settings = Settings.model_validate(read_json(config))
    shown = dict.fromkeys(name for table in settings.tables.values() for name in table.rows or () if name != "real")
    return [
        TimedRow(
            name,
            method.module,
            method.params,
            settings.sampling.model_dump() | method.sampling,
            str(weights / method.base),
        )
        for name, method in ((name, settings.methods[name]) for name in shown)
    ]


def make_method(
    models: dict[tuple[str, str], Diffusion], device: str, row: TimedRow, precision: str, batch: int
) -> Method:
    """A row ready to run; a model folder is loaded once, and one is held at a time."""
    module = importlib.import_module(row.module)
    sampling = Sampling(**row.sampling | {"precision": precision})
    if (row.model, precision) not in models:
        models.clear()
        models[row.model, precision] = load_diffusion(row.model, sampling, device)
    sd = models[row.model, precision]
    compiles = device.startswith("cuda") and precision != "float32" and passes_of(row)[0].each_box == 0
    if compiles and (sd.compiled is None or sd.compiled.size != 2 * batch):
        speed_up(sd, compile=True, channels_last=True)
    sd = replace(sd, sampling=sampling, compiled=sd.compiled if compiles else None)
    state = State(random_alignment(sd), 1.0) if "alignments" in passes_of(row)[0].other else None
    return Method(module, from_keys(module.Params, row.params, row.name), sd, state)


def random_alignment(sd: Diffusion) -> Alignment:
    """The paper's module for this model, untrained: fresh weights from a fixed seed."""
    torch.manual_seed(0)
    channels, side, _ = sd.latent_shape_CHW
    return Alignment(AlignmentConfig(channels, side, sd.text_encoder.config.hidden_size)).to(sd.device).eval()


def measure(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Seconds, images a second, peak GiB of tensors and the work an image, of one batch from layouts to pixels."""
    # Boxes are seen in the first steps alone: four steps compile the U-Net with them and without.
    short = replace(method.sd, sampling=replace(method.sd.sampling, steps=4))
    warm_up, _ = seconds(lambda: generate(replace(method, sd=short), layouts))
    method.sd.counters.clear()
    on_card = method.sd.device.type == "cuda"
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    took, _ = seconds(lambda: generate(method, layouts))
    figures: dict[str, Any] = {"seconds": took, "images_per_second": len(layouts) / took, "warm_up_seconds": warm_up}
    if on_card:
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    work = sum(method.sd.counters.images.values(), Counter())
    return figures | {"work_per_image": {name: count / len(layouts) for name, count in work.items()}}


def flops(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Floating-point operations an image of everything from layout to pixels, counted by torch."""
    plain = replace(method, sd=replace(method.sd, compiled=None))
    with FlopCounterMode(display=False) as counter:
        generate(plain, layouts)
    return {"tflop_per_image": counter.get_total_flops() / len(layouts) / 1e12}


def converted(sd: Diffusion) -> Diffusion:
    """The model as a diffusers pipeline takes it: all networks in the sampling precision, compiled where ours is."""
    if sd.dtype == torch.float32 or sd.folder is None:
        return sd
    unet = load_frozen(UNet2DConditionModel, sd.folder, "unet").to(sd.device, sd.dtype)
    text_encoder, vae = deepcopy(sd.text_encoder).to(sd.dtype), deepcopy(sd.vae).to(sd.dtype)
    peer = replace(sd, unet=unet, text_encoder=text_encoder, vae=vae, compiled=None)
    if sd.compiled is not None:
        for network in (unet, vae):
            network.to(memory_format=torch.channels_last)
    return peer


def stable_diffusion_over_peer(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Ours against diffusers' Stable Diffusion, both on the whole batch."""
    return against_stable_diffusion(method, compiled_peer(method.sd), layouts, Size(rounds=2))


def compiled_peer(sd: Diffusion) -> Diffusion:
    """`converted`, with a U-Net that torch compiles where ours is compiled."""
    peer = converted(sd)
    return peer if sd.compiled is None else replace(peer, unet=torch.compile(peer.unet, dynamic=False))


def gligen_over_peer(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Ours against diffusers' GLIGEN, which takes one layout at a time, on at most two images."""
    size = Size(rounds=2, peer_images=min(2, len(layouts)))
    return against_diffusers(method, compiled_peer(method.sd), layouts, size)


def excite_over_peer(method: Method, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Ours against diffusers' Attend-and-Excite, which reads attention in a U-Net that is not compiled, on one image."""
    sd = method.sd
    peer = converted(sd) if sd.dtype != torch.float32 else replace(sd, unet=deepcopy(sd.unet))
    return against_attend_and_excite(method, peer, layouts, Size(rounds=1, peer_images=1))


@dataclass(frozen=True)
class Cell:
    """What is measured: `measure` on `batch` layouts of a row; `label`, of keys in LABELS, names it in the file."""

    label: dict[str, Any]
    measure: Callable[[Method, Sequence[Layout]], dict[str, Any]]
    row: TimedRow
    precision: str
    batch: int


LABELS = ("row", "precision", "batch", "peer", "our_batch", "flops_of")


def plan(rows: Sequence[TimedRow]) -> list[Cell]:
    """All cells, the most telling first."""
    plain = [row for row in rows if not passes_of(row)[0].layers]
    guided = [row for row in rows if passes_of(row)[0].layers]
    stable = [row for row in plain if row.module == "baselines.stable_diffusion"][:1]
    gligen = [row for row in plain if row.module == "baselines.gligen" and row.name != "gligen_ldm"][:1]
    hcma = [row for row in plain if passes_of(row)[0].other][:1]
    excite = [row for row in guided if row.module == "baselines.attend_and_excite"][:1]
    boxes = [row for row in plain if passes_of(row)[0].each_box]
    return [
        *_speeds(stable, "bfloat16", (32,)),
        *_peer("Stable Diffusion, the whole batch", stable_diffusion_over_peer, stable, "bfloat16", 32),
        *_speeds(guided, "bfloat16", (32,)),
        *_peer("Attend-and-Excite, one image at a time", excite_over_peer, excite, "bfloat16", 32),
        # torch's counter does not pass a method's own gradient.
        *(Cell({"row": row.name, "flops_of": "one image"}, flops, row, "bfloat16", 1) for row in stable),
        *_speeds([*gligen, *hcma], "bfloat16", (32,)),
        *(Cell({"row": row.name, "flops_of": "one image"}, flops, row, "bfloat16", 1) for row in gligen),
        *_speeds([*gligen, *hcma], "float32", (8,)),
        *_speeds(stable, "float32", (8,)),
        *_speeds(guided, "float32", (8,)),
        *_speeds(stable, "float16", (32,)),
        *_speeds(boxes, "bfloat16", (8,)),
        *_peer("GLIGEN, one image at a time", gligen_over_peer, gligen, "bfloat16", 32),
        *_peer("GLIGEN, one image at a time", gligen_over_peer, gligen, "float32", 8),
        *_speeds([*stable, *gligen, *hcma], "bfloat16", (1, 8, 64)),
    ]


def _speeds(rows: Sequence[TimedRow], precision: str, batches: Sequence[int]) -> list[Cell]:
    return [
        Cell({"row": row.name, "precision": precision, "batch": batch}, measure, row, precision, batch)
        for batch in batches
        for row in rows
    ]


def _peer(
    name: str,
    measured: Callable[[Method, Sequence[Layout]], dict[str, Any]],
    rows: Sequence[TimedRow],
    precision: str,
    batch: int,
) -> list[Cell]:
    label = {"peer": f"diffusers {name}", "precision": precision, "our_batch": batch}
    return [Cell(label, measured, row, precision, batch) for row in rows]


def ceiling(precision: str, device: str, side: int) -> float:
    """TFLOP/s of a large matrix product of random numbers: what the card gives at most in this precision."""
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))

    def products() -> float:
        for _ in range(PRODUCTS):
            last = a @ b
        return float(last[0, 0])  # waits for the card

    products()
    return 2 * side**3 * PRODUCTS / seconds(products)[0] / 1e12
