"""Whole measurements against the libraries people use: folders of images, networks of the true architectures, random weights.

clean-fid, torch-fidelity and torchmetrics see the images with their own code. Two things are done to them: their downloads are
answered by our weights, and their networks get the memory layout that ours has, since a float32 sum in another order is
another sum, and random weights carry its last digit to the sixth.
"""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import scipy
import torch
import torch_fidelity
from cleanfid import fid as clean_fid
from cleanfid import inception_pytorch, inception_torchscript
from cleanfid.features import build_feature_extractor
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd
from transformers import CLIPImageProcessor, CLIPTokenizer

from evaluation.extractors import Extractor, load_extractor
from evaluation.metrics.frechet import frechet_distance, leave_out_distance
from evaluation.metrics.neighbours import neighbourhood
from evaluation.metrics.summary import Summary, cosine
from evaluation.networks import BATCH
from evaluation.networks.inception import load_inception
from formats.files import sha256
from formats.images import read_images
from tests.kernels import kid
from tests.test_evaluation_frechet import moments, samples
from tests.test_evaluation_kernel import sets
from workflow.benchmarks.features import as_transformers
from workflow.random_weights.architecture import CLASSES
from workflow.random_weights.values import random_value
from workflow.random_weights.vocabulary import write_tokenizer

COUNT = 10
SQUARE = (299, 299)  # what needs no resize, in which the libraries differ
LAYOUT = torch.channels_last
FEW = slice(None, None, 256)  # eight of the 2048 features, whose covariance is not singular for ten images


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """FID's Inception with random weights, its norms fitted to a few images so that features spread as trained ones do."""
    folder = tmp_path_factory.mktemp("inception")
    network = CLASSES["InceptionV3"]({})
    network.load_state_dict({name: random_value(name, value, 3) for name, value in network.state_dict().items()})
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    images = [pixels for _, pixels in read_images(folder_of(folder / "images", 1, SQUARE), range(COUNT))]
    with torch.no_grad():
        network.train()(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1)
    torch.save(network.state_dict(), folder / "inception.pth")
    return folder / "inception.pth"


def folder_of(path: Path, seed: int, size: tuple[int, int]) -> Path:
    """COUNT smooth pictures, darker and bluer for other seeds, as {id:012d}.png."""
    path.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(COUNT):
        colours = rng.integers(0, 256, (6, 6, 3)) // np.array([seed, seed, 1])
        picture = Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        picture.save(path / f"{number:012d}.png")
    return path


def features_of(extractor: Extractor, folder: Path) -> np.ndarray:
    return extractor.features([pixels for _, pixels in read_images(folder, range(COUNT))])


def distance(a_ND: np.ndarray, b_ND: np.ndarray) -> float:
    together = np.zeros(len(a_ND), int)
    return leave_out_distance(Summary.of(a_ND, together), Summary.of(b_ND, together))(None)


def inception(weights: Path, mode: str) -> Extractor:
    kind = {"clean": "inception_clean", "legacy_pytorch": "inception_legacy"}[mode]
    return load_extractor({"kind": kind, "name": "i", "path": str(weights), "sha256": sha256(weights)})


class AsTorchScript(nn.Module):
    """What clean-fid's TorchScript file holds, as far as clean-fid uses it."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.layers = nn.Sequential(*load_inception(weights).blocks)


@pytest.fixture
def clean_fid_network(weights, monkeypatch):
    """clean-fid's own extractor of a mode, its two downloads answered by the same weights."""
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr(inception_torchscript, "check_download_inception", lambda **_: None)
    monkeypatch.setattr(torch.jit, "load", lambda _: AsTorchScript(weights))
    return lambda mode: build_feature_extractor(mode, torch.device("cpu"), use_dataparallel=False)


