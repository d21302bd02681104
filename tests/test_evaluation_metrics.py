"""Images to features to metrics to tables: keyed by id, exact where a closed form exists, one clear line for bad input."""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from cleanfid.resize import build_resizer
from PIL import Image
from safetensors.torch import save_file

from evaluation import crops, features
from evaluation.crops import crop, pixel_box
from evaluation.extractors import load_extractor, squash
from evaluation.feature_files import FeatureShards
from evaluation.figures import panel
from evaluation.layouts import write_layouts
from evaluation.metrics import summary
from evaluation.metrics.__main__ import main as metrics_main
from evaluation.metrics.measure import measure
from evaluation.metrics.summary import Summaries, cosine, write_summaries
from evaluation.networks.inception import load_inception
from evaluation.networks.open_clip import build_clip
from evaluation.networks.small_detector import SmallDetector
from evaluation.networks.small_features import SmallFeatures
from evaluation.protocol import Protocol
from evaluation.regions import regions
from evaluation.tables.__main__ import main as tables_main
from evaluation.tables.adherence import adherence_table
from evaluation.tables.cost import cost_table
from evaluation.tables.distances import distances_table, thinning
from evaluation.tables.headline import headline_table, made
from evaluation.tables.published import read_published
from evaluation.tables.significance import WHAT_IS_TESTED
from evaluation.tables.table import Cell, Column, Table, markdown, read_frame, write_table
from formats import cli
from formats.files import InputError, write_json
from formats.images import read_images, write_images
from tests.tables import grid

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 64},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
ROOT = Path(features.__file__).parents[1]
BOXES = {"min_area_frac": 0.01, "max": 30, "drop_crowd": True}
TEST = {"count": 5, "seed": 2014, "require_boxes": False}
DATA = {"caption": "first", "resize": "center_crop", "size": 64, "boxes": BOXES, "test": TEST}


def layouts(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        corners = np.sort(rng.uniform(0, 1, (2, 2)), axis=0)
        boxes = [[0.1, 0.2, 0.6, 0.9], [*corners[0], *corners[1]]][: i % 3]
        objects = [{"phrase": "star", "box": [round(float(v), 6) for v in box], "span": None} for box in boxes]
        rows.append({"id": 1000 - i, "image_id": i, "caption": f"a star {i}", "objects": objects})
    return rows


def images(rows: list[dict], seed: int) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(f"{row['id']:012d}.png", rng.integers(0, 256, (64, 64, 3), np.uint8)) for row in rows]


