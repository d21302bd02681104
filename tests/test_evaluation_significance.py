"""Paired comparisons of rows: closed forms, the size of the tests, and what cannot be compared."""

import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics import METRICS
from evaluation.metrics.frechet import leave_out_distance, swapped_frechet
from evaluation.metrics.jackknife import GROUPS, Estimate, groups, jackknife, standard_error
from evaluation.metrics.permutation import contributions, flip_test
from evaluation.metrics.summary import Summary
from evaluation.scores import UNIT
from evaluation.significance import MeasuredRow, Swaps, compare, difference, holm, read_row, read_swaps
from evaluation.tables.__main__ import main
from evaluation.tables.significance import DEBIASED, WHAT_IS_TESTED, significance_table
from evaluation.tables.table import markdown, read_table
from formats import cli
from formats.files import InputError, write_json
from tests.tables import grid

ZERO = {"value": 0.0, "left_out": [0.0] * 4}


def row_of(method: str, image: np.ndarray, ids=None, fid=ZERO) -> MeasuredRow:
    ids = np.arange(len(image)) if ids is None else ids
    clip = {"value": float(image.mean()), "left_out": [float(np.delete(image, i).mean()) for i in range(4)]}
    metrics = {
        f"{level}_{kind}": value for level in ("image", "region") for kind, value in (("fid", fid), ("clip", clip))
    }
    units = pd.MultiIndex.from_arrays([ids, np.arange(len(ids)), np.full(len(ids), -1)], names=UNIT)
    scores = {f"{level}_clip": pd.Series(image, index=units) for level in ("image", "region")}
    return MeasuredRow(method, metrics, {"image": ids, "region": ids}, scores)


def swaps_of(rows: dict[str, MeasuredRow], spread: float = 0.0) -> Swaps:
    """Of every two rows: twenty groups that add the same to a distance's difference, but for a spread about it."""
    parts = lambda gap: list(gap / 20 + spread * np.tile([1.0, -1.0], 10))  # noqa: E731
    return {
        frozenset(pair): {
            metric: parts(a["value"] - b["value"])
            for metric in (metric.name for metric in METRICS.values() if metric.swapped)
            if (a := one.get(metric)) and (b := other.get(metric))
        }
        for pair in combinations(rows, 2)
        for one, other in [[rows[name].metrics for name in pair]]
    }


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    nan, small = holm([float("nan"), 0.01])
    assert np.isnan(nan)
    assert small == 0.01
    assert holm([]) == []


def test_flips_of_few_images_give_the_exact_p_value() -> None:
    assert flip_test(np.ones(4), np.arange(4)) == pytest.approx(2 / 16, abs=0.015)
    assert flip_test(np.zeros(5), np.arange(5)) == 1
    assert flip_test(np.full(40, 0.01), np.arange(40)) == 1 / 10_001


def test_the_regions_of_an_image_flip_together() -> None:
    values, images = np.array([1.0, 1.0, 1.0, 1.0]), np.array([7, 7, 9, 9])
    assert flip_test(values, images) == pytest.approx(2 / 4, abs=0.02)
    shuffled = np.array([2, 0, 3, 1])
    assert flip_test(values[shuffled], images[shuffled]) == flip_test(values, images)


