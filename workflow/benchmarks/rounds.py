"""Times that can be trusted or say why not: two sides in turn, round by round, and what else the machine did meanwhile.

A side is a function that gives the seconds of its work and the result. Of its rounds the quickest counts: whatever disturbs
one can only add to it. Another process can still disturb them all, and then the two sides unequally.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 3
# Above these a figure is not to be trusted: cores that other processes took, and the slowest round over the quickest, less 1.
MOST_OTHERS = 0.5
MOST_SPREAD = 0.1
# What decides how quick matrix products and convolutions are; of /proc/cpuinfo, on x86 and on ARM.
INSTRUCTIONS = ("sse4_2", "avx", "avx2", "fma", "avx512", "avx_vnni", "amx", "asimd", "sve", "bf16", "i8mm")
# Columns of the first line of /proc/stat, but idle, iowait and what virtual machines had, which user time holds already.
BUSY = (0, 1, 2, 5, 6, 7)

Side = Callable[[], tuple[float, Any]]


@dataclass(frozen=True)
class Clock:
    """Seconds by the wall, of processor time of this process and its ended children, and of everybody's (None: unknown)."""

    wall: float
    own: float
    everybody: float | None


@dataclass(frozen=True)
class Turn:
    """One call of a side: its seconds and result, the load average before it, and the cores that others took meanwhile."""

    seconds: float
    result: Any
    load: float
    others: float | None


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few calls, after one to warm up."""
    work()
    return min(seconds(work)[0] for _ in range(ROUNDS))


def take_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, list[Turn]]:
    """Every side once a round, in order, so many rounds: what slows the machine for a while slows all of them."""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            load, before = os.getloadavg()[0], read_clock()
            spent, result = side()
            turns[name].append(Turn(spent, result, load, others(before, read_clock())))
    return turns


def quickest(turns: Sequence[Turn]) -> float:
    """Seconds of the quickest round."""
    return min(turn.seconds for turn in turns)


def spread(turns: Sequence[Turn]) -> float:
    """The slowest round over the quickest, less 1."""
    return max(turn.seconds for turn in turns) / quickest(turns) - 1


def doubts(turns: Mapping[str, Sequence[Turn]]) -> list[str]:
    """Why a figure made of these turns is not to be trusted; nothing where it is."""
    found = []
    loads = [turn.others for side in turns.values() for turn in side]
    known = [load for load in loads if load is not None]
    if known and max(known) > MOST_OTHERS:
        found.append(f"other processes took up to {max(known):.1f} cores, more than {MOST_OTHERS}")
    if len(known) < len(loads):
        found.append("what other processes took is not known on this system")
    for name, side in turns.items():
        if len(side) < 2:
            found.append(f"{name}: one round, so that its spread is not known")
        elif spread(side) > MOST_SPREAD:
            found.append(f"{name}: rounds differ by {spread(side):.0%}, more than {MOST_SPREAD:.0%}")
    return found


def stated(turns: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    """What a figure made of these turns says of how it was made."""
    return {
        "rounds": {name: [turn.seconds for turn in side] for name, side in turns.items()},
        "spread": {name: spread(side) for name, side in turns.items()},
        "load_average_before": {name: [turn.load for turn in side] for name, side in turns.items()},
        "cores_of_others": {name: [turn.others for turn in side] for name, side in turns.items()},
        "doubts": doubts(turns),
    }


def told(name: str, row: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """A figure as text: its ratio, whether that is to be trusted, on what machine, and its other numbers.

    A row without `rounds` was not timed; machine: what `processor` says, and torch's threads and kernels.
    """
    numbers = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, int | float) and key != "ratio"]
    if "rounds" not in row:
        return "\n    ".join([f"{name}:", *numbers])
    count = max(map(len, row["rounds"].values()))
    spreads = ", ".join(f"{side} {share:.1%}" for side, share in row["spread"].items())
    loads = "; ".join(
        f"{side} {' '.join(f'{load:.2f}' for load in found)}" for side, found in row["load_average_before"].items()
    )
    cores = [taken for found in row["cores_of_others"].values() for taken in found if taken is not None]
    taken = f"at most {max(cores):.2f} cores meanwhile" if cores else "unknown"
    sets = ", ".join(machine["instructions"]) or "instruction sets unknown"
    torch = f"threads {machine['threads']}, {machine['kernels']}"
    lines = [
        f"{name}: {row['ratio']:.2f} by the quickest of {count} round{'s' * (count != 1)} of either side",
        *(f"NOT TO BE TRUSTED: {doubt}" for doubt in row["doubts"]),
        f"slowest round over quickest, less 1: {spreads}",
        f"load average before each call: {loads}; other processes: {taken}",
        f"on {machine['name']} ({sets}), processors {machine['cpus']}; torch: {torch}",
    ]
    return "\n    ".join(lines + numbers)


def read_clock(stat: Path = Path("/proc/stat")) -> Clock:
    """The three clocks now."""
    everybody = None
    if stat.exists():
        columns = stat.read_text().splitlines()[0].split()[1:]
        everybody = sum(int(columns[place]) for place in BUSY if place < len(columns)) / os.sysconf("SC_CLK_TCK")
    return Clock(time.monotonic(), sum(os.times()[:4]), everybody)


def others(before: Clock, after: Clock) -> float | None:
    """Cores that other processes took between two readings; None where that is unknown."""
    if before.everybody is None or after.everybody is None:
        return None
    spent = (after.everybody - before.everybody) - (after.own - before.own)
    return max(0.0, spent / max(after.wall - before.wall, 1e-9))


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Name, instruction sets and number of the processors that this process may use."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "name": fields.get("model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in flags if flag.startswith(INSTRUCTIONS)],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
