"""The profile where SLURM keeps accounts: asked by squeue, as it stands, and by sacct."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.dag import ROOT, checkout, environment
from tests.slurm.cluster import Cluster, ask, why_not
from tests.slurm.test_slurm import CONFIG, SLURM

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def accounts() -> Iterator[None]:
    if reason := why_not(accounting=True):
        pytest.skip(reason)
    cluster = Cluster(nodes=1, accounting=True)
    cluster.start()
    yield
    cluster.stop()


@pytest.mark.parametrize("status", ["squeue", "sacct"])
def test_jobs_end_and_are_in_the_accounts(accounts, status) -> None:
    run = f"test-accounts-{status}-{os.getpid()}"
    target = f"results/{run}/samples/real/test/0000.zip"
    named = [*SLURM, "--slurm-status-command", status, "--set-resources", "sample_real:gpu=1"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", target, *named, *CONFIG, "--config", f"run={run}"],
            cwd=checkout(),
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert (ROOT / target).exists()
        fields = "State,ReqTRES%100,Comment%100"
        kept = [line.split("|") for line in ask("sacct", "-a", "-X", "-n", "-P", "-o", fields).splitlines()]
        assert {state for state, *_ in kept} == {"COMPLETED"}
        assert [tres for _, tres, comment in kept if "sample_real" in comment and "gres/gpu=1" in tres]
    finally:
        shutil.rmtree(ROOT / "results" / run, ignore_errors=True)
