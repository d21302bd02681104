"""The processes of a training: each takes its share of a batch's parts, and gradients are summed over all of them.

`accelerate launch` or torchrun start them and say in the environment who is who; without a launcher there is one.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce

from formats.device import take_device
from formats.files import InputError

Part = TypeVar("Part")


class Processes:
    """This process among the others; `device` is its own: of `cuda`, the first GPU that no other process holds."""

    def __init__(self, device: str | torch.device) -> None:
        self.state = PartialState(cpu=torch.device(device).type == "cpu")
        self.count, self.main = self.state.num_processes, self.state.is_main_process
        # Not accelerate's choice, the GPU of this process's number: another job may hold that one.
        self.device = self.state.device = take_device(str(device))

    def share(self, parts: Iterable[Part]) -> Sequence[Part]:
        """Every count-th of a batch's parts; raises InputError where there are fewer parts than processes."""
        parts = list(parts)
        if len(parts) < self.count:
            raise InputError(f"a batch has {len(parts)} parts for {self.count} processes; lower micro_batch")
        return parts[self.state.process_index :: self.count]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(reduce(parameter.grad, "sum"))

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, the same in each."""
        if self.count == 1:
            return list(numbers)
        return reduce(torch.tensor(numbers, dtype=torch.float64, device=self.device), "sum").tolist()

    def agree(self, value: object) -> bool:
        """Is the value the same in all processes?"""
        return self.count == 1 or len(set(gather_object([value]))) == 1

    def end(self) -> None:
        """Part from the other processes."""
        self.state.destroy_process_group()
