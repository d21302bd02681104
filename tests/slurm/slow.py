"""Stable Diffusion that lets a test catch it at work: it waits, takes memory, and writes down what it samples.

The environment says how much, so that the images and the configuration stay the same: SLOW_SECONDS and SLOW_MB an
image, SLOW_TRACE the file for a line "process id, layout id" of every image, before it is sampled. With SLOW_FIRST only the
first process of the trace waits.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from baselines import stable_diffusion


@dataclass(frozen=True)
class Params:
    """No parameters."""


def generate(sd, layouts, noise_BCHW, params):  # type: ignore[no-untyped-def]
    """Stable Diffusion's images."""
    if trace := os.environ.get("SLOW_TRACE"):
        with open(trace, "a") as file:
            for layout in layouts:
                file.write(f"{os.getpid()} {layout.id}\n")
    taken = bytearray(len(layouts) * int(os.environ.get("SLOW_MB", 0)) * 2**20)
    taken[::4096] = b"x" * len(taken[::4096])  # a page that is never touched is never taken
    if not os.environ.get("SLOW_FIRST") or not trace or Path(trace).read_text().startswith(f"{os.getpid()} "):
        time.sleep(len(layouts) * float(os.environ.get("SLOW_SECONDS", 0)))
    return stable_diffusion.generate(sd, layouts, noise_BCHW, stable_diffusion.Params())
