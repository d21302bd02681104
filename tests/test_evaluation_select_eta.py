"""The choice of eta: its standard error is that of paired scores, and what makes it doubtful is said."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation.metrics import METRICS, headline
from evaluation.metrics.jackknife import GROUPS, groups, jackknife, leave_out_mean
from evaluation.select_eta import choose, main
from formats.files import InputError, write_json
from tests.test_evaluation_metrics import call

IDS = np.arange(400)  # some of every group
ALL = {"image": IDS, "region": IDS}
ZERO = np.zeros(GROUPS)
NAMES = [metric.name for metric in headline()]
RNG = np.random.default_rng(14)


def row_of(method: str, split: str = "heldout", **means_G: np.ndarray) -> dict:
    """A row whose metrics are means over groups of equal size, one unit of score each: less is better of distances."""
    metrics = {}
    for name in NAMES:
        values = np.asarray(means_G.get(name, means_G.get("each", ZERO)), float)
        values = values if METRICS[name].higher_is_better else -values
        left_out = (values.sum() - values) / (GROUPS - 1)
        metrics[name] = {"value": float(values.mean()), "se": 1.0, "left_out": left_out.tolist()}
    return {"method": method, "split": split, "n_images": 400, "metrics": metrics}


REFERENCE = row_of("gligen")


def spread(scale: float, mean: float) -> np.ndarray:
    """Values of the groups with exactly this mean, and this standard error of it."""
    values = RNG.standard_normal(GROUPS)
    return (values - values.mean()) / values.std(ddof=1) * scale * np.sqrt(GROUPS) + mean


def chosen(**candidates: np.ndarray) -> dict:
    rows = {float(number): row_of(name, each=values) for number, (name, values) in enumerate(candidates.items(), 1)}
    return choose(REFERENCE, rows, ALL)


def test_scores_are_mean_gains_in_the_references_errors_and_their_errors_those_of_means() -> None:
    reference = row_of("gligen")
    reference["metrics"]["image_fid"]["se"] = 0.5
    parts = {name: RNG.standard_normal(GROUPS) for name in NAMES}
    found = choose(reference, {1.0: row_of("a"), 2.0: row_of("b", **parts)}, ALL)
    units = {"image_fid": 2.0}
    scores_G = sum(units.get(name, 1.0) * values for name, values in parts.items()) / 4
    point = found["curve"][1]
    assert point["score"] == pytest.approx(scores_G.mean())
    assert point["score_se"] == pytest.approx(scores_G.std(ddof=1) / np.sqrt(GROUPS))
    assert point["gains"] == pytest.approx({name: units.get(name, 1.0) * v.mean() for name, v in parts.items()})


def test_the_error_is_the_jackknifes_of_the_whole_score_where_groups_lack_regions() -> None:
    ids = np.arange(48)
    of_regions = np.repeat(ids[groups(ids) > 2], 3)
    image_ids = {"image": ids, "region": of_regions}
    numbers = {level: groups(found) for level, found in image_ids.items()}
    assert len(set(numbers["region"])) < len(set(numbers["image"])) < GROUPS
    values = {
        name: {metric: RNG.standard_normal(len(image_ids[metric.partition("_")[0]])) for metric in NAMES}
        for name in ("gligen", "a", "b")
    }

    def statistic(name: str, metric: str) -> Callable[[int | None], float]:
        return leave_out_mean(values[name][metric], numbers[metric.partition("_")[0]])

    rows = {}
    for name in values:
        estimates = {m: jackknife(statistic(name, m), numbers[m.partition("_")[0]]) for m in NAMES}
        metrics = {m: {"value": e.value, "se": e.se, "left_out": e.left_out} for m, e in estimates.items()}
        rows[name] = {"method": name, "split": "heldout", "n_images": 48, "metrics": metrics}
    found = choose(rows["gligen"], {1.0: rows["a"], 2.0: rows["b"]}, image_ids)

    def difference(group: int | None) -> float:
        gaps = {m: statistic("b", m)(group) - statistic("a", m)(group) for m in NAMES}
        signs = {m: -1 if m.endswith("fid") else 1 for m in NAMES}
        return float(np.mean([signs[m] * gaps[m] / rows["gligen"]["metrics"][m]["se"] for m in NAMES]))

    whole = jackknife(difference, numbers["image"])
    behind = max(found["curve"], key=lambda point: point["behind"])
    assert behind["behind"] == pytest.approx(abs(whole.value))
    assert behind["behind_se"] == pytest.approx(whole.se)


def test_the_smallest_within_one_error_of_its_distance_from_the_best_is_chosen() -> None:
    common = spread(3.0, 0.0)  # what the candidates share says nothing of their difference
    best = common + 2.0
    found = chosen(worse=common + spread(0.1, 1.8), near=common + spread(0.3, 1.8), best=best)
    assert [point["behind"] for point in found["curve"]] == pytest.approx([0.2, 0.2, 0.0])
    assert [point["behind_se"] for point in found["curve"]] == pytest.approx([0.1, 0.3, 0.0])
    assert found["eta"] == 2.0
    # A hundredth of the reference's error, but the same in every group.
    assert chosen(less=common + 1.99, best=best)["eta"] == 2.0


def test_two_that_are_equally_good_are_told_apart_as_often_as_one_error_says() -> None:
    within = 0
    for _ in range(400):
        common = 5 * RNG.standard_normal(GROUPS)
        pair = (common + RNG.standard_normal(GROUPS) for _ in range(2))
        points = chosen(**dict(zip("ab", pair, strict=True)))["curve"]
        within += all(point["behind"] <= point["behind_se"] for point in points)
    expected = 1 - 2 * stats.t.sf(1, GROUPS - 1)
    assert within / 400 == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / 400))


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((1.0, 2.0, 1.0), []),
        ((1.0, 2.0, 3.0), ["the best score stands at the upper end of the sweep, eta 3, and no larger one was tried"]),
        ((3.0, 2.0, 1.0), ["the best score stands at the lower end of the sweep, eta 1, and no smaller one was tried"]),
        ((1.95, 2.0, 1.0), ["the choice stands at the lower end of the sweep, eta 1, and no smaller one was tried"]),
        ((-2.0, -1.0, -2.0), ["no candidate is better than the reference: the best score is -1.00 ± 0.10, at eta 2"]),
        (
            (-1.0, 0.05, -1.0),
            ["better than the reference by one standard error: the best score is 0.05 ± 0.10, at eta 2"],
        ),
        ((-1.0, -2.0, -3.0), ["the lower end of the sweep, eta 1", "no candidate is better than the reference: "]),
    ],
)
def test_a_doubtful_choice_is_said(means, said) -> None:
    found = chosen(**{str(place): spread(0.1, mean) for place, mean in enumerate(means)})
    assert len(found["warnings"]) == len(said)
    for text, expected in zip(found["warnings"], said, strict=True):
        assert expected in text


def test_warnings_go_to_the_log_and_into_the_file(tmp_path, monkeypatch, capsys) -> None:
    rows = {"gligen": REFERENCE, "a": row_of("a", each=ZERO + 1.0), "b": row_of("b", each=ZERO + 2.0)}
    for number, (name, row) in enumerate(rows.items()):
        write_json(tmp_path / f"{name}.json", row)
        write_json(tmp_path / f"{name}-spec.json", {"method": name, "artefacts": {"eta": {"value": float(number)}}})
    scores = pd.DataFrame({"image_id": IDS, "id": IDS, "clip": 0.0})
    pd.concat([scores.assign(object=-1), scores.assign(object=0)]).to_parquet(tmp_path / "scores.parquet")
    arguments = {"reference": tmp_path / "gligen.json", "scores": tmp_path / "scores.parquet"}
    arguments["candidates"] = [tmp_path / "a.json", tmp_path / "b.json"]
    arguments["specs"] = [tmp_path / "a-spec.json", tmp_path / "b-spec.json"]
    call(monkeypatch, main, **arguments, out=tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    (warning,) = found["warnings"]
    assert found["eta"] == 2.0
    assert capsys.readouterr().err == f"warning: {warning}\n"
    assert warning.endswith("widen alignment.calibrate.multiples")
    scores[scores["image_id"] < 3].assign(object=0).to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="image_fid: the scores are of other images than the metrics"):
        call(monkeypatch, main, **arguments, out=tmp_path / "out.json")


def test_a_single_candidate_needs_no_score_and_two_do() -> None:
    few = row_of("few")
    few["metrics"] |= {"image_fid": None, "region_fid": {"value": 3.0, "se": None, "left_out": []}}
    found = choose(few, {2.0: few}, ALL)
    assert (found["eta"], found["split"], found["warnings"]) == (2.0, "heldout", [])
    values = {"image_fid": None, "image_clip": 0.0, "region_fid": 3.0, "region_clip": 0.0}
    assert found["curve"] == [{"eta": 2.0, "metrics": values}]
    with pytest.raises(InputError, match=r"image_fid: too few held-out images"):
        choose(few, {1.0: few, 2.0: few}, ALL)


def test_the_test_split_and_rows_of_other_images_are_refused() -> None:
    with pytest.raises(InputError, match="must not choose"):
        choose(REFERENCE, {1.0: row_of("hcma", "test")}, ALL)
    with pytest.raises(InputError, match="hcma: measured on other images than gligen"):
        choose(REFERENCE, {1.0: row_of("hcma") | {"n_images": 3}}, ALL)
