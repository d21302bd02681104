"""Runs held against what is known: a recorded reference, another run, the published values."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation import regression
from evaluation.metrics import METRICS, headline
from evaluation.regression import Run, changes, read_run
from evaluation.tables.__main__ import main as tables_main
from evaluation.tables.reproduction import READINGS, reproduction_table
from evaluation.tables.runs import runs_table
from evaluation.tables.table import Cell, Column, Table, markdown, write_table
from formats import cli
from formats.files import InputError, read_json, write_json
from formats.images import write_images
from tests.tables import grid
from workflow.benchmarks import regress_spread

ROWS = ("real", "sd14", "hcma")
IDS = np.arange(40)
CODE = Path(__file__)


def write_run(folder: Path, shift: float = 0.0, tau: float = 0.7, torch: str = "2.14", ids=IDS) -> Path:
    """A run of three rows, whose `hcma` has its scores shifted and was made with the given tau and torch."""
    for number, method in enumerate(ROWS):
        rng = np.random.default_rng(number)
        clip = rng.normal(0.5, 0.1, len(ids)) + (shift if method == "hcma" else 0)
        left_out = [float(np.delete(clip, i).mean()) for i in range(4)]
        clips = {"value": float(clip.mean()), "se": 0.02, "left_out": left_out}
        fid = {"value": 5.0 + number + 10 * shift * (method == "hcma"), "se": 0.5, "left_out": left_out}
        spec = {"method": method} | ({"version": 1, "params": {"tau": tau}} if method == "hcma" else {})
        content = {
            "method": method,
            "n_images": len(ids),
            "n_regions": len(ids),
            "metrics": {"image_fid": fid, "image_clip": clips, "region_clip": clips, "region_fid": None},
            "distances": {"image": {"samples": len(ids), "precision": 0.5}, "region": None},
            "protocol": {"clip": {"sha256": "c" * 64}},
            "source": {"spec": spec, "versions": None if method == "real" else {"torch": torch}},
            "made": {"versions": {"numpy": "2.4"}},
        }
        write_json(folder / f"metrics/{method}/test.json", content)
        write_images(folder / f"samples/{method}/test/0000.zip", [], {"device": "cpu x", "commit": "abc"})
        table = pd.DataFrame({"object": np.repeat([-1, 0], len(ids)), "image_id": np.tile(ids, 2)})
        table["id"] = 10 * table["image_id"]
        scores = folder / f"scores/{method}/test.parquet"
        scores.parent.mkdir(parents=True)
        table.assign(clip=np.tile(clip, 2)).to_parquet(scores)
    write_json(folder / "config.json", {"data": {"test": {"count": len(ids)}}})
    return folder


@pytest.fixture
def reference(tmp_path) -> Path:
    """A reference whose tolerances are 0.01 for every metric."""
    path, found = tmp_path / "reference/miniature.json", read_run(write_run(tmp_path / "recorded"), [CODE])
    regression.accept(found, path, "the first")
    limits = {row: dict.fromkeys(metrics, 0.01) for row, metrics in found.metrics.items()}
    write_json(path, read_json(path) | {"spread": {"tolerance": limits}})
    return path


def check(run: Path, reference: Path, monkeypatch, capsys, code: Path = CODE) -> tuple[int, str, str]:
    arguments = ["regress", "check", "--run", str(run), "--reference", str(reference), "--code", str(code)]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        cli.run(regression.main)
        status = 0
    except SystemExit as end:
        status = int(str(end.code))
    return status, *capsys.readouterr()


def test_an_equal_run_passes_and_nothing_moved(reference, tmp_path, monkeypatch, capsys) -> None:
    status, printed, errors = check(write_run(tmp_path / "again"), reference, monkeypatch, capsys)
    assert (status, errors) == (0, "")
    assert printed == "None of 12 metrics moved.\nNo input changed.\n"


def test_noise_within_the_tolerance_passes_and_is_shown(reference, tmp_path, monkeypatch, capsys) -> None:
    status, printed, _ = check(write_run(tmp_path / "noisy", shift=5e-4), reference, monkeypatch, capsys)
    assert status == 0
    assert printed.startswith("3 of 12 metrics moved:")
    (line,) = [line for line in printed.splitlines() if "image_fid" in line]
    assert line.split() == ["hcma", "image_fid", "7.00000", "7.00500", "+0.010", "0.50"]


def test_a_regression_exits_with_one_and_names_metrics_and_inputs(reference, tmp_path, monkeypatch, capsys) -> None:
    run = write_run(tmp_path / "worse", shift=0.02, tau=0.3, torch="2.15")
    status, printed, errors = check(run, reference, monkeypatch, capsys)
    assert status == 1
    assert errors == "error: 3 of 12 metrics moved beyond their tolerance, in these rows: hcma\n"
    named = [line.split()[:2] for line in printed.splitlines() if line.endswith("REGRESSION")]
    assert sorted(named) == [["hcma", metric] for metric in ("image_clip", "image_fid", "region_clip")]
    assert "  params.tau: 0.7 -> 0.3 (hcma)\n" in printed
    assert "  versions.torch: 2.14 -> 2.15 (hcma, sd14)\n" in printed


def test_a_single_image_that_counts_or_does_not_is_no_regression(tmp_path) -> None:
    run = read_run(write_run(tmp_path / "a"))
    limits = regression.tolerances(run, {row: dict.fromkeys(metrics, 0.0) for row, metrics in run.metrics.items()})
    moved = read_run(tmp_path / "a")
    moved.metrics["sd14"]["image_precision"]["value"] = 21 / 40
    table = regression.moves(moved, run, limits)
    assert table["move"].astype(bool).sum() == 1
    assert table["in_tolerances"].max() == 1


def test_changed_code_is_named(reference, tmp_path, monkeypatch, capsys) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "method.py").write_text("tau = 1\n")
    run = write_run(tmp_path / "again")
    regression.accept(read_run(run, [code]), reference, "with code")
    assert "No input changed" in check(run, reference, monkeypatch, capsys, code)[1]
    (code / "method.py").write_text("tau = 2\n")
    status, printed, _ = check(run, reference, monkeypatch, capsys, code)
    assert status == 0
    assert printed.endswith(f"  code: {code}/method.py\n")


def test_what_cannot_be_compared_is_an_error(reference, tmp_path) -> None:
    recorded, limits = regression.read_reference(reference)
    run = write_run(tmp_path / "fewer", ids=IDS[:30])
    with pytest.raises(InputError, match=r"hcma: n_images is 30 in .*fewer, but 40 in .*json"):
        regression.moves(read_run(run), recorded, limits)
    found = read_run(write_run(tmp_path / "again"))
    with pytest.raises(InputError, match=r"hcma image_clip: no measured tolerance in .*; run make regress-spread"):
        regression.moves(found, recorded, limits | {"hcma": {"image_fid": 1.0}})
    del found.metrics["hcma"]["image_clip"]
    with pytest.raises(InputError, match="no metric of hcma image_clip, which"):
        regression.moves(found, recorded, limits)
    del found.metrics["sd14"]
    with pytest.raises(InputError, match=r"no row sd14, which .*json has"):
        regression.moves(found, recorded, limits)
    recorded.metrics.pop("hcma")
    with pytest.raises(InputError, match=r"no row hcma, which .*again has; if it is meant to, accept it"):
        regression.moves(read_run(tmp_path / "again"), recorded, limits)
    with pytest.raises(InputError, match=r"nowhere: no metrics/\*/test.json"):
        read_run(tmp_path / "nowhere")


def test_accepting_keeps_the_reason_and_the_tolerances(reference, tmp_path) -> None:
    before, run = read_json(reference), read_run(write_run(tmp_path / "worse", shift=0.02))
    with pytest.raises(InputError, match="accepting needs a reason"):
        regression.accept(run, reference, " ")
    assert read_json(reference) == before
    regression.accept(run, reference, "scores are shifted")
    after = read_json(reference)
    assert [entry["reason"] for entry in after["history"]] == ["the first", "scores are shifted"]
    assert after["history"][1]["commit"] == "abc"
    assert after["spread"] == before["spread"]
    assert not regression.moves(run, *regression.read_reference(reference))["move"].any()
    write_json(reference, {"history": []})
    with pytest.raises(InputError, match=r"no 'metrics'; record it with make regress-accept and make regress-spread"):
        regression.read_reference(reference)


def test_tolerances_are_what_was_measured_with_a_floor(tmp_path) -> None:
    run = read_run(write_run(tmp_path / "a"))
    moved = {row: dict.fromkeys(metrics, 0.0) for row, metrics in run.metrics.items()}
    moved["hcma"]["image_fid"], moved["hcma"]["image_precision"] = 0.01, 0.01
    limits = regression.tolerances(run, moved)
    assert limits["hcma"]["image_fid"] == pytest.approx(5 * 0.01)
    assert limits["real"]["image_fid"] == pytest.approx(1e-6 * 7)
    assert limits["hcma"]["image_precision"] == pytest.approx(5 * 0.01)
    assert limits["sd14"]["image_precision"] == 1 / 40


def test_the_spread_is_the_farthest_move_and_the_deviation_across_seeds(tmp_path) -> None:
    base, near, far = (read_run(write_run(tmp_path / str(shift), shift=shift)) for shift in (0.0, 0.001, -0.002))
    found = regress_spread.spread(base, [near, far], [near, far])
    assert found["largest_move_by_rounding"]["hcma"]["image_fid"] == pytest.approx(0.02)
    assert found["standard_deviation_across_seeds"]["hcma"]["image_fid"] == pytest.approx(
        np.std([0, 0.01, -0.02], ddof=1)
    )
    assert found["tolerance"]["hcma"]["image_fid"] == pytest.approx(0.1)
    assert found["largest_move_by_rounding"]["sd14"]["image_fid"] == 0


def beside(first: Run, second: Run) -> pd.DataFrame:
    return runs_table(first, second).frame().set_index(["method", "metric"])


def test_two_runs_of_the_same_images_are_paired(tmp_path) -> None:
    first, second = read_run(write_run(tmp_path / "a")), read_run(write_run(tmp_path / "b", shift=0.01, tau=0.5))
    table = beside(first, second)
    assert (table["paired"] == "yes").all()
    clip = table.loc[("hcma", "image_clip")]
    assert clip["difference"] == pytest.approx(0.01)
    assert clip["difference_se"] == pytest.approx(0, abs=1e-12)
    assert clip["different"] == "yes"
    assert table.loc[("sd14", "image_clip"), "different"] == "no"
    assert table.loc[("hcma", "image_precision"), "different"] == "untested"
    text = markdown(runs_table(first, second))
    assert "- Differs, first -> second: params.tau: 0.7 -> 0.5 (hcma)\n" in text
    assert changes(first, first) == []


def test_two_runs_are_paired_though_one_alone_has_a_detector(tmp_path) -> None:
    """Scores with a detector's are merged, and so sorted by id; the others are in the layouts' order, which is a hash's."""
    first, second = (
        read_run(write_run(tmp_path / "a", ids=IDS[::-1])),
        read_run(write_run(tmp_path / "b", ids=IDS[::-1])),
    )
    expected = beside(first, second)
    for path in tmp_path.glob("b/scores/*/test.parquet"):
        pd.read_parquet(path).sort_values(["id", "object"]).to_parquet(path)
    pd.testing.assert_frame_equal(beside(first, second), expected)
    assert (expected["paired"] == "yes").all()


