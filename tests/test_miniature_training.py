"""The pretraining loop: a resumed training is the uninterrupted one, and a broken one says where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workflow.scripts.miniature.training import Run, train


def line(model: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
    x = torch.from_numpy(rng.standard_normal((16, 3), np.float32))
    return (model(x) - x.sum(1, keepdim=True)).pow(2).mean()


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def run(work: Path, steps: int = 60) -> Run:
    return Run("line", work, steps, 0.05, seed=1, warmup=5, save_every=10, threads=torch.get_num_threads())


class Interrupt(Exception):
    pass


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, _ = train(run(tmp_path / "a"), model(), line, line)
    calls = 0

    def interrupted(m: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 37:
            raise Interrupt
        return line(m, rng)

    with pytest.raises(Interrupt):
        train(run(tmp_path / "b"), model(), interrupted, line)
    resumed, state = train(run(tmp_path / "b"), model(), line, line)
    assert state.step == 60 and [row["step"] for row in state.curve] == [10, 20, 30, 40, 50, 60]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_it_learns_and_records_the_held_out_loss(tmp_path: Path) -> None:
    _, state = train(run(tmp_path, steps=100), model(), line, line)
    assert state.curve[-1]["held_out"] < 0.3 * state.curve[0]["loss"]


def test_snapshots_keep_an_earlier_average(tmp_path: Path) -> None:
    settings = replace(run(tmp_path), snapshots=(20,))
    last, _ = train(settings, model(), line, line)
    early = torch.load(settings.snapshot(20), weights_only=True)["average"]
    assert not torch.equal(early[0], next(last.parameters()).detach())


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 0"):
        train(run(tmp_path), model(), lambda m, rng: line(m, rng) * float("nan"), line)
