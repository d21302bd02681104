"""What the evaluation's numbers take at paper scale, from features on: every stage a process of its own, and its peak memory.

    python -m workflow.benchmarks scale --work FOLDER [--images 30000 --regions 99000 --dimensions 2048 --rows 3 --device cpu]

Features are made up, of a fixed seed: rows that share most of each image's noise, and photos. The stages are the programs of
the DAG, `python -m evaluation.metrics summarize | measure | swap | sizes`, with one network of those dimensions and a CLIP of
512. Each is printed with its processor seconds, its seconds by the wall and the most memory it held, and twelve rows with the
pairs of both tables are extrapolated from these. A stage that ended is not run again from the same folder.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.layouts import write_layouts
from formats.files import InputError, read_json, write_json
from formats.records import commit, versions

REAL = "real"
SHARD = 2000
CLIP = 512
# Of the paper's tables: methods, and pairs of them that some table compares.
METHODS, PAIRS = 12, 33
# Noise that all rows share, of the whole; the rest is a row's own.
SHARED = 0.8


@dataclass(frozen=True)
class Size:
    """Of the made-up rows."""

    images: int
    regions: int
    dimensions: int


def main(work: Path, images: int, regions: int, dimensions: int, rows: int, device: str) -> None:
    """Run the stages that a folder lacks and print all; raises InputError for a folder of another size."""
    size, settings = Size(images, regions, dimensions), {"rows": rows, "device": device}
    stages = run_stages(work, size, rows, device)
    found = vars(size) | settings | {"made": made(), "stages": stages} | sums(stages)
    write_json(work / "scale.json", found)
    print(told(found))


def made() -> dict[str, Any]:
    """The commit, versions and threads of a run."""
    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ}
    return {
        "commit": commit(),
        "versions": versions(("numpy", "scipy", "torch")),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    } | threads


def run_stages(work: Path, size: Size, rows: int, device: str) -> list[dict[str, Any]]:
    """Records of all stages in order, made now or before; raises InputError where the folder is of another size."""
    work.mkdir(parents=True, exist_ok=True)
    stated = vars(size) | {"device": device}
    record = work / "stages.json"
    known = read_json(record) if record.exists() else {"of": stated, "stages": {}}
    if known["of"] != stated:
        raise InputError(
            f"{record}: stages of {known['of']}, expected {stated}; give another --work, or delete this one"
        )
    names = [f"row{number}" for number in range(1, rows + 1)]
    if not (work / "layouts.jsonl").exists():
        write_layouts(work / "layouts.jsonl", made_up_layouts(size))
    done = []
    for stage, words in commands(work, names, size, device):
        if stage not in known["stages"]:
            kind, *of = stage.split(" ")
            if kind == "summarize":
                _make_features(work, of[0], size)
            known["stages"][stage] = {"stage": stage} | spent(words)
            write_json(record, known)
            if kind == "summarize":
                for path in feature_files(work, of[0], size):
                    path.unlink()
            print(line(known["stages"][stage]), flush=True)
        done.append(known["stages"][stage])
    return done


def commands(work: Path, names: list[str], size: Size, device: str) -> Iterator[tuple[str, list[str]]]:
    """Every stage's name and its words, in the order of the DAG."""
    metrics, on = [sys.executable, "-m", "evaluation.metrics"], ["--device", device]
    real = ["--real", f"{work}/{REAL}.npz"]
    for row in (REAL, *names):
        features = ["--features", *map(str, feature_files(work, row, size))]
        yield f"summarize {row}", [*metrics, "summarize", *features, "--out", f"{work}/{row}.npz", *on]
    for row in names:
        summary = ["--method", row, "--summary", f"{work}/{row}.npz", *real]
        out = [
            "--out",
            f"{work}/{row}.json",
            "--scores",
            f"{work}/{row}.parquet",
            "--across",
            f"{work}/{row}-across.npz",
        ]
        layouts = ["--split", "test", "--layouts", f"{work}/layouts.jsonl"]
        yield f"measure {row}", [*metrics, "measure", *summary, *layouts, *out, *on]
    for number, row in enumerate(names[:-1]):
        rows = [
            word
            for one in names[number:]
            for word in ("--row", one, f"{work}/{one}.npz", "--across", one, f"{work}/{one}-across.npz")
        ]
        against = " ".join(names[number + 1 :])
        yield f"swap {row} {against}", [*metrics, "swap", *rows, *real, "--out", f"{work}/{row}-swaps.json", *on]
    sizes = ["--method", names[0], "--summary", f"{work}/{names[0]}.npz", *real, "--out", f"{work}/sizes.csv"]
    yield f"sizes {names[0]}", [*metrics, "sizes", *sizes, *on]


def spent(words: list[str]) -> dict[str, float]:
    """What a program took: processor and wall seconds, and its peak memory in megabytes; raises InputError where it failed."""
    load, start = os.getloadavg()[0], time.perf_counter()
    child = subprocess.Popen(words)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise InputError(f"{' '.join(words[2:4])}: ended with status {child.returncode}; see what it printed")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "peak_mb": usage.ru_maxrss // 1024,
        "load_before": round(load, 2),
    }


