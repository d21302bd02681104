"""The best row of a table and its runner-up, and the spread over sampling seeds."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest

from evaluation import best, compare, seeds
from evaluation.tables import METRICS, emboldened
from formats.files import InputError, write_json
from tests.test_evaluation_compare import row_of, swaps_of
from tests.test_evaluation_metrics import row_of as measured

RNG = np.random.default_rng(0)
BASE = RNG.standard_normal(80)


def rivals() -> dict[str, compare.Row]:
    fids = {
        name: {"value": value, "left_out": [value + 0.01 * float(RNG.standard_normal()) for _ in range(4)]}
        for name, value in (("good", 1.0), ("alike", 1.001), ("bad", 9.0))
    }
    shifts = {"good": 0.0, "alike": -1.0, "bad": -2.0}
    return {name: row_of(name, BASE + shifts[name], fid=fids[name]) for name in fids}


ROWS = rivals()
SWAPS = swaps_of(ROWS, spread=0.01)


def test_the_best_stands_beside_its_runner_up() -> None:
    table = pd.DataFrame(best.leaders(1, ROWS, SWAPS)).set_index("metric")
    assert table.index.tolist() == list(METRICS)
    assert set(table["method"]) == {"good"}
    assert set(table["against"]) == {"alike"}
    assert table["different"].to_dict() == dict(zip(METRICS, ["no", "yes"] * 2, strict=True))
    assert table.loc["image_fid", "difference"] == pytest.approx(-0.001)
    assert table.loc["image_clip", "difference"] == pytest.approx(1)


def test_p_values_are_corrected_over_all_pairs_of_the_table() -> None:
    rows = rivals()
    found = pd.DataFrame(best.leaders(1, rows, SWAPS)).set_index("metric").loc["image_clip"]
    pairs = compare.compare(rows, list(rows), SWAPS).query("metric == 'image_clip'")
    assert found["p_holm"] == pairs["p_holm"].min() == pytest.approx(3 * found["p"])


def test_one_row_or_a_metric_that_one_row_has_names_no_best() -> None:
    rows = rivals()
    assert list(best.leaders(1, {"good": rows["good"]}, SWAPS)) == []
    for name in ("alike", "bad"):
        rows[name].metrics["region_fid"] = None
    assert "region_fid" not in {line["metric"] for line in best.leaders(1, rows, SWAPS)}


def test_only_a_certain_best_is_bold() -> None:
    lines = pd.DataFrame(best.leaders(1, ROWS, SWAPS))
    table, (note,) = emboldened(pd.DataFrame({"method": ["good", "alike", "bad"]}), lines, 1)
    assert table["image_clip_best"].tolist() == [True, False, False]
    assert not table["image_fid_best"].any()
    assert note.startswith("Bold: the best of its column")
    assert not emboldened(table, lines, 2)[0]["image_clip_best"].any()
    assert "Without the bias" not in note
    turned = lines.assign(opposite=["no", "yes", "yes", "no"])
    note = emboldened(table, turned, 1)[1][0]
    assert note.endswith("Without the bias of finite samples the runner-up is the better one by image_clip.")
    text = best.markdown(lines)
    assert all(f"- {note}\n" in text for note in (compare.WHAT_IS_TESTED, compare.DEBIASED))
    assert "| 1 | image_fid | good | alike | -0.0010 ±" in text
    assert text.count("not distinguishable") == 2
    untested = lines.assign(se=np.nan, p=np.nan, p_holm=np.nan, different="untested")
    assert "| 1 | image_fid | good | alike | -0.0010 | - | - | - | not tested |" in best.markdown(untested)


def test_the_program_names_a_row_that_is_missing(tmp_path, monkeypatch) -> None:
    content = row_of("a", np.zeros(6))
    write_json(tmp_path / "a.json", {"method": "a", "metrics": content.metrics})
    pd.DataFrame({"id": range(6), "object": -1, "image_id": range(6), "clip": 1.0}).to_parquet(tmp_path / "a.parquet")
    words = ["--row", str(tmp_path / "a.json"), str(tmp_path / "a.parquet"), "--table", "1", "a", "b"]
    monkeypatch.setattr(sys, "argv", ["best", *words, "--out", str(tmp_path / "best")])
    with pytest.raises(InputError, match="--table 1: b is not among the rows, a"):
        best.main()
    words[words.index("1")] = "x"
    monkeypatch.setattr(sys, "argv", ["best", *words, "--out", str(tmp_path / "best")])
    with pytest.raises(InputError, match="--table x: expected the number of a table, then its rows"):
        best.main()


def seeded(seed: int, fid: float) -> dict:
    row = measured("hcma" if seed == 0 else f"hcma_seed_{seed}", image_fid=fid)
    spec = {"method": row["method"], "sampling": {"seed": seed, "steps": 50}, "params": {"eta": 1}}
    return row | {"source": {"spec": spec, "versions": {}}}


def test_seeds_give_mean_and_spread(tmp_path, monkeypatch) -> None:
    paths = []
    for seed, fid in ((0, 10.0), (1, 12.0), (2, 14.0)):
        paths.append(tmp_path / f"{seed}.json")
        write_json(paths[-1], seeded(seed, fid))
    words = ["--row", "hcma", *map(str, paths), "--out", str(tmp_path / "seeds")]
    monkeypatch.setattr(sys, "argv", ["seeds", *words])
    seeds.main()
    table = pd.read_csv(tmp_path / "seeds.csv").set_index("metric")
    numbers = table.loc["image_fid", ["seeds", "mean", "sd", "min", "max", "se"]].tolist()
    assert numbers == [3, 12, 2, 10, 14, 0.5]
    assert table.loc["image_clip", "sd"] == 0
    assert "| hcma | 3 | 12.00 ± 2.00 [10.00, 14.00] | 0.3000 ± 0.0000" in (tmp_path / "seeds.md").read_text()


def test_rows_that_differ_in_more_than_the_seed_are_refused() -> None:
    first, other = seeded(0, 1.0), seeded(1, 1.0)
    with pytest.raises(InputError, match="hcma: measured twice with seed 0"):
        list(seeds.spread("hcma", [first, first]))
    with pytest.raises(InputError, match="hcma_seed_1: n_images differs from hcma's"):
        list(seeds.spread("hcma", [first, other | {"n_images": 6}]))
    other["source"] = copy.deepcopy(other["source"])
    other["source"]["spec"]["sampling"]["steps"] = 25
    with pytest.raises(InputError, match="hcma_seed_1: spec differs from hcma's"):
        list(seeds.spread("hcma", [first, other]))
