"""Random weights of full architectures: published sizes, the hub's formats, and folders that load like the real ones."""

import json
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from transformers import BertTokenizer, CLIPTokenizer

from baselines import gligen
from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.sampling.diffusion import Sampling, initial_noise, load_diffusion
from tests.launch import status
from workflow.random_weights import __main__ as program
from workflow.random_weights import count as counting
from workflow.random_weights import folder as writer
from workflow.random_weights.architecture import (
    FOLDER,
    check_count,
    count_parameters,
    read_architecture,
)
from workflow.random_weights.values import random_value
from workflow.random_weights.vocabulary import WORD_PIECES, word_pieces, write_tokenizer

PIPELINES = ("stable-diffusion", "gligen", "latent-diffusion")
# Millions, as published or as the sizes of the published float32 files tell: 3.44 GB, 4.27 GB, 335 MB, 492 MB, ...
MILLIONS = {
    ("stable-diffusion", "unet", "all"): 859.5,
    ("stable-diffusion", "vae", "all"): 83.65,
    ("stable-diffusion", "text_encoder", "all"): 123.06,
    ("gligen", "unet", "all"): 1068.6,
    ("gligen", "unet", "fuser"): 208.0,
    ("gligen", "unet", "position_net"): 1.08,
    ("latent-diffusion", "unet", "all"): 1088.3,
    ("latent-diffusion", "unet", "fuser"): 214.4,
    ("latent-diffusion", "unet", "position_net"): 1.61,
    ("latent-diffusion", "vqvae", "all"): 83.65,
    ("clip", ".", "all"): 151.3,
    ("inception", ".", "all"): 23.85,
    ("detector", ".", "all"): 43.7,
    ("dinov2", ".", "all"): 304.4,
    ("grounding-dino", ".", "all"): 172.2,
    ("owlv2", ".", "all"): 155.0,
}
CAPTIONS = [
    "A woman's dog, 3 cats & a café!",
    "two hot-dogs  on a\ttable; it's 5 o'clock",
    "LAYOUT guidance (naïve) ...",
]


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.json")))
def test_every_network_has_its_published_size(name) -> None:
    for part, network in read_architecture(name).components.items():
        model = network.build()
        assert all(parameter.is_meta for parameter in model.parameters())
        found = check_count(name, model, network.parameters)
        assert found["all"] == sum(parameter.numel() for parameter in model.parameters())
        stated = {key[2]: value for key, value in MILLIONS.items() if key[:2] == (name, part)}
        assert {key: found[key] / 1e6 for key in stated} == pytest.approx(stated, rel=4e-3)


def test_the_gated_unet_is_the_plain_one_with_fusers_and_the_boxes_network() -> None:
    plain, gated = (read_architecture(name).components["unet"] for name in ("stable-diffusion", "gligen"))
    assert gated.config["attention_type"] == "gated"
    differing = {key for key in gated.config if gated.config[key] != plain.config.get(key)}
    assert differing == {"attention_type", "_diffusers_version"}
    assert (
        gated.parameters["all"]
        == plain.parameters["all"] + gated.parameters["fuser"] + gated.parameters["position_net"]
    )


def test_the_scorer_is_the_model_that_the_extractor_builds() -> None:
    assert read_architecture("clip").components["."].config == open_clip.get_model_config("ViT-B-32-quickgelu")


def test_a_network_of_another_size_is_refused() -> None:
    network = read_architecture("clip").components["."]
    with pytest.raises(InputError, match=r"clip: 151,277,313 parameters \(all\), expected the published 5"):
        check_count("clip", network.build(), {"all": 5})
    with pytest.raises(InputError, match="not one of clip, detector, dinov2, gligen"):
        read_architecture("sdxl")


