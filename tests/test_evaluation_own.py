"""A metric of one's own is a module and a stanza: the documentation's example goes from boxes to tables, tests and the page."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluation.detectors import Detections, Detector
from evaluation.feature_files import FeatureShards
from evaluation.features import Networks, write_features
from evaluation.figures.__main__ import main as figures
from evaluation.layouts import write_layouts
from evaluation.metrics import METRICS, metrics_of, own
from evaluation.metrics.__main__ import main as metrics
from evaluation.metrics.measure import measure
from evaluation.metrics.metric import KEYS, Measured, Metric, mean_of_scores, scores_of
from evaluation.metrics.own import check_names, load
from evaluation.metrics.summary import Summaries, write_summaries
from evaluation.protocol import Protocol
from evaluation.regions import regions
from evaluation.report.packed import MISSING, pack_scores, unit_of
from evaluation.scores import read_scores
from evaluation.tables.__main__ import main as tables
from formats import cli
from formats.files import InputError, write_json
from formats.images import write_images
from tests.dag import ROOT
from tests.own_metrics import layout, measured, values
from tests.tables import grid
from tests.test_evaluation_protocol import Mean

BOX = [0.25, 0.25, 0.75, 0.75]
COUNT = 60


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    """The module of docs/metrics.md, by its name."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- metric -->\n```python\n(.*?)```\n<!-- /metric -->", page, re.DOTALL)
    assert code and sum(line.strip() != "" for line in code[1].splitlines()) < 40
    (tmp_path / "mine_metrics").mkdir()
    (tmp_path / "mine_metrics/__init__.py").touch()
    (tmp_path / "mine_metrics/centres.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_metrics.centres"
    for name in ("mine_metrics.centres", "mine_metrics"):
        sys.modules.pop(name, None)


def test_the_example_is_right(example) -> None:
    rows = [layout(1, ("star", BOX), ("ring", BOX)), layout(2, ("star", BOX))]
    (one,) = load({"off": {"module": example, "params": {"most": 0.75}}})
    seen = [(1, "star", [0.55, 0.65, 1.0, 1.0], 0.9), (1, "star", [0.6, 0.6, 1.0, 1.0], 0.9), (2, "star", BOX, 0.2)]
    # The nearer star is off by (0.275, 0.325), the ring not found, and the star of layout 2 not surely.
    expected = (min(np.hypot(0.275, 0.325), np.hypot(0.3, 0.3)) + 0.75 + 0.75) / 3
    assert values(one.metrics, measured(rows, *seen)) == {"off": pytest.approx(expected)}


def row_of(folder, name: str, shift: float, owns) -> None:
    """The metrics and scores files of a row of which the detector finds every box moved by `shift`."""
    rng = np.random.default_rng(len(name))
    rows = [layout(number, ("star", BOX)) for number in range(COUNT)]
    write_layouts(folder / "layouts.jsonl", rows)
    images = [(f"{n:012d}.png", rng.integers(1, 256, (8, 8, 3), np.uint8)) for n in range(COUNT)]
    write_images(folder / f"{name}.zip", images, {})

    def find(images, phrases):
        moved = [[0.25 + s, 0.25, 0.75 + s, 0.75] for s in shift + rng.normal(0, 0.01, len(images))]
        return [Detections(np.array([box], np.float32), np.ones(1, np.float32), ["star"]) for box in moved]

    detector = Detector(lambda image: image, find, ["star"], name="shaken", sha256="0")
    networks = Networks({"frechet": Mean(), "clip": Mean()}, {"detector": detector})
    out = folder / f"{name}.npz"
    write_features(folder / f"{name}.zip", rows, regions(rows, 8, 1), networks, Protocol(), out, own=owns)
    write_summaries(FeatureShards([out]), folder / f"{name}-sums.npz")


def call(main, *words: object, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *map(str, words)])
    cli.run(main)


