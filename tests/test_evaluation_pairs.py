"""Sums over pairs of large samples: float32 within its stated bounds, counts exact, on a device as on the CPU, once a row."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from evaluation.layouts import write_layouts
from evaluation.metrics import METRICS, kernel
from evaluation.metrics.__main__ import main
from evaluation.metrics.arrays import engine
from evaluation.metrics.frechet import leave_out_distance, swapped_frechet
from evaluation.metrics.jackknife import GROUPS, groups
from evaluation.metrics.kernel import Rows, centred, mean_error, rounding
from evaluation.metrics.measure import measure
from evaluation.metrics.neighbours import Neighbourhood, neighbourhood, squared_radii
from evaluation.metrics.pairs import SUMS, across, within
from evaluation.metrics.summary import Summaries, Summary
from evaluation.protocol import Protocol
from formats.files import InputError, read_json
from tests.kernels import leave_out_cmmd, leave_out_kid, swapped_kid
from tests.test_evaluation_protocol import summed

TORCH = "cpu:0"  # by torch, as every device but `cpu`
SOME = np.arange(GROUPS) % 3 == 1


@pytest.fixture
def single(monkeypatch) -> None:
    """float32 whatever the size, in several blocks."""
    monkeypatch.setattr(kernel, "FEW", 0)
    monkeypatch.setattr(kernel, "BLOCK", 200)


def features(count: int, width: int, seed: int, row: float = 0.0) -> np.ndarray:
    """About as Inception's: far from zero, of a falling spectrum, a trace of some hundreds at full width."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(np.arange(1, width + 1) ** -0.7)
    return (rng.standard_normal((count, width)) * spread * (1 + row) + 0.4 + row / 4).astype(np.float32)


def summary(rows: np.ndarray, device: str = "cpu") -> Summary:
    return Summary({}, rows, groups(range(len(rows))), device=device)


@pytest.mark.parametrize(("width", "offset"), [(2048, 0.4), (768, 0.0), (64, 50.0)])
def test_a_float32_product_is_off_by_less_than_is_allowed_for(single, width: int, offset: float) -> None:
    features_ND = features(400, width, 1) + np.float32(offset)
    (rows,) = centred("cpu", features_ND)
    exact = features_ND.astype(np.float64) - features_ND.mean(0, dtype=np.float64)
    lengths = np.sqrt(rows.squares_N)
    off = np.abs(rows.rows_ND @ rows.rows_ND.T - exact @ exact.T) / np.outer(lengths, lengths)
    assert rows.rows_ND.dtype == np.float32
    assert off.max() < rounding(width) < 1000 * off.max()


@pytest.mark.parametrize(
    ("name", "measure", "scale", "digits", "width"),
    [("kid", leave_out_kid, 1000, 2, 2048), ("cmmd", leave_out_cmmd, 1, 3, 768)],
)
def test_kernel_distances_of_large_sets_keep_the_digits_that_tables_show(
    monkeypatch, name, measure, scale, digits, width
) -> None:
    a, real = (features(1500, width, seed, row) for seed, row in ((1, 0.02), (2, 0.0)))
    if name == "cmmd":
        a, real = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, real))
    numbers = groups(range(len(a)))
    exact = measure(a, real, numbers, numbers)
    monkeypatch.setattr(kernel, "FEW", 0)
    found = measure(a, real, numbers, numbers)
    # Means over pairs of a, of `real`, and twice of both; CMMD is a thousand of them.
    most = (
        4 * max(mean_error(name, *pair) for pair in ((a, a), (real, real), (a, real))) * (1000 if name == "cmmd" else 1)
    )
    for group in (None, *range(GROUPS)):
        assert 0 < abs(found(group) - exact(group)) < 1.1 * most
    assert most * scale < 0.5 * 10.0**-digits
    metric = METRICS[f"image_{name}"]
    assert (metric.digits, metric.scale) == (digits, scale)


def test_few_rows_are_summed_in_float64() -> None:
    few, many = (features(count, 4, 1) for count in (kernel.FEW, kernel.FEW + 1))
    assert [[rows.dtype for rows in centred("cpu", *sets)] for sets in ((few,), (many, few), (many,))] == [
        [np.float64],
        [np.float64] * 2,
        [np.float32],
    ]


