"""The paper's DAG without its work: all methods, and jobs that only leave empty the files that their rules declare.

    python -m tests.scale --images 30000 --shard-size 5000

prints one line of JSON: how long the DAG takes to build, how many jobs and files there are, what scheduling costs a job.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.dag import ROOT, jobs_by_rule
from workflow import overlays

PAPER = overlays.resolved(overlays.merged(given={"scale": "paper"}))
METHODS = [name for name, stanza in PAPER["methods"].items() if PAPER["models"][stanza["base"]]]

# Follows the Snakefile: of every job nothing but the files that its rule declares.
STUB = """

def leave_empty(*arguments):
    # What Snakemake calls a rule's function with: by place, but for the benchmark's record, which not every rule has.
    output, log = arguments[1], arguments[6]
    (record,) = [one for one in arguments if type(one).__name__ == "BenchmarkRecord"] or [None]
    shell("touch {output:q} {log:q}", bench_record=record)


for one in workflow.rules:
    if one.is_shell:
        one.run_func = leave_empty
"""


def lay_out(folder: Path, images: int, shard_size: int) -> None:
    """A checkout in `folder` whose jobs are empty, and an overlay for `images` a row and all methods in the tables."""
    for name in ("workflow", "profiles", "formats", "hcma", "baselines", "evaluation"):
        (folder / name).symlink_to(ROOT / name)
    overlay = {
        "run": "scale",
        "data": {"test": {"count": images}, "shard_size": shard_size},
        "tables": {"table1": ["real", *METHODS]},
    }
    (folder / "scale.yaml").write_text(yaml.safe_dump(overlay))
    (folder / "Snakefile").write_text((ROOT / "Snakefile").read_text() + STUB)


def snakemake(folder: Path, *arguments: str) -> tuple[str, float]:
    """What a run of Snakemake prints, and its seconds."""
    configs = ["--configfile", "workflow/config/paper.yaml", "scale.yaml"]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *configs], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout + done.stderr, time.perf_counter() - began


def plan(folder: Path) -> dict[str, Any]:
    """Of a dry run: jobs, wall seconds, processor seconds, and the peak of memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed, seconds = snakemake(folder, "-n", "--quiet", "rules", "--cores", "8")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = jobs_by_rule(printed)
    return {
        "jobs": jobs.pop("total"),
        "sample_jobs": jobs["sample"],
        "dag_seconds": round(seconds, 1),
        "dag_cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "dag_peak_mb": after.ru_maxrss // 1024,
    }


def perform(folder: Path, jobs: int) -> dict[str, Any]:
    """Of a run to the end: seconds a job, and the files that are there afterwards."""
    _, seconds = snakemake(folder, "--cores", "8", "--quiet", "all")
    count = {name: sum(path.is_file() for path in (folder / name).rglob("*")) for name in (".snakemake", "results")}
    return {"seconds_a_job": round(seconds / jobs, 3), "files": count}


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(prog="tests.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=30000, help="test images a method")
    parser.add_argument("--shard-size", type=int, default=PAPER["data"]["shard_size"])
    parser.add_argument("--dry", action="store_true", help="build the DAG and leave it at that")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), args.images, args.shard_size)
        found = {"methods": len(METHODS), "images": args.images, "shard_size": args.shard_size} | plan(Path(name))
        print(json.dumps(found | ({} if args.dry else perform(Path(name), found["jobs"]))))


if __name__ == "__main__":
    main()