def test_two_runs_of_other_images_add_their_errors(tmp_path) -> None:
    first, second = read_run(write_run(tmp_path / "a")), read_run(write_run(tmp_path / "b", shift=0.1, ids=IDS + 7))
    table = beside(first, second)
    assert (table["paired"] == "no").all()
    assert table.loc[("hcma", "image_fid"), "difference_se"] == pytest.approx(0.5 * 2**0.5)
    assert table.loc[("hcma", "image_fid"), "p"] == pytest.approx(0.1573, abs=1e-4)
    assert "Not of the same layouts, so not paired: hcma, real, sd14." in markdown(runs_table(first, second))


def test_runs_without_a_common_row_are_refused(tmp_path) -> None:
    first, second = read_run(write_run(tmp_path / "a")), read_run(write_run(tmp_path / "b"))
    second.metrics.clear()
    with pytest.raises(InputError, match=r"no row that both have measured"):
        runs_table(first, second)


NAMES = [metric.name for metric in headline()]
VALUES = {"sd14": (12.0, 0.29, 14.0, 0.22), "gligen_sd": (12.0, 0.29, 17.0, 0.23), "hcma": (9.0, 0.32, 12.0, 0.24)}


def published_values(tables: tuple[str, ...] = ("table1", "table2")) -> pd.DataFrame:
    rows = [
        {"method": method, "label": method} | dict(zip(NAMES, values, strict=True)) for method, values in VALUES.items()
    ]
    return pd.concat([pd.DataFrame(rows).assign(table=table) for table in tables], ignore_index=True)


