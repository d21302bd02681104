"""KID and CMMD of plain arrays of features, as the tests of their numbers have them."""

import numpy as np

from evaluation.metrics import kernel
from evaluation.metrics.jackknife import Statistic, Swapped
from evaluation.metrics.summary import Summary


def sampled(rows_ND: np.ndarray, groups_N: np.ndarray | None = None) -> Summary:
    """Rows without moments, by default of one group."""
    return Summary({}, rows_ND, np.zeros(len(rows_ND), int) if groups_N is None else groups_N)


def kid(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    return kernel.leave_out_kid(sampled(a_ND), sampled(b_MD))(None)


def leave_out_kid(a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray) -> Statistic:
    return kernel.leave_out_kid(sampled(a_ND, groups_N), sampled(b_MD, groups_M))


def leave_out_cmmd(a_ND: np.ndarray, b_MD: np.ndarray, groups_N: np.ndarray, groups_M: np.ndarray) -> Statistic:
    return kernel.leave_out_cmmd(sampled(a_ND, groups_N), sampled(b_MD, groups_M))


def swapped_kid(a_ND: np.ndarray, b_ND: np.ndarray, real_MD: np.ndarray, groups_N: np.ndarray) -> Swapped:
    return kernel.swapped_kid(sampled(a_ND, groups_N), sampled(b_ND, groups_N), sampled(real_MD))


def swapped_cmmd(a_ND: np.ndarray, b_ND: np.ndarray, real_MD: np.ndarray, groups_N: np.ndarray) -> Swapped:
    return kernel.swapped_cmmd(sampled(a_ND, groups_N), sampled(b_ND, groups_N), sampled(real_MD))
