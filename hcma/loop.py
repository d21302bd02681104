"""The loop every training of this package runs in: seeded steps, held-out checks, the best weights, a checkpoint."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from formats.files import InputError, replacing
from hcma.processes import Processes

Step = Callable[[int], dict[str, float]]
Validate = Callable[[], dict[str, float]]
TIMED = 3  # steps after the first, by which the duration is told


@dataclass
class Progress:
    """What a checkpoint holds beside weights and optimiser."""

    step: int = 0
    best: float = math.inf
    kept: int = 0  # the step of the best weights
    curve: list[dict[str, float]] = field(default_factory=list)

    def write_curves(self, path: Path) -> None:
        """Write the curve as CSV; `kept` is 1 at the step of the best weights, and step 0 has no training losses."""
        names = list(self.curve[-1])
        lines = [",".join([*names, "kept"])]
        for row in self.curve:
            cells = [f"{row[name]:.6g}" if name in row else "" for name in names]
            lines.append(",".join([*cells, str(int(row["step"] == self.kept))]))
        with replacing(path) as beside:
            beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Loop:
    """A module, its optimisers, and the checkpoint from which a killed training goes on as if nothing had happened.

    Parameters that need no gradient are neither saved nor kept. Of several processes all do the same but for their shares of a
    batch, and only the main one writes.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        processes: Processes,
        work: Path,
        identity: str,
    ) -> None:
        self.weights, self.optimizers, self.processes, self.device = module, optimizers, processes, processes.device
        self.identity, self.checkpoint = identity, work / "checkpoint.pt"
        self.frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._resume()
        if not processes.agree((identity, self.progress.step)):
            raise InputError(
                f"{work}: the processes find different checkpoints or data there; all must see the same folder"
            )

    def run(self, total: int, every: int, name: str, step_on: Step, validate: Validate) -> None:
        """Step to `total`, checking every so many steps; the module ends with the weights of the lowest held-out loss.

        step_on: one optimiser step; returns the means of its losses. validate: the held-out row, whose `heldout_loss` is what
        the best weights have lowest. Both must follow from the step's number and the weights alone. The untrained weights are
        the first candidate, step 0: a training that makes nothing better leaves them as they were, and says so.
        """
        if not self.progress.curve:
            row = validate()
            if not math.isfinite(row["heldout_loss"]):
                raise InputError(
                    f"{name}: the held-out loss is not finite before the first step; see the weights and the data"
                )
            self._keep({"step": 0.0} | row)
        recent: list[dict[str, float]] = []
        first, times, silent = self.progress.step, [], not self.processes.main
        for step in tqdm(range(first, total), initial=first, total=total, desc=name, mininterval=2, disable=silent):
            recent.append(_within_memory(step_on, step, name))
            times.append(time.monotonic())
            if len(times) == TIMED + 1 and not silent:
                minutes = (times[-1] - times[0]) / TIMED * (total - step - 1) / 60
                tqdm.write(f"{name}: {total - step - 1} steps to go, about {minutes:.1f} minutes", file=sys.stderr)
            if (step + 1) % every and step + 1 < total:
                continue
            means = {key: sum(row[key] for row in recent) / len(recent) for key in recent[0]}
            recent.clear()
            self._keep({"step": step + 1.0} | means | validate())
        self._load(self.best)
        if not silent and not self.progress.kept:
            found = f"no held-out loss was below the {self.progress.best:.6g} of the weights before this training"
            tqdm.write(f"{name}: {found}; they are kept, as step 0", file=sys.stderr)

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _update(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def _summed(self, sums: dict[str, float], images: int) -> dict[str, float]:
        """Sum gradients and losses over the processes; returns the losses' means over the batch's images."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self.processes.add_gradients(value for group in groups for value in group["params"])
        totals = self.processes.add_up(list(sums.values()))
        return {f"train_{name}": total / images for name, total in zip(sums, totals, strict=True)}

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.weights.state_dict().items() if name not in self.frozen}

    def _load(self, state: dict[str, torch.Tensor]) -> None:
        self.weights.load_state_dict(state, strict=not self.frozen)

    def _keep(self, row: dict[str, float]) -> None:
        """Record a validation, keep the best weights, write the checkpoint."""
        self.progress.step = int(row["step"])
        self.progress.curve.append(row)
        if row["heldout_loss"] < self.progress.best:
            self.progress.best, self.progress.kept = row["heldout_loss"], self.progress.step
            self.best = {name: value.detach().clone() for name, value in self._state().items()}
        if not self.processes.main:
            return
        saved = {
            "identity": self.identity,
            "module": self._state(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "best": self.best,
            "progress": asdict(self.progress),
        }
        with replacing(self.checkpoint) as beside:
            torch.save(saved, beside)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if saved["identity"] != self.identity:
            if self.processes.main:
                print(f"{self.checkpoint}: of other settings or data; this training starts afresh", file=sys.stderr)
            return
        self._load(saved["module"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.best, self.progress = saved["best"], Progress(**saved["progress"])


def _within_memory(step_on: Step, step: int, name: str) -> dict[str, float]:
    try:
        return step_on(step)
    except torch.OutOfMemoryError:
        raise InputError(
            f"{name}: out of memory at step {step}; lower its micro_batch, this training goes on from its last checkpoint"
        ) from None


def identity_of(described: Any, tensors: Iterable[torch.Tensor]) -> str:
    """What a checkpoint must agree on to be resumed: a hash of JSON values and of tensors."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
