"""`python -m evaluation` on a stranger's files: other shapes and sizes, odd paths and options, and what it prints."""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation import __main__ as alone
from evaluation.contact_sheets import main as strips_main
from evaluation.crops import crop, pixel_box
from evaluation.datasets.__main__ import main as datasets_main
from evaluation.extractors import load_extractor
from evaluation.layouts import write_layouts
from evaluation.printing import number, write_csv
from evaluation.protocol import add_options, chosen
from evaluation.regions import main as regions_main
from evaluation.regions import regions
from evaluation.tables.headline import cut_prompts, cut_texts
from formats import cli
from formats.cli import options
from formats.files import read_json, write_json
from formats.images import write_images
from tests.test_evaluation_metrics import ROOT, row_of
from workflow.miniature.captions import captions
from workflow.miniature.world import SIDE, draw, scene

MASTER = 128  # side of the real images that are stretched
EXTRACTORS = yaml.safe_load((ROOT / "workflow/config/miniature.yaml").read_text())["extractors"]


def stanza(name: str) -> dict[str, Any]:
    """An extractor of the miniature, its files named by whole paths."""
    files = {key: str(ROOT / EXTRACTORS[name][key]) for key in ("path", "model") if key in EXTRACTORS[name]}
    return EXTRACTORS[name] | files


Pictures = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def world() -> tuple[list[dict[str, Any]], Pictures]:
    """Layouts of drawn scenes with objects, and their pictures at MASTER pixels."""
    rng, rows, pictures = np.random.default_rng(14), [], {}
    while len(rows) < 96:
        picture = scene(rng, square=True)
        if not picture.things:
            continue
        objects = [{"phrase": t.shape, "box": [round(edge / SIDE, 6) for edge in t.box]} for t in picture.things]
        caption = captions(picture, rng)[0]
        rows.append({"id": len(rows) + 1, "image_id": len(rows) + 1, "caption": caption, "objects": objects})
        large = Image.fromarray(draw(picture)).resize((MASTER, MASTER), Image.Resampling.BICUBIC)
        pictures[len(rows)] = np.asarray(large)
    return rows, pictures


def stretched(pictures: Pictures, width: int, height: int) -> Pictures:
    size = (width, height)
    return {i: np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) for i, p in pictures.items()}


def write_folder(folder: Path, pictures: Pictures) -> Path:
    folder.mkdir(parents=True)
    for i, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{i:012d}.png")
    return folder


def score(
    folder: Path, rows: Sequence[dict[str, Any]], mine: Pictures, real: Pictures, **options: Any
) -> dict[str, Any]:
    """What the program finds; `folder` is new."""
    write_folder(folder / "mine", mine)
    write_folder(folder / "real", real)
    write_layouts(folder / "layouts.jsonl", list(rows))
    write_json(folder / "extractors.json", {name: stanza(name) for name in ("frechet", "clip")})
    run(folder, **options)
    return read_json(folder / "out" / "metrics.json")


def run(folder: Path, **options: Any) -> None:
    paths = {
        "layouts": "layouts.jsonl",
        "images": "mine",
        "real": "real",
        "extractors": "extractors.json",
        "out": "out",
    }
    given = {name: folder / path for name, path in paths.items()} | options
    stated = {name: value for name, value in given.items() if value is not None}
    words = [word for name, value in stated.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *words])
        cli.run(alone.main)


def region_fid(found: dict[str, Any]) -> float:
    return found["metrics"]["region_fid"]["value"]


