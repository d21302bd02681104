"""The best row of a table and its runner-up, and the spread over sampling seeds."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics import headline
from evaluation.significance import MeasuredRow, compare, leaders
from evaluation.tables.__main__ import main
from evaluation.tables.cost import cost_table
from evaluation.tables.headline import headline_table
from evaluation.tables.published import read_published
from evaluation.tables.seeds import seeds_table
from evaluation.tables.significance import DEBIASED, WHAT_IS_TESTED, best_table
from evaluation.tables.table import markdown
from formats.files import InputError, write_json
from tests.tables import grid
from tests.test_evaluation_metrics import DATA, ROOT
from tests.test_evaluation_metrics import row_of as measured
from tests.test_evaluation_significance import row_of, swaps_of

RNG = np.random.default_rng(0)
BASE = RNG.standard_normal(80)


def rivals() -> dict[str, MeasuredRow]:
    fids = {
        name: {"value": value, "left_out": [value + 0.01 * float(RNG.standard_normal()) for _ in range(4)]}
        for name, value in (("good", 1.0), ("alike", 1.001), ("bad", 9.0))
    }
    shifts = {"good": 0.0, "alike": -1.0, "bad": -2.0}
    return {name: row_of(name, BASE + shifts[name], fid=fids[name]) for name in fids}


ROWS = rivals()
SWAPS = swaps_of(ROWS, spread=0.01)
NAMES = [metric.name for metric in headline()]


def test_the_best_stands_beside_its_runner_up() -> None:
    table = pd.DataFrame(leaders(ROWS, SWAPS)).set_index("metric")
    assert table.index.tolist() == NAMES
    assert set(table["method"]) == {"good"}
    assert set(table["against"]) == {"alike"}
    assert table["different"].to_dict() == dict(zip(NAMES, ["no", "yes"] * 2, strict=True))
    assert table.loc["image_fid", "difference"] == pytest.approx(-0.001)
    assert table.loc["image_clip", "difference"] == pytest.approx(1)


def test_p_values_are_corrected_over_all_pairs_of_the_table() -> None:
    rows = rivals()
    found = pd.DataFrame(leaders(rows, SWAPS)).set_index("metric").loc["image_clip"]
    pairs = compare(rows, list(rows), SWAPS).query("metric == 'image_clip'")
    assert found["p_holm"] == pairs["p_holm"].min() == pytest.approx(3 * found["p"])


def test_one_row_or_a_metric_that_one_row_has_names_no_best() -> None:
    rows = rivals()
    assert list(leaders({"good": rows["good"]}, SWAPS)) == []
    for name in ("alike", "bad"):
        rows[name].metrics["region_fid"] = None
    assert "region_fid" not in {line["metric"] for line in leaders(rows, SWAPS)}


def bold_of(best: pd.DataFrame, name: str = "table1") -> tuple[list[tuple[str, str]], str]:
    """(row, metric) of the bold cells of a table of these rows, and the note that explains them."""
    metrics = [measured(row) for row in ROWS]
    nothing = pd.DataFrame(columns=["method", "against", "metric", "different"])
    published = read_published(ROOT / "workflow/config/published.csv")
    cost = cost_table([]).frame().set_index("method")
    table = headline_table(name, list(ROWS), metrics, [], DATA, cost, nothing, best, "good", published, {}, "none")
    (note,) = (note for note in table.notes if note.startswith("Bold: the best of its column"))
    return [(row["method"].value, key) for row in table.rows for key, cell in row.items() if cell.bold], note


def test_only_a_certain_best_is_bold() -> None:
    table = best_table({"table1": list(ROWS)}, ROWS, SWAPS)
    lines = table.frame()
    bold, note = bold_of(lines)
    assert bold == [("good", "image_clip"), ("good", "region_clip")]
    assert "Without the bias" not in note
    assert not bold_of(lines, "table2")[0]
    note = bold_of(lines.assign(opposite=["no", "yes", "yes", "no"]))[1]
    assert note.endswith("Without the bias of finite samples the runner-up is the better one by image_clip.")
    text = grid(markdown(table))
    assert all(f"- {note}\n" in text for note in (WHAT_IS_TESTED, DEBIASED))
    assert "| table1 | image_fid | good | alike | -0.0010 ±" in text
    assert text.count("not distinguishable") == 2


def test_a_best_row_that_could_not_be_tested_is_said_to_be_untested() -> None:
    untested = {pair: {metric: [] for metric in found} for pair, found in SWAPS.items()}
    rows = {
        name: row_of(name, BASE, fid={"value": value, "left_out": []})
        for name, value in (("good", 1.0), ("alike", 1.001))
    }
    text = grid(markdown(best_table({"table1": list(rows)}, rows, untested)))
    assert "| table1 | image_fid | good | alike | -0.0010 | - | - | - | not tested |" in text


def test_the_program_names_a_row_that_is_missing(tmp_path, monkeypatch) -> None:
    content = row_of("a", np.zeros(6))
    write_json(tmp_path / "a.json", {"method": "a", "metrics": content.metrics})
    pd.DataFrame({"id": range(6), "object": -1, "image_id": range(6), "clip": 1.0}).to_parquet(tmp_path / "a.parquet")
    words = ["--row", str(tmp_path / "a.json"), str(tmp_path / "a.parquet"), "--table", "table1", "a", "b"]
    monkeypatch.setattr(sys, "argv", ["tables", "best", *words, "--out", str(tmp_path / "best")])
    with pytest.raises(InputError, match="--table table1: b is not among the rows, a"):
        main()


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
    monkeypatch.setattr(sys, "argv", ["tables", "seeds", *words])
    main()
    row = pd.read_csv(tmp_path / "seeds.csv").iloc[0]
    parts = ["", "_se", "_least", "_most", "_error"]
    assert [row["seeds"], *(row[f"image_fid{part}"] for part in parts)] == [3, 12, 2, 10, 14, 0.5]
    assert row["image_clip_se"] == 0
    assert "| hcma | 3 | 12.00 ± 2.00 [10.00, 14.00] | 0.3000 ± 0.0000" in grid((tmp_path / "seeds.md").read_text())


def test_rows_that_differ_in_more_than_the_seed_are_refused() -> None:
    first, other = seeded(0, 1.0), seeded(1, 1.0)
    with pytest.raises(InputError, match="hcma: measured twice with seed 0"):
        seeds_table({"hcma": [first, first]})
    with pytest.raises(InputError, match="hcma_seed_1: n_images differs from hcma's"):
        seeds_table({"hcma": [first, other | {"n_images": 6}]})
    other["source"] = copy.deepcopy(other["source"])
    other["source"]["spec"]["sampling"]["steps"] = 25
    with pytest.raises(InputError, match="hcma_seed_1: spec differs from hcma's"):
        seeds_table({"hcma": [first, other]})
