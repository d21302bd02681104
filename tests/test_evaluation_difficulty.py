"""Metrics by difficulty: bands by hand, means and tests against those of whole rows, and the levels that benchmarks have."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation import difficulty
from evaluation.breakdown import breakdown
from evaluation.datasets.readers import read_set
from evaluation.datasets.reading import Options
from evaluation.difficulty import Bands, facets, objects_of
from evaluation.figures import difficulty as figure
from evaluation.layouts import write_layouts
from evaluation.metrics import METRICS, metrics_of
from evaluation.metrics.adherence import leave_out_shares, match
from evaluation.metrics.adherence import scored as scored_boxes
from evaluation.metrics.jackknife import groups, jackknife, leave_out_mean
from evaluation.scores import read_scores, scored
from evaluation.significance import compare, holm, read_row
from evaluation.tables.__main__ import main
from evaluation.tables.difficulty import difficulty_table
from evaluation.tables.table import markdown, read_frame, read_table
from formats import cli, layouts
from formats.files import InputError, write_json
from tests.foreign_sets import literal
from tests.tables import grid
from tests.test_evaluation_metrics import row_of

SAMPLES = Path(__file__).parents[2] / "shared/layout_sets"
MEANS = [metric.name for metric in scored({})]


def layout(number: int, boxes: list[list[float]], **tags: object) -> dict:
    things = [{"phrase": "star", "box": box} for box in boxes]
    return {"id": number, "image_id": number, "caption": "", "objects": things, "tags": tags}


def square(x: float, y: float, side: float) -> list[float]:
    return [round(edge, 6) for edge in (x, y, x + side, y + side)]


def placed(rows: list[dict], bands: Bands, key: str) -> list[str | None]:
    """The band of every layout or object."""
    (facet,) = facets(rows, bands, [key])
    return [facet.bands[place] if place >= 0 else None for place in facet.place_N]


def test_layouts_lie_in_bands_of_their_objects_and_overlap_and_boxes_in_those_of_their_size() -> None:
    one, two = square(0, 0, 0.2), square(0.1, 0, 0.2)  # their overlap is a third
    rows = [
        layout(0, []),
        layout(1, [one]),
        layout(2, [one, square(0.2, 0, 0.1)]),  # side by side
        layout(3, [one, two, square(0.5, 0.5, 0.25)]),
        layout(4, [one, square(0.19, 0, 0.2), [*one[:3], 0.19]]),  # 0.95
        layout(5, [square(0.1 / 3, 0.1, 0.1875)]),
    ]
    bands = Bands(objects=(1, 2, 4), size=(0.15, 0.1875), overlap=(0.1, 0.5))
    assert placed(rows, bands, "objects") == ["0", "1", "2 to 3", "2 to 3", "2 to 3", "1"]
    assert placed(rows, bands, "overlap") == [None, None, "none", "0.1 to 0.5", "0.5 or more", None]
    sizes = placed(rows, bands, "size")
    assert sizes[:3] == ["0.1875 or more", "0.1875 or more", "under 0.15"]
    # An edge is of the band above it, also for a box that six decimals have moved by a millionth.
    assert sizes[-1] == "0.1875 or more"
    moved = [[0.000001, 0, 0.25, 0.25], [0.249999, 0, 0.5, 0.25]]
    assert placed([layout(0, moved)], Bands(size=(0.25,)), "size") == ["0.25 or more"] * 2
    assert placed([layout(0, moved)], Bands(), "overlap") == ["none"]


def test_bands_that_nothing_is_in_and_facets_of_nothing_are_left_out() -> None:
    rows = [layout(0, []), layout(1, [])]
    assert [facet.key for facet in facets(rows, Bands())] == ["objects"]
    assert facets(rows, Bands())[0].bands == ["0"]
    assert facets([], Bands()) == []


def test_a_tag_is_a_facet_where_it_has_few_values_its_numbers_in_order() -> None:
    rows = [layout(i, [], level=3 - i % 2, split=("hard", "easy")[i % 2], hue=i, alone=1) for i in range(6)]
    del rows[0]["tags"]["split"], rows[5]["tags"]
    found = {facet.key: facet for facet in facets(rows, Bands(tag_values=4), ["tags"])}
    assert list(found) == ["tags.level", "tags.split"]
    assert found["tags.level"].bands == ["2", "3"]
    assert found["tags.split"].bands == ["easy", "hard"]  # as the layouts come
    assert found["tags.split"].place_N.tolist() == [-1, 0, 1, 0, 1, -1]
    assert difficulty.many_valued(rows, Bands(tag_values=4)) == ["hue"]
    # Whole numbers in full, and words that Python would take for numbers stay words.
    large = [layout(i, [], large=10**14 + i % 2, word=("nan", "2", "10")[i % 3]) for i in range(6)]
    numbers, words = facets(large, Bands(), ["tags.large", "tags.word"])
    assert (numbers.bands, words.bands) == (["100000000000000", "100000000000001"], ["nan", "2", "10"])
    # A tag that is named has a facet with a single value too, and is refused with too many.
    assert facets(rows, Bands(), ["tags.alone"])[0].bands == ["1"]
    mixed = [layout(i, [], mixed=value) for i, value in enumerate((True, 1, 1.0, "true", "b"))]
    assert facets(mixed, Bands())[-1].place_N.tolist() == [0, 1, 1, 0, 2]
    with pytest.raises(
        InputError, match=r"by tags\.lvel: no layout has the tag 'lvel'; they have level, hue, alone, split"
    ):
        facets(rows, Bands(), ["tags.lvel"])
    with pytest.raises(InputError, match=r"by tags\.hue: the tag has 5 values, more than 4 \(difficulty\.tag_values\)"):
        facets(rows, Bands(tag_values=4), ["tags.hue"])
    with pytest.raises(InputError, match=r"by sizes: expected objects, size, overlap, tags or tags\.NAME"):
        facets(rows, Bands(), ["sizes"])


def read(reader: str, *paths: Path) -> list[dict]:
    return [layouts.as_row(one) for one in read_set(reader, list(paths), Options())[0]]


def test_the_levels_of_coco_mig_and_the_splits_of_overlaybench_fall_out_of_tags(tmp_path) -> None:
    things = ["dog", "cat", "bus", "car", "cup", "bed"]
    boxes = {f"a red {name}": [square(0.15 * place, 0.1, 0.14)] for place, name in enumerate(things)}
    content = {}
    for number in range(10):
        level = 6 - number % 5
        chosen = dict(list(boxes.items())[:level])
        content[f"a photo of {' and '.join(chosen)} {number}"] = {**chosen, "coco_id": str(number)}
    (tmp_path / "mig_bench.yaml").write_text(json.dumps(content, indent=1))
    rows = read("coco_mig", tmp_path / "mig_bench.yaml")
    (facet,) = facets(rows, Bands(), ["tags"])
    assert (facet.key, facet.bands) == ("tags.level", ["2", "3", "4", "5", "6"])
    assert (np.array(facet.bands, int)[facet.place_N] == objects_of(rows)).all()

    (tmp_path / "data").mkdir()
    for number, split in enumerate(("simple", "medium", "hard")):
        cells = [{"annotation": str(literal("dog", "cat")), "image_id": f"{number}{i}"} for i in range(number + 1)]
        pq.write_table(pa.Table.from_pylist(cells), tmp_path / f"data/{split}-00000-of-00001.parquet")
    rows = read("overlaybench", tmp_path)
    split = next(facet for facet in facets(rows, Bands(), ["tags"]) if facet.key == "tags.split")
    assert {band: int((split.place_N == place).sum()) for place, band in enumerate(split.bands)} == {
        "hard": 3,
        "medium": 2,
        "simple": 1,
    }


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/layout_sets beside the checkout")
@pytest.mark.parametrize(
    ("folder", "reader", "name", "tag", "rule"),
    [
        ("coco_mig", "coco_mig", "good.yaml", "level", objects_of),
        ("coco_mig", "coco_mig", "good.json", "level", objects_of),
        ("overlaybench", "overlaybench", ".", "split", lambda rows: ["simple"] * len(rows)),
        ("7bench", "seven_bench", "good.csv", "scenario", None),
        ("layoutbench_coco", "layoutbench_coco", "good.json", "level", objects_of),
    ],
)
def test_samples_of_benchmarks_are_broken_down_by_their_own_difficulty(folder, reader, name, tag, rule) -> None:
    rows = read(reader, SAMPLES / folder / name)
    (facet,) = facets(rows, Bands(), [f"tags.{tag}"])
    found = [facet.bands[place] for place in facet.place_N]
    assert found == [str(value) for value in (rule(rows) if rule else [row["tags"][tag] for row in rows])]


RNG = np.random.default_rng(0)
COUNT = 96


def scenes() -> list[dict]:
    rows = []
    for number in range(COUNT):
        boxes = [square(*RNG.uniform(0, 0.5, 2), RNG.uniform(0.1, 0.4)) for _ in range(number % 4)]
        row = layout(500 - number, boxes, split="all", half=number % 2)
        for thing in row["objects"]:
            thing["phrase"] = ("star", "ring")[RNG.integers(2)]
        rows.append(row | {"image_id": 7 + number // 2})
    return rows


ROWS = scenes()


def run_of(method: str, folder: Path, found: float) -> list[str]:
    """Metrics and scores of a row in which a share of the boxes is found, as evaluation.metrics measures them."""
    seen = [(row["id"], thing) for row in ROWS for thing in row["objects"] if RNG.uniform() < found]
    detections = {
        "detection_ids": np.array([number for number, _ in seen]),
        "detection_labels": np.array([thing["phrase"] for _, thing in seen]),
        "detection_boxes": np.array([thing["box"] for _, thing in seen]) + RNG.normal(0, 0.02, (len(seen), 4)),
        "detection_scores": RNG.uniform(0.3, 1, len(seen)),
    }
    matched = match([row for row in ROWS if row["objects"]], detections)
    shares, scores = leave_out_shares(*matched), scored_boxes(*matched)
    every = [(row["id"], place, row["image_id"]) for row in ROWS for place in range(-1, len(row["objects"]))]
    table = pd.DataFrame(every, columns=["id", "object", "image_id"]).assign(clip=RNG.uniform(0, found, len(every)))
    table = table.merge(scores, "outer", ["id", "object", "image_id"])
    metrics = {name: asdict(jackknife(*share)) for name, share in shares.items()}
    for level, inside in (("image", table["object"] < 0), ("region", table["object"] >= 0)):
        numbers = groups(table[inside]["image_id"])
        metrics[f"{level}_clip"] = asdict(jackknife(leave_out_mean(table[inside]["clip"].to_numpy(), numbers), numbers))
    protocol = row_of(method)["protocol"] | {"detector": {"name": "eye", "sha256": "e" * 64}}
    write_json(folder / f"{method}.json", {"method": method, "metrics": metrics, "protocol": protocol})
    table.to_parquet(folder / f"{method}.parquet", index=False)
    return [method, str(folder / f"{method}.json"), str(folder / f"{method}.parquet")]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_layouts(folder / "layouts.jsonl", ROWS)
    for method, found in (("real", 0.9), ("base", 0.5), ("mine", 0.7), ("other", 0.5)):
        run_of(method, folder, found)
    return folder


def table_of(run: Path, *more: str, rows: tuple[str, ...] = ("real", "base", "mine", "other")) -> pd.DataFrame:
    words = [
        "tables",
        "difficulty",
        "--name",
        "hard",
        "--layouts",
        str(run / "layouts.jsonl"),
        "--out",
        str(run / "hard"),
    ]
    for row in rows:
        words += ["--row", row, str(run / f"{row}.json"), str(run / f"{row}.parquet")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*words, "--against", "base", *more])
        cli.run(main)
    return pd.read_csv(run / "hard.csv")


def test_scores_hold_what_every_mean_is_the_mean_of(run) -> None:
    scores = read_scores(run / "mine.parquet", ROWS, scored({}))
    metrics = json.loads((run / "mine.json").read_text())["metrics"]
    assert set(scores) == set(MEANS) == set(metrics) and len(MEANS) >= 7
    for name, values in scores.items():
        assert np.nanmean(values) == pytest.approx(metrics[name]["value"], abs=1e-12), name


def test_a_band_of_all_has_the_values_errors_and_tests_of_the_whole_row(run) -> None:
    table = table_of(run, "--by", "tags.split").set_index("method")
    read_rows = {name: read_row(run / f"{name}.json", run / f"{name}.parquet") for name in ("base", "mine", "other")}
    known = compare(read_rows, ["base"], {}).set_index(["metric", "method"])
    for name in MEANS:
        for method in read_rows:
            whole = read_rows[method].metrics[name]
            assert table.loc[method, [name, f"{name}_se"]].tolist() == pytest.approx(
                [whole["value"], whole["se"]], abs=1e-12
            )
        line, found = known.loc[(name, "mine")], table.loc["mine"]
        assert found[f"{name}_difference"] == pytest.approx(line["difference"])
        assert found[f"{name}_difference_se"] == pytest.approx(line["se"])
        assert [found[f"{name}_p"], found[f"{name}_p_holm"]] == pytest.approx([line["p"], line["p_holm"]])
        assert found[f"{name}_different"] == line["different"]
    assert table.loc["real", [f"{name}_p" for name in MEANS]].isna().all()
    assert table.loc["base", [f"{name}_p" for name in MEANS]].isna().all()


def test_bands_part_the_whole_and_p_values_are_holms_over_the_table(run) -> None:
    table = table_of(run, "--least", "2", "--objects-bands", "1", "2", "3", "--size-bands", "0.2", "0.3")
    whole = json.loads((run / "mine.json").read_text())["metrics"]
    mine = table[table["method"] == "mine"]
    for facet, rows in mine.groupby("facet"):
        for name in MEANS:
            known = rows.dropna(subset=f"{name}_n")
            if facet == "size" and METRICS[name].mean_over != "box":
                assert known.empty
            elif facet != "overlap":
                known = known[known[f"{name}_n"] > 0]
                mean = np.average(known[name], weights=known[f"{name}_n"])
                assert mean == pytest.approx(whole[name]["value"], abs=1e-9), (facet, name)
    objects = mine[mine["facet"] == "objects"].set_index("band")
    assert objects["images"].to_dict() == {"0": 24, "1": 24, "2": 24, "3 or more": 24}
    assert objects["boxes"].tolist() == [0, 24, 48, 72]
    assert mine[mine["facet"] == "size"]["boxes"].sum() == 144
    for name in MEANS:
        p = table[f"{name}_p"].to_numpy()
        np.testing.assert_allclose(table[f"{name}_p_holm"], holm(p.tolist()), equal_nan=True)
        assert np.isfinite(p).sum() > 10


def test_a_band_of_too_few_images_is_in_the_csv_with_their_number_and_no_means(run) -> None:
    table = table_of(run, "--by", "objects", "--objects-bands", "1", "2", "--least", "60")
    one, more = (table[(table["method"] == "mine") & (table["band"] == band)].iloc[0] for band in ("1", "2 or more"))
    assert np.isnan(one["best_iou"]) and one["images"] == one["best_iou_images"] == 24
    assert np.isnan(more["best_iou"]) and more["images"] == 48
    table_of(
        run, "--by", "objects", "--objects-bands", "1", "2", "--least", "48", "--columns", "best_iou", "image_clip"
    )
    text = grid((run / "hard.md").read_text())
    assert text.startswith(
        "**Hard**\n\nNumber of objects:\n\n| Number of objects | Method | Best IoU | Image CLIP | Images | Boxes |"
    )
    assert "| 1 | mine |" not in text and "| 2 or more | mine |" in text
    assert (
        "- Bands of fewer than 48 images are in the CSV alone: Number of objects 0 (24), Number of objects 1 (24)."
        in text
    )
    assert "-: of fewer than 48 images" in text
    assert (
        "- Best IoU: mean best overlap of a box by detections of a score of at least 0.5, by eye (sha256 eeeeeeeeeeee)."
        in text
    )
    assert "†: not distinguishable from base in the same band" in text


def test_without_a_facet_there_are_the_notes_alone_and_a_figure_that_says_so(run, monkeypatch) -> None:
    assert table_of(run, "--by", "tags", "--tag-values", "1").empty
    text = (run / "hard.md").read_text()
    assert "- Nothing is broken down: no layout lies in a band of any facet." in text
    assert "- Tags with more than 1 values, by which nothing is broken down: half." in text
    said: list[str] = []
    monkeypatch.setattr("evaluation.figures.difficulty.save_sentence", lambda title, words, out: said.append(words))
    figure.draw(read_table(run / "hard.json"), metrics_of({}), {}, run / "hard")
    assert said == ["too few images in every band"]


def test_the_figure_has_a_panel_a_metric_and_the_bands_of_every_facet(run, monkeypatch) -> None:
    figures: list = []
    monkeypatch.setattr("evaluation.figures.difficulty.save", lambda drawn, out: figures.append(drawn))
    table_of(run, "--by", "objects", "size", "--objects-bands", "1", "2", "3", "--size-bands", "0.2", "--least", "2")
    figure.draw(read_table(run / "hard.json"), metrics_of({}), {}, run / "hard")
    panels = {axis.get_title(loc="left").split(",")[0]: axis for axis in figures[0].axes if axis.get_visible()}
    assert list(panels) == [METRICS[name].title for name in MEANS]
    bands = {title: [text.get_text() for text in axis.get_xticklabels()] for title, axis in panels.items()}
    assert bands["Best IoU"] == ["0", "1", "2", "3 or more", "under 0.2", "0.2 or more"]
    assert bands["Image CLIP"] == ["0", "1", "2", "3 or more"]
    # A line a row and facet, through the values of the table.
    table = read_frame(run / "hard.json")
    mine = table[(table["method"] == "mine") & (table["facet"] == "size")]
    lines = [container.lines[0].get_ydata().tolist() for container in panels["Best IoU"].containers]
    assert len(lines) == 8 and mine["best_iou"].tolist() in lines


def test_a_difference_without_an_error_is_marked_as_untested() -> None:
    rows = [layout(i, [square(0, 0, 0.5)], half=i % 2) for i in range(60)]
    scores = {"base": np.zeros(60), "mine": np.ones(60), "alike": np.zeros(60)}
    found = {method: {"best_iou": values} for method, values in scores.items()}
    metrics, known = [METRICS["best_iou"]], facets(rows, Bands(), ["tags.half"])
    table = breakdown(rows, known, metrics, found, "base", 2)
    called = {name: name for name in scores}
    protocol = row_of("mine")["protocol"]
    text = grid(markdown(difficulty_table("T", rows, known, Bands(), metrics, table, called, protocol, "base")))
    assert "| 0 | mine | 1.000 ± 0.000¶ | 30 | 30 |" in text and "| 0 | alike | 0.000 ± 0.000† | 30 | 30 |" in text
    assert "¶: not tested, the difference being the same in every group of images" in text


def test_more_tests_than_flips_can_resolve_are_said(run, monkeypatch) -> None:
    monkeypatch.setattr("evaluation.tables.difficulty.FLIPS", 100)
    table_of(run, "--by", "objects", "tags.half")
    assert "by Image CLIP, Region CLIP: give the table fewer facets or rows." in (run / "hard.md").read_text()


def test_what_does_not_fit_is_one_line(run, tmp_path, capsys) -> None:
    def said(*more: str, **rows: tuple[str, ...]) -> str:
        with pytest.raises(SystemExit):
            table_of(run, *more, **rows)
        return capsys.readouterr().err

    assert said("--columns", "ap50").startswith(
        "error: --columns ap50: no mean over images, boxes or labels, which are image_clip"
    )
    assert said("--columns", "imag_clip").startswith("error: imag_clip: no metric of METRICS")
    assert said(rows=("real", "mine")) == "error: --against base: not among the rows, real, mine\n"
    assert said("--by", "tags.splt") == "error: by tags.splt: no layout has the tag 'splt'; they have split, half\n"
    assert said("--size-bands", "0.3", "0.2") == "error: --size-bands 0.3 0.2: expected ascending edges\n"
    assert "expected a number between 0 and 1, found '3'" in said("--size-bands", "3")
    other = json.loads((run / "mine.json").read_text())
    write_json(run / "odd.json", other | {"protocol": other["protocol"] | {"resolution": 8}})
    (run / "odd.parquet").write_bytes((run / "mine.parquet").read_bytes())
    assert (
        said(rows=("base", "odd"))
        == "error: odd: measured otherwise than base: resolution 8, but None; measure both alike\n"
    )


def test_where_a_metric_is_not_known_of_all_boxes_those_known_in_both_rows_are_compared() -> None:
    rng = np.random.default_rng(0)
    rows = [layout(i, [square(0, 0, 0.5)], half=i % 2) for i in range(60)]
    base, mine = rng.random(60), rng.random(60)
    base[:4], mine[50:] = np.nan, np.nan
    scores = {"base": {"best_iou": base}, "mine": {"best_iou": mine}}
    found = breakdown(rows, facets(rows, Bands(), ["tags.half"]), [METRICS["best_iou"]], scores, "base", 2)
    lines = found.set_index(["method", "band"])
    for half in (0, 1):
        both = np.flatnonzero((np.arange(60) % 2 == half) & ~np.isnan(base + mine))
        assert lines.loc[("mine", str(half)), "difference"] == pytest.approx((mine[both] - base[both]).mean())
        assert lines.loc[("mine", str(half)), "n"] == (np.arange(50) % 2 == half).sum()
    scores["base"] = {"best_iou": np.full(60, np.nan)}
    without = breakdown(rows, facets(rows, Bands(), ["tags.half"]), [METRICS["best_iou"]], scores, "base", 2)
    assert without["p"].isna().all() and without.set_index("method").loc["mine", "value"].notna().all()


def test_without_a_reference_row_nothing_is_tested(run) -> None:
    scores = {"mine": read_scores(run / "mine.parquet", ROWS, scored({}))}
    table = breakdown(ROWS, facets(ROWS, Bands(), ["tags.half"]), scored({}), scores, None, 2)
    assert table["p"].isna().all() and set(table["different"]) == {""}
    assert table["value"].notna().all()


def test_scores_of_other_objects_than_the_layouts_are_refused(run) -> None:
    fewer = [row | {"objects": row["objects"][:1]} for row in ROWS]
    with pytest.raises(
        InputError, match=r"other objects than the layouts': layout \d+ has 1, and a score of its object 2"
    ):
        read_scores(run / "mine.parquet", fewer, scored({}))
    table = pd.read_parquet(run / "mine.parquet")
    pd.concat([table, table[:1]]).to_parquet(run / "odd.parquet", index=False)
    with pytest.raises(InputError, match="has several rows of object"):
        read_scores(run / "odd.parquet", ROWS, scored({}))
