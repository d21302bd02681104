"""Permutation tests of two rows of the same images: signs of single images' differences, or groups of images swapped.

A metric that is a mean over images is tested by flipping the signs of the images' differences. Of rows a and b and a distance
d to `real`, let D = d(a) - d(b), and D(s) the same after the images of those jackknife groups whose sign in s is -1 have
changed places between the rows. Swapping all of them turns D's sign, so D(s) has no quadratic part: to third order, and
exactly for KID and CMMD, it is the sum of s_g c_g over the groups. Where the rows are alike, random signs of the c_g are thus
what swapping images at random would give, without an estimate of any variance.

The c_g are those by which the sum is D(s), whatever the order, for the twenty rows s of a Hadamard matrix and their
opposites (Plackett and Burman 1946). Its first row swaps nothing: the c_g of all twenty add up to D. Empty groups are
dropped: the design still assigns them third-order terms of other groups, which would bias p-values downwards.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from evaluation.metrics.jackknife import GROUPS, Swapped

# Groups with images: with fewer, no difference could be significant, 1 in 2^(groups - 1) signs being as extreme as it.
FEWEST = 6
FLIPS = 10_000
CHUNK = 500


def contributions(swapped: Swapped, present: Sequence[int]) -> list[float]:
    """What each of the groups that are present adds to a difference; nothing of fewer than FEWEST."""
    if len(present) < FEWEST:
        return []
    signs_SG = design()
    found_S = np.array([swapped(signs_G < 0) for signs_G in signs_SG])
    return (signs_SG[:, present].T @ found_S / GROUPS).tolist()


@cache
def design() -> np.ndarray:
    """Signs of GROUPS groups in as many swaps [S, G], orthogonal, the first without a swap: Paley's matrix (1933)."""
    prime = GROUPS - 1
    squares = {number**2 % prime for number in range(1, prime)}
    character = np.array([0] + [1 if number in squares else -1 for number in range(1, prime)])
    signs, numbers = np.ones((GROUPS, GROUPS)), np.arange(prime)
    signs[1:, 1:] = character[(numbers[:, None] - numbers) % prime] - np.eye(prime)
    return signs


def swap_test(gap: float, parts: Sequence[float]) -> float:
    """Two-sided p-value of a difference from what each group adds to it, by `flip_test`; nan of no groups."""
    if not parts:
        return float("nan")
    # Where nothing differs, no swap is less extreme; what rounding left in the groups must not say otherwise.
    return flip_test(np.array(parts), np.arange(len(parts))) if gap else 1.0


def flip_test(differences_N: np.ndarray, image_ids_N: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference under random signs, one an image: (1 + as extreme) / (1 + FLIPS)."""
    _, place_N = np.unique(image_ids_N, return_inverse=True)
    sums_I = np.bincount(place_N, weights=differences_N)
    rng = np.random.default_rng(seed)
    observed, extreme = abs(sums_I.sum()), 0
    # Rounding must not make a flip that changes nothing, as where all differences are 0, look less extreme.
    limit = observed * (1 - 1e-12)
    for _ in range(FLIPS // CHUNK):
        signs = rng.integers(0, 2, (CHUNK, len(sums_I)), dtype=np.int8) * 2.0 - 1
        extreme += int((np.abs(signs @ sums_I) >= limit).sum())
    return (1 + extreme) / (1 + FLIPS)
