"""Tensors of many rows that lie in several files, one after another: mapped, and read only where rows are asked for."""

import hashlib
from collections.abc import Mapping, Sequence

import torch


class Sharded:
    """Row-wise concatenation of `parts`, of equal row shapes, without a copy; its rows are numbered over all parts."""

    def __init__(self, parts: Sequence[torch.Tensor]) -> None:
        self.parts = tuple(parts)
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)
        self.shape = torch.Size([int(self.ends[-1]), *parts[0].shape[1:]])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of a tensor of numbers, in its order."""
        found = self.parts[0].new_empty(len(rows), *self.shape[1:])
        where = torch.bucketize(rows, self.ends, right=True)
        for number in where.unique().tolist():
            here, part = where == number, self.parts[number]
            found[here] = part[rows[here] - (int(self.ends[number]) - len(part))]
        return found


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors' bytes, in the order of their names."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode())
        hashed.update(tensors[name].contiguous().numpy().data)
    return hashed.hexdigest()