def measured_rows(images: float | None = None, regions: float | None = None) -> list[dict]:
    """Rows whose values are the published ones but for hcma's image_fid; its legacy distances as given, others' one more."""
    rows = []
    for method, values in VALUES.items():
        found = dict(zip(NAMES, values, strict=True)) | ({"image_fid": 15.0} if method == "hcma" else {})
        metrics = {name: {"value": value, "se": 0.1} for name, value in found.items()}
        for level, value in (("image", images), ("region", regions)):
            legacy = None if value is None else {"value": value + (method != "hcma"), "se": 0.2}
            metrics[f"{level}_fid_legacy"] = legacy
        rows.append({"method": method, "n_images": 30000, "metrics": metrics})
    return rows


def pair(
    metric: str, difference: float, error: float, p: float, debiased: float = np.nan, turned: bool = False
) -> dict:
    names = ("gligen_sd", "hcma") if turned else ("hcma", "gligen_sd")
    line = {"metric": metric, "method": names[0], "against": names[1], "difference": difference, "difference_se": error}
    return line | {"debiased": debiased, "p_holm": p}


# Of the first the debiased difference is of the other sign.
PAIRS = [
    pair("image_fid", 3.0, 0.1, 0.001, debiased=-0.5),
    pair("image_clip", -0.03, 0.001, 0.01, turned=True),
    pair("region_clip", 0.01, 0.1, 0.9),
    pair("ap", 0.01, 0.1, 0.9),
]


