"""Measure how far the metrics of the regression subset move when nothing was changed, and record it as tolerances.

Makes the subset once as it is, once for each of ROUNDING, where only the order and the kind of floating-point operations
differ, and once for each of SEEDS, where the random numbers do; then writes the section `spread` of the reference.
Finished runs are taken as they are: delete results/regress* to measure again.
"""

import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evaluation.regression import RULE, Run, read_run, tolerances
from formats.files import InputError, read_json, write_json, write_text

CONFIG = Path("workflow/config/regress.yaml")
REFERENCE = Path("results/reference/miniature.json")
# name -> an overlay of the configuration, and the environment. The instruction sets are those of older processors.
Variant = tuple[dict[str, Any], dict[str, str]]
ROUNDING: dict[str, Variant] = {
    "threads-2": ({"resources": {"threads": 2}}, {}),
    "batch-7": ({"resources": {"batch_size": 7}, "alignment": {"train": {"micro_batch": 8}}}, {}),
    "sse": (
        {},
        {
            "ATEN_CPU_CAPABILITY": "default",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "MKL_CBWR": "COMPATIBLE",
            "OPENBLAS_CORETYPE": "Nehalem",
        },
    ),
    "avx2": (
        {},
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_CBWR": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
        },
    ),
}
SEEDS: dict[str, Variant] = {
    f"seed-{seed}": ({"sampling": {"seed": seed}, "alignment": {"train": {"seed": seed}}}, {}) for seed in (1, 2)
}


def main(cores: str) -> None:
    """Make the runs, and write what the metrics moved by."""
    base = made("", ({}, {}), cores)
    rounding = [made(name, variant, cores) for name, variant in ROUNDING.items()]
    seeds = [made(name, variant, cores) for name, variant in SEEDS.items()]
    reference = read_json(REFERENCE) if REFERENCE.exists() else {"history": []}
    write_json(REFERENCE, reference | {"spread": spread(base, rounding, seeds)})


def made(name: str, variant: Variant, cores: str) -> Run:
    """The subset, run as one variant into results/regress-{name}, or as it is into results/regress."""
    overlay, environment = variant
    settings = {"run": "-".join(filter(None, ("regress", name)))} | overlay
    path = Path("results") / f"{settings['run']}.yaml"
    write_text(path, yaml.safe_dump(settings))
    command = ["snakemake", "metrics", "--cores", cores, "--configfile", str(CONFIG), str(path)]
    done = subprocess.run(command, env=os.environ | environment, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: ended with status {done.returncode}")
    return read_run(Path("results") / settings["run"])


def spread(base: Run, rounding: list[Run], seeds: list[Run]) -> dict[str, Any]:
    """What was run and where, what each metric moved by, and the tolerances that follow."""
    moved = of_each_metric(base, rounding, lambda value, others: max(abs(other - value) for other in others))
    return {
        "measured_by": "make regress-spread",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rounding": {name: {"config": over, "environment": env} for name, (over, env) in ROUNDING.items()},
        "seeds": {name: {"config": over} for name, (over, _) in SEEDS.items()},
        "largest_move_by_rounding": moved,
        "standard_deviation_across_seeds": of_each_metric(
            base, seeds, lambda value, others: float(np.std([value, *others], ddof=1))
        ),
        "rule": RULE,
        "tolerance": tolerances(base, moved),
    }


def of_each_metric(
    base: Run, others: list[Run], statistic: Callable[[float, list[float]], float]
) -> dict[str, dict[str, float]]:
    """row -> metric -> statistic(value of the base, values of the others)."""
    return {
        row: {
            metric: statistic(found["value"], [other.metrics[row][metric]["value"] for other in others])
            for metric, found in metrics.items()
        }
        for row, metrics in base.metrics.items()
    }