def test_it_is_measured_compared_tabulated_drawn_and_shown_without_a_further_line(
    example, tmp_path, monkeypatch
) -> None:
    config = {"extractors": {}, "metrics": {"off": {"module": example}, "gone": None}}
    write_json(tmp_path / "config.json", config)
    owns = load(config["metrics"])
    names = {"real": 0.0, "near": 0.02, "far": 0.1}
    for name, shift in names.items():
        row_of(tmp_path, name, shift, owns)
        call(
            metrics,
            *("measure", "--method", name, "--split", "test", "--layouts", tmp_path / "layouts.jsonl"),
            *("--summary", tmp_path / f"{name}-sums.npz", "--own", tmp_path / "config.json"),
            *("--out", tmp_path / f"{name}.json", "--scores", tmp_path / f"{name}/test.parquet"),
            monkeypatch=monkeypatch,
        )
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in names}
    results = {name: content["metrics"]["off"] for name, content in found.items()}
    assert results["far"]["value"] == pytest.approx(0.1, abs=0.01) and 0 < results["far"]["se"] < 0.01
    scores = pd.read_parquet(tmp_path / "far/test.parquet")
    assert scores["off"].mean() == pytest.approx(results["far"]["value"]) and len(results["far"]["left_out"]) > 15

    # Whatever reads the files knows the metric from them alone.
    (tmp_path / "mine_metrics/centres.py").unlink()
    sys.modules.pop(example)
    files = [tmp_path / f"{name}.json" for name in names]
    call(tables, "adherence", "--metrics", *files, "--out", tmp_path / "adherence", monkeypatch=monkeypatch)
    page = (tmp_path / "adherence.md").read_text()
    assert "| Off |" in grid(page) and "Off: the centre's distance from the box's." in page
    assert re.search(r"\| far \|.*\| 0\.\d+ ± 0\.0\d+ \|\n", grid(page))
    pairs = []
    for name in ("near", "far"):
        pairs += ["--row", tmp_path / f"{name}.json", tmp_path / f"{name}/test.parquet"]
    call(tables, "significance", *pairs, "--against", "far", "--out", tmp_path / "paired", monkeypatch=monkeypatch)
    line = pd.read_csv(tmp_path / "paired.csv").set_index("metric").loc["off"]
    assert line["difference"] == pytest.approx(results["near"]["value"] - results["far"]["value"], abs=1e-4)
    assert line["different"] == "yes" and line["p"] < 0.01
    published = ROOT / "workflow/config/published.csv"
    words = ["metrics", "--metrics", *files, "--published", published, "--out", tmp_path / "figure"]
    call(figures, *words, monkeypatch=monkeypatch)
    assert "Off centre" in (tmp_path / "figure.svg").read_text()
    rows = [layout(number, ("star", BOX)) for number in range(COUNT)]
    known = metrics_of(found["far"]["protocol"])
    shown = [metric for metric in known.values() if metric.scores]
    packed = pack_scores([read_scores(tmp_path / f"{name}/test.parquet", rows, shown) for name in names], shown)
    assert packed["off"]["title"] == "Off centre" and packed["off"]["perBox"] and not packed["off"]["higherIsBetter"]
    assert known["off"].described() == owns[0].metrics[0].described()


@pytest.mark.parametrize(
    ("stanzas", "said"),
    [
        ([], r"metrics is \[\], expected names with a module each"),
        ({"A/b": {"module": "x"}}, "metrics.A/b: 'A/b' is not a name of small letters, digits and _"),
        ({1: {"module": "x"}}, "metrics.1: 1 is not a name"),
        ({"a": {}}, "metrics.a is {}, expected a text `module` in it"),
        ({"a": {"module": "no.such.module"}}, "metrics.a.module: no module 'no.such.module'"),
        ({"a": {"module": "../x"}}, "metrics.a.module: no module '../x'"),
        (
            {"a": {"module": "json"}},
            "metrics.a.module: module 'json' has no dataclass `Params` and no function `metrics`",
        ),
        ({"a": {"module": "evaluation.metrics.counts", "parms": {}}}, "metrics.a: parms: unknown key"),
        ({"a": {"module": "evaluation.metrics.counts", "params": []}}, None),
        (
            {"a": {"module": "evaluation.metrics.counts", "params": [1]}},
            r"metrics.a.params is \[1\], expected a mapping",
        ),
        (
            {"a": {"module": "evaluation.metrics.relations", "params": {"rul": 1}}},
            "metrics.a.params: rul: unknown key",
        ),
        ({"a": {"module": "evaluation.metrics.attributes"}}, "metrics.a.params: .*'values'"),
    ],
)
def test_a_wrong_stanza_is_one_line(stanzas, said) -> None:
    if said is None:
        load(stanzas)
        return
    with pytest.raises(InputError, match=f"^{said}") as error:
        load(stanzas)
    assert "\n" not in str(error.value)


