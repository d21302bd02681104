"""The networks that measure: equal to the libraries' own on the same random weights, and a network of one's own."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchvision.ops import nms
from torchvision.transforms import v2
from transformers import (
    BertTokenizer,
    CLIPImageProcessorPil,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2ImageProcessor,
)

from evaluation import __main__ as alone
from evaluation.detectors import Detections, chosen, load_detector
from evaluation.extractors import load_extractor
from evaluation.judges import load_judge
from evaluation.layouts import write_layouts
from evaluation.metrics import METRICS, metrics_of
from evaluation.metrics.adherence import asked, match, named
from evaluation.metrics.measure import group_contributions
from evaluation.metrics.summary import Summaries
from evaluation.networks import METRICS as TAKEN
from evaluation.networks import (
    ROLES,
    Limits,
    Phrases,
    described,
    faults,
    known,
    limits_of,
    measured_by,
    stated_of,
)
from evaluation.networks.dinov2 import published
from evaluation.networks.grounding_dino import Texts, prepare
from evaluation.report.packed import pack_scores
from evaluation.scores import read_scores
from evaluation.scores import scored as page_metrics
from evaluation.significance import compare, read_row, read_swaps
from evaluation.tables.adherence import adherence_table
from evaluation.tables.agreement import agreement_table, kappa
from evaluation.tables.distances import distances_table
from evaluation.tables.judges import judges_table
from evaluation.tables.table import markdown
from formats import cli, modules
from formats.files import InputError, sha256, write_json
from tests import networks
from tests.dag import ROOT
from tests.tables import grid
from workflow.miniature.world import draw, scene
from workflow.overlays import merged
from workflow.plan import Plan
from workflow.settings import SettingsError, read

PHRASES = ["a red car", "dog", "St. Bernard? [SEP] puppy"]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """A small DINOv2 as the hub publishes it."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, like in published("small").items():
        spread = 1.0 if name == "pos_embed" else 0.2 if like.dim() == 1 else 0.05
        state[name] = spread * torch.randn(like.shape, generator=generator) + name.endswith(
            ("norm1.weight", "norm.weight")
        )
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save(state, path)
    return state, path


def dinov2_stanza(path: Path, **changes) -> dict:
    stanza = {"kind": "dinov2", "name": "d", "path": str(path), "sha256": sha256(path), "params": {"size": "small"}}
    return stanza | changes


