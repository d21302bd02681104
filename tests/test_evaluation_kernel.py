"""KID and neighbourhood metrics against closed forms, published formulas, and their own block sizes."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from evaluation.metrics import kernel, summary
from evaluation.metrics.neighbours import neighbourhood
from evaluation.metrics.summary import thinned
from tests.kernels import kid, leave_out_cmmd, leave_out_kid


def sets(n: int = 90, m: int = 70, shift: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 6)), rng.standard_normal((m, 6)) + shift


def test_leaving_a_group_out_is_the_kid_of_the_rest() -> None:
    a, b = sets()
    groups_a, groups_b = np.arange(len(a)) % 5, np.arange(len(b)) % 4
    without = leave_out_kid(a, b, groups_a, groups_b)
    assert without(None) == pytest.approx(kid(a, b), rel=1e-12)
    assert without(3) == pytest.approx(kid(a[groups_a != 3], b[groups_b != 3]), rel=1e-9)
    assert without(4) == pytest.approx(kid(a[groups_a != 4], b), rel=1e-9)


def test_cmmd_is_its_definition() -> None:
    a, b = sets()
    distances = [((x[:, None] - y[None]) ** 2).sum(-1) for x, y in ((a, a), (b, b), (a, b))]
    aa, bb, ab = (np.exp(-squares / 200).mean() for squares in distances)
    none = np.zeros(len(a), int), np.zeros(len(b), int)
    assert leave_out_cmmd(a, b, *none)(None) == pytest.approx(1000 * (aa + bb - 2 * ab), rel=1e-9)
    assert leave_out_cmmd(a, a, none[0], none[0])(None) == pytest.approx(0, abs=1e-9)


def test_kid_is_unbiased() -> None:
    rng = np.random.default_rng(1)
    values = [kid(rng.standard_normal((20, 4)), rng.standard_normal((20, 4))) for _ in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


def test_density_and_coverage_are_their_published_formulas() -> None:
    (found, real), k = sets(), 5
    to_real = cdist(found, real)
    radii = np.sort(cdist(real, real), axis=1)[:, k]  # the nearest is the point itself
    ours = neighbourhood(found, real, k)
    assert ours.density == pytest.approx(
        sum((to_real[:, i] <= radii[i]).sum() for i in range(len(real))) / (k * len(found))
    )
    assert ours.coverage == pytest.approx(np.mean([to_real[:, i].min() <= radii[i] for i in range(len(real))]))


def test_four_points_on_a_line() -> None:
    real, found = np.array([[0.0], [1.0], [2.0], [10.0]]), np.array([[0.5], [20.0], [21.0]])
    ours = neighbourhood(found, real, k=1)
    # Radii of the real points: 1, 1, 1, 8; of the found: 19.5, 1, 1.
    assert (ours.precision, ours.recall) == pytest.approx((1 / 3, 1.0))
    assert ours.density == pytest.approx(2 / 3)
    assert ours.coverage == pytest.approx(2 / 4)


def test_blocks_change_nothing(monkeypatch) -> None:
    a, b = sets()
    whole = kid(a, b), neighbourhood(a, b)
    monkeypatch.setattr(kernel, "BLOCK", 16)
    assert kid(a, b) == pytest.approx(whole[0], rel=1e-12)
    assert neighbourhood(a, b) == whole[1]


def test_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match="two samples of each set, found 1 and 5"):
        kid(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="5 neighbours need more samples than 5"):
        neighbourhood(np.zeros((5, 2)), np.zeros((9, 2)))


def test_thinning_depends_on_the_image_alone(monkeypatch) -> None:
    ids = np.arange(100)
    assert np.array_equal(thinned(ids), ids)
    monkeypatch.setattr(summary, "MOST", 10)
    kept = thinned(ids)
    assert len(kept) == 10
    regions = np.repeat(ids, 3)
    assert set(np.bincount(regions[thinned(regions)])) == {0, 3}  # an image's regions stay together
    assert 7 < len(thinned(regions)) <= 10
    assert set(ids[::-1][thinned(ids[::-1])]) == set(kept)
