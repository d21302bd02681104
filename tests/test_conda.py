"""--use-conda with a stand-in for conda: the rules run under it, and it makes no environment whose pins are not the lock's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.dag import ROOT, checkout, command, environment, is_nothing_to_do, snakemake

STANDIN = Path(__file__).parent / "conda_standin/bin"
HARNESS = ROOT / "workflow/envs/harness.yaml"
STATED = yaml.safe_load(HARNESS.read_text())

pytestmark = pytest.mark.skipif(
    f"python={sys.version_info.major}.{sys.version_info.minor}" not in STATED["dependencies"],
    reason="the environment file states another Python than this one",
)


def with_standin() -> dict[str, str]:
    env = environment()
    return env | {"PATH": f"{STANDIN}{os.pathsep}{env['PATH']}"}


def create(file: Path, prefix: Path) -> subprocess.CompletedProcess[str]:
    asked = ["conda", "env", "create", "--quiet", "--file", str(file), "--prefix", str(prefix)]
    return subprocess.run(asked, env=with_standin(), capture_output=True, text=True, check=False)


def test_the_environment_file_is_accepted(tmp_path) -> None:
    assert create(HARNESS, tmp_path / "env").returncode == 0
    assert create(ROOT / "environment.yml", tmp_path / "other").returncode == 0


@pytest.mark.parametrize(
    ("pin", "fault"),
    [
        ("numpy==1.0.0", "numpy==1.0.0: not in requirements.lock; numpy==1.0.0: 2."),
        ("numpyy==2.4.6", "numpyy==2.4.6: not in requirements.lock; numpyy==2.4.6: none is installed"),
    ],
)
def test_a_wrong_pin_makes_no_environment(tmp_path, pin, fault) -> None:
    pip = [{"pip": ["scipy==1.17.1", pin]}]
    (tmp_path / "env.yaml").write_text(yaml.safe_dump({"dependencies": ["python=3.11", "pip", *pip]}))
    done = create(tmp_path / "env.yaml", tmp_path / "env")
    assert done.returncode == 1
    assert f"conda stand-in: {fault}" in done.stderr
    assert not (tmp_path / "env").exists()


def use_conda(prefix: Path, run: str, *targets: str) -> subprocess.CompletedProcess[str]:
    options = ["--use-conda", "--conda-prefix", str(prefix), "--configfile", "tests/config/small.yaml"]
    return subprocess.run(
        command(*targets, *options, "--config", f"run={run}"),
        cwd=checkout(),
        env=with_standin(),
        capture_output=True,
        text=True,
        check=False,
    )


def activations(prefix: Path) -> int:
    (log,) = prefix.glob("*/activated")
    return len(log.read_text().splitlines())


@pytest.mark.skipif(" " in str(ROOT), reason="Snakemake activates no conda whose path has a space; this one lies here")
def test_rules_run_in_the_environment_of_the_standin(tmp_path) -> None:
    run = f"test-conda-{os.getpid()}"
    try:
        done = use_conda(tmp_path, run, f"results/{run}/layouts/report.json")
        assert done.returncode == 0, done.stderr[-3000:]
        # The drawing, and the layouts.
        assert activations(tmp_path) == 2
    finally:
        shutil.rmtree(ROOT / "results" / run, ignore_errors=True)


@pytest.mark.slow
def test_the_whole_dag_runs_under_the_standin_and_then_without_it_there_is_nothing_to_do(tmp_path) -> None:
    run = f"test-conda-{os.getpid()}"
    results = ROOT / "results" / run
    try:
        done = use_conda(tmp_path, run)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (results / "tables/table1.md").exists()
        assert activations(tmp_path) > 60
        assert is_nothing_to_do(snakemake("--configfile", "tests/config/small.yaml", "--config", f"run={run}"))
    finally:
        shutil.rmtree(results, ignore_errors=True)