def test_dinov2_is_timms_with_the_hubs_positions_exactly(dino) -> None:
    state, path = dino
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    positions = {}
    for name, options in {
        "hub": {"scale_factor": (16.1 / 37, 16.1 / 37)},
        "size": {"size": (16, 16)},
        "antialiased": {"size": (16, 16), "antialias": True},
    }.items():
        smaller = torch.nn.functional.interpolate(grid, mode="bicubic", **options)
        positions[name] = torch.cat([state["pos_embed"][:, :1], smaller.permute(0, 2, 3, 1).flatten(1, 2)], 1)
    theirs = timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=False, num_classes=0, img_size=224).eval()
    images = [picture(300, 200), picture(224, 224, 1), picture(40, 900, 2)]
    transform = v2.Compose(
        [
            v2.Resize((224, 224), v2.InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    inputs = torch.stack([transform(Image.fromarray(image)) for image in images])
    ours = load_extractor(dinov2_stanza(path)).features(images)
    apart = {}
    for name, there in positions.items():
        theirs.load_state_dict(
            {key: value for key, value in state.items() if key != "mask_token"} | {"pos_embed": there}
        )
        with torch.no_grad():
            expected = theirs(inputs).numpy()
        apart[name] = float(np.linalg.norm(ours - expected, axis=1).max() / np.linalg.norm(expected, axis=1).max())
    assert apart["hub"] < 1e-5
    assert min(apart["size"], apart["antialiased"]) > 1e-3
    assert ours.shape == (3, 384)


def test_another_size_of_dinov2_and_another_parameter_are_one_line(dino) -> None:
    _, path = dino
    with pytest.raises(InputError, match=r"not DINOv2 base's weights: a zip pickle in which .*shape"):
        load_extractor(dinov2_stanza(path, params={"size": "base"}))
    with pytest.raises(
        InputError, match=r"extractors\.d\.params: size: expected one of small, base, large, found 'huge'"
    ):
        load_extractor(dinov2_stanza(path, params={"size": "huge"}))
    with pytest.raises(InputError, match=r"extractors\.d\.params: sise: unknown key"):
        load_extractor(dinov2_stanza(path, params={"sise": "small"}))


@pytest.fixture(scope="module")
def grounding(tmp_path_factory):
    return networks.grounding_dino(tmp_path_factory.mktemp("grounding"))


@pytest.fixture(scope="module")
def owl(tmp_path_factory):
    return networks.owlv2(tmp_path_factory.mktemp("owl"))


EVERYTHING = {"keep": 0.0, "nms": 1.0, "most": 10_000}


def stanza(kind: str, path: Path, **params) -> dict:
    return {"kind": kind, "name": kind, "path": str(path), "params": params}


def in_pixels(found: Detections, image: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes and scores in the order of their first edge, which processors leave open."""
    height, width = image.shape[:2]
    boxes = found.boxes_N4 * [width, height, width, height]
    return {"boxes": boxes, "scores": found.scores_N}


def same_detections(ours: dict[str, np.ndarray], theirs: dict[str, torch.Tensor], image: np.ndarray) -> None:
    """The processor's, cut off at the image's edges and without those that have no area there."""
    height, width = image.shape[:2]
    boxes = np.clip(theirs["boxes"].numpy(), 0, [width, height, width, height])
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    expected = np.column_stack([boxes[inside], theirs["scores"].numpy()[inside]])
    found = np.column_stack([ours["boxes"], ours["scores"]])
    order, other = (np.lexsort(np.round(rows, 4).T) for rows in (found, expected))
    np.testing.assert_allclose(found[order], expected[other], rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.sort(found[:, 4]), np.sort(expected[:, 4]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(60, 90), (120, 50)])
def test_grounding_dino_is_transformers_for_one_phrase(grounding, size, monkeypatch) -> None:
    model, path = grounding
    monkeypatch.setattr("evaluation.networks.grounding_dino.SHORTEST", 96)
    image = picture(*size)
    tokenizer = BertTokenizer(vocab=str(path.parent / "vocab.txt"))
    small = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 1333})
    processor = GroundingDinoProcessor(small, tokenizer)
    inputs = processor(images=Image.fromarray(image), text="a red car.", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[size])
    # The processor's score is the largest of all tokens, the first, the dot and the last among them.
    own = outputs.logits.sigmoid()[0, :, 1 : inputs["input_ids"].shape[1] - 2].amax(1)
    detector = load_detector(stanza("grounding_dino", path, **EVERYTHING))
    (found,) = detector.detect([image], [["a red car"]])
    same_detections(in_pixels(found, image), {"boxes": theirs["boxes"], "scores": own}, image)
    assert (np.diff(found.scores_N) <= 0).all()
    assert set(found.labels) == {"a red car"}


def test_grounding_dino_takes_pictures_as_its_processor_does() -> None:
    for number, size in enumerate([(512, 512), (480, 640), (333, 77), (800, 1000), (90, 2000)]):
        image = picture(*size, number)
        theirs = GroundingDinoImageProcessorPil()(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        ours = (torch.from_numpy(prepare(image).copy()).permute(2, 0, 1).float() / 255 - mean) / std
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_phrases_are_joined_scored_and_parted_by_their_own_tokens(grounding) -> None:
    """Dots, question marks and BERT's own words inside a phrase part nothing; a dot stands between phrases and at the end."""
    _, path = grounding
    vocabulary = path.parent / "vocab.txt"
    tokenizer, texts = BertTokenizer(vocab=str(vocabulary)), Texts(vocabulary, 256)
    (part,) = texts.parts(PHRASES)
    plain = "a red car. dog. st bernard   puppy."
    assert texts.joined([part])[0].tolist() == tokenizer(plain).input_ids
    assert texts.parts([]) == []
    many = [f"thing number {number}" for number in range(60)]
    parts = texts.parts(many)
    assert len(parts) > 1
    assert [tokens for part in parts for tokens in part] == [texts.tokens(phrase) for phrase in many]
    lengths = texts.joined(parts).ne(0).sum(1)
    assert lengths.max() <= 256
    first_of_next = len(parts[1][0]) + 1
    assert lengths[0] + first_of_next > 256  # no text could have held one more
    long = " ".join(["dog"] * 300)
    assert texts.cut(["dog", long]).tolist() == [False, True]
    assert texts.joined(texts.parts([long])).shape[1] == 256


def test_images_asked_for_other_things_do_not_feel_one_another(grounding, monkeypatch) -> None:
    """In a batch, where texts are filled up to the longest, as alone; what is asked for nothing is not looked at."""
    _, path = grounding
    monkeypatch.setattr("evaluation.networks.grounding_dino.SHORTEST", 96)
    monkeypatch.setattr("evaluation.networks.grounding_dino.together", lambda device: 8)
    images = [picture(64, 64, seed) for seed in range(4)]
    wanted = [["dog"], PHRASES, [], ["a very long thing of many words and more", "?"]]
    detector = load_detector(stanza("grounding_dino", path, keep=0.0))
    together = detector.detect(images, wanted)
    for image, phrases, found in zip(images, wanted, together, strict=True):
        (alone,) = detector.detect([image], [phrases])
        assert alone.labels == found.labels
        np.testing.assert_allclose(alone.scores_N, found.scores_N, rtol=0, atol=1e-5)
        np.testing.assert_allclose(alone.boxes_N4, found.boxes_N4, rtol=0, atol=1e-5)
    assert together[2].labels == []
    assert "?" not in [
        label for label, score in zip(together[3].labels, together[3].scores_N, strict=True) if score > 0
    ]


def test_many_phrases_are_seen_in_several_texts(grounding, monkeypatch) -> None:
    _, path = grounding
    monkeypatch.setattr("evaluation.networks.grounding_dino.SHORTEST", 96)
    many = [f"thing number {number}" for number in range(60)]
    (found,) = load_detector(stanza("grounding_dino", path, keep=0.0)).detect([picture(64, 64)], [many])
    assert set(found.labels) == set(many)
    assert (np.diff(found.scores_N) <= 0).all()


@pytest.mark.parametrize("size", [(60, 90), (120, 50), (96, 96)])
def test_owlv2_is_transformers_for_one_phrase(owl, size) -> None:
    """Boxes are shares of the padded square, and many of them reach over the image's edge."""
    import open_clip

    model, path = owl
    image = picture(*size)
    processor = Owlv2ImageProcessor(size={"height": 96, "width": 96})
    pixels = processor(images=[image], return_tensors="pt")["pixel_values"]
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a red car"])
    with torch.no_grad():
        outputs = model(input_ids=tokens, pixel_values=pixels, attention_mask=tokens.ne(0).long())
    (theirs,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(max(size), max(size))])
    detector = load_detector(stanza("owlv2", path, **EVERYTHING))
    (found,) = detector.detect([image], [["a red car"]])
    same_detections(in_pixels(found, image), theirs, image)
    if size[0] != size[1]:
        assert theirs["boxes"][:, 3 if size[1] > size[0] else 2].max() > min(size)


def test_owlv2_scores_each_phrase_by_itself_and_says_which_are_cut(owl) -> None:
    _, path = owl
    detector = load_detector(stanza("owlv2", path, **EVERYTHING))
    images = [picture(60, 90), picture(60, 90, 1)]
    together = detector.detect(images, [["dog", "cat"], ["cat"]])
    for image, phrase, found in (
        (images[0], "dog", together[0]),
        (images[0], "cat", together[0]),
        (images[1], "cat", together[1]),
    ):
        (alone,) = detector.detect([image], [[phrase]])
        own = np.array([label == phrase for label in found.labels])
        np.testing.assert_allclose(np.sort(alone.scores_N), np.sort(found.scores_N[own]), rtol=0, atol=1e-6)
    assert detector.cut is not None
    assert detector.cut(["dog", " ".join(["dog"] * 15)]).tolist() == [False, True]


def test_what_is_chosen_is_torchvisions_suppression_of_what_lies_in_the_image() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.2, 0.9, (200, 2))
    boxes = torch.tensor(np.concatenate([corners, corners + rng.uniform(0.05, 0.4, (200, 2))], 1), dtype=torch.float32)
    boxes[0] = torch.tensor([1.1, 0.2, 1.3, 0.4])  # outside
    scores = torch.tensor(rng.uniform(0, 1, (200, 2)), dtype=torch.float32)
    limits = Phrases(keep=0.3, nms=0.6, most=40)
    found = chosen(boxes, scores, ["dog", "cat"], limits)
    for number, phrase in enumerate(("dog", "cat")):
        inside = boxes.clamp(0, 1)
        usable = ((inside[:, 2:] > inside[:, :2]).all(1) & (scores[:, number] >= 0.3)).nonzero()[:, 0]
        best = usable[nms(inside[usable], scores[usable, number], 0.6)[:40]]
        own = [place for place, label in enumerate(found.labels) if label == phrase]
        assert found.scores_N[own].tolist() == scores[best, number].tolist()
        assert found.boxes_N4[own].tolist() == inside[best].tolist()
    assert len(found.labels) == 80
    assert (np.diff(found.scores_N) <= 0).all()
    assert chosen(boxes, scores[:, :0], [], limits).labels == []


def test_pick_score_is_transformers_scaled_cosine(tmp_path) -> None:
    import open_clip

    model, path = networks.pick_score(tmp_path)
    images, captions = [picture(32, 32), picture(40, 64, 1)], ["a dog", "two red cars beside a house"]
    judge = load_judge({"kind": "pick_score", "name": "p", "path": str(path)})
    found = judge.scores(images, captions)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        seen = model(
            input_ids=open_clip.SimpleTokenizer(context_length=77)(captions),
            **processor([Image.fromarray(image) for image in images], return_tensors="pt"),
        )
    np.testing.assert_allclose(found, seen.logits_per_image.diagonal().numpy(), rtol=1e-5)
    assert abs(found[0] - found[1]) > 1e-3


def test_a_folder_that_is_not_whole_or_another_networks_is_one_line(owl, grounding, tmp_path) -> None:
    import shutil

    for name, change, text in (
        ("changed", lambda folder: (folder / "config.json").write_text("{}"), "sha256 is .*expected"),
        ("unsealed", lambda folder: (folder / "SHA256SUMS").unlink(), "python -m workflow.fetch seal"),
        ("bare", lambda folder: (folder / "model.safetensors").unlink(), "no such file"),
    ):
        shutil.copytree(owl[1].parent, tmp_path / name)
        change(tmp_path / name)
        with pytest.raises(InputError, match=text) as caught:
            load_detector(stanza("owlv2", tmp_path / name / "model.safetensors"))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"not Owlv2ForObjectDetection's weights.*tensors are missing") as caught:
        load_detector(stanza("owlv2", grounding[1]))
    assert "\n" not in str(caught.value)


# Limits, names and stanzas.


def test_limits_are_the_detectors_own_and_stated_where_they_are_not_the_usual_ones() -> None:
    assert (Limits().keep, Limits().sure, Limits().overlap, Limits().most) == (0.05, 0.5, 0.5, 100)
    assert stated_of(Limits()) == {}
    assert stated_of(replace(Limits(), sure=0.3)) == {"keep": 0.05, "sure": 0.3, "overlap": 0.5, "most": 100}
    assert limits_of({"name": "x"}) == Limits()
    assert limits_of({"params": {"sure": 0.3, "ask": "phrase"}}) == Limits(sure=0.3)
    for wrong in ({"keep": -0.1}, {"sure": 2}, {"overlap": 0.0}, {"most": 0}, {"most": True}, {"keep": math.nan}):
        with pytest.raises(InputError, match=rf"{next(iter(wrong))}: expected"):
            Limits(**wrong)
    with pytest.raises(InputError, match=r"ask: expected phrase or category, found 'word'"):
        Phrases(ask="word")


def test_other_limits_find_other_boxes() -> None:
    box, off = [0.0, 0.0, 0.5, 0.5], [0.1, 0.0, 0.6, 0.5]
    rows = [{"id": 1, "image_id": 1, "objects": [{"phrase": "star", "box": box}]}]
    found = {
        "detection_ids": np.array([1]),
        "detection_labels": np.array(["star"]),
        "detection_boxes": np.array([off], np.float32),
        "detection_scores": np.array([0.3], np.float32),
    }
    succeeded = {limits: match(rows, found, limits)[0]["success"].tolist() for limits in (Limits(), Limits(sure=0.25))}
    assert succeeded == {Limits(): [False], Limits(sure=0.25): [True]}
    assert match(rows, found, Limits(sure=0.25, overlap=0.7))[0]["success"].tolist() == [False]


def test_a_detector_with_labels_is_asked_for_categories_and_one_without_for_phrases() -> None:
    things = [{"phrase": "a red car", "category": "car", "box": [0, 0, 1, 1]}, {"phrase": "dog", "box": [0, 0, 1, 1]}]
    row = {"id": 1, "image_id": 1, "objects": [*things, things[0]]}
    assert asked(row, Limits()) == asked(row, Phrases(ask="category")) == ["car", "dog"]
    assert asked(row, Phrases()) == ["a red car", "dog"]
    for params in (Phrases(), {"ask": "phrase"}):
        assert [thing["phrase"] for thing in named(row, params)["objects"]] == ["a red car", "dog", "a red car"]
    assert [thing["phrase"] for thing in named(row, {})["objects"]] == ["car", "dog", "car"]


def test_every_network_of_the_package_says_what_it_measures() -> None:
    assert {measured_by(name) for name in known()} == {"features", "detections", "scores"}
    for name in known():
        network = described(name)
        assert network and not network.own and network.parameters is not None
    assert set(TAKEN) >= {metric.quantity for metric in METRICS.values() if metric.level != "box"} - set(ROLES)


@pytest.mark.parametrize(
    ("key", "stanza", "fault"),
    [
        (
            "frechet",
            {"kind": "faster_rcnn"},
            ("kind", "'faster_rcnn' measures detections, expected a network of features"),
        ),
        ("detector", {"kind": "dinov2"}, ("kind", "'dinov2' measures features, expected a network of detections")),
        ("other", {"kind": "dino"}, ("kind", "'dino' is no network: known are dinov2,")),
        ("other", {"kind": "no.such.module"}, ("kind", "'no.such.module' is no network")),
        ("other", {"kind": "json.decoder"}, ("kind", "'json.decoder' is no network")),
        (
            "other",
            {"kind": "owlv2", "params": {"shure": 1}},
            ("params", "shure: unknown key"),
        ),
        ("other", {"kind": "inception_clean", "params": {"a": 1}}, ("params", "a: unknown key")),
        ("other", {"kind": "dinov2", "precision": "bfloat16"}, ("precision", "'bfloat16', expected 'float32'")),
        ("other", {"kind": "owlv2", "least": 7}, ("least", "7, but there is none for it")),
        ("frechet", {"kind": "inception_clean", "least": 7}, ("least", "7, but there is none for it")),
        ("regions", {"kind": "dinov2"}, ("", "the name 'regions' has a meaning of its own")),
        ("my_sample", {"kind": "dinov2"}, ("", "the name 'my_sample' has a meaning of its own")),
        ("fid", {"kind": "pick_score"}, ("", "the name 'fid' has a meaning of its own")),
    ],
)
def test_a_wrong_stanza_is_one_fault(key, stanza, fault) -> None:
    (found,) = faults(key, stanza)
    assert found.key == fault[0]
    assert found.text.startswith(fault[1])


def test_what_a_further_network_gives_are_metrics_like_others() -> None:
    about = {
        "frechet": {"name": "i"},
        "regions": {"min_side": 1},
        "dino": {"name": "DINO", "measures": "features", "least": 9},
        "owl": {"name": "OWL", "measures": "detections"},
        "pick": {"name": "Pick", "measures": "scores"},
    }
    further = {name: metric for name, metric in metrics_of(about).items() if name not in METRICS}
    assert {name for name, metric in further.items() if metric.extractor == "dino"} == {
        "image_fd_dino",
        "region_fd_dino",
    }
    boxes = [metric for metric in METRICS.values() if metric.level == "box"]
    assert {f"owl_{metric.name}" for metric in boxes} == {n for n, m in further.items() if m.extractor == "owl"}
    assert further["owl_best_iou"].scores == "owl_best_iou"
    assert further["owl_instance_success"].title == "Objects found, OWL"
    assert further["region_fd_dino"].title == "Region FD, DINO"
    assert (further["image_fd_dino"].least, further["image_pick"].flips) == (9, True)
    assert metrics_of({}) == METRICS
    with pytest.raises(InputError, match=r"extractors\.fd_dino: the metric image_fd_dino is there already"):
        metrics_of(about | {"fd_dino": {"name": "J", "measures": "scores"}})


# Agreement.


def test_kappa_is_cohens() -> None:
    table = np.array([1] * 25 + [0] * 25, bool), np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15, bool)
    assert kappa(*table) == pytest.approx(0.4)  # 35 of 50 agree, 25 by chance
    a = table[0]
    assert (kappa(a, a), kappa(a, ~a)) == (1, -1)
    assert math.isnan(kappa(np.ones(4, bool), np.ones(4, bool)))