def counted(found: np.ndarray, real: np.ndarray, k: int = 5) -> Neighbourhood:
    """By all distances, of points whose squared distances float64 holds exactly."""
    to_real = cdist(found, real, "sqeuclidean")
    radii_N, radii_M = (np.sort(cdist(rows, rows, "sqeuclidean"), axis=1)[:, k] for rows in (found, real))
    inside, recalled = to_real <= radii_M, to_real <= radii_N[:, None]
    return Neighbourhood(
        inside.any(1).mean(), recalled.any(0).mean(), inside.sum() / (k * len(found)), inside.any(0).mean()
    )


def lattice(count: int, seed: int, sides: int, offset: float) -> np.ndarray:
    """Points of whole coordinates, many of them equally far from one another, or the same."""
    return (np.random.default_rng(seed).integers(0, sides, (count, 6)) + offset).astype(np.float32)


@pytest.mark.parametrize("device", ["cpu", TORCH])
@pytest.mark.parametrize(
    ("sides", "offset"), [(2, 0.0), (4, 1000.0), (50, 7.0)], ids=["equal", "far from zero", "spread"]
)
def test_neighbours_are_counted_exactly_where_many_lie_on_the_edge(single, device, sides: int, offset: float) -> None:
    found, real = lattice(500, 1, sides, offset), lattice(450, 2, sides, offset)
    pairs = across(summary(found, device), summary(real, device), {"neighbourhood"})
    assert pairs["neighbourhood"].tolist() == pytest.approx(list(vars(counted(found, real)).values()), rel=1e-12)
    assert neighbourhood(real, real) == counted(real, real)


def test_of_continuous_features_float32_counts_what_float64_counts(monkeypatch) -> None:
    found, real = features(700, 256, 1, 0.02), features(600, 256, 2)
    expected, radii = neighbourhood(found, real), squared_radii(summary(real))
    monkeypatch.setattr(kernel, "FEW", 0)
    assert neighbourhood(found, real) == expected
    assert np.array_equal(squared_radii(summary(real)), radii)


@pytest.mark.parametrize("name", ["kid", "cmmd"])
def test_a_device_sums_what_the_cpu_sums(single, name: str) -> None:
    a, b = features(500, 32, 1, 0.1), features(450, 32, 2)
    here, there = (
        within(summary(a, device), {name}) | across(summary(a, device), summary(b, device), {name})
        for device in ("cpu", TORCH)
    )
    assert set(here) == {f"{name}_within", f"{name}_across"}
    for key, sums in here.items():
        assert there[key] == pytest.approx(sums, rel=1e-6), key


def test_a_device_finds_the_cpus_frechet_distances() -> None:
    rows = [features(600, 24, seed, row).astype(np.float64) for seed, row in ((1, 0.1), (2, 0.05), (3, 0.0))]
    rows[0][:, :2] = 0  # a singular covariance
    numbers = groups(range(600))
    here, there = (
        [Summary(Summary.of(one, numbers).moments, one, numbers, device=device) for one in rows]
        for device in ("cpu", TORCH)
    )
    for group in (None, 3):
        expected = leave_out_distance(here[0], here[2])(group)
        assert leave_out_distance(there[0], there[2])(group) == pytest.approx(expected, rel=1e-6)
    assert swapped_frechet(*there)(SOME) == pytest.approx(swapped_frechet(*here)(SOME), rel=1e-6)


def test_half_the_products_give_the_whole_ones_eigenvalues() -> None:
    x, y = (features(300, 40, seed).astype(np.float64) for seed in (1, 2))
    factor, cov = np.linalg.cholesky(np.cov(x, rowvar=False)), np.cov(y, rowvar=False)
    expected = np.sqrt(np.linalg.eigvalsh(factor.T @ cov @ factor)).sum()
    for given in (factor, np.asfortranarray(factor)):
        before = given.copy(), cov.copy()
        assert engine("cpu").roots_of_product(given, cov) == pytest.approx(expected, rel=1e-12)
        assert np.array_equal(given, before[0])
        assert np.array_equal(cov, before[1])
    other = np.linalg.svd(factor)[0] * 1.0  # not triangular
    expected = np.sqrt(np.linalg.eigvalsh(other.T @ cov @ other)).sum()
    assert engine("cpu").roots_of_product(other, cov) == pytest.approx(expected, rel=1e-12)


