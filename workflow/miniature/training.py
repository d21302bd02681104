"""One resumable training loop for every stage of the pretraining: AdamW, warm-up, cosine, an average of the weights."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from formats.device import device_name
from formats.files import replacing

BatchLoss = Callable[[torch.nn.Module, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class Run:
    """What a training is: its name, seed, length, step size, and where its checkpoint lives."""

    name: str
    work: Path
    steps: int
    lr: float
    seed: int
    warmup: int = 200
    average: float = 0.999
    save_every: int = 100
    threads: int = 2
    device: str = "cpu"
    snapshots: tuple[int, ...] = ()

    @property
    def checkpoint(self) -> Path:
        return self.work / f"{self.name}.pt"

    def snapshot(self, step: int) -> Path:
        return self.work / f"{self.name}-{step}.pt"


@dataclass
class State:
    """What a checkpoint holds beside the weights."""

    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


def train(
    run: Run, model: torch.nn.Module, batch_loss: BatchLoss, held_out: BatchLoss
) -> tuple[torch.nn.Module, State]:
    """Train `model` on `run.device` to `run.steps` steps, from its checkpoint if there is one.

    Returns the averaged model and its record.

    Every step's batch comes from a generator seeded by (seed, step), so a resumed training sees what an uninterrupted
    one would have. Raises FloatingPointError naming the step when the loss is not finite.
    """
    torch.set_num_threads(run.threads)
    model.to(run.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=run.lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    state = _resume(run, trained, average, optimizer)
    if (device := device_name(torch.device(run.device))) not in state.devices:
        state.devices.append(device)
    bar = tqdm(range(state.step, run.steps), initial=state.step, total=run.steps, desc=run.name, mininterval=5)
    recent: list[float] = []
    started = time.monotonic()
    for step in bar:
        recent.append(_step(run, step, model, trained, optimizer, batch_loss))
        decay = min(run.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)
        if (step + 1) % run.save_every == 0 or step + 1 == run.steps:
            now = time.monotonic()
            state.step, state.seconds, started = step + 1, state.seconds + now - started, now
            row = {"step": step + 1, "loss": float(np.mean(recent)), "seconds": state.seconds}
            recent.clear()
            if (step + 1) % (10 * run.save_every) == 0 or step + 1 == run.steps:
                row["held_out"] = _held_out(run, trained, average, model, held_out)
            state.curve.append(row)
            _save(run, trained, average, optimizer, state)
            if step + 1 in run.snapshots:
                _write(run.snapshot(step + 1), {"average": average, "step": step + 1, "seconds": state.seconds})
            print(json.dumps({"stage": run.name} | row), flush=True)
    _swap(trained, average)
    return model, state


def _step(
    run: Run,
    step: int,
    model: torch.nn.Module,
    trained: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch_loss: BatchLoss,
) -> float:
    rate = min(1.0, (step + 1) / run.warmup) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
    for group in optimizer.param_groups:
        group["lr"] = run.lr * rate
    loss = batch_loss(model, np.random.default_rng([run.seed, step]))
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{run.name}: the loss is {loss.item()} at step {step}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _held_out(
    run: Run,
    trained: list[torch.nn.Parameter],
    average: list[torch.Tensor],
    model: torch.nn.Module,
    held_out: BatchLoss,
) -> float:
    """The averaged model's loss on held-out batches, the same ones every time."""
    _swap(trained, average)
    value = float(np.mean([float(held_out(model, np.random.default_rng([run.seed, 10**9 + i]))) for i in range(8)]))
    _swap(trained, average)
    return value


def _swap(trained: list[torch.nn.Parameter], average: list[torch.Tensor]) -> None:
    for parameter, mean in zip(trained, average, strict=True):
        parameter.data, mean.data = mean.data, parameter.data


def _save(
    run: Run,
    trained: list[torch.nn.Parameter],
    average: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    state: State,
) -> None:
    record = {"step": state.step, "seconds": state.seconds, "curve": state.curve, "devices": state.devices}
    weights = {"trained": [p.detach() for p in trained], "average": average, "optimizer": optimizer.state_dict()}
    _write(run.checkpoint, weights | record)


def _write(path: Path, content: dict[str, object]) -> None:
    with replacing(path) as beside:
        torch.save(content, beside)


def _resume(
    run: Run, trained: list[torch.nn.Parameter], average: list[torch.Tensor], optimizer: torch.optim.Optimizer
) -> State:
    if not run.checkpoint.exists():
        return State()
    saved = torch.load(run.checkpoint, weights_only=True, map_location=run.device)
    for parameter, mean, new, new_mean in zip(trained, average, saved["trained"], saved["average"], strict=True):
        parameter.data.copy_(new)
        mean.copy_(new_mean)
    optimizer.load_state_dict(saved["optimizer"])
    return State(saved["step"], saved["seconds"], saved["curve"], saved.get("devices", []))