def test_the_agreement_of_two_detectors_is_counted_box_by_box(tmp_path) -> None:
    about = {
        "detector": {"name": "R-CNN"},
        "owl": {"name": "OWL", "measures": "detections"},
    }
    write_json(tmp_path / "real.json", {"method": "real", "protocol": about, "metrics": {}})
    boxes = pd.DataFrame({"id": range(50), "image_id": range(50), "object": 0})
    boxes["success"] = [True] * 25 + [False] * 25
    boxes["owl_success"] = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    images = pd.DataFrame({"id": range(50), "image_id": range(50), "object": -1})
    pd.concat([images, boxes]).to_parquet(tmp_path / "real.parquet")
    table = agreement_table({tmp_path / "real.json": tmp_path / "real.parquet"})
    (row,) = table.rows
    assert {name: row[name].value for name in ("method", "first", "second", "boxes")} == {
        "method": "real",
        "first": "R-CNN",
        "second": "OWL",
        "boxes": 50,
    }
    values = [row[name].value for name in ("found_first", "found_second", "agree", "kappa")]
    assert values == pytest.approx([0.5, 0.6, 0.7, 0.4])
    assert all(row[name].standard_error > 0 for name in ("found_first", "agree", "kappa"))
    (tmp_path / "real.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"real\.parquet: not a table of scores"):
        agreement_table({tmp_path / "real.json": tmp_path / "real.parquet"})


# A network of one's own, and all others beside it, without the DAG.

MINIATURE = ROOT / "weights/miniature"
IMAGES = 36  # more than a batch


def blocks(kind: str) -> list[str]:
    """Code of docs/metrics.md on a network of one's own."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page.split("network -->")[1], re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch) -> dict:
    """The stanza of the documents' example, whose module is where it says."""
    (module,), (stanzas,) = blocks("python"), blocks("yaml")
    package = tmp_path / "my_networks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "colours.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    for known_modules in (modules.file_of, modules.statements):
        known_modules.cache_clear()
    yield yaml.safe_load(stanzas)["extractors"]
    for name in [name for name in sys.modules if name.startswith("my_networks")]:
        del sys.modules[name]


def evaluate(folder: Path, images: str, out: str) -> Path:
    """What `python -m evaluation` writes."""
    words = ["--layouts", "layouts.jsonl", "--images", images, "--real", "real", "--extractors", "extractors.json"]
    words = [str(folder / word) if not word.startswith("--") else word for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *words, "--min-side", "6", "--out", str(folder / out)])
        cli.run(alone.main)
    return folder / out