def distance(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """The Frechet distance by the eigenvalues of the product of covariances."""
    a, b = (np.cov(np.asarray(part, np.float64).T) for part in (a_ND, b_MD))
    gap = np.asarray(a_ND, np.float64).mean(0) - np.asarray(b_MD, np.float64).mean(0)
    return float(gap @ gap + np.trace(a + b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum())


@pytest.mark.parametrize(
    ("width", "height", "limit"), [(128, 96, 0.02), (96, 128, 0.02), (96, 64, 0.05), (64, 96, 0.05), (256, 128, 0.05)]
)
def test_the_same_pictures_stretched_are_nearly_the_same_regions(tmp_path, world, width, height, limit) -> None:
    rows, pictures = world
    mine = stretched(pictures, width, height)
    found = score(tmp_path / "run", rows, mine, pictures, min_side=6)
    assert region_fid(found) < limit

    # The same once more: crops by the boxes that the scenes were drawn with, exact on both lattices.
    def crops(images: Pictures) -> list[np.ndarray]:
        cut = []
        for row in rows:
            high, wide = images[row["id"]].shape[:2]
            for thing in row["objects"]:
                x0, y0, x1, y1 = (round(SIDE * edge) for edge in thing["box"])
                left, top = math.floor(x0 * wide / SIDE), math.floor(y0 * high / SIDE)
                right, bottom = math.ceil(x1 * wide / SIDE), math.ceil(y1 * high / SIDE)
                if MASTER // SIDE * min(x1 - x0, y1 - y0) >= 6:
                    cut.append(images[row["id"]][top:bottom, left:right])
        return cut

    network = load_extractor(stanza("frechet"))
    expected = distance(network.features(crops(mine)), network.features(crops(pictures)))
    assert region_fid(found) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_boxes_at_the_right_edge_of_a_narrow_image_are_cut_there(tmp_path, world) -> None:
    rows, pictures = world
    at_the_right = [
        row | {"objects": [row["objects"][0] | {"box": [1 - x1 + x0, y0, 1.0, y1]}]}
        for row in rows
        for x0, y0, x1, y1 in [row["objects"][0]["box"]]
    ]
    moved = {
        row["id"]: np.roll(pictures[row["id"]], round(MASTER * (1 - row["objects"][0]["box"][2])), axis=1)
        for row in rows
    }
    found = score(tmp_path / "run", at_the_right, stretched(moved, 64, 96), moved)
    assert found["n_regions"] == len(rows)
    assert region_fid(found) < 0.05


def painted(rows: Sequence[dict[str, Any]], seed: int) -> Pictures:
    """Noise, and in it each layout's box filled with its own colour, of another width and height each."""
    rng, pictures = np.random.default_rng(seed), {}
    for row in rows:
        width, height = (8 * int(side) for side in rng.integers(4, 30, 2))
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        x0, y0, x1, y1 = row["objects"][0]["box"]
        colour = np.random.default_rng(row["id"]).integers(0, 256, 3)
        pixels[int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)] = colour
        pictures[row["id"]] = pixels
    return pictures


def test_images_of_mixed_sizes_on_both_sides_are_each_cut_by_their_own(tmp_path) -> None:
    rng, rows = np.random.default_rng(3), []
    for i in range(1, 41):
        (x0, x1), (y0, y1) = (sorted(rng.choice(9, 2, replace=False) / 8) for _ in range(2))
        rows.append({"id": i, "image_id": i, "caption": "a", "objects": [{"phrase": "b", "box": [x0, y0, x1, y1]}]})
    found = score(tmp_path / "run", rows, painted(rows, 1), painted(rows, 2))
    assert found["n_regions"] == 40
    assert abs(region_fid(found)) < 1e-6
    assert found["metrics"]["image_fid"]["value"] > 0.01


def test_which_boxes_are_scored_is_decided_by_the_real_images_own_pixels(tmp_path, capsys) -> None:
    def thing(x1: float, y1: float) -> dict[str, Any]:
        return {"phrase": "star", "box": [0, 0, x1, y1]}

    objects = [thing(0.5, 0.1), thing(0.1, 0.5), thing(1, 1), thing(0.5, 0.5)]
    rows = [{"id": i, "image_id": i, "caption": "a star", "objects": objects} for i in range(3)]
    rng = np.random.default_rng(0)
    shapes = [(100, 40, 3), (40, 100, 3), (100, 100, 3)]  # height, width
    real = {i: rng.integers(1, 256, shape, np.uint8) for i, shape in enumerate(shapes)}
    mine = {i: rng.integers(1, 256, (64, 64, 3), np.uint8) for i in range(3)}
    score(tmp_path / "run", rows, mine, real, min_side=10, max_per_image=3)
    table = pd.read_csv(tmp_path / "run" / "out" / "regions.csv", keep_default_na=False)
    fourth, small = "not one of the 3 largest", "side {} px, below 10"
    assert table["why"].tolist() == [
        *("", small.format(4), "", ""),  # 40 wide, 100 high
        *(small.format(4), fourth, "", ""),  # 100 wide, 40 high
        *("", fourth, "", ""),
    ]
    assert table["kept"].tolist() == [not why for why in table["why"]]
    printed = capsys.readouterr().out.splitlines()
    assert "3 images, 8 of 12 boxes scored as regions" in printed
    assert "not scored: 2 boxes, a side below 10" in printed
    assert "not scored: 2 boxes, not one of the 3 largest" in printed


EDGES = st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True).map(sorted)  # in millionths


