"""The published files as they are: each container with the published keys opens, and whatever else came is one line."""

import copy
import io
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from evaluation.detectors import load_detector
from evaluation.extractors import load_extractor
from evaluation.features import load_networks
from evaluation.networks.inception import load_inception, untrained_inception
from formats.containers import CONTAINERS, LEGACY_PICKLE, SAFETENSORS, TORCHSCRIPT, ZIP_PICKLE, container
from formats.files import InputError, sha256
from tests.dag import ROOT
from workflow.inputs import resolve
from workflow.overlays import merged
from workflow.random_weights import folder as writer
from workflow.random_weights.architecture import read_architecture
from workflow.random_weights.containers import write_tensors
from workflow.random_weights.values import random_value
from workflow.settings import read

PAPER = merged(given={"scale": "paper"})
PAGE = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"
SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"layers": 2, "width": 128, "patch_size": 16, "image_size": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
NUMBERS = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
# Bytes of the published files. What is written here differs by its code, the archive's name and the length of keys.
SIZES = {"clip": 353_976_522, "inception": 95_628_359, "detector": 175_221_657, "dinov2": 1_217_586_395}
KINDS = {"clip": TORCHSCRIPT, "inception": LEGACY_PICKLE, "detector": ZIP_PICKLE, "dinov2": ZIP_PICKLE}
TEXTS = ["a red star above a blue ring", "Two dogs."]


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), np.uint8), rng.integers(0, 256, (50, 90, 3), np.uint8)]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[nn.Module, Path]:
    """A small CLIP in evaluation mode, and OpenAI's kind of archive of it: traced, products in halves, three numbers beside."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-quickgelu.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder / "tiny-quickgelu.json")
    torch.manual_seed(0)
    model = open_clip.CLIP(**SMALL, output_dict=False).eval()
    for name, number in NUMBERS.items():
        vars(model).pop(name, None)  # open_clip keeps some of them as plain numbers
        model.register_buffer(name, torch.tensor(number))
    mask = model._buffers.pop("attn_mask")  # in OpenAI's archives no tensor of the state
    model.attn_mask = mask
    halves = {name for name, value in lowered().items() if value.dtype == torch.float16}
    for name, value in model.state_dict().items():
        if name in halves:
            value.copy_(value.half().float())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, 64, 64), open_clip.tokenize(["a"]))
        traced = torch.jit.trace(copy.deepcopy(model), example, check_trace=False, strict=False)
        for name, parameter in traced.named_parameters():
            parameter.data = parameter.data.half() if name in halves else parameter.data
        traced.save(str(folder / "ViT-tiny.pt"))
    return model, folder / "ViT-tiny.pt"


def lowered() -> dict[str, torch.Tensor]:
    """Its state in the types of OpenAI's archives, by open_clip's own conversion."""
    with torch.device("meta"):
        other = open_clip.CLIP(**SMALL)
    open_clip.convert_weights_to_fp16(other)
    return other.state_dict()


def stanza(path: Path, **changes: str) -> dict[str, str]:
    first = {"kind": "open_clip", "name": "c", "model": "tiny-quickgelu", "path": str(path), "sha256": sha256(path)}
    return first | changes


def test_the_archive_here_is_of_openais_kind(small) -> None:
    _, path = small
    names = zipfile.ZipFile(path).namelist()
    assert "ViT-tiny/constants.pkl" in names
    assert any(name.startswith("ViT-tiny/code/") for name in names)
    with pytest.raises(RuntimeError, match="TorchScript archives"):
        torch.load(path, weights_only=True)
    state = torch.jit.load(path).state_dict()
    assert set(state) - set(NUMBERS) == set(open_clip.CLIP(**SMALL).state_dict())
    assert {state["visual.proj"].dtype, state["token_embedding.weight"].dtype} == {torch.float16, torch.float32}


@pytest.mark.parametrize("role", ["clip", "cmmd"])
def test_openais_archive_gives_open_clips_features_in_both_roles(small, role) -> None:
    model, path = small
    ours = load_networks({"clip": stanza(path), role: stanza(path)}).extractors[role]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        pixels = (torch.from_numpy(pictures()[0]).permute(2, 0, 1)[None].float() / 255 - mean) / std
        seen = model.encode_image(pixels, normalize=True).numpy()
        read = model.encode_text(open_clip.tokenize(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(ours.features(pictures()[:1]), seen, rtol=0, atol=1e-6)
    assert ours.texts is not None
    np.testing.assert_allclose(ours.texts(TEXTS), read, rtol=0, atol=1e-6)
    assert np.abs(np.diff(read, axis=0)).max() > 1e-3


@pytest.mark.parametrize("kind", CONTAINERS)
def test_one_table_of_tensors_is_the_same_network_in_every_container_whatever_its_suffix(small, tmp_path, kind) -> None:
    model, path = small
    state = {name: value.detach().clone() for name, value in model.state_dict().items() if name not in NUMBERS}
    write_tensors(state, kind, tmp_path / "weights.bin")
    assert container(tmp_path / "weights.bin") == kind
    found = load_extractor(stanza(tmp_path / "weights.bin")).features(pictures())
    np.testing.assert_allclose(found, load_extractor(stanza(path)).features(pictures()), rtol=0, atol=1e-6)


def test_a_training_checkpoint_is_unwrapped(small, tmp_path) -> None:
    model, path = small
    state = {f"module.{name}": value for name, value in model.state_dict().items() if name not in NUMBERS}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch.pt")
    found = load_extractor(stanza(tmp_path / "epoch.pt")).features(pictures())
    assert np.array_equal(found, load_extractor(stanza(path)).features(pictures()))


def zip_of_photos() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("val2014/COCO_val2014_000000000042.jpg", b"\xff\xd8\xff")
    return file.getvalue()


OTHERS = {
    "page": (PAGE, "an HTML page"),
    "nothing": (b"", "an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer instead of the file"),
    "photos": (zip_of_photos(), "a zip archive of other files"),
    "text": (b"no weights at all", r"no file of weights \(it begins with b'no weigh'\)"),
    "pickle": (pickle.dumps([1, 2]), r"no file of weights \(it begins with"),
}
LOADERS = {
    "clip": (lambda path: load_extractor(stanza(path)), "tiny-quickgelu"),
    "inception": (lambda path: load_extractor(stanza(path, kind="inception_clean")), "the FID Inception"),
    "detector": (lambda path: load_detector(stanza(path, kind="faster_rcnn")), "fasterrcnn_resnet50_fpn_v2"),
}


def refusal(network: str, path: Path) -> str:
    load, what = LOADERS[network]
    with pytest.raises(InputError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not {what}'s weights: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("network", "other"), [*(("clip", other) for other in OTHERS), ("inception", "page"), ("detector", "page")]
)
def test_another_file_under_the_name_is_one_line(small, tmp_path, network, other) -> None:
    content, named = OTHERS[other]
    (tmp_path / "file.pt").write_bytes(content)
    text = refusal(network, tmp_path / "file.pt")
    assert re.search(named, text)
    assert text.endswith("; expected one of TorchScript archive, zip pickle, legacy pickle, safetensors")


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_one_line(small, tmp_path, kind, share) -> None:
    write_tensors({f"layer.{i}": torch.rand(64, 64) for i in range(8)}, kind, tmp_path / "file.pt")
    whole = (tmp_path / "file.pt").read_bytes()
    (tmp_path / "file.pt").write_bytes(whole[: int(share * len(whole))])
    text = refusal("clip", tmp_path / "file.pt")
    assert "cut off or damaged" in text or "cannot be read" in text or "no file of weights" in text


@pytest.mark.parametrize(
    ("network", "kind"),
    [*(("clip", kind) for kind in CONTAINERS), ("inception", LEGACY_PICKLE), ("detector", ZIP_PICKLE)],
)
def test_tensors_of_another_network_are_told_by_name(small, tmp_path, network, kind) -> None:
    write_tensors({"layer.weight": torch.rand(3, 3)}, kind, tmp_path / "file.pt")
    text = refusal(network, tmp_path / "file.pt")
    assert f"a {kind} in which " in text
    assert re.search(r"\d+ of \d+ tensors are missing, the first [\w.]+; 1 are unknown, the first layer.weight$", text)


def test_another_clips_shapes_are_told_with_both_sizes(small, tmp_path) -> None:
    model, _ = small
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    write_tensors(state | {"visual.proj": torch.zeros(128, 16)}, TORCHSCRIPT, tmp_path / "file.pt")
    text = refusal("clip", tmp_path / "file.pt")
    assert text.endswith("in which 1 have another shape, the first visual.proj with [128, 16], expected [128, 32]")


def test_a_pickle_that_runs_code_is_refused_and_not_run(small, tmp_path) -> None:
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"visual.proj": Payload()}, tmp_path / "file.pt")
    assert "a zip pickle that cannot be read" in refusal("clip", tmp_path / "file.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_the_one_promised_is_never_opened(small, tmp_path) -> None:
    """torch.jit.load is for files whose hash is known."""
    _, path = small
    with pytest.raises(InputError, match=r"sha256 \w{64}, expected 0{64}"):
        load_extractor(stanza(path) | {"sha256": "0" * 64})


def test_the_inception_of_before_counters_opens(tmp_path) -> None:
    """A legacy pickle, as the published one; of batch norms without `num_batches_tracked`, as torch 0.4.0 wrote them."""
    torch.manual_seed(0)
    state = untrained_inception().state_dict()
    older = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(state, tmp_path / "new.pth")
    assert container(tmp_path / "old.pth") == LEGACY_PICKLE
    pixels = torch.rand(1, 3, 299, 299)
    with torch.no_grad():
        old, new = (load_inception(tmp_path / name)(pixels)[0] for name in ("old.pth", "new.pth"))
    assert torch.equal(old, new)


def test_the_rehearsals_files_have_the_published_names_and_containers() -> None:
    urls = {
        "inception": PAPER["extractors"]["frechet"]["source"],
        "clip": PAPER["extractors"]["clip"]["source"],
        "detector": PAPER["extractors"]["detector"]["source"],
        "dinov2": PAPER["extractors"]["dinov2"]["source"],
    }
    for name, source in urls.items():
        network = read_architecture(name).components["."]
        assert network.file == source["urls"][0].rpartition("/")[2]
        assert network.container == KINDS[name]
        assert source["size"] == SIZES[name]
    pipelines = {"stable-diffusion": SAFETENSORS, "gligen": ZIP_PICKLE, "latent-diffusion": ZIP_PICKLE}
    for name, kind in pipelines.items():
        assert {network.container for network in read_architecture(name).components.values()} == {kind}


def test_the_table_of_published_files_names_each_and_tests_that_there_are() -> None:
    text = (ROOT / "docs/configuration.md").read_text().split("## The published files")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith(("| `", "| of"))]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    _, fetched = resolve(read(PAPER, []))
    assert {Path(path).name for path in fetched.files} | set(fetched.models) <= named
    for _, kind, opened, tests in rows:
        assert any(word.lower() in kind.lower() for word in (*CONTAINERS, "zip of", "JSON"))
        for path in re.findall(r"`([^`]+)`", opened):
            assert (ROOT / path).is_file(), path
        found = re.findall(r"`([^`]+)`", tests)
        assert found
        for test in found:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(), test


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("clip", "dinov2")]


@pytest.mark.parametrize("name", ["inception", "detector", *LARGE])
def test_a_file_of_random_weights_has_the_published_containers_size(tmp_path, name) -> None:
    """The sizes tell the containers apart: a zip of the Inception is 59 kB too large, a legacy pickle of the detector 69 kB too
    small, and CLIP with all its weights in halves 51 MB. What is left of CLIP is its code, 450 kB."""
    writer.write_folder(name, 3, tmp_path)
    path = tmp_path / read_architecture(name).components["."].file
    assert container(path) == KINDS[name]
    assert abs(path.stat().st_size - SIZES[name]) < {"clip": 500_000}.get(name, 10_000)


@pytest.mark.slow
def test_the_whole_clip_archive_gives_the_features_of_the_module_that_was_saved(tmp_path) -> None:
    writer.write_folder("clip", 3, tmp_path)
    path = tmp_path / "ViT-B-32.pt"
    assert len(torch.jit.load(path).state_dict()) == 302 + 3
    ours = load_extractor(stanza(path, model="ViT-B-32-quickgelu"))
    network = read_architecture("clip").components["."]
    types = network.stored(network.build())
    model = open_clip.create_model("ViT-B-32-quickgelu").eval()
    model.load_state_dict({key: random_value(f"..{key}", like, 3).to(like.dtype) for key, like in types.items()})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    with torch.no_grad():
        seen = model.encode_image((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std, normalize=True)
        read = model.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    np.testing.assert_allclose(ours.features([image]), seen.numpy(), rtol=0, atol=1e-6)
    assert ours.texts is not None
    np.testing.assert_allclose(ours.texts(TEXTS), read.numpy(), rtol=0, atol=1e-6)
