"""Run the tests as older processors, with one and two threads, and beside other work: `make test-processors`.

    python -m tests.processors [--only NAME]... [pytest's arguments]

oneDNN, ATen and MKL take other kernels on other processors, which round otherwise. A test whose outcome depends on them passes
on the machine of its author alone. Of every setting the last line of pytest is printed; one that fails makes the status 1.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from workflow.benchmarks.regress_spread import ROUNDING

ROOT = Path(__file__).parents[1]
BUSY = "while True: sum(range(10_000))"
# name -> environment, and whether as many busy processes as the machine has cores run beside it.
SETTINGS: dict[str, tuple[dict[str, str], bool]] = {
    "sse": (ROUNDING["sse"][1] | {"OMP_NUM_THREADS": "1"}, False),
    "avx2-two-threads": (ROUNDING["avx2"][1] | {"OMP_NUM_THREADS": "2"}, False),
    "native": ({"OMP_NUM_THREADS": "1"}, False),
    "native-two-threads": ({"OMP_NUM_THREADS": "2"}, False),
    "native-beside-work": ({"OMP_NUM_THREADS": "1"}, True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SETTINGS, help="a setting, and may be repeated; default all")
    arguments, for_pytest = parser.parse_known_args()
    chosen = arguments.only or list(SETTINGS)
    print(f"ATen takes {torch.backends.cpu.get_cpu_capability()} here; {os.cpu_count()} cores", flush=True)
    failed = [name for name in chosen if not passes(name, for_pytest)]
    print(f"failed: {', '.join(failed)}" if failed else "all settings passed")
    return 1 if failed else 0


def passes(name: str, for_pytest: list[str]) -> bool:
    """One run of the suite in a setting; prints pytest's last line, and all of it where a test fails."""
    changes, beside_work = SETTINGS[name]
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *for_pytest]
    with other_work(beside_work):
        done = subprocess.run(command, cwd=ROOT, env=os.environ | changes, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    print(f"{name}: {lines[-1] if done.returncode == 0 else done.stdout + done.stderr}", flush=True)
    return done.returncode == 0


@contextmanager
def other_work(wanted: bool) -> Iterator[None]:
    """As many busy processes as there are cores, ended with the block."""
    count = os.cpu_count() or 1 if wanted else 0
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
