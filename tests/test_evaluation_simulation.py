"""What the standard errors and p-values promise, by simulation: worlds whose truth is known, drawn again and again."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from evaluation.metrics.frechet import leave_out_distance, swapped_frechet
from evaluation.metrics.jackknife import GROUPS, Estimate, Statistic, groups, jackknife, leave_out_mean
from evaluation.metrics.permutation import contributions
from evaluation.metrics.summary import Summary
from evaluation.significance import LEVEL_OF_TEST, MeasuredRow, difference
from tests.kernels import leave_out_kid, swapped_kid

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


def frechet(found: np.ndarray, real: np.ndarray) -> Statistic:
    numbers = groups(range(len(found)))
    return leave_out_distance(Summary.of(found, numbers), Summary.of(real, numbers))


def unbiased_kernel(found: np.ndarray, real: np.ndarray) -> Statistic:
    numbers = groups(range(len(found)))
    return leave_out_kid(found, real, numbers, numbers)


def regions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of mean SHIFT of one to five regions an image, those of an image alike, and the images they belong to."""
    images = np.repeat(np.arange(IMAGES), rng.integers(1, 6, IMAGES))
    return SHIFT + rng.standard_normal(IMAGES)[images] + 0.5 * rng.standard_normal(len(images)), images


def mean_of(scores: np.ndarray, images: np.ndarray) -> Estimate:
    return jackknife(leave_out_mean(scores, NUMBERS[images]), NUMBERS[images])


def test_intervals_of_a_frechet_distance_cover_the_truth() -> None:
    truth = WIDTH * (SHIFT**2 + (1.2 - 1) ** 2)
    found = share(lambda rng: covered(truth, jackknife(frechet(1.2 * normal(rng) + SHIFT, normal(rng)), NUMBERS)))
    print(f"coverage, Frechet distance: {found:.3f}")
    assert 0.92 <= found <= 0.98


def kernel_distance(shift: float) -> float:
    """KID of a standard normal and itself moved by a shift, from many independent pairs."""
    many = np.random.default_rng(99).standard_normal((3, 400_000, WIDTH))
    cube = lambda a, b: ((a * b).sum(1) / WIDTH + 1) ** 3  # noqa: E731
    parts = cube(many[0] + shift, many[1] + shift) + cube(many[0], many[1]) - 2 * cube(many[0] + shift, many[1])
    return float(parts.mean())


def test_intervals_of_a_kernel_distance_cover_the_truth() -> None:
    truth = kernel_distance(SHIFT)
    found = share(lambda rng: covered(truth, jackknife(unbiased_kernel(normal(rng) + SHIFT, normal(rng)), NUMBERS)))
    print(f"coverage, KID: {found:.3f}")
    assert 0.92 <= found <= 0.98


def test_intervals_of_a_mean_over_regions_cover_the_truth() -> None:
    def once(rng: np.random.Generator) -> bool:
        scores, images = regions(rng)
        return covered(SHIFT, mean_of(scores, images))

    found = share(once)
    print(f"coverage, mean over regions: {found:.3f}")
    assert 0.92 <= found <= 0.98


def row(method: str, metric: str, estimate: Estimate, scores: np.ndarray, images: np.ndarray) -> MeasuredRow:
    metrics = {metric: asdict(estimate)}
    return MeasuredRow(method, metrics, {"image": scores, "region": scores}, {"image": images, "region": images})


def pair(rng: np.random.Generator, images: int, width: int, shifts: Sequence[float]) -> list[np.ndarray]:
    """Two methods whose images have half of their variance in common, moved by their shifts, and `real`."""
    common, *own = (normal(rng, images, width) for _ in range(3))
    moved = [np.sqrt(0.5) * (common + one) + shift for one, shift in zip(own, shifts, strict=True)]
    return [*moved, normal(rng, images, width)]


