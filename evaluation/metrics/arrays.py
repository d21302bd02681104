"""Where large sums are done: by numpy on the CPU, by torch on a device.

What sums over pairs of samples and over covariances is written once, with operators that arrays and tensors share, and the few
words here that they do not share. A device must have float64; float32 products there are float32 (no TF32), since a number
may not depend on the card.
"""

from functools import cache
from typing import Any, Protocol

import numpy as np
import scipy

from formats.files import InputError

# An array of numpy's, or a tensor on a device.
Array = Any


class Engine(Protocol):
    """What sums need besides operators."""

    def put(self, array: Array, dtype: Any) -> Array:
        """The array where sums are done, of a floating dtype of numpy's; one that is there stays."""

    def host(self, array: Array) -> np.ndarray:
        """Back as an array of numpy's."""

    def double(self, array: Array) -> Array:
        """In float64."""

    def exp(self, array: Array) -> Array:
        """In place."""

    def fill_diagonal(self, array_NM: Array, value: float) -> None:
        """In place."""

    def kth(self, array_NM: Array, count: int, axis: int) -> np.ndarray:
        """The count-th smallest along an axis."""

    def where(self, mask_NM: Array) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each true."""

    def at(self, array_NM: Array, rows_P: np.ndarray, columns_P: np.ndarray) -> np.ndarray:
        """Single elements [P]."""

    def full(self, upper_T: Array, width: int) -> Array:
        """The symmetric matrix of an upper triangle, row by row, float64 [D, D]."""

    def roots_of_product(self, factor_DD: Array, cov_DD: Array) -> float:
        """tr((F^T C F)^(1/2)) for a symmetric C, in float64; eigenvalues that rounding took below 0 are 0."""


class Numpy:
    """The CPU; needs no torch."""

    def put(self, array: Array, dtype: Any) -> Array:
        return np.asarray(array, dtype)

    def host(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def double(self, array: Array) -> Array:
        return array.astype(np.float64, copy=False)

    def exp(self, array: Array) -> Array:
        return np.exp(array, out=array)

    def fill_diagonal(self, array_NM: Array, value: float) -> None:
        np.fill_diagonal(array_NM, value)

    def kth(self, array_NM: Array, count: int, axis: int) -> np.ndarray:
        return np.asarray(np.partition(array_NM, count - 1, axis=axis).take(count - 1, axis=axis))

    def where(self, mask_NM: Array) -> tuple[np.ndarray, np.ndarray]:
        # A quarter of the time of np.nonzero, whose test of two dimensions is slow where few are true.
        rows, columns = np.divmod(np.flatnonzero(mask_NM), mask_NM.shape[1])
        return rows, columns

    def at(self, array_NM: Array, rows_P: np.ndarray, columns_P: np.ndarray) -> np.ndarray:
        return np.asarray(array_NM[rows_P, columns_P])

    def full(self, upper_T: Array, width: int) -> Array:
        matrix, inside = np.empty((width, width)), np.triu_indices(width)
        matrix[inside] = upper_T
        matrix.T[inside] = upper_T
        return matrix

    def roots_of_product(self, factor_DD: Array, cov_DD: Array) -> float:
        if any(factor_DD[:column, column].any() for column in range(len(factor_DD))):
            product = factor_DD.T @ cov_DD @ factor_DD
        else:  # Half the products, of a triangle alone; a symmetric matrix is its own transpose.
            product, _ = scipy.linalg.lapack.dsygst(cov_DD.T, factor_DD, itype=2, lower=1)
        values = scipy.linalg.eigvalsh(product, lower=True, driver="evd", overwrite_a=True, check_finite=True)
        return float(np.sqrt(values.clip(min=0)).sum())


class Torch:
    """A device of torch's, taken as sampling takes it; raises InputError for one that is not here, or that has no float64."""

    def __init__(self, device: str) -> None:
        import torch

        from formats.device import take_device

        self.torch, self.device = torch, take_device(device)
        try:
            torch.zeros(1, dtype=torch.float64, device=self.device)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"--device {device}: has no float64 ({str(error).splitlines()[0]}); give cpu") from None

    def put(self, array: Array, dtype: Any) -> Array:
        if isinstance(array, self.torch.Tensor):
            return array
        return self.torch.from_numpy(np.ascontiguousarray(array, dtype)).to(self.device)

    def host(self, array: Array) -> np.ndarray:
        return np.asarray(array.cpu().numpy())

    def double(self, array: Array) -> Array:
        return array.double()

    def exp(self, array: Array) -> Array:
        return array.exp_()

    def fill_diagonal(self, array_NM: Array, value: float) -> None:
        array_NM.fill_diagonal_(value)

    def kth(self, array_NM: Array, count: int, axis: int) -> np.ndarray:
        return self.host(array_NM.topk(count, dim=axis, largest=False).values.amax(axis))

    def where(self, mask_NM: Array) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.host(mask_NM.nonzero()).T
        return rows, columns

    def at(self, array_NM: Array, rows_P: np.ndarray, columns_P: np.ndarray) -> np.ndarray:
        index = (self.torch.from_numpy(part.copy()).to(self.device) for part in (rows_P, columns_P))
        return self.host(array_NM[tuple(index)])

    def full(self, upper_T: Array, width: int) -> Array:
        matrix = self.torch.empty((width, width), dtype=self.torch.float64, device=self.device)
        rows, columns = self.torch.triu_indices(width, width, device=self.device)
        matrix[rows, columns] = upper_T
        matrix[columns, rows] = upper_T
        return matrix

    def roots_of_product(self, factor_DD: Array, cov_DD: Array) -> float:
        factor, cov = (self.put(matrix, np.float64) for matrix in (factor_DD, cov_DD))
        values = self.torch.linalg.eigvalsh(factor.T @ (cov @ factor))
        return float(values.clamp(min=0).sqrt().sum())


@cache
def engine(device: str) -> Engine:
    """numpy for `cpu`, torch for any other device."""
    return Numpy() if device == "cpu" else Torch(device)
