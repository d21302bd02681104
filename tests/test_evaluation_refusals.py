"""What must not become a number: every program of the evaluation refuses it in one line that names what and where."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import __main__ as alone
from evaluation import features
from evaluation.layouts import read_layout_rows, write_layouts
from evaluation.metrics.__main__ import main as metrics_main
from evaluation.regions import regions
from evaluation.tables.__main__ import main as tables_main
from evaluation.tables.cost import cost_table
from evaluation.tables.table import write_table
from formats import cli
from formats.files import read_json, write_json
from formats.images import read_images, write_images
from tests.tables import grid
from tests.test_evaluation_metrics import ROOT, extractors, images, layouts  # noqa: F401  (a fixture)

META = {"spec": {"method": "m", "version": 1}, "weights_sha256": {"model": "0"}, "versions": {"torch": "2.0"}}
METHODS = ("real", "mine", "other")


def start(main: Callable[[], None], *command: str, **options: Any) -> None:
    words = [[f"--{name}", *map(str, value if isinstance(value, list) else [value])] for name, value in options.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *command, *(word for option in words for word in option)])
        cli.run(main)


def extract(folder: Path, method: str, shard: int) -> None:
    start(
        features.main,
        layouts=folder / f"{shard}.jsonl",
        images=folder / f"{method}-{shard}.zip",
        regions=folder / f"{shard}.parquet",
        extractors=folder / "extractors.json",
        out=folder / f"{method}-{shard}.npz",
        **{"min-side": 6},
    )


def summarize(folder: Path, method: str, shards: Sequence[int] = (0, 1)) -> None:
    features = [folder / f"{method}-{i}.npz" for i in shards]
    start(metrics_main, "summarize", features=features, out=folder / f"{method}.npz")


def measure(folder: Path, method: str, shards: int = 2) -> None:
    summarize(folder, method, range(shards))
    start(
        metrics_main,
        "measure",
        method=method,
        split="test",
        layouts=[folder / f"{i}.jsonl" for i in range(shards)],
        summary=folder / f"{method}.npz",
        real=folder / "real.npz",
        out=folder / f"{method}.json",
        scores=folder / f"{method}.parquet",
    )


def swap(folder: Path, shards_of_other: tuple[int, ...] = (0, 1), reference_set: str = "same_ids") -> None:
    summarize(folder, "other", shards_of_other)
    start(
        metrics_main,
        "swap",
        row=["mine", folder / "mine.npz", "--row", "other", folder / "other.npz"],
        real=folder / "real.npz",
        out=folder / "swaps.json",
        **{"reference-set": reference_set},
    )


def rows(folder: Path) -> list:
    return [
        word for name in ("mine", "other") for word in ("--row", folder / f"{name}.json", folder / f"{name}.parquet")
    ]


def compare_rows(folder: Path) -> None:
    start(
        tables_main,
        "significance",
        against=["mine", *rows(folder)],
        swaps=folder / "swaps.json",
        out=folder / "significance",
    )


def find_best(folder: Path) -> None:
    start(
        tables_main,
        "best",
        table=["table1", "mine", "other", *rows(folder)],
        swaps=folder / "swaps.json",
        out=folder / "best",
    )


def tabulate(folder: Path) -> None:
    start(
        tables_main,
        "headline",
        name="table1",
        metrics=[folder / "mine.json", folder / "other.json"],
        rows=["mine", "other"],
        published=ROOT / "workflow/config/published.csv",
        cost=folder / "cost.json",
        significance=folder / "significance.json",
        best=folder / "best.json",
        **{"mark-against": "mine"},
        data=folder / "data.json",
        out=folder / "table1",
    )


def score_alone(folder: Path, layouts_of: tuple[int, ...] = (0, 1), images_of: tuple[int, ...] = (0, 1)) -> None:
    start(
        alone.main,
        layouts=[folder / f"{i}.jsonl" for i in layouts_of],
        images=[folder / f"mine-{i}.zip" for i in images_of],
        real=[folder / f"real-{i}.zip" for i in images_of],
        extractors=folder / "extractors.json",
        out=folder / "alone",
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory, extractors) -> Path:  # noqa: F811
    """Two shards of three methods, from images to metrics."""
    folder = tmp_path_factory.mktemp("good")
    write_json(folder / "extractors.json", extractors)
    boxes = {"min_area_frac": 0.01, "max": 30, "drop_crowd": True}
    sample = {"count": 16, "seed": 1, "require_boxes": False}
    data = {"caption": "first", "resize": "center_crop", "size": 64, "boxes": boxes, "test": sample}
    write_json(folder / "data.json", data)
    drawn = layouts(16)
    for shard in range(2):
        part = drawn[8 * shard : 8 * shard + 8]
        write_layouts(folder / f"{shard}.jsonl", part)
        regions(part, 64, 6).to_parquet(folder / f"{shard}.parquet", index=False)
        for seed, method in enumerate(METHODS):
            write_images(folder / f"{method}-{shard}.zip", images(part, 10 * seed + shard), META)
            extract(folder, method, shard)
    summarize(folder, "real")
    for method in METHODS:
        measure(folder, method)
    swap(folder)
    compare_rows(folder)
    find_best(folder)
    write_table(cost_table([]), folder / "cost")
    return folder


def without_one(folder: Path) -> None:
    rewrite(folder / "mine-1.zip", lambda pictures: pictures[:-1])
    extract(folder, "mine", 1)


def blackened(folder: Path) -> None:
    rewrite(
        folder / "mine-1.zip", lambda pictures: [(name, pixels * (i > 1)) for i, (name, pixels) in enumerate(pictures)]
    )
    extract(folder, "mine", 1)


def rewrite(path: Path, change: Callable[[list], list]) -> None:
    ids = [row["id"] for row in read_layout_rows(path.with_name("1.jsonl"))]
    write_images(path, change([(f"{number:012d}.png", pixels) for number, pixels in read_images(path, ids)]), META)


def edit(path: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(path) as arrays:
        content = {name: changes.get(name, lambda array: array)(arrays[name]) for name in arrays.files}
    np.savez(path, **content)


def restated(change: Callable[[dict], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def edited(array: np.ndarray) -> np.ndarray:
        content = json.loads(str(array))
        change(content)
        return np.array(json.dumps(content, sort_keys=True))

    return edited


def not_finite(folder: Path) -> None:
    edit(folder / "mine-1.npz", image_frechet=lambda array: np.where(array == array[0, 0], np.nan, array))
    measure(folder, "mine")


other_weights = restated(lambda about: about["clip"].update(sha256="f00d"))


def weights_of_one_shard(folder: Path) -> None:
    edit(folder / "mine-1.npz", about=other_weights)
    measure(folder, "mine")


def weights_of_the_row(folder: Path) -> None:
    for shard in range(2):
        edit(folder / f"mine-{shard}.npz", about=other_weights)
    measure(folder, "mine")


def code_version(folder: Path) -> None:
    edit(folder / "mine-1.npz", source=restated(lambda source: source["spec"].update(version=2)))
    measure(folder, "mine")


def library_version(folder: Path) -> None:
    edit(folder / "mine-1.npz", source=restated(lambda source: source["versions"].update(torch="3.0")))
    measure(folder, "mine")


def fewer_layouts_in_the_reference(folder: Path) -> None:
    summarize(folder, "real", [0])
    measure(folder, "mine")


def fewer_images(folder: Path) -> None:
    summarize(folder, "real", [0])
    measure(folder, "other", 1)


def fewer_images_in_a_table(folder: Path) -> None:
    fewer_images(folder)
    tabulate(folder)


def fewer_images_in_a_comparison(folder: Path) -> None:
    fewer_images(folder)
    compare_rows(folder)


def another_reference_in_a_table(folder: Path) -> None:
    write_json(folder / "other.json", read_json(folder / "other.json") | {"reference": "f00d"})
    tabulate(folder)


def test_what_groups_add_to_a_kernel_distance_is_the_difference_of_two_metrics_files(good) -> None:
    mine, other = (read_json(good / f"{name}.json")["metrics"] for name in ("mine", "other"))
    found = read_json(good / "swaps.json")["against"]["other"]
    assert set(found) == {f"{level}_{metric}" for level in ("image", "region") for metric in ("fid", "kid")}
    for metric in ("image_kid", "region_kid"):
        assert sum(found[metric]) == pytest.approx(mine[metric]["value"] - other[metric]["value"], rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without_one, r"mine-1\.zip: 7 files for 8 layouts; 1 \(000000000985\.png\) is missing"),
        (blackened, r"mine-1\.zip: 2 images are black all over: 992, 991; sample them again"),
        (not_finite, r"mine-1\.npz: image_frechet is not finite"),
        (weights_of_one_shard, r"mine-1\.npz: other networks than .*mine-0\.npz: clip .*f00d.*, but "),
        (weights_of_the_row, r"mine\.npz: other networks than .*real\.npz: clip .*f00d.*, but "),
        (code_version, r"mine-1\.npz: images made with spec .*'version': 2.*, but .*'version': 1.* in .*mine-0\.npz"),
        (library_version, r"mine-1\.npz: images made with versions .*3\.0.*, but .*2\.0.* in .*mine-0\.npz"),
        (fewer_layouts_in_the_reference, r"mine\.npz: image_ids differ from those of .*real\.npz"),
        (fewer_images_in_a_table, r"other: n_images is 8, but mine has 16"),
        (fewer_images_in_a_comparison, r"other and mine: images of other images"),
        (lambda folder: swap(folder, (1, 0)), r"other\.npz: image_ids differ from those of .*real\.npz"),
        (
            lambda folder: swap(folder, (1, 0), "full_val"),
            r"mine\.npz and other: of other images, they cannot be paired",
        ),
        (another_reference_in_a_table, r"other: reference is f00d, but mine has "),
        (lambda folder: score_alone(folder, (0, 1), (0,)), r"--images: 1 given for 2 files of layouts"),
        (lambda folder: score_alone(folder, (0, 0), (0, 0)), r"0\.jsonl: layout 1000 comes twice"),
        (
            lambda folder: score_alone(folder, (0,), (1,)),
            r"mine-1\.zip: 8 files for 8 layouts; 8 \(.*\) are missing and 8 \(.*\) are not expected",
        ),
    ],
)
def test_mixed_inputs_are_refused_in_one_line(good, tmp_path, capsys, spoil, named) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(good, folder)
    with pytest.raises(SystemExit) as stopped:
        spoil(folder)
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(named, line)


def test_what_is_not_mixed_becomes_a_table(good, tmp_path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(good, folder)
    tabulate(folder)
    assert "| mine | " in grid((folder / "table1.md").read_text())


def test_images_made_elsewhere_get_exactly_the_numbers_of_the_dag(good, tmp_path) -> None:
    folder = tmp_path / "alone"
    shutil.copytree(good, folder)
    start(
        alone.main,
        layouts=[folder / f"{i}.jsonl" for i in range(2)],
        images=[folder / f"mine-{i}.zip" for i in range(2)],
        real=[folder / f"real-{i}.zip" for i in range(2)],
        extractors=folder / "extractors.json",
        out=folder / "alone",
        **{"min-side": 6},
    )
    found, expected = read_json(folder / "alone" / "metrics.json"), read_json(folder / "mine.json")
    assert found == {name: expected[name] for name in found}
    assert {"metrics", "distances", "protocol", "reference"} <= set(found)