def test_what_reproduces_of_the_published_values_is_told() -> None:
    table = reproduction_table(measured_rows(), published_values(), pd.DataFrame(PAIRS))
    found = table.frame()
    values = found[found["minus"] == ""].set_index(["method", "metric"])
    assert len(values) == 12
    assert values.loc[("hcma", "image_fid"), ["verdict", "in_errors"]].tolist() == ["differs", pytest.approx(60)]
    assert (values.drop(("hcma", "image_fid"))["verdict"] == "agrees").all()
    deltas = found[found["minus"] == "gligen_sd"].set_index("metric")
    assert deltas["verdict"].to_dict() == {
        "image_fid": "opposite sign, size differs",
        "image_clip": "same sign, size agrees",
        "region_clip": "sign cannot be told, size agrees",
    }
    assert deltas.loc["image_clip", "ours"] == pytest.approx(0.03)
    text = grid(markdown(table))
    assert "meaningless" not in text
    assert "| Value | Metric | Ours | Published | In our standard errors | |" in text
    assert "| Difference | Metric | Ours | Debiased | Published | In our standard errors | |" in text
    assert "| hcma - gligen_sd | image_fid | 3.0000 ± 0.1000 | -0.5000‡ | -3.0000 | +60.0 |" in text
    assert "| hcma - gligen_sd | image_clip | 0.0300 ± 0.0010 | - | 0.0300 |" in text