def test_a_value_depends_on_seed_name_and_shape_alone() -> None:
    like = torch.empty(64, 300, device="meta")
    value = random_value("unet.conv", like, 1)
    assert torch.equal(value, random_value("unet.conv", like, 1))
    assert not torch.equal(value, random_value("unet.conv", like, 2))
    assert not torch.equal(value, random_value("unet.other", like, 1))
    assert value.std() == pytest.approx((2 / 300) ** 0.5, rel=0.02)
    vector, scalar = torch.empty(8, device="meta"), torch.empty((), device="meta")
    assert random_value("fuser.alpha_attn", scalar, 0) == 1  # a closed gate would hide the boxes
    assert random_value("norm.weight", vector, 0).eq(1).all()
    assert random_value("norm.bias", vector, 0).eq(0).all()
    assert random_value("bn.running_var", vector, 0).eq(1).all()
    assert random_value("null_position_feature", vector, 0).unique().numel() == 8
    steps = torch.empty((), dtype=torch.int64, device="meta")
    assert random_value("bn.num_batches_tracked", steps, 0).dtype == torch.int64


def test_clips_vocabulary_is_the_real_one(tmp_path) -> None:
    write_tokenizer(tmp_path, read_architecture("stable-diffusion").tokenizer)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert (len(tokenizer), tokenizer.model_max_length) == (49_408, 77)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    ours = tokenizer(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt")
    theirs = open_clip.SimpleTokenizer()(CAPTIONS)
    there = ours.attention_mask.bool()  # the two pad differently
    assert torch.equal(ours.input_ids[there], theirs[there])
    assert theirs[~there].eq(0).all()


def test_the_made_up_word_pieces_spell_every_caption_at_berts_places(tmp_path) -> None:
    words = word_pieces()
    assert len(set(words)) == len(words) == WORD_PIECES
    write_tokenizer(tmp_path, read_architecture("latent-diffusion").tokenizer)
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 101, 102)
    for caption in CAPTIONS:
        ids = tokenizer(caption).input_ids
        assert max(ids[0], ids[-1]) < 103 < min(ids[1:-1])
    assert tokenizer.convert_tokens_to_ids([".", "?"]) == [1012, 1029]


def reduced(name: str, folder: Path) -> Path:
    """A shipped architecture with small widths, in the same files and formats, its counts left to the whole."""
    content = json.loads((FOLDER / f"{name}.json").read_text())
    small: dict[str, dict] = {
        "UNet2DConditionModel": {"block_out_channels": [32] * 4, "cross_attention_dim": 32, "sample_size": 8},
        "AutoencoderKL": {"block_out_channels": [32] * 4, "sample_size": 64},
        "CLIPTextModel": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2},
        "LDMBertModel": {
            "d_model": 32,
            "encoder_ffn_dim": 64,
            "encoder_layers": 2,
            "num_hidden_layers": 2,
            "head_dim": 8,
        },
    }
    for row in content["components"].values():
        row["config"] |= small[row["class"]]
        row["parameters"] = {}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    for name in PIPELINES:
        writer.write_folder(str(reduced(name, root)), 5, root / name)
    return {name: root / name for name in PIPELINES}


def drawn(name: str, like: torch.Tensor) -> torch.Tensor:
    return random_value(name, like, 5).half().float()


@pytest.mark.parametrize("name", PIPELINES)
def test_a_written_folder_loads_as_it_was_drawn(name, folders) -> None:
    """Half-precision files, pickles, keys of old versions: what arrives in the module is what the rule says."""
    sd = load_diffusion(folders[name], Sampling())
    text, vae = ("bert", "vqvae") if name == "latent-diffusion" else ("text_encoder", "vae")
    for part, module in (("unet", sd.unet), (vae, sd.vae), (text, sd.text_encoder)):
        for key, parameter in module.named_parameters():
            assert torch.equal(parameter, drawn(f"{part}.{key}", parameter)), f"{part}.{key}"
    assert (sd.latent_shape_CHW, sd.size, sd.prompt_limit) == ((4, 8, 8), 64, 77)


