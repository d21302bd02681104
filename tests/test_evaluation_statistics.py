"""What the standard errors and p-values promise, by simulation: worlds whose truth is known, drawn again and again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evaluation.compare import LEVEL_OF_TEST, Row, difference
from evaluation.jackknife import GROUPS, Estimate, Statistic, groups, jackknife, leave_out_mean
from evaluation.kernel import leave_out_kid
from evaluation.metrics import jackknifed
from evaluation.statistics import Summary, leave_out_distance

pytestmark = pytest.mark.slow

RUNS = 1000
IMAGES, WIDTH = 400, 16
SHIFT = 0.3
NUMBERS = groups(range(IMAGES))
# Two sided, at 99 %: how far the share of RUNS tests that err may lie from the level.
MONTE_CARLO = 2.58 * np.sqrt(LEVEL_OF_TEST * (1 - LEVEL_OF_TEST) / RUNS)


def covered(truth: float, estimate: Estimate) -> bool:
    """Is the truth in the 95 % interval around the debiased value?"""
    assert estimate.debiased is not None and estimate.se is not None
    return abs(estimate.debiased - truth) <= stats.t.ppf(0.975, len(estimate.left_out) - 1) * estimate.se


def share(once: Callable[[np.random.Generator], bool]) -> float:
    return float(np.mean([once(np.random.default_rng(seed)) for seed in range(RUNS)]))


def normal(rng: np.random.Generator, count: int = IMAGES, width: int = WIDTH) -> np.ndarray:
    return rng.standard_normal((count, width))


def frechet(found: np.ndarray, real: np.ndarray) -> tuple[Statistic, Summary]:
    numbers = groups(range(len(found)))
    a, b = Summary.of(found, numbers), Summary.of(real, numbers)
    return leave_out_distance(a, b), a


def unbiased_kernel(found: np.ndarray, real: np.ndarray) -> tuple[Statistic, Summary]:
    numbers = groups(range(len(found)))
    return leave_out_kid(found, real, numbers, numbers), Summary.of(found, numbers)


def estimated(measured: tuple[Statistic, Summary]) -> Estimate:
    return jackknife(measured[0], np.array(list(measured[1].moments)))


def regions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of mean SHIFT of one to five regions an image, those of an image alike, and the images they belong to."""
    images = np.repeat(np.arange(IMAGES), rng.integers(1, 6, IMAGES))
    return SHIFT + rng.standard_normal(IMAGES)[images] + 0.5 * rng.standard_normal(len(images)), images


def mean_of(scores: np.ndarray, images: np.ndarray) -> Estimate:
    return jackknife(leave_out_mean(scores, NUMBERS[images]), NUMBERS[images])


def test_intervals_of_a_frechet_distance_cover_the_truth() -> None:
    truth = WIDTH * (SHIFT**2 + (1.2 - 1) ** 2)
    found = share(lambda rng: covered(truth, estimated(frechet(1.2 * normal(rng) + SHIFT, normal(rng)))))
    print(f"coverage, Frechet distance: {found:.3f}")
    assert 0.92 <= found <= 0.98


def test_intervals_of_a_kernel_distance_cover_the_truth() -> None:
    many = np.random.default_rng(99).standard_normal((3, 400_000, WIDTH))
    cube = lambda a, b: ((a * b).sum(1) / WIDTH + 1) ** 3  # noqa: E731
    truth = (
        cube(many[0] + SHIFT, many[1] + SHIFT) + cube(many[0], many[1]) - 2 * cube(many[0] + SHIFT, many[1])
    ).mean()
    found = share(lambda rng: covered(truth, estimated(unbiased_kernel(normal(rng) + SHIFT, normal(rng)))))
    print(f"coverage, KID: {found:.3f}")
    assert 0.92 <= found <= 0.98


def test_intervals_of_a_mean_over_regions_cover_the_truth() -> None:
    def once(rng: np.random.Generator) -> bool:
        scores, images = regions(rng)
        return covered(SHIFT, mean_of(scores, images))

    found = share(once)
    print(f"coverage, mean over regions: {found:.3f}")
    assert 0.92 <= found <= 0.98


def row(method: str, metric: str, found: dict[str, Any], scores: np.ndarray, images: np.ndarray) -> Row:
    metrics = {metric: found}
    return Row(method, metrics, {"image": scores, "region": scores}, {"image": images, "region": images})


def paired_distance_errs(
    rng: np.random.Generator, measure: Callable[..., tuple[Statistic, Summary]], images: int, width: int, shift: float
) -> bool:
    """Two methods of one law, whose images have half of their variance in common."""
    real, common = normal(rng, images, width), normal(rng, images, width)
    rows = []
    for name in "ab":
        statistic, a = measure(np.sqrt(0.5) * (common + normal(rng, images, width)) + shift, real)
        found = jackknifed(statistic, a, np.array(list(a.moments)))
        rows.append(row(name, "image_fid", found, np.zeros(0), np.zeros(0)))
    return difference("image_fid", *rows)["p"] < LEVEL_OF_TEST


@pytest.mark.parametrize(
    ("measure", "images", "width", "shift"),
    [
        (frechet, IMAGES, WIDTH, SHIFT),
        (frechet, IMAGES, WIDTH, 0.0),
        (frechet, 60, 64, SHIFT),
        (unbiased_kernel, 100, WIDTH, SHIFT),
    ],
    ids=["frechet", "frechet, as good as real", "frechet of few", "kid"],
)
def test_alike_rows_differ_in_distance_one_time_in_twenty(measure, images: int, width: int, shift: float) -> None:
    found = share(lambda rng: paired_distance_errs(rng, measure, images, width, shift))
    print(f"false positives, {measure.__name__} of {images} x {width} at {shift}: {found:.3f}")
    assert abs(found - LEVEL_OF_TEST) <= MONTE_CARLO


def test_alike_rows_differ_in_clip_score_one_time_in_twenty() -> None:
    def once(rng: np.random.Generator) -> bool:
        scores, images = regions(rng)
        gap = rng.standard_normal(IMAGES)[images] + 0.5 * rng.standard_normal(len(images))
        a, b = (
            row(
                name, "region_clip", jackknife(leave_out_mean(values, NUMBERS[images]), NUMBERS[images]), values, images
            )
            for name, values in (("a", scores + gap), ("b", scores))
        )
        return difference("region_clip", a, b)["p"] < LEVEL_OF_TEST

    found = share(once)
    print(f"false positives, mean over regions: {found:.3f}")
    assert abs(found - LEVEL_OF_TEST) <= MONTE_CARLO


def test_groups_are_as_many_as_the_tests_above_assume() -> None:
    assert len(set(NUMBERS)) == GROUPS
