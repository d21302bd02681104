"""An exercise: one more entry of METRICS, on features that are there, reaches every table, the comparison and the page."""

import sys
from dataclasses import asdict

import numpy as np
import pytest

from evaluation.metrics import METRICS, Metric, headline
from evaluation.metrics.jackknife import jackknife
from evaluation.metrics.measure import group_contributions, measure
from evaluation.metrics.summary import Summary
from evaluation.report.tables import pack_table
from evaluation.significance import compare, leaders, read_row, read_swaps
from evaluation.tables.__main__ import main as tables_main
from evaluation.tables.cost import cost_table
from evaluation.tables.distances import distances_table
from evaluation.tables.headline import headline_table
from evaluation.tables.published import read_published
from evaluation.tables.significance import best_table, significance_table
from evaluation.tables.table import markdown, read_frame, read_table, write_table
from formats.files import write_json
from tests.tables import grid
from tests.test_evaluation_metrics import DATA, ROOT
from tests.test_evaluation_protocol import Protocol, summed

IDS = tuple(range(60))


def squared_gap(a: Summary, real: Summary) -> float:
    """Squared distance of the two means."""
    gap = a.whole().mean_D - real.whole().mean_D
    return float(gap @ gap)


def measure_gap(measured, metric):
    pair = measured.pair(metric)
    return pair and asdict(jackknife(lambda group: squared_gap(without(pair[0], group), pair[1]), pair[0].jackknifed))


def without(summary: Summary, group: int | None) -> Summary:
    moments = {number: part for number, part in summary.moments.items() if number != group}
    return Summary(moments, summary.sample_SD, summary.groups_S)


def swap_gap(a: Summary, b: Summary, real: Summary):
    def of(one: Summary, other: Summary, swap_G: np.ndarray) -> float:
        moments = {group: (other if swap_G[group] else one).moments[group] for group in one.moments}
        return squared_gap(Summary(moments, one.sample_SD, one.groups_S), real)

    return lambda swap_G: of(a, b, swap_G) - of(b, a, swap_G)


GAP = Metric(
    "gap", "image", "frechet", "Gap", 3, measure_gap, swapped=swap_gap, table="distances", headline=True, scale=10
)


@pytest.fixture
def registered(monkeypatch) -> None:
    monkeypatch.setitem(METRICS, GAP.name, GAP)


def test_one_entry_is_measured_compared_tabulated_and_shown(registered, tmp_path) -> None:
    rows = {name: summed(tmp_path, name, Protocol(), IDS, seed) for seed, name in enumerate(("real", "mine", "other"))}
    layouts, found = [{"id": i, "image_id": i, "objects": [{"phrase": "thing", "box": [0, 0, 1, 1]}]} for i in IDS], {}
    for name, row in rows.items():
        content, scores = measure(row, rows["real"], layouts)
        found[name] = content | {"method": name, "split": "test"}
        write_json(tmp_path / f"{name}.json", found[name])
        scores.to_parquet(tmp_path / f"{name}.parquet")
    values = {name: content["metrics"]["image_gap"]["value"] for name, content in found.items()}
    assert values["real"] == 0 < values["mine"]

    against = group_contributions(rows["mine"], {"other": rows["other"]}, rows["real"])
    write_json(tmp_path / "swaps.json", {"method": "mine", "against": against})
    read = {name: read_row(tmp_path / f"{name}.json", tmp_path / f"{name}.parquet") for name in ("mine", "other")}
    swaps = read_swaps([tmp_path / "swaps.json"])
    line = compare(read, ["other"], swaps).set_index("metric").loc["image_gap"]
    assert line["difference"] == pytest.approx(values["mine"] - values["other"])
    assert 0 < line["p"] <= 1
    best = next(line for line in leaders(read, swaps) if line["metric"] == "image_gap")
    assert best["method"] == min(("mine", "other"), key=values.__getitem__)

    significance = significance_table(read, ["other"], swaps)
    assert "| mine | image_gap |" in grid(markdown(significance))
    cell = f"{10 * values['mine']:.3f} ±"
    assert f"| {cell}" in grid(markdown(distances_table(list(found.values()))))
    table = headline_table(
        "mine",
        ["mine", "other"],
        [found["mine"], found["other"]],
        [],
        DATA,
        cost_table([]).frame().set_index("method"),
        significance.frame(),
        best_table({"mine": ["mine", "other"]}, read, swaps).frame(),
        "other",
        read_published(ROOT / "workflow/config/published.csv"),
        {},
    )
    write_table(table, tmp_path / "mine")
    assert f"| {cell}" in grid((tmp_path / "mine.md").read_text())
    (view,) = pack_table(tmp_path / "mine.json")["views"]
    assert view["heads"][-1] == "Image Gap"
    assert view["rows"][0][-1]["sort"] == pytest.approx(values["mine"])