@pytest.fixture(scope="module")
def extractors(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(SmallFeatures().state_dict(), folder / "features.safetensors")
    (folder / "clip.json").write_text(json.dumps(CLIP))
    save_file(
        {k: v.contiguous() for k, v in build_clip(folder / "clip.json").state_dict().items()}, folder / "c.safetensors"
    )
    sha = lambda name: hashlib.sha256((folder / name).read_bytes()).hexdigest()  # noqa: E731
    frechet = {"kind": "small_features", "name": "f", "path": str(folder / "features.safetensors")}
    clip = {"kind": "open_clip", "name": "c", "model": str(folder / "clip.json"), "path": str(folder / "c.safetensors")}
    save_file(SmallDetector(1).state_dict(), folder / "d.safetensors")
    (folder / "labels.json").write_text('["star"]')
    detector = {"kind": "small_detector", "name": "d", "path": str(folder / "d.safetensors")}
    return {
        "frechet": frechet | {"sha256": sha("features.safetensors")},
        "clip": clip | {"sha256": sha("c.safetensors")},
        "detector": detector | {"sha256": sha("d.safetensors")},
    }


def call(monkeypatch, main, *words: str, **arguments) -> None:
    argv = ["program", *words]
    for name, value in arguments.items():
        argv += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    monkeypatch.setattr(sys, "argv", argv)
    main()


@pytest.fixture
def run(tmp_path, monkeypatch, extractors):
    """Features of `method`'s images of `rows`, in shards of 4."""

    def features_of(method: str, seed: int, rows: list[dict], size: int = 4) -> list[Path]:
        write_json(tmp_path / "extractors.json", extractors)
        paths = []
        for shard in range(0, len(rows), size):
            part, stem = rows[shard : shard + size], f"{method}-{shard}"
            write_layouts(tmp_path / f"{stem}.jsonl", part)
            write_images(tmp_path / f"{stem}.zip", images(rows, seed)[shard : shard + size], {"spec": "s"})
            regions(part, 64, 6).to_parquet(tmp_path / f"{stem}.parquet", index=False)
            call(
                monkeypatch,
                features.main,
                layouts=tmp_path / f"{stem}.jsonl",
                images=tmp_path / f"{stem}.zip",
                regions=tmp_path / f"{stem}.parquet",
                extractors=tmp_path / "extractors.json",
                out=tmp_path / f"{stem}.npz",
            )
            paths.append(tmp_path / f"{stem}.npz")
        return paths

    return features_of


def test_pixel_boxes_round_outwards_and_stay_on_lattice_lines() -> None:
    assert pixel_box([0.25, 0.0, 0.5, 1.0], 64, 64) == (16, 0, 32, 64)
    assert pixel_box([round(1 / 3, 6), 0.1, round(2 / 3, 6), 0.11], 96, 96) == (32, 9, 64, 11)
    assert pixel_box([0.99999, 0.5, 1.0, 0.50001], 64, 64) == (63, 32, 64, 33)


def test_regions_say_why_a_crop_is_left_out() -> None:
    rows = [
        {
            "id": 1,
            "image_id": 2,
            "objects": [{"phrase": "star", "box": [0, 0, 0.05, 1]}, {"phrase": "x", "box": [0, 0, 1, 1]}],
        }
    ]
    table = regions(rows, 64, 6)
    assert table["kept"].tolist() == [False, True]
    assert table["why"].tolist() == ["side 4 px, below 6", ""]


def test_a_crop_is_the_boxs_pixels_by_the_images_own_width_and_height() -> None:
    image = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
    box = [0.25, 0.5, 0.5, 1.0]
    assert np.array_equal(crop(image, box), image[32:64, 16:32])
    assert np.array_equal(crop(image[::2, ::2], box), image[::2, ::2][16:32, 8:16])
    assert np.array_equal(crop(image[:24, :32], box), image[12:24, 8:16])
    assert crop(image[:64, :20], [0.97, 0.1, 1.0, 0.101]).shape == (1, 1, 3)


def summaries_of(shards: list[Path]) -> Summaries:
    out = shards[0].with_suffix(".summaries.npz")
    write_summaries(FeatureShards(shards), out)
    return Summaries(out)


def measured(shards: list[Path], real: list[Path], rows: list[dict]) -> dict:
    return measure(summaries_of(shards), summaries_of(real), rows)[0]


def test_real_is_at_distance_zero_from_itself_at_both_levels(run, tmp_path, monkeypatch) -> None:
    rows = layouts(30)
    shards = run("real", 1, rows)
    write_layouts(tmp_path / "all.jsonl", rows)
    call(monkeypatch, metrics_main, "summarize", features=shards, out=tmp_path / "s.npz")
    call(
        monkeypatch,
        metrics_main,
        "measure",
        method="real",
        split="test",
        layouts=tmp_path / "all.jsonl",
        summary=tmp_path / "s.npz",
        real=tmp_path / "s.npz",
        out=tmp_path / "m.json",
        scores=tmp_path / "scores.parquet",
    )
    found = json.loads((tmp_path / "m.json").read_text())
    assert abs(found["metrics"]["image_fid"]["value"]) < 1e-9
    assert abs(found["metrics"]["region_fid"]["value"]) < 1e-9
    assert (
        found["distances"]["image"] | {"samples": 30, "real_samples": 30, "real_n": 30} == found["distances"]["image"]
    )
    # 64 dimensions: of 30 images the bias cannot be removed.
    assert found["metrics"]["image_fid"]["debiased"] is None is not found["metrics"]["image_fid"]["se"]
    assert found["distances"]["region"]["precision"] == found["distances"]["region"]["coverage"] == 1
    assert found["n_images"] == 30
    assert found["n_regions"] == sum(regions(rows, 64, 6)["kept"])
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert (scores["object"] < 0).sum() == 30
    assert scores["best_iou"].notna().sum() == sum(len(row["objects"]) for row in rows)
    assert scores.loc[scores["object"] < 0, "clip"].mean() == pytest.approx(found["metrics"]["image_clip"]["value"])


def test_metrics_do_not_depend_on_shards(run) -> None:
    rows = layouts(12)
    few, many = run("few", 1, rows), [run(f"one{i}", 1, rows)[i] for i in range(3)]
    whole = run("whole", 1, rows, size=12)
    reference = run("real", 2, rows)
    a, b, c = (measured(shards, reference, rows)["metrics"] for shards in (few, many, whole))
    for metric in ("image_fid", "region_fid", "image_clip", "region_clip", "image_kid", "best_iou"):
        assert a[metric]["value"] == b[metric]["value"]
        # Features of other batches differ in their last digit; the sums add nothing to that.
        assert a[metric]["value"] == pytest.approx(c[metric]["value"], rel=1e-5)


def test_sums_of_many_shards_are_those_of_few(run, tmp_path) -> None:
    whole = run("whole", 1, layouts(24), size=24)[0]
    with np.load(whole) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    parts = []
    for number in range(24):
        ids = {
            level: content[f"{level}_ids"] == content["image_ids"][number] for level in ("image", "region", "detection")
        }
        part = {name: array if array.ndim == 0 else array[ids[name.split("_")[0]]] for name, array in content.items()}
        parts.append(tmp_path / f"part-{number}.npz")
        np.savez(parts[-1], **part)
    a, b = (measured(shards, [whole], layouts(24))["metrics"] for shards in ([whole], parts))
    for metric, found in a.items():
        assert b[metric]["value"] == pytest.approx(found["value"], rel=1e-9, abs=1e-9), metric
        assert b[metric]["left_out"] == pytest.approx(found["left_out"], rel=1e-9, abs=1e-9), metric


def test_clip_scores_are_open_clips_cosines(run, extractors) -> None:
    rows = layouts(5)
    found = FeatureShards(run("m", 3, rows))
    model = open_clip.CLIP(**CLIP)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(extractors["clip"]["path"]))
    model.eval()
    pixels = (
        torch.from_numpy(np.stack([pixels for _, pixels in images(rows, 3)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    )
    with torch.no_grad():
        text = model.encode_text(open_clip.SimpleTokenizer(context_length=16)([row["caption"] for row in rows]))
        expected = torch.cosine_similarity(model.encode_image(pixels), text).numpy()
    assert cosine(found.read("image_clip"), found.read("image_text")) == pytest.approx(expected, abs=1e-5)


def test_region_scores_are_means_over_regions_and_use_the_label(run) -> None:
    rows = layouts(9)
    shards = run("m", 3, rows)
    found = FeatureShards(shards)
    scores = cosine(found.read("region_clip"), found.read("region_text"))
    assert measured(shards, shards, rows)["metrics"]["region_clip"]["value"] == pytest.approx(scores.mean())
    assert len(np.unique(found.read("region_text"), axis=0)) == 1


def test_rows_of_other_images_or_networks_are_refused(run, tmp_path) -> None:
    a, b = run("a", 1, layouts(8)), run("b", 1, layouts(9))
    with pytest.raises(InputError, match="image_ids differ from those of"):
        measured(a, b, layouts(8))
    with pytest.raises(InputError, match="images of other layouts"):
        measured(b, b, layouts(8))
    with np.load(a[0]) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    for name, named in (("about", "other networks than"), ("source", "images made with spec None, but")):
        np.savez(tmp_path / "other.npz", **(content | {name: np.array("{}")}))
        with pytest.raises(InputError, match=rf"other\.npz: {named}"):
            FeatureShards([a[1], tmp_path / "other.npz"])


def test_black_images_are_counted_and_listed(run, monkeypatch) -> None:
    rows = layouts(6)
    made = images(rows, 1)
    monkeypatch.setitem(globals(), "images", lambda *_: [(n, p * (i not in (1, 2))) for i, (n, p) in enumerate(made)])
    with pytest.raises(InputError, match="2 images are black all over: 999, 998"):
        run("m", 1, rows)


def test_without_any_region_the_region_columns_are_empty(run) -> None:
    rows = [row | {"objects": []} for row in layouts(6)]
    shards = run("m", 1, rows)
    found = measured(shards, shards, rows)
    assert found["n_regions"] == 0
    assert found["metrics"]["region_fid"] is None
    assert found["metrics"]["ap"] is None
    assert found["metrics"]["image_fid"] is not None


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "damaged or cut off"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDXT", 1)), "damaged"),
        (lambda path: path.unlink(), "no such file"),
        (
            lambda path: write_images(path, [("000000000001.png", np.zeros((4, 4, 3), np.uint8))], {}),
            "1 files for 2 layouts; 1 \\(000000000002.png\\) is missing",
        ),
    ],
)
def test_damaged_shards_are_named(tmp_path, spoil, named) -> None:
    path = tmp_path / "0000.zip"
    write_images(path, [(f"{i:012d}.png", np.full((8, 8, 3), i, np.uint8)) for i in (1, 2)], {})
    spoil(path)
    with pytest.raises(InputError, match=rf"0000\.zip.*{named}"):
        list(read_images(path, [1, 2]))


def test_changed_weights_are_refused(tmp_path, extractors) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(Path(extractors["frechet"]["path"]).read_bytes() + b"x")
    with pytest.raises(InputError, match="the weights were changed"):
        load_extractor(extractors["frechet"] | {"path": str(path)})
    with pytest.raises(InputError, match="no such file"):
        load_extractor(extractors["frechet"] | {"path": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("model", "named"),
    [("ViT-B-32", "need a -quickgelu model, found 'ViT-B-32'"), ("ViT-B-quickgelu", "not one of open_clip's")],
)
def test_openai_weights_need_the_name_of_a_quickgelu_model(tmp_path, model, named) -> None:
    (tmp_path / "w.pt").write_bytes(b"w")
    sha = hashlib.sha256(b"w").hexdigest()
    with pytest.raises(InputError, match=named):
        load_extractor(
            {"kind": "open_clip", "name": "x", "model": model, "path": str(tmp_path / "w.pt"), "sha256": sha}
        )


@pytest.mark.parametrize("mode", ["clean", "legacy"])
def test_inception_features_are_clean_fids_network_on_clean_fids_resize(tmp_path, mode) -> None:
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    torch.save(inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict(), tmp_path / "w.pth")
    sha = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    stanza = {"kind": f"inception_{mode}", "name": "i", "path": str(tmp_path / "w.pth"), "sha256": sha}
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    found = load_extractor(stanza).features([image])
    resized = torch.from_numpy(build_resizer("clean" if mode == "clean" else "legacy_pytorch")(image)).permute(2, 0, 1)[
        None
    ]
    scaled = (resized.float() - 128) / 128 if mode == "clean" else resized.float() / 127.5 - 1
    with torch.no_grad():
        expected = load_inception(tmp_path / "w.pth")(scaled)[0].flatten(1)
    assert found.shape == (1, 2048)
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"w\.pth: not the FID"):
        load_inception(tmp_path / "w.pth")


def test_squash_is_pils_antialiased_bicubic() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 90, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.array_equal(squash(image, 64), expected)


def row_of(method: str, split: str = "test", **values: float) -> dict:
    defaults = {"image_fid": 10.0, "image_clip": 0.3, "region_fid": 20.0, "region_clip": 0.2} | values
    cells = {name: {"value": value, "se": 0.5, "floor": 1.0} for name, value in defaults.items()}
    made = {kind: {"name": kind, "resize": "64", "sha256": "0123456789abcdef"} for kind in ("frechet", "clip")}
    protocol = (
        made | Protocol(min_side=6).about() | {"batch": 32, "torch": "2.0", "groups": 20, "reference": "same_ids"}
    )
    row = {"method": method, "split": split, "n_images": 5, "n_regions": 7, "metrics": cells, "protocol": protocol}
    row["distances"] = {"image": None, "region": None}
    return row | {"reference": "4444444444444444", "source": {"versions": {"torch": "2.0"}}}


@pytest.mark.parametrize("caveat", ["", "Mind_this: $5 {a}^b\\c."])
def test_tables_hold_ours_and_without_a_caveat_the_published_beside(tmp_path, monkeypatch, caveat) -> None:
    for name in ("real", "hcma"):
        write_json(tmp_path / f"{name}.json", row_of(name))
    write_json(tmp_path / "hcma.json", row_of("hcma", image_fid=-1e-14))
    write_json(tmp_path / "data.json", DATA)
    paths = [tmp_path / "real.json", tmp_path / "hcma.json"]
    published = ROOT / "workflow/config/published.csv"
    spec = {
        "method": "hcma",
        "base": "gligen",
        "weights_sha256": "fedcba9876543210",
        "sampling": {"steps": 50, "negative_prompt": ""},
        "params": {},
        "artefacts": {"eta": {"path": "train/calibration.json", "sha256": "0" * 64, "value": 2.0}},
    }
    write_json(tmp_path / "spec.json", spec | {"source": "as the paper"})
    spent = cost_table([shard(tmp_path, "hcma", boxes=9, boxes_without_token=4, images_without_token=1)])
    write_table(spent, tmp_path / "cost")
    columns = ["metric", "method", "against", "different"]
    pairs = [
        ("image_fid", "hcma", "sd14", "no"),
        ("image_clip", "hcma", "sd14", "yes"),
        ("region_fid", "hcma", "boxdiff", "no"),
    ]
    write_table(plain(columns, pairs), tmp_path / "significance")
    leading = [
        ("image_clip", "hcma", "sd14", "yes", "table1", ""),
        ("region_fid", "hcma", "sd14", "no", "table1", "no"),
        ("region_clip", "hcma", "sd14", "yes", "table2", ""),
    ]
    write_table(plain([*columns, "table", "opposite"], leading), tmp_path / "best")
    call(
        monkeypatch,
        tables_main,
        "headline",
        name="table1",
        best=tmp_path / "best.json",
        significance=tmp_path / "significance.json",
        mark_against="sd14",
        metrics=paths,
        rows=["real", "gligen_ldm", "hcma"],
        specs=[tmp_path / "spec.json"],
        cost=tmp_path / "cost.json",
        published=published,
        data=tmp_path / "data.json",
        caveat=caveat,
        out=tmp_path / "table1",
    )
    table = pd.read_csv(tmp_path / "table1.csv").set_index("method")
    wanted = [
        f"{level}_{kind}{part}" for level in ("image", "region") for kind in ("fid", "clip") for part in ("", "_se")
    ]
    assert {*wanted, "n_images", "n_regions", "image_fid_floor", "image_fid_mark", "image_clip_bold"} <= set(table)
    assert table.loc["gligen_ldm", "image_fid_published"] == 13.05
    assert table.loc["hcma", "image_fid_published"] == 8.74 or caveat
    assert np.isnan(table.loc["real", "image_fid_published"])
    text = grid((tmp_path / "table1.md").read_text())
    beside = ["", "", ""] if caveat else [" [8.74]", " [0.3231]", " [12.48]"]
    cells = ["0.00 ± 0.50†", "**0.3000 ± 0.5000**", "20.00 ± 0.50"]
    assert f"| HCMA (SD-v1.4) | {' | '.join(map(''.join, zip(cells, beside, strict=True)))} |" in text
    assert ("- In brackets: the paper's value." in text) == (not caveat)
    assert "†: not distinguishable from sd14" in text
    assert f"- {WHAT_IS_TESTED} The differences without that bias are in significance.md and best.md." in text
    assert caveat in text
    assert "| GLIGEN (LDM) | - [13.05] | - [0.2891] | - [18.53] | - [0.2381] |" in text
    assert "the published values alone: GLIGEN (LDM)." in text
    assert "Guided by the words of the caption: HCMA (SD-v1.4). 4 of 9 boxes have no word" in text
    assert "1 of 5 images have none at all" in text
    assert "Sampled at commit abc on cpu." in text
    assert "hcma: gligen (sha256 fedcba987654), steps 50; eta 2.0; otherwise as the paper." in text
    assert "frechet (64; sha256 0123456789ab)" in text
    assert "sha256 444444444444" in text
    assert "the caption of the lowest annotation id" in text
    assert "5 images of val2014 in the order of a hash with seed 2014, those without boxes as well;" in text
    assert "at least 1 % of the canvas, not crowds, the 30 largest" in text
    assert "Regions: boxes of at least 6 px a side, also of rows" in text
    assert "Made with torch 2.0" in text
    latex = (tmp_path / "table1.tex").read_text()
    assert latex.count(r"\textbf{") == 1
    theirs = ("-", "-") if caveat else ("8.74", "0.3231")
    assert rf"HCMA (SD-v1.4) & 0.00 \textpm{{}} 0.50\textdagger{{}} & {theirs[0]} &" in latex
    assert rf"& \textbf{{0.3000 \textpm{{}} 0.5000}} & {theirs[1]} &" in latex
    assert (r"Mind\_this: \$5 \{a\}\textasciicircum{}b\textbackslash{}c." in latex) == bool(caveat)
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1


def plain(columns: list[str], lines: list[tuple[str, ...]]) -> Table:
    """A table of texts."""
    rows = [{key: Cell(text) for key, text in zip(columns, line, strict=True)} for line in lines]
    return Table("Texts", [Column(key, key) for key in columns], rows, [])


def test_rows_of_different_protocols_do_not_share_a_table() -> None:
    published = read_published(ROOT / "workflow/config/published.csv")
    nothing = plain(["method", "against", "metric", "table", "different", "opposite", "boxes"], []).frame()

    def build(*metrics: dict, rows: tuple[str, ...] = ("real", "hcma")) -> None:
        cost = nothing.set_index("method")
        headline_table("table1", rows, metrics, [], DATA, cost, nothing, nothing, "hcma", published, {})

    with pytest.raises(InputError, match="hcma: n_images is 6, but real has 5"):
        build(row_of("real"), row_of("hcma") | {"n_images": 6})
    with pytest.raises(InputError, match="hcma: reference is 5, but real has 4444"):
        build(row_of("real"), row_of("hcma") | {"reference": "5"})
    with pytest.raises(InputError, match="mine: neither measured nor published"):
        build(row_of("real"), rows=("real", "mine"))


def shard(folder: Path, method: str, number: int = 0, images: int = 5, **counts: int) -> Path:
    path = folder / "samples" / method / "test" / f"{number:04d}.zip"
    made = {"commit": "abc", "device": "cpu"}
    write_images(path, [], made | {"images": images, "seconds": 10.0, "counts": counts})
    return path


def test_the_cost_table_adds_up_a_methods_shards(tmp_path, monkeypatch) -> None:
    shards = [
        shard(tmp_path, "sd14", 0, unet_forwards=510),
        shard(tmp_path, "boxdiff", 0, unet_forwards=510, guidance_forwards=125, boxes=9, boxes_without_token=4),
        shard(tmp_path, "boxdiff", 1, images=3, unet_forwards=306, guidance_forwards=99, boxes=6),
    ]
    call(monkeypatch, tables_main, "cost", shards=shards, out=tmp_path / "cost")
    table = read_frame(tmp_path / "cost.json").set_index("method")
    assert table.index.tolist() == ["sd14", "boxdiff"]
    assert table.loc["boxdiff", ["images", "unet_forwards", "guidance_forwards", "boxes"]].tolist() == [8, 102, 28, 15]
    text = grid((tmp_path / "cost.md").read_text())
    assert table.loc["boxdiff", ["unet_forwards_total", "hours"]].tolist() == [816, 20 / 3600]
    assert "| Method | Seconds | Hours | U-Net passes | guided passes |" in text
    assert "| boxdiff | 2.500 | 0.00069 | 102.0 | 28.0 |" in text
    assert "| boxdiff | 8 | cpu | 20 | 0.00556 | 816 | 224 |" in text
    assert made(table) == ["Sampled at commit abc on cpu."]
    other = {"images": 1, "seconds": 10.0, "counts": {}, "commit": "abd", "device": "NVIDIA H100"}
    write_images(shards[2], [], other)
    mixed = cost_table(shards).frame().set_index("method")
    assert mixed.loc["boxdiff", "commit"] == "abc and abd"
    (said,) = made(mixed)
    assert said == "Sampled at commit abc on cpu: sd14; commit abc and abd on NVIDIA H100 and cpu: boxdiff."
    write_images(shards[0], [], {"images": 1})
    with pytest.raises(InputError, match=r"0000\.zip.*delete it and run again"):
        cost_table(shards)


def test_published_values_are_the_papers() -> None:
    rows = pd.read_csv(ROOT / "workflow/config/published.csv")
    assert rows.groupby("table").size().to_dict() == {1: 8, 2: 4}
    both = rows[rows["method"].isin(["hcma", "gligen_sd"])].groupby("method")
    assert all(len(set(group["region_fid"])) == 1 for _, group in both)  # Table 2's ends are rows of Table 1


def test_exported_crops_are_named_safely(tmp_path, monkeypatch) -> None:
    rows = layouts(3)
    rows[1]["objects"][0]["phrase"] = "../../etc/hot dog"
    write_layouts(tmp_path / "l.jsonl", rows)
    write_images(tmp_path / "i.zip", images(rows, 1), {})
    regions(rows, 64, 1).to_parquet(tmp_path / "r.parquet", index=False)
    paths = {"images": "i.zip", "regions": "r.parquet", "layouts": "l.jsonl", "out": "crops.zip"}
    call(monkeypatch, crops.main, **{name: tmp_path / path for name, path in paths.items()})
    names = zipfile.ZipFile(tmp_path / "crops.zip").namelist()
    assert f"{999:012d}-00-etc-hot-dog.png" in names
    assert not [name for name in names if "/" in name]


def test_the_panel_has_a_single_object_a_pair_a_relation_and_a_count(tmp_path) -> None:
    star, ring = {"phrase": "star", "box": [0, 0, 0.5, 0.5]}, {"phrase": "ring", "box": [0.5, 0.5, 1, 1]}
    objects = {
        "three stars": [star] * 3,
        "a star above a ring": [star, ring],
        "a star, a ring": [ring, star],
        "a $tar": [star],
    }
    rows = [{"id": i, "caption": text, "objects": things} for i, (text, things) in enumerate(objects.items())]
    chosen = panel.choose_layouts(rows)
    found = {kind: row["caption"] for kind, row in chosen.items()}
    assert found["single object"] == "a $tar"
    assert found["counting"] == "three stars"
    assert found["relation"] == "a star above a ring"
    assert found["pair"] == "a star, a ring"
    panel.draw(chosen, {"real": [np.zeros((8, 8, 3), np.uint8)] * 4}, tmp_path / "panel")
    assert Image.open(tmp_path / "panel.png").width > 200
    assert (tmp_path / "panel.svg").read_text().count("<image ") == 4


def test_bad_input_is_one_line_and_status_1(tmp_path, capsys, monkeypatch) -> None:
    paths = {"layouts": tmp_path / "none.jsonl", "size": 64, "min_side": 6, "out": tmp_path / "o.parquet"}
    from evaluation.regions import main

    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, lambda: cli.run(main), **paths)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.jsonl'}: no such file\n"