@given(x=EDGES, y=EDGES, width=st.integers(1, 3000), height=st.integers(1, 3000))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_a_crop_covers_its_box_no_further_pixel_and_is_never_empty(x, y, width, height) -> None:
    box = [edge / 10**6 for edge in (x[0], y[0], x[1], y[1])]
    left, top, right, bottom = pixel_box(box, width, height)
    for (low, high), first, last, size in ((x, left, right, width), (y, top, bottom, height)):
        # An edge may lie a thousandth of a pixel, a thousand millionths, beside a pixel's own.
        assert 0 <= first < last <= size
        assert first * 10**6 <= low * size + 1001
        assert last * 10**6 >= high * size - 1001
        assert low * size + 999 < (first + 1) * 10**6 or first == size - 1
        assert high * size - 999 > (last - 1) * 10**6 or last == first + 1
    image = np.broadcast_to(np.uint8(0), (height, width, 3))
    assert crop(image, box).shape == (bottom - top, right - left, 3)


def test_the_program_on_odd_paths_from_a_zip_or_a_folder(tmp_path, world, capsys) -> None:
    rows, pictures = world
    rows = [row | {"id": str(row["id"])} for row in rows[:12]]  # ids as text
    some = {int(row["id"]): pictures[int(row["id"])] for row in rows}
    folder = tmp_path / "it's {x} $HOME %s #1"
    found = score(folder, rows, stretched(some, 50, 70), some)
    write_images(folder / "mine.zip", [(f"mine/{i:012d}.png", p) for i, p in stretched(some, 50, 70).items()], {})
    (folder / "mine" / ".DS_Store").write_bytes(b"x")
    capsys.readouterr()
    words = ["--layouts", "layouts.jsonl", "--images", "mine", "--real", "real", "--extractors", "extractors.json"]
    done = subprocess.run(
        [sys.executable, "-m", "evaluation", *words, "--out", "again"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    again = read_json(folder / "again" / "metrics.json")
    for name, metric in found["metrics"].items():
        assert again["metrics"][name]["value"] == pytest.approx(metric["value"], rel=1e-4, abs=1e-6)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(found["metrics"])]] == list(found["metrics"])
    boxes = sum(len(row["objects"]) for row in rows)
    assert lines[len(found["metrics"]) :] == [f"12 images, {boxes} of {boxes} boxes scored as regions"]
    assert not re.search(r"-0\.0+\b", done.stdout)
    # meta.json lies beside the folder of images: the zip is of neither form.
    with pytest.raises(SystemExit):
        run(folder, images=folder / "mine.zip")
    assert "12 (000000000001.png, " in capsys.readouterr().err