def test_a_table_has_the_columns_it_is_given_with_marks_and_bold_of_their_own(registered, tmp_path) -> None:
    rows = {name: summed(tmp_path, name, Protocol(), IDS, seed) for seed, name in enumerate(("real", "mine", "other"))}
    layouts, found = [{"id": i, "image_id": i, "objects": [{"phrase": "thing", "box": [0, 0, 1, 1]}]} for i in IDS], {}
    for name, row in rows.items():
        content, scores = measure(row, rows["real"], layouts)
        found[name] = content | {"method": name, "split": "test"}
        write_json(tmp_path / f"{name}.json", found[name])
        scores.to_parquet(tmp_path / f"{name}.parquet")
    write_json(
        tmp_path / "swaps.json",
        {"method": "mine", "against": group_contributions(rows["mine"], {"other": rows["other"]}, rows["real"])},
    )
    write_json(tmp_path / "data.json", DATA)
    write_table(cost_table([]), tmp_path / "cost")
    columns = ["image_kid", "image_gap", "image_density", "image_clip"]

    def call(*words: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["tables", *map(str, words)])
            tables_main()

    compared = [word for name in ("mine", "other") for word in ("--row", f"{name}.json", f"{name}.parquet")]
    call("significance", *compared, "--swaps", "swaps.json", "--against", "other", "--out", "significance")
    of_table = [
        "--table",
        "chosen",
        "mine",
        "other",
        "--columns",
        "chosen",
        *columns,
        "--table",
        "usual",
        "mine",
        "other",
    ]
    call("best", *compared, "--swaps", "swaps.json", *of_table, "--out", "best")
    best = read_frame(tmp_path / "best.json")
    # Density has no error: it is shown, and neither tested nor a best.
    assert best[best["table"] == "chosen"]["metric"].tolist() == ["image_kid", "image_gap", "image_clip"]
    usual = [metric.name for metric in headline() if found["mine"]["metrics"].get(metric.name)]
    assert best[best["table"] == "usual"]["metric"].tolist() == usual
    made = ["--cost", "cost.json", "--significance", "significance.json", "--best", "best.json", "--data", "data.json"]
    made += ["--published", ROOT / "workflow/config/published.csv", "--mark-against", "other", "--out", "chosen"]
    call(
        *("headline", "--name", "chosen", "--rows", "mine", "other", "--metrics", "mine.json", "other.json", *made),
        *("--columns", *columns, "--caption", "By kernel"),
    )
    text = grid((tmp_path / "chosen.md").read_text())
    assert text.startswith(
        "**By kernel**\n\n| Method | Image KID x 1000 | Image Gap | Image Density | Image CLIP |\n| mine | "
    )
    cells = {row["method"].value: row for row in read_table(tmp_path / "chosen.json").rows}
    for name in ("mine", "other"):
        assert cells[name]["image_density"].value == found[name]["distances"]["image"]["density"]
        assert cells[name]["image_kid"].value == found[name]["metrics"]["image_kid"]["value"]
    different = read_frame(tmp_path / "significance.json").set_index("metric")["different"]
    assert all((cells["mine"][name].mark == "†") == (different.get(name) == "no") for name in columns)
    leading = best[(best["table"] == "chosen") & (best["different"] == "yes")]
    bold = {(name, metric) for metric in columns for name, row in cells.items() if row[metric].bold}
    assert bold == set(zip(leading["method"], leading["metric"], strict=True))
    assert "KID x 1000: kernel distance (x . y / D + 1)^3 to `real`, over all pairs" in text
    assert "Density: by 5 nearest neighbours among features" in text
    assert "- FD:" not in text and "AP" not in text
    assert "Gap: by " in text