def test_the_table_of_distances_has_a_line_a_level_and_method(tmp_path, monkeypatch) -> None:
    values = {"samples": 9, "kid": 0.00123, "precision": 0.5, "recall": 0.25, "density": 1.5, "coverage": 0.75}
    row = row_of("hcma") | {"distances": {"image": values, "region": None}}
    row["metrics"]["image_fid"] |= {"debiased": -1e-14}
    row["metrics"]["image_kid"] = {"value": values.pop("kid"), "se": 0.0001}
    row["metrics"]["region_fid"] = None
    write_json(tmp_path / "hcma.json", row)
    call(monkeypatch, tables_main, "distances", metrics=[tmp_path / "hcma.json"], out=tmp_path / "distances")
    table = pd.read_csv(tmp_path / "distances.csv").set_index("level")
    assert table.loc["image", ["samples", "kid", "fid_debiased"]].tolist() == [9, 0.00123, -1e-14]
    assert table.loc["region", ["fid", "kid"]].isna().all()
    text = grid((tmp_path / "distances.md").read_text())
    assert "| image | hcma | 10.00 ± 0.50 | 0.00 | 1.00 | 1.23 ± 0.10 | 0.500 | 0.250 | 1.500 | 0.750 |" in text
    assert "| region | hcma | - | - |" in text
    assert "- KID: all pairs, kernel" in text
    assert "too many" not in text