def test_without_a_difference_one_test_in_twenty_errs() -> None:
    rng = np.random.default_rng(1)
    p_values = [flip_test(rng.standard_normal(30) ** 3, np.arange(30), seed) for seed in range(200)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09


def test_the_error_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(0).standard_normal(20)
    left_out = np.array([np.delete(values, i).mean() for i in range(20)])
    assert standard_error(left_out) == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    assert np.isnan(standard_error(np.array([1.0])))


def test_pairing_sees_a_small_shift_under_a_large_spread() -> None:
    rng = np.random.default_rng(0)
    spread = 10 * rng.standard_normal(4)
    worse, better = (
        row_of(
            name, np.zeros(8), fid={"value": 5.0 + gap, "left_out": list(spread + gap + 0.01 * rng.standard_normal(4))}
        )
        for name, gap in (("worse", 1.0), ("better", 0.0))
    )
    found = difference("image_fid", worse, better)
    assert found["difference"] == 1
    assert found["se"] < 0.1
    assert found["p"] < 0.01
    same = difference("image_fid", worse, worse)
    assert (same["difference"], same["p"]) == (0, 1)


def test_a_distance_is_tested_by_swaps_and_never_without() -> None:
    rows = {name: row_of(name, np.zeros(8), fid=ZERO | {"value": value}) for name, value in (("a", 8.0), ("b", 0.0))}
    table = compare(rows, ["b"], swaps_of(rows)).set_index("metric")
    assert table.loc["image_fid", ["difference", "p"]].tolist() == [8, 1 / 10_001]
    alike = {frozenset("ab"): {"image_fid": [1e-17] * 20, "region_fid": [1e-17] * 20}}
    same = compare(rows | {"b": row_of("b", np.zeros(8), fid=rows["a"].metrics["image_fid"])}, ["b"], alike)
    assert (same["p"] == 1).all()
    noisy = compare(rows, ["b"], swaps_of(rows, spread=8.0)).set_index("metric")
    assert noisy.loc["image_fid", "different"] == "no"
    with pytest.raises(InputError, match="a and b: no swaps of image_fid; measure them and give --swaps"):
        compare(rows, ["b"], {})


def test_rows_of_other_images_are_refused() -> None:
    a, b = row_of("a", np.zeros(4)), row_of("b", np.zeros(4), ids=np.array([0, 1, 2, 5]))
    with pytest.raises(InputError, match="a and b: images of other images"):
        difference("image_clip", a, b)


def test_the_table_has_every_row_and_marks_what_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(3)
    base = rng.standard_normal(60)
    rows = {
        row.method: row
        for row in (
            row_of("ours", base),
            row_of("alike", base + 0.01 * rng.standard_normal(60)),
            row_of("worse", base - 1),
        )
    }
    table = compare(rows, ["ours"], swaps_of(rows))
    assert set(table["method"]) == {"alike", "worse"}
    clip = table[table["metric"] == "image_clip"].set_index("method")
    assert clip["different"].to_dict() == {"alike": "no", "worse": "yes"}
    assert clip.loc["worse", "difference"] == pytest.approx(-1)
    assert (table["p_holm"] >= table["p"]).all()
    text = grid(markdown(significance_table(rows, ["ours"], swaps_of(rows))))
    assert "Row minus ours:" in text
    assert "| alike | image_clip |" in text
    assert text.count("not distinguishable") == (table["different"] == "no").sum()
    both = compare(rows, ["ours", "worse"], swaps_of(rows)).set_index(["metric", "method", "against"])
    there, back = (both.loc["image_clip"].loc[pair] for pair in (("worse", "ours"), ("ours", "worse")))
    assert there[["se", "p", "p_holm", "different"]].equals(back[["se", "p", "p_holm", "different"]])
    assert there["difference"] == -back["difference"]
    for note in (WHAT_IS_TESTED, DEBIASED):
        assert f"- {note}\n" in text


def distance(value: float, debiased: float | None) -> dict:
    return {"value": value, "debiased": debiased, "left_out": [value + gap for gap in (-0.1, 0.1, 0.2, -0.2)]}


@pytest.mark.parametrize(
    ("debiased", "cell", "opposite"),
    [
        ((2.5, 2.0), "+1.0000 ± 0.0000 | +0.5000 |", "no"),
        ((2.0, 2.5), "+1.0000 ± 0.0000 | -0.5000‡ |", "yes"),
        ((2.0, 2.0), "+1.0000 ± 0.0000 | +0.0000 |", "no"),
        ((None, 2.0), "+1.0000 ± 0.0000 | - |", ""),
    ],
    ids=["same sign", "other sign", "none left", "too few images"],
)
def test_the_debiased_difference_stands_beside_the_tested_one(debiased, cell: str, opposite: str) -> None:
    rows = {
        name: row_of(name, np.zeros(8), fid=distance(*pair))
        for name, pair in (("a", (4.0, debiased[0])), ("b", (3.0, debiased[1])))
    }
    table = compare(rows, ["a", "b"], swaps_of(rows)).set_index(["metric", "method"])
    there, back = (table.loc[("image_fid", name)] for name in "ab")
    assert there["opposite"] == back["opposite"] == opposite
    assert there["debiased"] == -back["debiased"] or not opposite
    assert table.loc[("image_clip", "a"), ["debiased", "opposite"]].isna().tolist() == [True, False]
    lines = grid(markdown(significance_table(rows, ["a", "b"], swaps_of(rows)))).splitlines()
    assert any(line.startswith(f"| a | image_fid | {cell}") for line in lines)
    assert any(line.startswith("| a | image_clip | +0.0000 ± 0.0000 | - | 1.0000 |") for line in lines)


def two_rows(seed: int, images: int, width: int, shift: float, scale: float) -> tuple[Estimate, Estimate, list[float]]:
    """Frechet distances of a row off in mean and of one off in spread, and what groups add to the second's less the first's."""
    common, real = np.random.default_rng(seed).standard_normal((2, images, width))
    common -= common.mean(0)
    numbers = groups(range(images))
    moved, spread, target = (Summary.of(rows, numbers) for rows in (common + shift, scale * common, real))
    parts = contributions(swapped_frechet(spread, moved, target), range(GROUPS))
    return (*(jackknife(leave_out_distance(row, target), numbers) for row in (moved, spread)), parts)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_bias_can_turn_the_sign_of_a_difference_and_that_is_marked(seed: int) -> None:
    """True distances of 32 and 30.1; the nearer row's larger spread takes its distance of 200 images above the other's."""
    moved, spread, parts = two_rows(seed, 200, 32, shift=1.0, scale=1.97)
    truth = 32 * (0.97**2 - 1.0**2)
    a, b = (row_of(name, np.zeros(4), fid=vars(estimate)) for name, estimate in (("moved", moved), ("spread", spread)))
    found = difference("image_fid", b, a, parts)
    assert found["difference"] > 0 > found["debiased"]
    assert abs(found["debiased"] - truth) < 3 * found["se"]
    swaps: Swaps = {frozenset(("moved", "spread")): {"image_fid": parts, "region_fid": parts}}
    table = compare({"moved": a, "spread": b}, ["moved"], swaps).set_index("metric")
    assert table.loc["image_fid", "opposite"] == "yes"


def test_the_error_of_a_debiased_difference_is_that_of_the_difference() -> None:
    """By the jackknife's pseudo-values, whose mean is the debiased value."""
    moved, spread, parts = two_rows(3, 200, 8, shift=0.3, scale=1.2)
    a, b = (row_of(name, np.zeros(4), fid=vars(one)) for name, one in (("a", moved), ("b", spread)))
    found = difference("image_fid", b, a, parts)
    gaps = np.subtract(spread.left_out, moved.left_out)
    pseudo = GROUPS * found["difference"] - (GROUPS - 1) * gaps
    assert found["debiased"] == pytest.approx(pseudo.mean(), rel=1e-9)
    assert found["se"] == pytest.approx(pseudo.std(ddof=1) / np.sqrt(GROUPS), rel=1e-9)


def test_what_could_not_be_tested_is_not_called_alike() -> None:
    few = {"value": 8.0, "left_out": []}
    rows = {name: row_of(name, np.zeros(8), fid=few | {"value": value}) for name, value in (("a", 8.0), ("b", 0.0))}
    untested: Swaps = {frozenset("ab"): {"image_fid": [], "region_fid": []}}
    table = compare(rows, ["b"], untested).set_index("metric")
    assert table.loc["image_fid", "different"] == "untested"
    assert table.loc["image_clip", "different"] == "no"
    text = grid(markdown(significance_table(rows, ["b"], untested)))
    assert "| a | image_fid | +8.0000 | - | - | - | not tested |" in text
    assert "nan" not in text


def test_the_program_reads_rows_and_refuses_an_unknown_one(tmp_path, monkeypatch, capsys) -> None:
    arguments = ["--out", str(tmp_path / "significance"), "--against", "b"]
    for name in ("a", "b"):
        content = row_of(name, np.zeros(6))
        write_json(tmp_path / f"{name}.json", {"method": name, "metrics": content.metrics})
        objects = [-1] * 6 + [0] * 6
        ids = [*range(6), *range(6)]
        table = pd.DataFrame({"id": ids, "object": objects, "image_id": ids, "clip": [1.0] * 12})
        table.to_parquet(tmp_path / f"{name}.parquet")
        arguments += ["--row", str(tmp_path / f"{name}.json"), str(tmp_path / f"{name}.parquet")]
    found = {"image_fid": [0.0] * 20, "region_fid": [0.0] * 20}
    write_json(tmp_path / "swaps.json", {"method": "a", "against": {"b": found}})
    arguments += ["--swaps", str(tmp_path / "swaps.json")]
    monkeypatch.setattr(sys, "argv", ["tables", "significance", *arguments])
    main()
    assert pd.read_csv(tmp_path / "significance.csv")["p_holm"].tolist() == [1] * 4
    assert read_table(tmp_path / "significance.json").frame()["p_holm"].tolist() == [1] * 4
    monkeypatch.setattr(sys, "argv", ["tables", "significance", *arguments, "--against", "c"])
    with pytest.raises(SystemExit):
        cli.run(main)
    assert "--against c: not among the rows, a, b" in capsys.readouterr().err
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a\.parquet: not a table of scores"):
        read_row(tmp_path / "a.json", tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [[], 5, {"against": {}}])
def test_other_json_is_no_row_and_no_swaps(tmp_path, content) -> None:
    write_json(tmp_path / "a.json", content)
    with pytest.raises(InputError, match=r"a\.json: not the metrics of a row \(no `method`\); delete it and run again"):
        read_row(tmp_path / "a.json", tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.json: not swaps of a row \(no `method`\)"):
        read_swaps([tmp_path / "a.json"])


def test_every_metric_that_two_rows_share_is_compared() -> None:
    a, b = row_of("a", np.zeros(8)), row_of("b", np.zeros(8))
    for row, gap in ((a, 0.0), (b, 0.2)):
        row.metrics["ap50"] = {"value": 0.5 + gap, "left_out": [0.5 + gap, 0.51 + gap, 0.49 + gap, 0.5 + 1.05 * gap]}
    rows = {"a": a, "b": b}
    table = compare(rows, ["a"], swaps_of(rows)).set_index("metric")
    assert table.loc["ap50", "difference"] == pytest.approx(0.2)
    assert table.loc["ap50", "different"] == "yes"


def test_a_metric_that_one_row_does_not_know_everywhere_is_compared_image_by_image() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(400)
    rows = [row_of("a", a), row_of("b", a + 0.1)]
    whole = difference("image_clip", rows[1], rows[0])
    for row, lost in zip(rows, (3, 200), strict=True):
        row.scores["image_clip"] = row.scores["image_clip"].drop(index=row.scores["image_clip"].index[lost])
    part = difference("image_clip", rows[1], rows[0])
    assert (part["difference"], part["p"]) == (pytest.approx(0.1), pytest.approx(whole["p"]))
    rows[0].scores["image_clip"] = rows[0].scores["image_clip"].iloc[:100]
    assert difference("image_clip", rows[1], rows[0])["difference"] == pytest.approx(0.1)


def test_a_scores_file_with_an_image_twice_is_refused(tmp_path) -> None:
    write_json(tmp_path / "a.json", {"method": "a", "metrics": {"image_clip": ZERO}})
    table = pd.DataFrame({"id": [1, 1], "object": [-1, -1], "image_id": [7, 7], "clip": [0.1, 0.2]})
    table.to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(InputError, match=r"a\.parquet: layout 1 has several rows of object -1, expected one"):
        read_row(tmp_path / "a.json", tmp_path / "a.parquet")