def paired(measure: Callable[..., Statistic], a: np.ndarray, b: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """What evaluation.significance finds of a distance."""
    numbers = groups(range(len(a)))
    summaries = [Summary.of(rows, numbers) for rows in (a, b, real)]
    swapped = swapped_frechet(*summaries) if measure is frechet else swapped_kid(a, b, real, numbers)
    none = np.zeros(0)
    rows = (
        row(name, "image_fid", jackknife(measure(of, real), numbers), none, none) for name, of in (("a", a), ("b", b))
    )
    return difference("image_fid", *rows, contributions(swapped, np.unique(numbers).tolist()))


@pytest.mark.parametrize(
    ("measure", "images", "width", "shift"),
    [
        (frechet, IMAGES, WIDTH, SHIFT),
        (frechet, IMAGES, WIDTH, 0.0),
        (frechet, 60, 64, SHIFT),
        (frechet, 60, 64, 0.0),
        (unbiased_kernel, 100, WIDTH, SHIFT),
        (unbiased_kernel, 100, WIDTH, 0.0),
    ],
)
def test_alike_rows_differ_in_distance_one_time_in_twenty(measure, images: int, width: int, shift: float) -> None:
    once = lambda rng: paired(measure, *pair(rng, images, width, (shift, shift)))["p"] < LEVEL_OF_TEST  # noqa: E731
    found = share(once)
    print(f"false positives, {measure.__name__} of {images} x {width} at {shift}: {found:.3f}")
    assert abs(found - LEVEL_OF_TEST) <= MONTE_CARLO


@pytest.mark.parametrize("shifts", [(0.4, SHIFT), (SHIFT, 0.0)], ids=["both far", "one as good as real"])
@pytest.mark.parametrize(
    ("measure", "images", "distance"),
    [(frechet, IMAGES, lambda shift: WIDTH * shift**2), (unbiased_kernel, 100, kernel_distance)],
    ids=["frechet", "kid"],
)
def test_intervals_of_a_difference_of_distances_cover_the_truth(
    measure, images: int, distance: Callable[[float], float], shifts: tuple[float, float]
) -> None:
    truth = distance(shifts[0]) - distance(shifts[1])

    def once(rng: np.random.Generator) -> bool:
        found = paired(measure, *pair(rng, images, WIDTH, shifts))
        return abs(found["difference"] - truth) <= stats.t.ppf(0.975, GROUPS - 1) * found["se"]

    found = share(once)
    print(f"coverage, difference of {measure.__name__} at {shifts}: {found:.3f}")
    assert 0.92 <= found <= 0.98


def test_rows_of_equal_distance_are_told_apart_by_what_else_differs_and_the_debiased_difference_says_so() -> None:
    """One row off in mean and one in spread, each at a true distance of 8: what is tested is whether they are alike."""
    found = []

    def once(rng: np.random.Generator) -> bool:
        found.append(paired(frechet, 1.5 * normal(rng, 400, 32), normal(rng, 400, 32) + 0.5, normal(rng, 400, 32)))
        return found[-1]["p"] < LEVEL_OF_TEST

    told_apart = share(once)
    plain, debiased, se = (np.array([one[key] for one in found]) for key in ("difference", "debiased", "se"))
    error = debiased.std() / np.sqrt(RUNS)
    covers = np.mean(abs(debiased) <= stats.t.ppf(0.975, GROUPS - 1) * se)
    print(
        f"equal distances, other distributions: told apart {told_apart:.3f}; difference {plain.mean():.3f}, debiased "
        f"{debiased.mean():.3f} +- {error:.3f}, above 0 in {np.mean(debiased > 0):.3f}, its interval holds 0 in {covers:.3f}"
    )
    assert told_apart > 0.3
    assert plain.mean() > 10 * error
    assert abs(debiased.mean()) < 0.2 * plain.mean()
    assert 0.4 < np.mean(debiased > 0) < 0.6
    assert 0.92 <= covers <= 0.98


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
