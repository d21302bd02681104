"""One job a GPU, on machines that have none: the locks are files, and the GPUs names."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from formats import device
from tests.launch import status
from tests.test_plan import planned
from workflow import preflight
from workflow.benchmarks import __main__ as benchmarks

ROOT = Path(__file__).parents[1]
GPUS = ["GPU-0000/a", "GPU-1111/b"]
HOLD = "import sys; from pathlib import Path; from formats.device import take_first; "
HOLD += "print(take_first(sys.argv[2:], Path(sys.argv[1]), 0.05), flush=True); sys.stdin.read()"


@contextmanager
def holder(folder: Path, gpus: list[str] = GPUS):
    """Another job, which holds one of `gpus` until it ends; gives the process."""
    command = [sys.executable, "-c", HOLD, str(folder), *gpus]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    job = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    try:
        yield job
    finally:
        job.kill()
        job.communicate()


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(device, "HELD", {})


def test_jobs_share_the_gpus_out_among_them_and_the_third_waits(tmp_path) -> None:
    with holder(tmp_path) as first, holder(tmp_path) as second:
        numbers = [job.stdout.readline() for job in (first, second)]
        assert set(numbers) == {"0\n", "1\n"}
        with holder(tmp_path) as third:
            assert "waiting: all GPUs are held by other jobs (2 visible" in third.stderr.readline()
            os.kill(second.pid, signal.SIGKILL)  # no job cleans up after itself then; the system does
            assert third.stdout.readline() == numbers[1]
        assert first.poll() is None


def test_a_gpu_is_the_same_whatever_number_it_has_in_a_job(tmp_path) -> None:
    with holder(tmp_path, GPUS[1:]) as job:
        assert job.stdout.readline() == "0\n"
        assert device.take_first(GPUS[::-1], tmp_path, 0.05) == 1


def test_a_process_keeps_its_gpu(tmp_path) -> None:
    assert device.take_first(GPUS, tmp_path, 0.05) == 0
    assert device.take_first(GPUS, tmp_path, 0.05) == 0
    with holder(tmp_path) as job:
        assert job.stdout.readline() == "1\n"


def test_cuda_is_the_first_free_gpu_and_others_are_as_named(tmp_path, monkeypatch) -> None:
    import torch

    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: asked.append(f"set {number}"))
    monkeypatch.setattr(torch, "empty", lambda _, device: asked.append(device) or torch.zeros(0))
    monkeypatch.setattr(device, "repeat_exactly", lambda: asked.append("exactly"))
    monkeypatch.setattr(device, "_gpus", lambda: GPUS)
    monkeypatch.setattr(device, "_locks", lambda: tmp_path)
    with holder(tmp_path) as job:
        job.stdout.readline()
        for name in ("cuda", "cuda:0", "cpu"):
            device.take_device(name)
    assert asked == ["set 1", "exactly", "cuda:1", "exactly", "cuda:0", "cpu"]


def test_on_a_gpu_float32_is_float32_and_sums_have_one_order() -> None:
    # In a process of its own: these are settings of the whole process, and the tests' others are not meant to have them.
    ask = "import os, torch; from formats.device import repeat_exactly; repeat_exactly(); "
    ask += "print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, "
    ask += "torch.are_deterministic_algorithms_enabled(), os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    found = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "True", ":4096:8"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_one_line_before_anything_else(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for over in ({"device": "cuda"}, {"device": "cuda", "evaluation_device": "cpu"}, {"evaluation_device": "cuda"}):
        (line,) = preflight.device(planned(resources=over))
        assert "cannot be used here" in line
    assert preflight.device(planned()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_pilot_without_its_gpu_is_one_line_before_anything_else(tmp_path, capsys) -> None:
    arguments = ["pilot", "--config", str(tmp_path / "none"), "--device", "cuda", "--out", str(tmp_path / "out.json")]
    assert status(benchmarks.main, arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --device cuda: cannot be used here")