def test_a_single_image_with_a_single_object_has_a_clip_score(tmp_path, world, capsys) -> None:
    rows, pictures = world
    row = rows[0] | {"objects": rows[0]["objects"][:1]}
    found = score(tmp_path / "run", [row], {1: pictures[1]}, {1: pictures[1]})
    assert found["metrics"]["image_fid"] is None
    assert found["metrics"]["region_clip"]["value"] > 0.5
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"region_clip +0\.\d{4}", lines[5])
    assert lines[-2:] == ["1 images, 1 of 1 boxes scored as regions", "-: too few images or regions"]


def test_without_photos_there_is_no_distance_and_it_is_said_why(tmp_path, world, capsys) -> None:
    rows, pictures = world
    some = {i: pictures[i] for i in range(1, 9)}
    found = score(tmp_path / "run", rows[:8], some, some)
    run(tmp_path / "run", real=None, out=tmp_path / "bare")
    bare = read_json(tmp_path / "bare/metrics.json")
    for name, metric in bare["metrics"].items():
        assert (metric is None) == name.endswith(("fid", "kid")), name
        assert metric is None or metric["value"] == pytest.approx(found["metrics"][name]["value"])
    assert bare["reference"] is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "-: no photos (--real), to which distances are measured"


def test_images_against_themselves_print_no_negative_zero(tmp_path, world, capsys) -> None:
    rows, pictures = world
    found = score(
        tmp_path / "run", rows[:20], {i: pictures[i] for i in range(1, 21)}, {i: pictures[i] for i in range(1, 21)}
    )
    assert abs(found["metrics"]["image_fid"]["value"]) < 1e-9
    assert re.search(r"^image_fid +0\.0000 ± 0\.0000$", capsys.readouterr().out, re.MULTILINE)


def test_texts_that_clip_cuts_are_counted_and_said(tmp_path, world, capsys) -> None:
    rows, pictures = world
    context = json.loads((ROOT / EXTRACTORS["clip"]["model"]).read_text())["text_cfg"]["context_length"]
    words = ["star"] * (context - 2)  # one token each, between start and end
    said = [" ".join(words), " ".join([*words, "star"]), " ".join(words * 3), "a star"]
    rows = [
        row | {"caption": caption, "objects": [{"phrase": f"{caption} star", "box": [0, 0, 1, 1]}]}
        for row, caption in zip(rows, said, strict=False)
    ]
    some = {row["id"]: pictures[row["id"]] for row in rows}
    found = score(tmp_path / "run", rows, some, some)
    assert (found["n_images_text_cut"], found["n_regions_text_cut"]) == (2, 3)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [
        f"2 of 4 captions are longer than {context} tokens and were cut for the CLIP score.",
        f"3 of 4 regions' texts are longer than {context} tokens and were cut for the CLIP score.",
    ]
    assert cut_texts(found) == printed[-2:]
    with np.load(tmp_path / "run" / "out" / "features" / "images" / "0000.npz") as arrays:
        assert arrays["image_text_cut"].tolist() == [False, True, True, False]
        # What is cut away changes nothing.
        assert np.array_equal(arrays["image_text"][1], arrays["image_text"][2])