def sums(stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Distances and swaps of these rows, and the evaluation of METHODS rows with PAIRS pairs by the same rates."""
    taken: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        taken.setdefault(stage["stage"].split(" ")[0], []).append(stage)
    pairs = sum(len(stage["stage"].split(" ")) - 2 for stage in taken.get("swap", []))
    seconds = {kind: sum(stage["cpu_seconds"] for stage in of) for kind, of in taken.items()}
    walls = {kind: sum(stage["wall_seconds"] for stage in of) for kind, of in taken.items()}
    # The photos are summed up, measured and tabulated as every row is.
    counts = {"summarize": METHODS + 1, "measure": METHODS + 1, "swap": PAIRS, "sizes": METHODS + 1}
    times = {kind: counts[kind] / (pairs if kind == "swap" else len(of)) for kind, of in taken.items()}
    return {
        "distances_and_swaps": {
            "cpu_seconds": round(sum(of for kind, of in seconds.items() if kind != "sizes"), 1),
            "wall_seconds": round(sum(of for kind, of in walls.items() if kind != "sizes"), 1),
            "peak_mb": max(stage["peak_mb"] for stage in stages),
        },
        "extrapolated": {
            "rows": METHODS,
            "pairs": PAIRS,
            "cpu_hours": round(sum(seconds[kind] * times[kind] for kind in taken) / 3600, 2),
            "wall_hours": round(sum(walls[kind] * times[kind] for kind in taken) / 3600, 2),
        },
    }


def told(found: dict[str, Any]) -> str:
    """All stages and sums as text."""
    size = ", ".join(f"{found[name]} {name}" for name in ("images", "regions", "dimensions", "rows"))
    both, whole = found["distances_and_swaps"], found["extrapolated"]
    return "\n".join(
        [
            f"{size}, on {found['device']}; {json.dumps(found['made'])}",
            f"{'stage':<24} {'CPU s':>9} {'wall s':>9} {'peak MB':>9} {'load before':>12}",
            *map(line, found["stages"]),
            line({"stage": "distances and swaps"} | both),
            f"extrapolated, {whole['rows']} rows and the photos, {whole['pairs']} pairs, with sizes: "
            f"{whole['cpu_hours']} CPU hours, {whole['wall_hours']} hours by the wall one after another",
        ]
    )


def line(stage: dict[str, Any]) -> str:
    """A stage as a line of the table."""
    load = f"{stage['load_before']:>12}" if "load_before" in stage else ""
    return f"{stage['stage']:<24} {stage['cpu_seconds']:>9} {stage['wall_seconds']:>9} {stage['peak_mb']:>9} {load}".rstrip()


def feature_files(work: Path, row: str, size: Size) -> list[Path]:
    """The shards of a row."""
    return [work / "features" / row / f"{start // SHARD:04d}.npz" for start in range(0, size.images, SHARD)]


def made_up_layouts(size: Size) -> Iterator[dict[str, Any]]:
    """Layouts with an object a region, as many an image as there are in all."""
    for image in range(size.images):
        regions = len(range(image, size.regions, size.images))
        objects = [{"phrase": "thing", "box": [0.0, 0.0, 1.0, 1.0]} for _ in range(regions)]
        yield {"id": image, "image_id": image, "caption": "", "objects": objects}


def _make_features(work: Path, row: str, size: Size) -> None:
    """In a process of its own: the memory of this one would count as its children's."""
    call = "write_row(Path(sys.argv[1]), sys.argv[2], Size(*map(int, sys.argv[3:])))"
    code = f"import sys; from workflow.benchmarks.scale import *; {call}"
    words = [str(work), row, *(str(value) for value in vars(size).values())]
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def write_row(work: Path, row: str, size: Size) -> None:
    """Features of a row, shard by shard, as evaluation.features writes them."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_write_shard, row, size), count(), feature_files(work, row, size)))


def _write_shard(row: str, size: Size, shard: int, path: Path) -> None:
    number = 0 if row == REAL else int(row.removeprefix("row"))
    # As many regions an image as there are in all, the same for every row.
    region_images = np.sort(np.arange(size.regions) % size.images)
    images = np.arange(shard * SHARD, min((shard + 1) * SHARD, size.images))
    of_image = region_images[np.isin(region_images, images)]
    arrays: dict[str, np.ndarray] = {}
    for level, (name, ids) in enumerate({"image": images, "region": of_image}.items()):
        arrays |= {f"{name}_ids": ids, f"{name}_image_ids": ids, f"{name}_text_cut": np.zeros(len(ids), bool)}
        arrays[f"{name}_frechet"] = made_up(len(ids), size.dimensions, number, [level, shard])
        arrays[f"{name}_clip"] = made_up(len(ids), CLIP, number, [level + 2, shard])
        arrays[f"{name}_text"] = made_up(len(ids), CLIP, 0, [level + 4, shard])
    starts = np.searchsorted(of_image, of_image)
    arrays["region_objects"] = np.arange(len(of_image)) - starts
    stated = {"about": {"frechet": "made up", "clip": "made up"}, "source": {"row": row}}
    arrays |= {name: np.array(json.dumps(value)) for name, value in stated.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays, allow_pickle=False)


def made_up(count: int, width: int, row: int, seed: list[int]) -> np.ndarray:
    """float32 features [count, width] about as wide as Inception's: noise that rows share and a row's own, a little shifted."""
    shared, own = np.random.default_rng([17, *seed]), np.random.default_rng([17, *seed, row + 1])
    spread = np.sqrt(np.arange(1, width + 1, dtype=np.float32) ** -0.7)
    noise = np.float32(SHARED) * shared.standard_normal((count, width), np.float32) if row else np.float32(0)
    alone = np.float32((1 - SHARED**2) ** 0.5 if row else 1)
    noise = noise + alone * own.standard_normal((count, width), np.float32)
    return np.asarray(noise * spread * np.float32(1 + 0.02 * row) + np.float32(0.4 + 0.005 * row), np.float32)