def test_a_thinned_set_is_said_to_be_thinned_with_its_numbers(run, tmp_path, monkeypatch) -> None:
    rows = layouts(30)
    monkeypatch.setattr(summary, "MOST", 20)
    found = measured(run("mine", 1, rows), run("real", 2, rows), rows)
    images, regions_ = found["distances"]["image"], found["distances"]["region"]
    assert (images["samples"], images["real_samples"], images["real_n"]) == (20, 20, 30)
    assert regions_["samples"] == regions_["real_samples"] < 20 < found["n_regions"] == regions_["real_n"]
    table = distances_table([row_of("mine") | found])
    many = f"of {regions_['samples']} of the {found['n_regions']} regions of a row"
    alike = many.replace("a row", "`real`")
    assert thinning(table.rows) == [
        "The pairs of all images being too many, KID, CMMD, precision, recall, density and coverage are of 20 of the 30 images "
        "of a row and of 20 of the 30 images of `real`: whole images, those of the smallest hashes, the same for every row.",
        "The pairs of all regions being too many, KID, CMMD, precision, recall, density and coverage are "
        f"{many} and {alike}: whole images, those of the smallest hashes, the same for every row.",
    ]
    text = markdown(table)
    assert "KID: all pairs of the samples named below, kernel" in text
    assert all(f"- {sentence}\n" in text for sentence in thinning(table.rows))