def test_the_odd_formats_are_those_of_the_hub(folders) -> None:
    from safetensors import safe_open

    with safe_open(folders["stable-diffusion"] / "vae/diffusion_pytorch_model.fp16.safetensors", "pt") as file:
        assert "decoder.mid_block.attentions.0.query.weight" in file.keys()  # noqa: SIM118 (not a dict)
    with safe_open(folders["stable-diffusion"] / "text_encoder/model.fp16.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118 (not a dict)
        assert file.get_tensor("text_model.final_layer_norm.weight").dtype == torch.float16
    gated = torch.load(folders["gligen"] / "unet/diffusion_pytorch_model.bin", weights_only=True)
    assert any(".fuser." in name for name in gated)
    assert json.loads((folders["gligen"] / "unet/config.json").read_text())["attention_type"] == "gated"


@pytest.mark.parametrize("name", ["gligen", "latent-diffusion"])
def test_boxes_reach_the_image(name, folders) -> None:
    sd = load_diffusion(folders[name], Sampling(steps=2))
    images = []
    for box in ((0.1, 0.2, 0.6, 0.9), (0.5, 0.0, 1.0, 0.4)):
        layout = Layout(3, 1, "a cat", (Object("cat", box, (2, 5)),))
        noise = initial_noise([layout], 0, sd.latent_shape_CHW)
        images.append(gligen.generate(sd, [layout], noise, gligen.Params(tau=0.5)).float())
    assert images[0].std() > 10
    assert not torch.equal(*images)


def test_one_seed_gives_one_folder_and_the_plain_weights_of_the_gated_one(folders, tmp_path) -> None:
    again = tmp_path / "again"
    writer.write_folder(str(reduced("gligen", tmp_path)), 5, again)
    assert (again / "SHA256SUMS").read_bytes() == (folders["gligen"] / "SHA256SUMS").read_bytes()
    writer.write_folder(str(reduced("stable-diffusion", tmp_path)), 5, again)  # over a folder of its own
    assert not (again / "unet/diffusion_pytorch_model.bin").exists()
    plain, gated = (load_diffusion(folder, Sampling()).unet for folder in (again, folders["gligen"]))
    there = dict(gated.named_parameters())
    assert all(torch.equal(parameter, there[name]) for name, parameter in plain.named_parameters())


def test_a_folder_of_others_is_left_alone_and_an_unfinished_one_is_not_taken(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    arguments = ["--architecture", str(reduced("gligen", tmp_path)), "--seed", "1", "--out"]
    monkeypatch.setattr(sys, "argv", ["random_weights", *arguments, str(tmp_path / "mine")])
    assert status(program.main) == 1
    error = capsys.readouterr().err
    assert "not empty, and not written by this program" in error
    assert len(error.splitlines()) == 1
    assert (tmp_path / "mine/thesis.txt").read_text() == "years"
    monkeypatch.setattr(writer, "write_pipeline_files", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        writer.write_folder(arguments[1], 1, tmp_path / "half")
    with pytest.raises(InputError, match="SHA256SUMS: missing"):
        load_diffusion(tmp_path / "half", Sampling())


def test_loaded_models_are_counted_and_another_architecture_is_named(folders, tmp_path, monkeypatch, capsys) -> None:
    content = json.loads(reduced("gligen", tmp_path).read_text())
    sd = load_diffusion(folders["gligen"], Sampling())
    parts = {"all": 0, "fuser": 0, "position_net": 0}
    content["components"]["unet"]["parameters"] = count_parameters(sd.unet, parts)
    architecture, out = tmp_path / "counted.json", tmp_path / "counts.json"
    architecture.write_text(json.dumps(content))
    command = ["count_parameters", "--architecture", str(architecture), "--out", str(out), "--model"]
    monkeypatch.setattr(sys, "argv", [*command, str(folders["gligen"])])
    assert status(counting.main) == 0
    unet = json.loads(out.read_text())["parameters"]["unet"]
    assert unet["all"] > unet["fuser"] + unet["position_net"] > unet["fuser"] > 0
    out.unlink()
    monkeypatch.setattr(sys, "argv", [*command, str(folders["stable-diffusion"])])
    assert status(counting.main) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {folders['stable-diffusion']}/unet: ")
    assert "expected the published" in error
    assert not out.exists()