def test_what_is_known_is_what_would_be_summed() -> None:
    a, b, real = (summary(features(300, 16, seed, seed / 20)) for seed in (2, 1, 0))
    wanted = set(SUMS)
    for one in (a, b, real):
        one.known.update(within(one, wanted))
    for one in (a, b):
        one.known.update(across(one, real, wanted))
    plain = [one.sample_SD for one in (a, b, real)]
    expected = swapped_kid(*plain, a.groups_S)(SOME)
    assert METRICS["image_kid"].swapped(a, b, real)(SOME) == pytest.approx(expected, rel=1e-12)
    # A sum that is known is taken as it is.
    a.known["kid_across"] = a.known["kid_across"] + 1e3
    assert METRICS["image_kid"].swapped(a, b, real)(SOME) != pytest.approx(expected, rel=1e-6)
    assert a.known["neighbourhood"].tolist() == list(vars(neighbourhood(plain[0], plain[2])).values())


def test_tilts_and_centred_products_are_the_products() -> None:
    x, y = features(30, 12, 1).astype(np.float64), features(20, 12, 2).astype(np.float64)
    rows, others = (Rows(part, y.mean(0), np.float64, engine("cpu")) for part in (x, y))
    found = rows.rows_ND @ others.rows_ND.T + rows.tilts_N[:, None] + others.tilts_N
    assert found == pytest.approx(x @ y.T, rel=1e-12)


def test_neighbours_of_two_small_clusters_far_apart_are_those_that_float64_finds(single) -> None:
    """Of such rows float32 knows the cluster alone: every candidate is doubtful, and is looked for again."""
    rng = np.random.default_rng(0)
    found, real = (
        (np.where(np.arange(count) % 2, 300.0, -300.0)[:, None] + 0.01 * rng.standard_normal((count, 8))).astype(
            np.float32
        )
        for count in (120, 110)
    )
    exact = np.sort(cdist(real, real, "sqeuclidean"), axis=1)[:, 5]
    assert squared_radii(summary(real)) == pytest.approx(exact, rel=1e-12)
    assert neighbourhood(found, real) == counted(found, real)


def test_sums_with_the_photos_are_used_for_the_summaries_they_are_of_alone(tmp_path, monkeypatch) -> None:
    real, row, other = (
        summed(tmp_path, name, Protocol(), ids=range(1, 13), seed=seed)
        for seed, name in enumerate(("real", "row", "other"))
    )
    words = [
        "--method",
        "row",
        "--split",
        "test",
        "--layouts",
        str(tmp_path / "layouts.jsonl"),
        "--real",
        str(real.path),
    ]
    thing = {"phrase": "star", "box": [0, 0, 1, 0.25], "span": None}
    layouts = [{"id": i, "image_id": i, "caption": "a star", "objects": [thing]} for i in range(1, 13)]
    write_layouts(tmp_path / "layouts.jsonl", layouts)
    words += [
        "--summary",
        str(row.path),
        "--out",
        str(tmp_path / "row.json"),
        "--scores",
        str(tmp_path / "row.parquet"),
    ]
    monkeypatch.setattr("sys.argv", ["metrics", "measure", *words, "--across", str(tmp_path / "across.npz")])
    main()
    known = Summaries(row.path, tmp_path / "across.npz")
    known.check(real)
    assert {"kid_across", "neighbourhood"} <= set(known.summary("frechet", "image").known)
    found, expected = read_json(tmp_path / "row.json"), measure(row, real, layouts)[0]
    assert found["metrics"] == expected["metrics"]
    assert found["distances"] == expected["distances"]
    with pytest.raises(
        InputError, match=r"across\.npz: sums of other summaries than .*row.* and .*other.*; measure the row again"
    ):
        known.check(other)
