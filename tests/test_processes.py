"""A training in two processes is the training in one; both run on this machine's CPU, over gloo."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.cache import write_cache
from hcma.processes import Processes
from hcma.sampling.diffusion import Sampling, load_diffusion
from tests.launch import ended, launch
from tests.tiny import write_tiny

MODEL = {"patch": 2, "width": 16, "blocks": 1, "heads": 2}
TRAIN = {"epochs": 2, "batch": 8, "validate_every": 2, "lr": 1e-2}


@pytest.fixture(scope="module")
def caches(tmp_path_factory) -> Path:
    """Two cache files of twelve images each."""
    folder = tmp_path_factory.mktemp("caches")
    sd = load_diffusion(write_tiny(folder / "model"), Sampling())
    latents = torch.randn(24, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    for k, kind in enumerate(("cat", "mat")):
        things = (Object(kind, (0.1, 0.1, 0.9, 0.9)),)
        layouts = [Layout(i, i, f"a {kind}", things[: i % 3], (f"a {kind}", kind)) for i in range(12 * k, 12 * k + 12)]
        write_cache(latents[12 * k : 12 * k + 12], layouts, sd, "{label}", folder / f"{k}.safetensors")
    return folder


def start(caches: Path, out: Path, processes: int, **settings) -> list[subprocess.Popen]:
    """Start `hcma.train` as a launcher does, once for each process."""
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps({"alignment": {"model": MODEL, "train": TRAIN | settings}}))
    files = [str(caches / f"{k}.safetensors") for k in range(2)]
    paths = {"--config": "config.json", "--work": "work", "--out": "alignment.safetensors", "--curves": "curves.csv"}
    flags = [text for flag, name in paths.items() for text in (flag, str(out / name))]
    return launch(["hcma.train", "--train", *files, "--heldout", *files, *flags], processes)


def trained(caches: Path, out: Path, processes: int, **settings) -> list[str]:
    """Train to the end; returns what each process said."""
    return ended(start(caches, out, processes, **settings))


def test_two_processes_with_a_part_each_give_the_bytes_of_one(caches, tmp_path) -> None:
    # Two numbers have the same sum in either order, so that nothing may differ.
    alone = trained(caches, tmp_path / "one", 1, micro_batch=4)
    said = trained(caches, tmp_path / "two", 2, micro_batch=4)
    for name in ("alignment.safetensors", "curves.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert ["steps to go, about" in text for text in alone + said] == [True, True, False]


@pytest.mark.slow
def test_more_parts_differ_by_the_rounding_of_their_sum(caches, tmp_path) -> None:
    # Gradients are added in another order; Adam turns that rounding into up to a few lr * 1e-5 a step.
    for count in (1, 2):
        trained(caches, tmp_path / str(count), count, micro_batch=2)
    one, two = (load_file(tmp_path / str(count) / "alignment.safetensors") for count in (1, 2))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


@pytest.mark.slow
def test_two_killed_processes_end_as_if_nothing_had_happened(caches, tmp_path) -> None:
    settings = {"epochs": 60, "micro_batch": 4}
    trained(caches, tmp_path / "whole", 2, **settings)
    running = start(caches, tmp_path / "killed", 2, **settings)
    while not (tmp_path / "killed/work/checkpoint.pt").exists():
        assert running[0].poll() is None
        time.sleep(0.01)
    for process in running:
        process.kill()
        process.communicate()
    assert not (tmp_path / "killed/alignment.safetensors").exists()
    trained(caches, tmp_path / "killed", 2, **settings)
    whole, killed = (tmp_path / name / "alignment.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_fewer_parts_than_processes_are_refused() -> None:
    processes = Processes("cpu")
    assert processes.share(range(3)) == [0, 1, 2]
    processes.count = 2
    with pytest.raises(InputError, match="1 parts for 2 processes; lower micro_batch"):
        processes.share([0])
