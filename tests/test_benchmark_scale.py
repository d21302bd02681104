"""The benchmark of the evaluation's numbers at paper scale: stages kept, sums by hand, the plan's own counts. No times."""

import json

import pytest

from formats import cli
from formats.files import InputError, read_json
from tests.test_plan import planned
from workflow.benchmarks import __main__ as benchmarks
from workflow.benchmarks import scale

SMALL = ["--images", "120", "--regions", "200", "--dimensions", "8", "--rows", "2"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with all stages of a small run; its name is one that features' folders have."""
    folder = tmp_path_factory.mktemp("scale") / "features"
    benchmarks.main(["scale", "--work", str(folder), *SMALL])
    return folder


def test_every_stage_is_run_once_and_told(work, capsys, monkeypatch) -> None:
    found = read_json(work / "scale.json")
    assert [stage["stage"] for stage in found["stages"]] == [
        *(f"summarize {row}" for row in ("real", "row1", "row2")),
        *("measure row1", "measure row2", "swap row1 row2", "sizes row1"),
    ]
    assert all(stage["peak_mb"] > 10 and stage["cpu_seconds"] > 0 for stage in found["stages"])
    assert not list((work / "features").rglob("*.npz"))
    monkeypatch.setattr(scale, "spent", None)  # nothing is run again
    benchmarks.main(["scale", "--work", str(work), *SMALL])
    printed = capsys.readouterr().out
    for words in ("120 images, 200 regions, 8 dimensions, 2 rows, on cpu", "swap row1 row2", "extrapolated, 12 rows"):
        assert words in printed


def test_its_rows_are_rows(work) -> None:
    one, two = (read_json(work / f"{row}.json") for row in ("row1", "row2"))
    assert (one["n_images"], one["n_regions"], one["distances"]["region"]["samples"]) == (120, 200, 200)
    against = json.loads((work / "row1-swaps.json").read_text())["against"]["row2"]
    for name in ("image_fid", "region_fid", "image_kid", "region_kid"):
        gap = one["metrics"][name]["value"] - two["metrics"][name]["value"]
        assert sum(against[name]) == pytest.approx(gap, rel=1e-6)


def test_a_folder_of_another_size_is_refused(work) -> None:
    named = r"stages\.json: stages of .*'images': 120.*, expected .*'images': 121.*another --work"
    with pytest.raises(InputError, match=named):
        benchmarks.main(["scale", "--work", str(work), *SMALL[:1], "121", *SMALL[2:]])


def test_a_stage_that_fails_ends_in_one_line_and_is_not_kept(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "scale", "--work", str(tmp_path), *SMALL, "--device", "none"])
    with pytest.raises(SystemExit):
        cli.run(benchmarks.main)
    told = capfd.readouterr().err.splitlines()
    assert told[0].startswith("error: --device none: cannot be used here (")
    assert told[1:] == ["error: evaluation.metrics summarize: ended with status 1; see what it printed"]
    assert not (tmp_path / "stages.json").exists()


def test_what_is_extrapolated_is_twelve_rows_the_photos_and_the_papers_pairs() -> None:
    kinds = {"summarize real": 10.0, "summarize row1": 20.0, "measure row1": 30.0}
    kinds |= {"swap row1 row2 row3": 8.0, "sizes row1": 1.0}
    stages = [
        {"stage": name, "cpu_seconds": seconds, "wall_seconds": seconds / 2, "peak_mb": int(seconds)}
        for name, seconds in kinds.items()
    ]
    found = scale.sums(stages)
    assert found["distances_and_swaps"] == {"cpu_seconds": 68.0, "wall_seconds": 34.0, "peak_mb": 30}
    # 13 summaries of 15 s, 13 measurements of 30 s, 33 pairs of 4 s, 13 of sizes.
    assert found["extrapolated"]["cpu_hours"] == pytest.approx((13 * 15 + 13 * 30 + 33 * 4 + 13) / 3600, abs=0.005)
    plan = planned("paper", models={"gligen_ldm": {"path": "somewhere"}})
    assert sum(len(plan.partners(row)) for row in plan.methods) == scale.PAIRS