def test_a_table_says_whose_captions_were_cut() -> None:
    def rows(*counts: int) -> pd.DataFrame:
        names = [f"m{place}" for place in range(len(counts))]
        return pd.DataFrame({"images": 9, "truncated_captions": counts}, index=pd.Index(names, name="method"))

    called = {"m0": "A", "m1": "B", "m2": "C"}
    assert cut_prompts(rows(0, 0, 0), called) == []
    sentence = "{} of 9 captions are longer than the text encoder takes and were cut for sampling: {}."
    assert cut_prompts(rows(2, 3, 2), called) == [sentence.format(2, "A, C"), sentence.format(3, "B")]
    assert cut_texts(row_of("m")) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--label-template", "{label"),
        ("--label-template", "label}"),
        ("--label-template", "a photo"),
        ("--label-template", ""),
        ("--label-template", "{}"),
        ("--label-template", "{0}"),
        ("--label-template", "{label} in {place}"),
        ("--label-template", "{label.__class__}"),
        ("--label-template", "{label[0]}"),
        ("--label-template", "{label:>1000000000}"),
        ("--label-template", "{label!r}"),
        ("--label-template", "{label}\udcff"),
        ("--min-side", "-1"),
        ("--min-side", "6.0"),
        ("--min-side", "\u0666"),
        ("--min-side", "9" * 5000),
        ("--max-per-image", "0"),
        ("--max-per-image", "all"),
        ("--resolution", "0"),
        ("--resolution", "-64"),
        ("--resolution", ""),
        ("--region-resize", "stretch"),
        ("--region-pad", "0"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_by_the_parser(capsys, option, value) -> None:
    parser = argparse.ArgumentParser(usage="")
    add_options(parser)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args([f"{option}={value}"])
    assert stopped.value.code == 2
    assert re.search(rf"error: argument {option}: (expected|invalid choice)", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("main", "option", "value"),
    [
        (regions_main, "--size", "0"),
        (datasets_main, "--shard-size", "0"),
        (strips_main, "--side", "7"),
    ],
)
def test_so_do_the_programs_of_the_dag(monkeypatch, capsys, main, option, value) -> None:
    monkeypatch.setattr(sys, "argv", ["program", f"{option}={value}"])
    with pytest.raises(SystemExit):
        main()
    assert f"error: argument {option}: expected an integer from" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["{label}", "a {label} and a {label}", "{{x}} {label}", "ein {label} übrig"])
def test_a_template_names_the_label(template) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    found = chosen(parser.parse_args(["--label-template", template])).label_template
    assert found.format(label="star") == template.format(label="star")


ODD = st.text(st.sampled_from("{}labe!:.[]0 -+9\u0663\ud800é"), max_size=9)


@settings(
    max_examples=400, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    template=ODD | ODD.map(lambda text: text + "{label}"),
    numbers=st.lists(ODD | st.integers().map(str), min_size=3, max_size=3),
)
@example(template="--", numbers=["--", "--", "--"])
def test_any_options_are_a_protocol_or_one_line(capsys, template, numbers) -> None:
    parser = options(None)
    add_options(parser)
    words = [f"--label-template={template}"]
    words += [
        f"{name}={value}"
        for name, value in zip(("--min-side", "--max-per-image", "--resolution"), numbers, strict=True)
    ]
    for word in words:
        try:
            found = chosen(parser.parse_args([word]))
        except SystemExit:
            assert "error: argument " in capsys.readouterr().err
        else:
            assert "a phrase" in found.label_template.format(label="a phrase")
            found.label_template.encode()
            assert found.min_side >= 0
            assert found.max_per_image is None or found.max_per_image > 0
            assert found.resolution is None or found.resolution > 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "neither JSON nor YAML"),
        ("[" * 5000, "neither JSON nor YAML"),
        ("when: 2024-99-99", "neither JSON nor YAML"),
        ("[]", "expected the extractors `frechet` and `clip`"),
        (
            "extractors: {frechet: {kind: x, name: x, path: x}, clip: null}",
            "expected the extractors `frechet` and `clip`",
        ),
        (
            "{frechet: {kind: dinov2, name: x, path: x}, clip: {kind: open_clip, name: y, path: y, model: m}, cmd: {kind: z}}",
            "extractors.cmd is {'kind': 'z'}, expected a text `name` in it",
        ),
        (
            "{frechet: {kind: dinov2, name: x, path: x}, clip: {kind: dinov2, name: y, path: y}, ids: {kind: owlv2, name: x,"
            " path: x}}",
            "extractors.ids: the name 'ids' has a meaning of its own in features and metrics; choose another",
        ),
        (
            "{frechet: {kind: owlv2, name: x, path: x}, clip: {kind: dinov2, name: y, path: y}}",
            "extractors.frechet.kind: 'owlv2' measures detections, expected a network of features",
        ),
        ("{frechet: small, clip: x}", "extractors.frechet is 'small', expected a text `kind` in it"),
        ("{frechet: {kind: x, name: x, path: 7}, clip: {a: 1}}", "expected a text `path` in it"),
        (
            "{frechet: {kind: small_features, name: x, path: x}, clip: {kind: open_clip, name: x, path: x}}",
            "expected a text `model`",
        ),
        (
            "{frechet: {kind: x, name: x, path: x}, clip: {kind: y, name: y, path: y}}",
            "extractors.frechet.kind: 'x' is no network: known are dinov2, faster_rcnn,",
        ),
    ],
)
def test_extractors_that_are_none_are_named(tmp_path, world, capsys, content, named) -> None:
    rows, pictures = world
    write_layouts(tmp_path / "layouts.jsonl", rows[:1])
    for name in ("mine", "real"):
        write_folder(tmp_path / name, {1: pictures[1]})
    (tmp_path / "extractors.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1
    assert named in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"images": "none"}, r"none: no such file or folder"),
        ({"layouts": "none.jsonl"}, r"none\.jsonl: no such file"),
        ({"layouts": "real"}, r"real: Is a directory"),
        ({"extractors": "none.json"}, r"none\.json: no such file"),
        ({"layouts": "empty.jsonl"}, r"empty\.jsonl: no layouts"),
        ({"images": "extractors.json"}, r"extractors\.json: damaged or cut off, or not a zip"),
        ({"resolution": 129}, r"mine: resolution 129: image 1 has 128 px; a smaller image is not enlarged"),
    ],
)
def test_what_is_not_there_is_named_before_a_network_is_loaded(
    tmp_path, world, capsys, monkeypatch, options, named
) -> None:
    rows, pictures = world
    monkeypatch.setattr(alone, "load_networks", lambda stanzas: pytest.fail("loaded"))
    write_layouts(tmp_path / "layouts.jsonl", rows[:1])
    (tmp_path / "empty.jsonl").write_text("\n")
    write_json(tmp_path / "extractors.json", {name: stanza(name) for name in ("frechet", "clip")})
    for name in ("mine", "real"):
        write_folder(tmp_path / name, {1: pictures[1]})
    with pytest.raises(SystemExit):
        run(
            tmp_path, **{name: tmp_path / value if isinstance(value, str) else value for name, value in options.items()}
        )
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(named, line)


