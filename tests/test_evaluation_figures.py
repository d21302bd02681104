"""Figures: what they are drawn from, and that the same numbers give the same bytes."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.figures import calibration, categories, drawing, panel, training
from evaluation.figures.__main__ import main
from evaluation.metrics import by_sample_count
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.jackknife import groups
from evaluation.metrics.summary import Summary
from evaluation.tables.published import labels, read_published, stated_labels
from formats import images
from formats.files import InputError, write_json
from formats.images import write_images
from tests.test_evaluation_frechet import thinned
from tests.test_evaluation_metrics import ROOT, row_of

PUBLISHED = ROOT / "workflow/config/published.csv"


def call(monkeypatch, figure: str, **arguments: object) -> None:
    words = [figure]
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    monkeypatch.setattr(sys, "argv", ["program", *words])
    main()


def drawn(out: Path) -> list[bytes]:
    """The bytes of both forms, after a look at them."""
    png, svg = (out.with_name(f"{out.name}.{kind}") for kind in ("png", "svg"))
    assert min(Image.open(png).size) > 100
    text = svg.read_text()
    assert text.rstrip().endswith("</svg>")
    assert "dc:date" not in text
    return [png.read_bytes(), svg.read_bytes()]


def summary(seed: int, ids: range, width: int = 3, shift: float = 0.0) -> Summary:
    rows = np.random.default_rng(seed).standard_normal((len(ids), width)) + shift
    return Summary.of(rows, groups(ids))


def test_the_whole_sample_has_the_tables_distance_and_fewer_have_more() -> None:
    a, b = summary(0, range(4000)), summary(1, range(4000))
    found = pd.DataFrame(by_sample_count.by_size(a, b))
    assert found["n"].iloc[-1] == 4000
    whole = frechet_distance(*a.whole().mean_and_covariance(), *b.whole().mean_and_covariance())
    assert found["fid"].iloc[-1] == pytest.approx(whole, abs=1e-9)
    assert found["runs"].tolist() == [5, 5, 5, 2, 1]
    assert (found["floor"].diff().dropna() < 0).all()
    # Two samples of one distribution: each size's mean distance is about its floor.
    assert found["fid"].iloc[0] == pytest.approx(found["floor"].iloc[0], rel=0.5)


def test_real_is_compared_with_other_images_of_its_own() -> None:
    a = summary(0, range(2000))
    apart = pd.DataFrame(by_sample_count.by_size(a, a, apart=True))
    assert apart["n"].max() < 1100
    assert (apart["fid"] > 0).all()
    assert pd.DataFrame(by_sample_count.by_size(a, a))["fid"].abs().max() < 1e-9


def test_a_subset_is_the_rows_of_its_groups() -> None:
    whole = summary(0, range(200))
    part = by_sample_count.only(whole, range(4))
    assert part.n == len(part.sample_SD) == (groups(range(200)) < 4).sum()
    assert part.whole().mean_D == pytest.approx(part.sample_SD.mean(0))


def test_a_reference_that_kept_some_of_its_rows_stands_for_all_of_them() -> None:
    few, real = summary(0, range(60), width=80), summary(1, range(800), width=80)
    found, expected = (pd.DataFrame(by_sample_count.by_size(few, of)) for of in (thinned(real), real))
    assert len(expected) == len(by_sample_count.SIZES)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


def test_nothing_gives_no_distance() -> None:
    few = summary(0, range(60), width=80)
    assert list(by_sample_count.by_size(Summary({}, np.zeros((0, 0)), np.zeros(0, int)), few)) == []


def test_a_categorys_score_is_the_mean_of_its_regions() -> None:
    ids = list(range(40))
    scores = pd.DataFrame({"id": ids * 2, "object": [-1] * 40 + [0] * 40, "image_id": ids * 2})
    scores["clip"] = [0.9] * 40 + [0.1] * 30 + [0.3] * 10
    phrases = pd.DataFrame({"id": ids, "object": 0, "phrase": ["star"] * 30 + ["ring"] * 10})
    found = categories.by_category(scores, phrases)
    assert found["phrase"].tolist() == ["star", "ring"]
    assert found["n"].tolist() == [30, 10]
    assert found["clip"].tolist() == pytest.approx([0.1, 0.3])
    assert found["se"].tolist() == pytest.approx([0, 0])


def test_a_run_whose_boxes_are_all_too_small_has_its_figures(tmp_path, monkeypatch) -> None:
    scores = pd.DataFrame({"id": [1, 2], "object": -1, "image_id": [1, 2], "clip": 0.5})
    scores.to_parquet(tmp_path / "scores.parquet")
    scores[:0].assign(phrase="").to_parquet(tmp_path / "regions.parquet")
    arguments = {"methods": "real", "published": PUBLISHED, "scores": tmp_path / "scores.parquet"}
    call(monkeypatch, "categories", regions=tmp_path / "regions.parquet", **arguments, out=tmp_path / "categories")
    drawn(tmp_path / "categories")
    panel.draw(panel.choose_layouts([{"objects": []}]), {"real": []}, tmp_path / "panel")
    drawn(tmp_path / "panel")
    pd.DataFrame(columns=by_sample_count.COLUMNS).to_csv(tmp_path / "sizes.csv", index=False)
    call(monkeypatch, "sizes", sizes=tmp_path / "sizes.csv", published=PUBLISHED, out=tmp_path / "sizes")
    drawn(tmp_path / "sizes")


def test_the_panel_decodes_the_images_it_shows_and_no_other(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    thing = {"phrase": "dog", "box": [0.1, 0.1, 0.6, 0.6]}
    rows = [{"id": 100 - i, "image_id": i, "caption": "a dog", "objects": [thing] * (i == 7)} for i in range(11)]
    pixels = {row["id"]: rng.integers(0, 256, (8, 8, 3), np.uint8) for row in rows}
    for shard in range(3):
        members = [(f"{row['id']:012d}.png", pixels[row["id"]]) for row in rows[4 * shard : 4 * shard + 4]]
        write_images(tmp_path / f"samples/real/test/{shard:04d}.zip", members, {})
    (tmp_path / "layouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    decoded, decode = [], images.decoded
    monkeypatch.setattr(images, "decoded", lambda content: decoded.append(decode(content)) or decoded[-1])
    shown: dict = {}
    monkeypatch.setattr(panel, "draw", lambda chosen, pictures, out: shown.update(pictures))
    call(
        monkeypatch,
        "panel",
        layouts=tmp_path / "layouts.jsonl",
        samples=tmp_path / "samples",
        shard_size=4,
        methods=["real"],
        published=ROOT / "workflow/config/published.csv",
        out=tmp_path / "panel",
    )
    assert len(decoded) == 1
    ((picture,),) = shown.values()
    assert np.array_equal(picture, pixels[93])


def test_names_are_those_of_the_tables() -> None:
    published, rows = read_published(PUBLISHED), ["real", "hcma", "hcma_no_c2ia", "mine"]
    assert labels(rows, published, {}) == dict(zip(rows, ["real", "HCMA (SD-v1.4)", "O2RA only", "mine"], strict=True))
    assert labels(["hcma"], published, {}, "table2") == {"hcma": "C2IA + O2RA"}
    stated = stated_labels(["mine=ours = 2", "hcma=HCMA"])
    assert labels(["hcma", "mine"], published, stated, "table2") == {"hcma": "HCMA", "mine": "ours = 2"}
    with pytest.raises(InputError, match="--labels mine: expected METHOD=LABEL"):
        stated_labels(["mine"])


def test_other_files_are_no_published_values(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        read_published(Path("nowhere.csv"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: not a table of published values"):
        read_published(tmp_path / "other.csv")


def test_rows_differ_in_colour_and_marker() -> None:
    look = drawing.looks(["real", *map(str, range(20))])
    assert look["real"] == drawing.REAL
    assert len(set(look.values())) == 21


def test_equal_numbers_give_equal_bytes_of_every_figure(tmp_path, monkeypatch) -> None:
    for name in ("real", "hcma"):
        write_json(tmp_path / f"{name}.json", row_of(name))
        table = pd.DataFrame({"level": ["image", "image", "region"], "n": [9, 99, 99], "fid": 3.0, "floor": [2, 1, 1]})
        table.assign(method=name).to_csv(tmp_path / f"{name}.csv", index=False)
        scores = pd.DataFrame({"id": range(9), "object": 0, "image_id": range(9), "clip": np.linspace(0, 1, 9)})
        scores.to_parquet(tmp_path / f"{name}.parquet")
    scores.assign(phrase=["a $ta$r"] * 5 + ["r$ing"] * 4).to_parquet(tmp_path / "regions.parquet")
    point = {"gains": dict.fromkeys(("image_fid", "image_clip"), 1.0), "score": 1.0, "behind_se": 0.5}
    curve = [point | {"eta": 0.1}, point | {"eta": 10.0}]
    write_json(tmp_path / "calibration.json", {"eta": 0.1, "n_images": 48, "curve": curve, "warnings": []})
    curves = {"step": [0, 2], "train_global": [None, 0.5], "recall_100": [0.1, 0.2], "label_accuracy_100": [0.1, 0.2]}
    pd.DataFrame(curves | {"kept": [1, 0]}).to_csv(tmp_path / "curves.csv", index=False)
    rows = {kind: [tmp_path / f"{name}.{kind}" for name in ("real", "hcma")] for kind in ("json", "csv", "parquet")}
    calls = {
        "metrics": {"metrics": rows["json"], "published": PUBLISHED},
        "sizes": {"sizes": rows["csv"], "published": PUBLISHED},
        "categories": {"regions": tmp_path / "regions.parquet", "methods": ["real", "hcma"]}
        | {"scores": rows["parquet"], "published": PUBLISHED},
        "training": {"curves": tmp_path / "curves.csv"},
        "calibration": {"calibration": tmp_path / "calibration.json"},
    }
    for name, arguments in calls.items():
        for folder in ("once", "again"):
            call(monkeypatch, name, **arguments, out=tmp_path / folder / name)
        assert drawn(tmp_path / "once" / name) == drawn(tmp_path / "again" / name)


def test_what_makes_a_choice_doubtful_stands_in_the_figure(tmp_path, monkeypatch) -> None:
    figures = []
    monkeypatch.setattr(calibration, "save", lambda figure, out: figures.append(figure))
    point = {"gains": {"image_fid": 1.0}, "score": 1.0, "behind_se": 0.5}
    chosen = {"eta": 0.1, "n_images": 48, "curve": [point | {"eta": 0.1}, point | {"eta": 10.0}]}
    for warnings in ([], ["the best score stands at an end", "none is better"]):
        calibration.draw(chosen | {"warnings": warnings}, tmp_path / "one")
    written = ["\n".join(text.get_text() for text in figure.axes[0].texts) for figure in figures]
    assert "Warning" not in written[0]
    assert "Warning: the best score stands at an end.\nWarning: none is better." in written[1]


def test_every_kind_of_column_of_a_training_has_a_panel(tmp_path, monkeypatch) -> None:
    figures = []
    monkeypatch.setattr(training, "save", lambda figure, out: figures.append(figure))
    noise = {"step": [0, 2], "train_noise": [None, 0.5], "heldout_noise": [0.7, 0.6], "baseline_noise": [0.7, 0.7]}
    both = noise | {"heldout_global": [0.9, 0.8], "recall_100": [0.1, 0.2]}
    for columns in (noise, both):
        training.draw([pd.DataFrame(columns | {"kept": [0, 1]}).set_index("step")], tmp_path / "one")
    titles = [[axis.get_title(loc="left").strip() for axis in figure.axes] for figure in figures]
    assert titles == [["Noise loss"], ["Losses", "Noise loss", "Caption recall@1, held out"]]
    assert [line.get_label() for line in figures[0].axes[0].lines][-1] == "kept: step 2"


def test_a_single_candidate_is_said_and_other_files_are_refused(tmp_path, monkeypatch) -> None:
    calibration.draw({"eta": 0.5, "n_images": 16, "curve": [{"eta": 0.5}], "warnings": []}, tmp_path / "one")
    drawn(tmp_path / "one")
    write_json(tmp_path / "other.json", {"eta": 1})
    with pytest.raises(InputError, match=r"other\.json: not a calibration of eta \(no `curve`\)"):
        call(monkeypatch, "calibration", calibration=tmp_path / "other.json", out=tmp_path / "none")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for figure, arguments in (
        ("training", {"curves": tmp_path / "other.csv"}),
        ("sizes", {"sizes": tmp_path / "other.csv", "published": PUBLISHED}),
    ):
        with pytest.raises(InputError, match=r"other\.csv: not "):
            call(monkeypatch, figure, **arguments, out=tmp_path / "none")
