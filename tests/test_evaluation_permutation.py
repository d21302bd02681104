"""What groups of images add to the difference of two distances: sums, symmetry, identical rows and real differences."""

import numpy as np
import pytest

from evaluation.metrics.frechet import frechet_distance, frechet_of_few, root, swapped_frechet
from evaluation.metrics.jackknife import GROUPS, Swapped, groups
from evaluation.metrics.permutation import FEWEST, contributions, design, flip_test
from evaluation.metrics.summary import Summary
from tests.kernels import kid, leave_out_cmmd, swapped_cmmd, swapped_kid
from tests.test_evaluation_frechet import moments, samples, thinned

COUNT = 300
ALL = range(GROUPS)
NONE = np.zeros(GROUPS, bool)
SOME = np.arange(GROUPS) % 3 == 1


def frechet(a: np.ndarray, b: np.ndarray, real: np.ndarray) -> Swapped:
    return swapped_frechet(*(Summary.of(rows, groups(range(len(rows)))) for rows in (a, b, real)))


def three(count: int, width: int, *shifts: float) -> list[np.ndarray]:
    """Two rows and `real`."""
    return [samples(count, width, seed, shift) for seed, shift in enumerate((*shifts, 0.0))]


def swapped_rows(a: np.ndarray, b: np.ndarray, swap_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    swap = swap_G[groups(range(len(a)))][:, None]
    return np.where(swap, b, a), np.where(swap, a, b)


def p_value(swapped: Swapped) -> float:
    return flip_test(np.array(contributions(swapped, ALL)), np.arange(GROUPS))


def test_the_design_is_a_hadamard_matrix_that_begins_without_a_swap() -> None:
    assert np.array_equal(design() @ design().T, GROUPS * np.eye(GROUPS))
    assert set(design().ravel()) == {-1, 1}
    assert (design()[0] == 1).all()


@pytest.mark.parametrize("swap", [NONE, SOME, ~NONE], ids=["none", "some", "all"])
@pytest.mark.parametrize("count", [40, COUNT], ids=["fewer rows than dimensions", "more"])
def test_swapping_is_measuring_the_swapped_rows(count: int, swap: np.ndarray) -> None:
    a, b, real = three(count, 50, 0.2, 0.3)
    x, y = swapped_rows(a, b, swap)
    assert frechet(a, b, real)(swap) == pytest.approx(frechet_of_few(x, real) - frechet_of_few(y, real), rel=1e-6)


@pytest.mark.parametrize("swap", [NONE, SOME, ~NONE], ids=["none", "some", "all"])
def test_a_reference_that_kept_some_of_its_rows_stands_for_all_of_them(swap: np.ndarray) -> None:
    a, b, real = (
        Summary.of(samples(count, 80, seed, 0.3 * seed), groups(range(count)))
        for seed, count in enumerate((60, 60, 800), 1)
    )
    found, expected = (swapped_frechet(a, b, of)(swap) for of in (thinned(real), real))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("swap", [NONE, SOME, ~NONE], ids=["none", "some", "all"])
def test_kernel_distances_are_swapped_as_the_rows_are(swap: np.ndarray) -> None:
    a, b, real = three(90, 6, 0.2, 0.3)
    x, y = swapped_rows(a, b, swap)
    numbers = groups(range(90))
    assert swapped_kid(a, b, real, numbers)(swap) == pytest.approx(kid(x, real) - kid(y, real), rel=1e-9)
    of_x, of_y = (leave_out_cmmd(rows, real, 0 * numbers, 0 * numbers)(None) for rows in (x, y))
    assert swapped_cmmd(a, b, real, numbers)(swap) == pytest.approx(of_x - of_y, rel=1e-9)


def test_too_few_rows_are_named() -> None:
    with pytest.raises(ValueError, match="two samples of each set, found 1 and 9"):
        swapped_kid(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((9, 2)), np.zeros(1, int))


@pytest.mark.parametrize("measure", [swapped_kid, swapped_cmmd])
def test_to_a_quadratic_distance_a_group_adds_what_its_own_swap_takes_twice(measure) -> None:
    swapped = measure(*three(COUNT, 8, 0.5, 0.3), groups(range(COUNT)))
    alone = [(swapped(NONE) - swapped(np.arange(GROUPS) == group)) / 2 for group in range(GROUPS)]
    assert contributions(swapped, ALL) == pytest.approx(alone, rel=1e-6)
    assert sum(alone) == pytest.approx(swapped(NONE), rel=1e-9)


@pytest.mark.parametrize("count", [40, COUNT], ids=["fewer rows than dimensions", "more"])
def test_contributions_to_a_frechet_distance_add_up_to_the_difference(count: int) -> None:
    swapped = frechet(*three(count, 50, 0.5, 0.3))
    assert sum(contributions(swapped, ALL)) == pytest.approx(swapped(NONE), rel=1e-9)


def test_of_many_images_the_contributions_tell_what_any_swap_gives() -> None:
    swapped = frechet(*three(20_000, 8, 0.3, 0.31))
    found = np.where(SOME, -1, 1) @ contributions(swapped, ALL)
    assert found == pytest.approx(swapped(SOME), abs=1e-3 * abs(swapped(NONE)))


def test_the_other_way_round_the_contributions_turn_their_signs() -> None:
    a, b, real = three(COUNT, 8, 0.1, 0.2)
    assert contributions(frechet(a, b, real), ALL) == pytest.approx(
        [-part for part in contributions(frechet(b, a, real), ALL)]
    )


def test_identical_rows_have_no_difference() -> None:
    a, _, real = three(COUNT, 8, 0.1, 0.2)
    for swapped in (frechet(a, a, real), swapped_kid(a, a, real, groups(range(COUNT)))):
        assert swapped(NONE) == 0
        assert contributions(swapped, ALL) == pytest.approx([0] * GROUPS, abs=1e-12)


def test_no_p_value_is_smaller_than_so_few_groups_can_give() -> None:
    hashed = groups(range(200))
    ids = [image for group in range(FEWEST) for image in np.flatnonzero(hashed == group)[:2]]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        common, *own, real = rng.standard_normal((4, len(ids), 16))
        rows = (common + own[0] + 1.0, common + own[1], real)
        swapped = swapped_frechet(*(Summary.of(one, hashed[ids]) for one in rows))
        parts = contributions(swapped, list(range(FEWEST)))
        # Of 10,000 random flips: three standard errors.
        assert flip_test(np.array(parts), np.arange(FEWEST)) > 2.0 ** (1 - FEWEST) - 0.0053
    assert contributions(swapped, list(range(FEWEST - 1))) == []


def test_a_real_difference_is_found() -> None:
    a, _, real = three(COUNT, 8, 0.0, 0.0)
    for swapped in (frechet(a, a + 0.3, real), swapped_kid(a, a + 0.3, real, groups(range(COUNT)))):
        assert p_value(swapped) < 1e-3


def test_the_root_of_one_side_may_be_given() -> None:
    a, b = moments(samples(200, 12, 1)), moments(samples(200, 12, 2, 0.3))
    assert frechet_distance(*a, *b, root(a[1])) == frechet_distance(*a, *b)
