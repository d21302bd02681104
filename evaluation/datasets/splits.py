"""Seeded orders of ids, the same on every machine."""

import hashlib
from collections.abc import Iterable


def hash_order(seed: int, number: int | str) -> bytes:
    """A key that puts numbers into a seeded random order."""
    return hashlib.sha256(f"{seed} {number}".encode()).digest()


def split_ids(ids: Iterable[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Image ids in the order of a seeded hash, the first `fraction` (rounded down) apart from the rest."""
    order = sorted(ids, key=lambda number: hash_order(seed, number))
    cut = int(len(order) * fraction)
    return order[:cut], order[cut:]