def clean_fids(found: Path, real: Path, mode: str, network) -> float:
    """compute_fid of two folders, where scipy still has what it calls."""
    if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18):
        pytest.skip("clean-fid 0.1.35 calls sqrtm(disp=), which scipy 1.18 removed")
    options = {"num_workers": 0, "batch_size": BATCH, "device": torch.device("cpu"), "verbose": False}
    # It averages in the features' own precision: in float32 its means would have six digits.
    exact = {"custom_feat_extractor": lambda batch: network(batch.to(memory_format=LAYOUT)).double()}
    return clean_fid.compute_fid(str(found), str(real), mode=mode, **exact, **options)


@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
def test_a_folders_distance_is_clean_fids(tmp_path, weights, clean_fid_network, mode) -> None:
    found, real = folder_of(tmp_path / "found", 2, (80, 100)), folder_of(tmp_path / "real", 1, (400, 300))
    a, b = (features_of(inception(weights, mode), folder)[:, FEW] for folder in (found, real))
    network = clean_fid_network(mode)
    expected = clean_fids(found, real, mode, lambda batch: network(batch)[:, FEW])
    assert distance(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
def test_a_folders_distance_is_clean_fids_in_all_dimensions(tmp_path, weights, clean_fid_network, mode) -> None:
    found, real = folder_of(tmp_path / "found", 9, (80, 100)), folder_of(tmp_path / "real", 1, (400, 300))
    a, b = (features_of(inception(weights, mode), folder) for folder in (found, real))
    assert distance(a, b) == pytest.approx(clean_fids(found, real, mode, clean_fid_network(mode)), rel=1e-6)


def test_a_folders_distances_are_torch_fidelitys_and_torchmetrics(tmp_path, weights, monkeypatch) -> None:
    found, real = folder_of(tmp_path / "found", 2, SQUARE), folder_of(tmp_path / "real", 1, SQUARE)
    a, b = (features_of(inception(weights, "clean"), folder) for folder in (found, real))
    network, forward = {"feature_extractor_weights_path": str(weights)}, FeatureExtractorInceptionV3.forward
    monkeypatch.setattr(
        FeatureExtractorInceptionV3, "forward", lambda self, x: forward(self.to(memory_format=LAYOUT), x)
    )
    options = {"cuda": False, "batch_size": BATCH, "cache": False, "verbose": False, "save_cpu_ram": True}
    subsets = {"kid_subsets": 1, "kid_subset_size": COUNT}
    theirs = torch_fidelity.calculate_metrics(
        input1=str(found), input2=str(real), fid=True, kid=True, **network, **options, **subsets
    )
    assert distance(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert kid(a, b) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    metric = FrechetInceptionDistance(2048, **network)
    metric.inception.to(memory_format=LAYOUT)
    for folder, is_real in ((found, False), (real, True)):
        pixels = np.stack([image for _, image in read_images(folder, range(COUNT))])
        metric.update(torch.from_numpy(pixels).permute(0, 3, 1, 2), real=is_real)
    assert distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_shared_features_have_the_distance_of_torch_fidelity_and_torchmetrics() -> None:
    x, y = samples(300, 64, 1), samples(280, 64, 2, 0.3)
    ours = frechet_distance(*moments(x), *moments(y))
    stats = [dict(zip(("mu", "sigma"), moments(z), strict=True)) for z in (x, y)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-6)

    class Identity(torch.nn.Module):
        num_features = 64

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.flatten(1)

    # torchmetrics takes images and gives them to the network as they are: one-channel images of 8 x 8 are our features.
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True, input_img_size=(1, 8, 8)).set_dtype(
        torch.float64
    )
    for z, real in ((x, True), (y, False)):
        metric.update(torch.from_numpy(z).view(-1, 1, 8, 8), real=real)
    assert float(metric.compute()) == pytest.approx(ours, rel=1e-6)


def test_kid_is_torchmetrics_unbiased_estimate() -> None:
    a, b = sets(80, 80)  # torchmetrics' is for sets of one size
    assert kid(a, b) == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))), rel=1e-9)


def test_precision_and_recall_are_torch_fidelitys() -> None:
    found, real = sets()
    expected = calculate_precision_recall_full(torch.from_numpy(found), torch.from_numpy(real), neighborhood=5)
    ours = neighbourhood(found, real)
    assert (ours.precision, ours.recall) == pytest.approx(expected)
    assert 0 < ours.recall < ours.precision < 1 or 0 < ours.precision < ours.recall < 1


SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"layers": 2, "width": 128, "patch_size": 16, "image_size": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
CAPTIONS = ["a red star above a blue ring", "Two dogs, one of them asleep."]


def golden() -> np.ndarray:
    """One image that no mirror, swap of channels or second rescaling leaves as it is."""
    image = np.zeros((90, 90, 3), np.uint8)
    image[:30, :60] = (250, 30, 10)
    image[60:, 45:] = (20, 60, 240)
    image[30:60, :, 1] = np.linspace(0, 255, 90)
    return image


@pytest.mark.parametrize("name", ["small-quickgelu", pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow)])
def test_clip_features_are_open_clips(tmp_path, name) -> None:
    """Its own loading, preprocessing and padded texts, on images of two shapes and texts of four lengths."""
    (tmp_path / "small-quickgelu.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "small-quickgelu.json")
    weights = tmp_path / "clip.safetensors"
    shapes = open_clip.create_model(name).state_dict()
    # In halves, as OpenAI's are.
    save_file({key: random_value(key, value, 5).half() for key, value in shapes.items()}, weights)
    stanza = {"kind": "open_clip", "name": "c", "model": name, "path": str(weights), "sha256": sha256(weights)}
    ours = load_extractor(stanza)
    model, _, prepare = open_clip.create_model_and_transforms(name, str(weights), image_resize_mode="squash")
    texts = [*CAPTIONS, "", "a kite " * 100]
    images = [golden(), golden()[:70]]
    with torch.no_grad():
        pixels = torch.stack([prepare(Image.fromarray(image)) for image in images])
        seen = model.eval().encode_image(pixels, normalize=True).numpy()
        read = model.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).numpy()
    assert ours.texts is not None
    for few in (slice(0, 3), slice(0, 4)):  # padding left out, and none to leave out
        np.testing.assert_allclose(ours.texts(texts[few]), read[few], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.features(images), seen, rtol=0, atol=1e-6)
    assert np.abs(np.diff(read, axis=0)).max(1).min() > 1e-3


@pytest.mark.parametrize("name", ["small-quickgelu", pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow)])
def test_clip_scores_are_transformers(tmp_path, name) -> None:
    (tmp_path / "small-quickgelu.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "small-quickgelu.json")
    config = open_clip.get_model_config(name)
    shapes = open_clip.create_model(name).state_dict()
    state = {key: random_value(key, value, 5) for key, value in shapes.items()}
    save_file(state, tmp_path / "clip.safetensors")
    stanza = {"kind": "open_clip", "name": "c", "model": name, "path": str(tmp_path / "clip.safetensors")}
    ours = load_extractor(stanza | {"sha256": sha256(tmp_path / "clip.safetensors")})
    found = cosine(ours.features([golden()] * 2), ours.texts(CAPTIONS))

    theirs = as_transformers(state, config)
    write_tokenizer(tmp_path / "tokenizer", {"tokenizer_class": "CLIPTokenizer"})
    text = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")(CAPTIONS, padding=True, return_tensors="pt")
    side = config["vision_cfg"]["image_size"]
    prepare = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    def score(pixels: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            seen = theirs(**text, pixel_values=pixels)
        return torch.cosine_similarity(seen.image_embeds, seen.text_embeds).numpy()

    expected = score(prepare([golden()], return_tensors="pt").pixel_values)
    assert found == pytest.approx(expected, abs=1e-5)
    mistakes = {
        "blue first": prepare([golden()[..., ::-1].copy()], return_tensors="pt").pixel_values,
        "rescaled twice": prepare([golden() / 255.0], return_tensors="pt").pixel_values,
        "mirrored": prepare([golden()[:, ::-1].copy()], return_tensors="pt").pixel_values,
    }
    for mistake, pixels in mistakes.items():
        assert np.abs(score(pixels) - found).min() > 1e-3, mistake