@pytest.mark.parametrize(
    ("value", "se", "sign", "text"),
    [
        (-1e-14, None, "", "0.0000"),
        (-0.00004, 0.5, "", "0.0000 ± 0.5000"),
        (-0.00006, None, "", "-0.0001"),
        (-0.0, -0.0, "+", "+0.0000 ± 0.0000"),
        (-1e-9, math.nan, "+", "+0.0000"),
        (1.5, 0.25, "+", "+1.5000 ± 0.2500"),
        (None, None, "", "-"),
        (math.nan, None, "", "-"),
    ],
)
def test_a_zero_has_no_sign(value, se, sign, text) -> None:
    assert number(value, 4, se, sign) == text


def test_a_csv_has_no_negative_zero_and_full_precision_otherwise(tmp_path) -> None:
    table = pd.DataFrame({"a": [-0.0, -1e-14, 0.1 + 0.2], "n": [1, -0, 3], "b": ["-0.0", "x", None]})
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "a,n,b\n0.0,1,-0.0\n-1e-14,0,x\n0.30000000000000004,3,\n"
    write_csv(tmp_path / "none.csv", table.iloc[:0])
    assert (tmp_path / "none.csv").read_text() == "a,n,b\n"


def test_regions_of_a_square_canvas_are_those_of_its_width_and_height() -> None:
    rows = [{"id": 4, "image_id": 4, "objects": [{"phrase": "a", "box": [0.1, 0.2, 0.3, 0.9]}]}]
    assert regions(rows, 64, 6).equals(regions(rows, {4: (64, 64)}, 6))
    assert regions(rows, {4: (50, 100)}, 1)[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == [[5, 20, 15, 90]]
