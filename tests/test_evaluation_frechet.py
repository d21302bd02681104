"""The Frechet step against closed forms and scipy's square root; runs on numpy and scipy alone (`make test-next`)."""

import numpy as np
import pytest
from scipy import linalg

from evaluation.metrics.frechet import (
    bias_is_removable,
    floor,
    frechet_distance,
    frechet_of_few,
    leave_out_distance,
)
from evaluation.metrics.jackknife import GROUPS, groups, jackknife
from evaluation.metrics.summary import Moments, Summary


def samples(count: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((width, width)) / np.sqrt(width)
    return rng.standard_normal((count, width)) @ mixing + shift


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.cov(x, rowvar=False)


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    (mean_x, cov_x), (mean_y, cov_y) = moments(x), moments(y)
    root = np.real(linalg.sqrtm(cov_x @ cov_y))
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root))


def test_diagonal_gaussians_have_a_closed_form() -> None:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    expected = 3 * 0.5**2 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(np.zeros(3), np.diag(a), np.full(3, 0.5), np.diag(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("width", [3, 32, 200])
def test_it_is_scipys(width: int) -> None:
    x, y = samples(500, width, 1), samples(400, width, 2, 0.3)
    assert frechet_distance(*moments(x), *moments(y)) == pytest.approx(textbook(x, y), rel=1e-9)


def test_singular_covariances_have_a_distance() -> None:
    x, y = samples(300, 20, 1), samples(300, 20, 2, 0.5)
    x[:, :5] = 0
    y[:, 3:9] = 0
    assert frechet_distance(*moments(x), *moments(y)) == pytest.approx(frechet_of_few(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(12, 15), (12, 400), (400, 12)])
def test_with_fewer_samples_than_dimensions_the_exact_route_agrees(n: int, m: int) -> None:
    x, y = samples(n, 64, 1), samples(m, 64, 2, 0.3)
    assert frechet_of_few(x, y) == pytest.approx(frechet_distance(*moments(x), *moments(y)), abs=1e-5)
    assert frechet_of_few(x, x) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("count", [40, 300])
def test_a_set_has_distance_zero_to_itself(count: int) -> None:
    x = samples(count, 64, 1, 5.0)
    numbers = groups(range(count))
    distance = leave_out_distance(Summary.of(x, numbers), Summary.of(x, numbers))
    assert abs(distance(None)) < 1e-9
    assert abs(distance(3)) < 1e-9


@pytest.mark.parametrize("count", [60, 400])
def test_leaving_a_group_out_is_the_distance_of_the_rest(count: int) -> None:
    x, y = samples(count, 50, 1, 100.0).astype(np.float32), samples(count, 50, 2, 100.3).astype(np.float32)
    numbers = groups(range(count))
    found = leave_out_distance(Summary.of(x, numbers), Summary.of(y, numbers))(4)
    kept = numbers != 4
    assert found == pytest.approx(textbook(x[kept].astype(float), y[kept].astype(float)), rel=1e-4)


def thinned(whole: Summary) -> Summary:
    """As `summarize` gives a set of more rows than it keeps: all moments, every other row."""
    return Summary(whole.moments, whole.sample_SD[::2], whole.groups_S[::2])


@pytest.mark.parametrize("count", [60, 82], ids=["fewer rows than dimensions", "fewer without a group"])
def test_a_reference_that_kept_some_of_its_rows_stands_for_all_of_them(count: int) -> None:
    a, real = (Summary.of(samples(n, 80, seed, 0.3 * seed), groups(range(n))) for seed, n in enumerate((count, 800), 1))
    few, expected = leave_out_distance(a, thinned(real)), leave_out_distance(a, real)
    for group in (None, *a.moments):
        assert few(group) == pytest.approx(expected(group), rel=1e-6)


def test_moments_of_parts_add_up() -> None:
    x = samples(100, 8, 1, 3.0)
    rest = Moments.of(x) - Moments.of(x[:30])
    for found, expected in zip(rest.mean_and_covariance(), moments(x[30:]), strict=True):
        assert np.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("cuts", [[30], [1, 2, 3], list(range(1, 100))])
def test_moments_of_shards_are_those_of_the_whole_far_from_zero_too(cuts: list[int]) -> None:
    x = samples(100, 8, 1, 1e6)
    parts = [Moments.of(part) for part in np.split(x, cuts)]
    mean, covariance = sum(parts[1:], parts[0]).mean_and_covariance()
    assert np.allclose(mean, x.mean(0), rtol=1e-12)
    # A float64 holds 1e6 to 1e-10: the covariance, of size one, can be no better than that.
    assert np.allclose(covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-9)


def test_the_floor_is_what_simulation_finds() -> None:
    spectrum = np.arange(1, 65) ** -1.0
    draws = [np.random.default_rng(i).standard_normal((2, 800, 64)) * np.sqrt(spectrum) for i in range(12)]
    simulated = np.mean([frechet_distance(*moments(a), *moments(b)) for a, b in draws])
    assert floor(np.diag(spectrum), 800, 800) == pytest.approx(simulated, rel=0.05)


def test_groups_are_a_hash_of_the_image_id() -> None:
    numbers = groups(range(4000))
    assert set(numbers) == set(range(GROUPS))
    assert np.bincount(numbers).min() > 120
    assert groups([7, 7, 8]).tolist() == [groups([7])[0], groups([7])[0], groups([8])[0]]


def test_the_jackknife_of_a_mean_over_equal_groups_is_its_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal(20)
    numbers = np.arange(20)
    estimate = jackknife(lambda g: float(values[numbers != g].mean()), numbers)
    assert estimate.se == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    assert estimate.debiased == pytest.approx(estimate.value)


def test_the_jackknife_removes_most_of_the_distances_bias() -> None:
    truth, plain, debiased = 64 * 0.2**2, [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((1000, 64)), rng.standard_normal((1000, 64)) + 0.2
        numbers = groups(range(1000))
        estimate = jackknife(leave_out_distance(Summary.of(x, numbers), Summary.of(y, numbers)), numbers)
        plain.append(estimate.value)
        debiased.append(estimate.debiased)
    assert np.mean(plain) - truth > 1.0
    assert abs(np.mean(debiased) - truth) < 0.25 * (np.mean(plain) - truth)


@pytest.mark.parametrize(
    ("count", "width", "removable"), [(120, 24, True), (24, 24, False), (25, 24, False), (20, 64, False)]
)
def test_bias_is_removed_only_where_there_are_more_rows_than_dimensions(count, width: int, removable: bool) -> None:
    few, many = (Summary.of(samples(n, width, seed), groups(range(n))) for seed, n in enumerate((count, 400), 1))
    assert bias_is_removable(few, many) is bias_is_removable(many, few) is removable


def test_of_fewer_rows_than_dimensions_the_jackknife_leaves_most_of_the_bias() -> None:
    numbers = groups(range(32))
    draws = [np.random.default_rng(seed).standard_normal((2, 32, 64)) for seed in range(8)]
    pairs = [[Summary.of(rows, numbers) for rows in draw] for draw in draws]
    debiased = [jackknife(leave_out_distance(*pair), numbers).debiased for pair in pairs]
    assert np.mean(debiased) == pytest.approx(24, abs=2)  # the truth is 0


def test_one_group_has_no_standard_error() -> None:
    estimate = jackknife(lambda g: 1.0, np.zeros(5, int))
    assert (estimate.value, estimate.se, estimate.left_out) == (1.0, None, [])


def test_a_shifted_set_is_the_squared_shift_away() -> None:
    x = samples(300, 20, 1)
    assert frechet_distance(*moments(x), *moments(x + 0.5)) == pytest.approx(20 * 0.5**2, rel=1e-9)
    assert frechet_of_few(x[:12], x[:12] + 0.5) == pytest.approx(20 * 0.5**2, rel=1e-9)


def test_features_that_are_dead_on_both_sides_add_nothing() -> None:
    """At this width scipy 1.18's square root of the product was NaN."""
    x, y = samples(800, 384, 1), samples(800, 384, 2, 0.1)
    alive = np.arange(384) % 40 != 0
    x[:, ~alive] = y[:, ~alive] = 0
    found = frechet_distance(*moments(x), *moments(y))
    assert found == pytest.approx(frechet_distance(*moments(x[:, alive]), *moments(y[:, alive])), rel=1e-6)
    assert found == pytest.approx(frechet_of_few(x, y), rel=1e-6)


def test_no_square_root_of_scipy_is_called(monkeypatch) -> None:
    """Its `disp` went with scipy 1.18, and with it every Frechet distance that was written with it."""
    monkeypatch.setattr(linalg, "sqrtm", None)
    x, y = Summary.of(samples(300, 20, 1), groups(range(300))), Summary.of(samples(12, 20, 2), groups(range(12)))
    assert jackknife(leave_out_distance(x, x), groups(range(300))).value == pytest.approx(0, abs=1e-9)
    assert jackknife(leave_out_distance(x, y), groups(range(12))).se > 0