def test_the_documents_example_and_every_further_network_reach_every_table(
    example, grounding, owl, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("evaluation.networks.grounding_dino.SHORTEST", 96)
    rng, rows = np.random.default_rng(3), []
    scenes = [picture for picture in (scene(rng, square=True) for _ in range(2 * IMAGES)) if picture.things][:IMAGES]
    for number, one in enumerate(scenes):
        things = [{"phrase": t.shape, "box": [round(edge / 64, 6) for edge in t.box]} for t in one.things]
        rows.append({"id": number, "image_id": number, "caption": f"a {things[0]['phrase']}", "objects": things})
    write_layouts(tmp_path / "layouts.jsonl", rows)
    for folder, noise in (("real", 0), ("mine", 20), ("other", 60)):
        (tmp_path / folder).mkdir()
        for number, one in enumerate(scenes):
            noisy = draw(one) + rng.normal(0, noise, (64, 64, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / folder / f"{number:012d}.png")
    _, judge = networks.pick_score(tmp_path / "pick")
    detector = {"kind": "small_detector", "name": "miniature", "path": str(MINIATURE / "detector/model.safetensors")}
    clip = {"model": str(MINIATURE / "clip/config.json"), "path": str(MINIATURE / "clip/open_clip.safetensors")}
    write_json(
        tmp_path / "extractors.json",
        {
            "frechet": {
                "kind": "small_features",
                "name": "f",
                "path": str(MINIATURE / "features/model.safetensors"),
            },
            "clip": {"kind": "open_clip", "name": "c"} | clip,
            "detector": detector,
            "grounding": stanza("grounding_dino", grounding[1]),
            "owl": stanza("owlv2", owl[1], ask="category"),
            "again": detector | {"name": "again", "params": {"sure": 0.2}},
            "pick": {"kind": "pick_score", "name": "Pick", "path": str(judge)},
            "few": example["colours"] | {"name": "few", "least": IMAGES + 1, "params": {}},
        }
        | example,
    )
    files = {name: evaluate(tmp_path, name, f"{name}-scored") for name in ("mine", "other")}
    said = capsys.readouterr().out
    assert "image_fd_few takes at least 37 images of either set (extractors.few.least)" in said

    found = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in files.items()}
    for name, folder in files.items():
        write_json(folder / "row.json", found[name] | {"method": name, "split": "test"})
    metrics, about = found["mine"]["metrics"], found["mine"]["protocol"]
    assert about["detector"] == {"name": "miniature", "sha256": about["again"]["sha256"]}
    assert about["again"]["params"]["sure"] == 0.2
    assert about["colours"]["sha256"] == sha256(tmp_path / "my_networks/colours.py")
    # The example's distance, by torch-fidelity from features by another route: shares of colours.
    histograms = {}
    for folder in ("mine", "real"):
        images = [np.asarray(Image.open(tmp_path / folder / f"{row['id']:012d}.png")).astype(int) for row in rows]
        colours = [(image * 3 // 256 @ np.array([9, 3, 1])).ravel() for image in images]
        histograms[folder] = torch.tensor(np.array([np.bincount(one, minlength=27) / 4096 for one in colours]))
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(histograms[one]) for one in ("mine", "real")), False)
    distance = metrics["image_fd_colours"]
    assert distance["value"] == pytest.approx(float(theirs["frechet_inception_distance"]), rel=1e-4)
    assert distance["se"] > 0 < distance["floor"]
    assert metrics["image_fd_few"] is None
    # The same detector is sure of more with another limit; the scores file has what each found, box by box.
    assert metrics["again_recall50"]["value"] == metrics["recall50"]["value"]
    assert metrics["again_ap"] == metrics["ap"]
    scores = pd.read_parquet(files["mine"] / "scores.parquet")
    boxes = scores[scores["object"] >= 0]
    assert boxes["again_success"].sum() >= boxes["success"].sum() > 0
    assert metrics["grounding_instance_success"]["value"] == pytest.approx(boxes["grounding_success"].mean())
    assert metrics["image_pick"]["value"] == pytest.approx(scores.loc[scores["object"] < 0, "pick"].mean())

    contents = [json.loads((folder / "row.json").read_text()) for folder in files.values()]
    adherence = markdown(adherence_table(contents))
    for name in ("miniature", "grounding_dino", "owlv2", "again"):
        assert f"As {name} sees it:" in adherence
    assert "It is asked for each layout's own phrases alone" in adherence
    assert "a score of at least 0.25" in adherence
    distances = grid(markdown(distances_table(contents)))
    assert "FD, colour histogram, debiased" in distances
    assert "FD, few" in distances
    assert f"{metrics['image_pick']['value']:.3f} ±" in markdown(judges_table(contents))
    agreement = agreement_table({folder / "row.json": folder / "scores.parquet" for folder in files.values()})
    assert len(agreement.rows) == 2 * math.comb(4, 2)
    own = next(row for row in agreement.rows if (row["first"].value, row["second"].value) == ("miniature", "again"))
    assert own["agree"].value == pytest.approx((boxes["success"] == boxes["again_success"]).mean())

    read = {name: read_row(folder / "row.json", folder / "scores.parquet") for name, folder in files.items()}
    summaries = {name: Summaries(folder / "features/images.npz") for name, folder in files.items()}
    real = Summaries(files["mine"] / "features/real.npz")
    against = group_contributions(summaries["mine"], {"other": summaries["other"]}, real)
    write_json(tmp_path / "swaps.json", {"method": "mine", "against": against})
    compared = compare(read, ["other"], read_swaps([tmp_path / "swaps.json"])).set_index("metric")
    for name in ("image_fd_colours", "region_fd_colours", "image_pick", "owl_ap50", "again_best_iou"):
        assert name in compared.index
    assert 0 < compared.loc["image_fd_colours", "p"] <= 1
    assert 0 < compared.loc["image_pick", "p"] <= 1
    assert "image_fd_few" not in compared.index
    shown = pack_scores([read_scores(files["mine"] / "scores.parquet", rows, page_metrics(about))], page_metrics(about))
    assert {"owl_best_iou", "grounding_instance_success", "image_pick", "best_iou"} <= set(shown)
    assert shown["image_pick"]["title"] == "Image Pick"


def test_a_network_of_ones_own_is_held_against_what_it_takes(example, tmp_path) -> None:
    colours = example["colours"]
    assert list(faults("colours", colours)) == []
    (tmp_path / "my_networks/broken.py").write_text("def extractor(:\n")
    (fault,) = faults("colours", colours | {"kind": "my_networks.broken"})
    assert fault.key == "kind" and "broken.py, line 1: " in fault.text
    (fault,) = faults("colours", colours | {"params": {"bin": 3}})
    assert fault == ("params", "bin: unknown key, nearest is bins; known are bins")
    before = load_extractor(colours).sha256
    (tmp_path / "my_networks/colours.py").write_text(blocks("python")[0] + "\n# another version\n")
    assert load_extractor(colours).sha256 != before
    settings = merged(given={"extractors": example})
    assert read(settings, []).extractors.given()[-1][0] == "colours"
    with pytest.raises(SettingsError) as caught:
        read(merged(given={"extractors": {"colours": colours | {"params": {"bin": 3}}}}), [])
    assert "extractors.colours.params: bin: unknown key, nearest is bins; known are bins" in caught.value.faults[0]
    planned = Plan(read(settings, []))
    assert planned.table_names[-1] == "cost"
    key = planned.extractors_key
    (tmp_path / "my_networks/colours.py").write_text(blocks("python")[0])
    assert Plan(read(settings, [])).extractors_key != key
    two = settings | {"extractors": settings["extractors"] | {"twice": settings["extractors"]["detector"]}}
    assert {"agreement"} == set(Plan(read(two, [])).table_names) - set(planned.table_names)