def test_both_readings_of_a_frechet_distance_stand_against_the_published_one() -> None:
    known = pd.DataFrame([*PAIRS, pair("image_fid_legacy", -3.1, 0.1, 0.001, debiased=-3.0)])
    table = reproduction_table(measured_rows(8.9, 30.0), published_values(), known)
    found = table.frame()
    values = found[(found["minus"] == "") & (found["method"] == "hcma")].set_index("metric")
    assert set(values.index) == {metric.name for metric in METRICS.values() if metric.published}
    assert values.loc["image_fid", ["published", "ours", "verdict"]].tolist() == [9, 15, "differs"]
    legacy = values.loc["image_fid_legacy", ["published", "ours", "ours_se", "verdict"]].tolist()
    assert legacy == [9, 8.9, 0.2, "agrees"]
    assert values.loc["region_fid_legacy", ["published", "ours", "verdict"]].tolist() == [12, 30, "differs"]
    differences = found[found["minus"] == "gligen_sd"].set_index("metric")
    verdicts = (
        differences.loc[["image_fid", "image_fid_legacy"], ["published", "opposite", "verdict"]].to_numpy().tolist()
    )
    assert verdicts == [[-3, "yes", "opposite sign, size differs"], [-3, "no", "same sign, size agrees"]]
    text = markdown(table)
    assert text.count("fid_legacy: by `frechet_legacy`, pytorch-fid's resize") == 1
    assert "Not measured here" not in text


@pytest.mark.parametrize(
    ("legacy", "missing"),
    [((None, None), "image_fid_legacy, region_fid_legacy"), ((8.9, None), "region_fid_legacy")],
    ids=["neither", "images alone"],
)
def test_a_reading_that_was_not_measured_is_named_once(legacy, missing: str) -> None:
    text = markdown(reproduction_table(measured_rows(*legacy), published_values(), pd.DataFrame(PAIRS)))
    assert text.count(f"Not measured here (`extractors.frechet_legacy`): {missing}.\n") == 1


def test_the_program_compares_both_readings_and_names_a_table_that_is_too_old(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    columns = [Column(key, number=".4f" if key in ("difference", "debiased", "p_holm") else "") for key in PAIRS[0]]
    cells = [{key: Cell.of(value) for key, value in line.items()} for line in PAIRS]
    rows = measured_rows(8.9, 30.0)
    for row in rows:
        write_json(tmp_path / f"{row['method']}.json", row)
    published_values(("1",)).to_csv("published.csv", index=False)
    write_table(Table("Pairs", columns, cells, []), tmp_path / "significance")
    words = ["tables", "reproduction", "--published", "published.csv", "--significance", "significance.json"]
    words += ["--metrics", *(f"{row['method']}.json" for row in rows), "--out", "reproduction"]
    monkeypatch.setattr("sys.argv", words)
    tables_main()
    assert set(pd.read_csv("reproduction.csv")["metric"]) == {metric.name for metric in READINGS}
    write_table(Table("Pairs", [c for c in columns if c.key != "debiased"], cells, []), tmp_path / "significance")
    with pytest.raises(InputError, match=r"significance\.json: no column `debiased`; delete it and run again"):
        tables_main()


def test_under_a_caveat_nothing_reproduces() -> None:
    table = reproduction_table(measured_rows(), published_values(), pd.DataFrame(PAIRS), "A drawn world.")
    assert set(table.frame()["verdict"]) == {"meaningless"}
    text = grid(markdown(table))
    assert "**This comparison is meaningless and says nothing about the paper.** A drawn world." in text
    assert "agrees |" not in text
