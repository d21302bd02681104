"""The profiles: what each may hold, that a run can be planned with each, and what the status command makes of SLURM's words."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.dag import ROOT, snakemake

PROFILES = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/config.yaml")}
STATUS = ROOT / "profiles/cluster-generic/status.sh"


def test_the_default_profile_holds_nothing_of_a_machine() -> None:
    """It goes before --profile, so that a word about resources in it would rule on every cluster."""
    of_machines = {"executor", "cores", "jobs", "resources", "default-resources", "set-resources", "retries"}
    assert not of_machines & set(PROFILES["default"])


def test_clusters_try_again_and_never_in_arrays() -> None:
    for name in ("slurm", "cluster-generic"):
        profile = PROFILES[name]
        assert profile["retries"] == 2
        assert profile["keep-incomplete"]
        assert not [key for key in profile if "array" in key]
    assert PROFILES["slurm"]["slurm-no-requeue"]
    assert "--no-requeue" in PROFILES["cluster-generic"]["cluster-generic-submit-cmd"]


@pytest.mark.parametrize("profile", sorted(set(PROFILES) - {"default"}))
def test_a_run_can_be_planned_with_every_profile(profile) -> None:
    done = snakemake(
        "-n", "--quiet", "rules", "--profile", f"profiles/{profile}", "--config", f"run=test-{os.getpid()}"
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("controller", "accounts", "word"),
    [
        ("JobId=7 JobName=x JobState=COMPLETED Reason=None", "", "success"),
        ("JobId=7 JobState=RUNNING", "", "running"),
        ("JobId=7 JobState=PENDING", "", "running"),
        ("JobId=7 JobState=NODE_FAIL", "", "failed"),
        ("JobId=7 JobState=OUT_OF_MEMORY", "", "failed"),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", "", "running"),
        ("slurm_load_jobs error: Invalid job id specified", "COMPLETED", "success"),
        ("slurm_load_jobs error: Invalid job id specified", "CANCELLED by 0", "failed"),
        ("slurm_load_jobs error: Invalid job id specified", "", "failed"),
    ],
)
def test_the_status_command_says_one_word(tmp_path: Path, controller, accounts, word) -> None:
    for program, answer in (("scontrol", controller), ("sacct", accounts)):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{answer}"\n')
        (tmp_path / program).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run([STATUS, "7"], env=env, capture_output=True, text=True, check=True).stdout == f"{word}\n"