def test_of_a_larger_reference_alone_thinning_is_said_too() -> None:
    values = {"samples": 5, "real_samples": 19_998, "real_n": 40_504}
    table = distances_table([row_of("mine") | {"distances": {"image": values, "region": None}}])
    (sentence,) = thinning(table.rows)
    assert "density and coverage are of 19,998 of the 40,504 images of `real`: whole images" in sentence


def test_the_table_of_adherence_says_what_the_detector_makes_of_each_row(tmp_path, monkeypatch) -> None:
    row = row_of("hcma")
    row["metrics"]["ap"] = {"value": 0.25, "se": 0.01}
    row["protocol"]["detector"] = {"name": "d", "sha256": "0"}
    write_json(tmp_path / "hcma.json", row)
    call(monkeypatch, tables_main, "adherence", metrics=[tmp_path / "hcma.json"], out=tmp_path / "adherence")
    text = grid((tmp_path / "adherence.md").read_text())
    assert "| hcma | 0.250 ± 0.010 | - |" in text
    assert "What the detector d finds" in text
    with pytest.raises(InputError, match="real: seen by another detector than hcma"):
        adherence_table([row, row_of("real")])
    assert "No detector is configured" in markdown(adherence_table([row_of("real")]))


def test_images_made_elsewhere_get_the_numbers_of_the_dag(run, tmp_path, monkeypatch, capsys) -> None:
    from evaluation.__main__ import main as score

    rows = layouts(12)
    expected = measured(run("mine", 1, rows), run("real", 2, rows), rows)["metrics"]
    write_layouts(tmp_path / "all.jsonl", rows)
    (tmp_path / "mine").mkdir()
    for name, pixels in images(rows, 1):
        Image.fromarray(pixels).save(tmp_path / "mine" / name)
    write_images(tmp_path / "real.zip", images(rows, 2), {})
    paths = {"layouts": "all.jsonl", "images": "mine", "real": "real.zip", "extractors": "extractors.json", "out": "o"}
    arguments = {name: tmp_path / path for name, path in paths.items()} | {"min_side": 6}
    call(monkeypatch, score, **arguments)
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())["metrics"]
    assert set(found) == set(expected)
    for metric, value in expected.items():
        assert found[metric]["value"] == pytest.approx(value["value"], rel=1e-5, abs=1e-9), metric
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(expected)
    assert last == "12 images, 12 of 12 boxes scored as regions"
    (tmp_path / "mine" / "000000001000.png").unlink()
    with pytest.raises(InputError, match=r"mine: 11 files for 12 layouts; 1 \(000000001000\.png\) is missing"):
        call(monkeypatch, score, **arguments)
    (tmp_path / "mine" / "000000001000.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000000001000\.png is damaged"):
        call(monkeypatch, score, **arguments)