def test_names_and_columns_are_one_metrics_own(example) -> None:
    stanza = {"module": example}
    with pytest.raises(InputError, match=r"metrics\.ap: this project has a metric 'ap'"):
        check_names(load({"ap": stanza}))
    with pytest.raises(InputError, match=r"metrics\.success: this project has the column 'success' of the scores"):
        check_names(load({"success": stanza}))
    counting = {"module": "evaluation.metrics.counts"}
    with pytest.raises(InputError, match=r"metrics\.n_f1: metrics\.n has a metric 'n_f1'"):
        check_names(load({"n": counting, "n_f1": stanza}))
    check_names(load({"off": stanza}))
    check_names(load({"off": stanza}))


def test_a_column_of_two_metrics_is_refused(tmp_path, example) -> None:
    (one,) = load({"off": {"module": example}})
    row_of(tmp_path, "row", 0.0, [])
    rows = [layout(number, ("star", BOX)) for number in range(COUNT)]
    again = Metric(
        "again", "box", "detector", "", 3, mean_of_scores, scores="off", scored=lambda of: one.metrics[0].scored(of)
    )
    row = Summaries(tmp_path / "row-sums.npz")
    with pytest.raises(InputError, match="column 'off' of the scores is written by two metrics"):
        measure(row, None, rows, own=[replace(one, metrics=(*one.metrics, again))])
    with pytest.raises(InputError, match="again: its scores have no column 'again', only id, object, image_id, off"):
        measure(row, None, rows, own=[replace(one, metrics=(replace(again, scores="again"),))])


def test_what_a_file_describes_must_be_a_metric(example) -> None:
    (one,) = load({"off": {"module": example}})
    (metric,) = one.metrics
    described = metric.described()
    assert json.loads(json.dumps(described)) == described
    for content, said in (
        ([], r"is described as \[\]"),
        ({"off": {"head": "x"}}, "off is not described as a metric"),
        ({"off": described | {"colour": 1}}, "off is not described as a metric .*colour"),
        ({"off": described | {"level": "row"}}, "off is not described as a metric .*level 'row'"),
        ({"off": described | {"digits": "x"}}, "off is not described as a metric .*digits 'x'"),
        ({"of": described}, "of is described as off"),
        ({"ap": METRICS["ap"].described()}, "metrics: the metric ap is there already"),
    ):
        with pytest.raises(InputError, match=said) as error:
            metrics_of({"metrics": {"mine": {"described": content}}})
        assert "\n" not in str(error.value)
    known = metrics_of({"metrics": {"mine": {"described": {"off": described}}}})
    with pytest.raises(InputError, match="computed by the programs that are given its configuration"):
        known["off"].compute(measured([]), known["off"])


def test_a_configuration_or_its_section_is_given() -> None:
    stanza = {"off": {"module": "x"}}
    assert own.section({"metrics": stanza, "data": {}}) == own.section(stanza) == stanza
    assert own.section({"extractors": {}}) == own.section({"metrics": None}) == {}


def test_scores_of_any_size_fit_the_page() -> None:
    assert unit_of(np.array([0.5, -1.0, np.nan])) == unit_of(np.array([])) == 10_000
    for largest in (3.2, 3.3, 40, 1e9, np.inf):
        values = np.array([largest, -0.1])
        finite = values[np.isfinite(values)]
        assert np.abs(np.round(finite * unit_of(values))).max() < -MISSING


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([[1, -1, 10, 0.5], [1, -1, 10, 0.7]], r"several scores of layout 1 \(image 10\), expected one"),
        ([[1, 7, 10, 0.5]], r"a score of object 7 of layout 1 \(image 10\), which the layouts do not have"),
        ([[5, -1, 10, 0.5]], r"a score of layout 5 \(image 10\), which the layouts do not have"),
    ],
)
def test_scores_are_one_a_layout_or_object_that_there_is(more, said) -> None:
    layouts = [{"id": 1, "image_id": 10, "objects": [{"phrase": "dog", "box": [0, 0, 1, 1]}]}]
    table = pd.DataFrame(more, columns=[*KEYS, "x"])
    metric = replace(METRICS["image_clip"], quantity="x", scores="x", scored=lambda measured: table)
    with pytest.raises(InputError, match=said):
        scores_of(Measured(None, None, layouts), metric)  # type: ignore[arg-type]
