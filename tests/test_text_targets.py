"""Targets of the alignment by another text encoder, or by CLIP's projection: cached, specified by hash, sampled with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from evaluation.extractors import load_extractor
from formats.checksums import folder_sha256
from formats.files import InputError
from formats.images import png_name, read_meta, write_images
from formats.layouts import Layout, Object, write_layouts
from hcma import cache
from hcma.alignment import Alignment, AlignmentConfig, save_alignment
from hcma.cache import read_cache
from hcma.method import Params, State, generate, make_targets
from hcma.sampling import sample
from hcma.sampling.diffusion import Sampling, encode_text, initial_noise, load_diffusion
from hcma.sampling.grounding import grounding_tokens
from hcma.sampling.spec import Spec, as_json, read_artefact
from hcma.sampling.text import load_text_features
from tests.launch import status
from tests.tiny import WIDTH, text_config, write_sums, write_tiny
from workflow.fetch.__main__ import seal
from workflow.text_tower import write_tower

PROJECTED = 12
SCORER = Path(__file__).parents[1] / "weights/miniature/clip"
LAYOUTS = [
    Layout(1, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9)), Object("mat", (0.0, 0.5, 1.0, 1.0)))),
    Layout(2, 2, "nothing", ()),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base"), gated=True)


@pytest.fixture(scope="module")
def tower(base, tmp_path_factory) -> Path:
    """A text tower with a projection, as `CLIPTextModelWithProjection.save_pretrained` leaves it, sealed as a user seals it."""
    folder = tmp_path_factory.mktemp("tower")
    shutil.copytree(base / "tokenizer", folder / "tokenizer")
    config = text_config(CLIPTokenizer.from_pretrained(folder / "tokenizer"))
    config.projection_dim = PROJECTED
    torch.manual_seed(11)
    CLIPTextModelWithProjection(config).save_pretrained(folder / "text_encoder")
    seal(folder)
    return folder


def test_features_are_those_of_transformers(tower) -> None:
    pooled, projected = (load_text_features(tower, feature) for feature in ("pooled", "projected"))
    whole = CLIPTextModelWithProjection.from_pretrained(tower / "text_encoder").eval()
    tokens = pooled.tokenizer(["a cat"], padding="max_length", max_length=32, return_tensors="pt").input_ids
    assert torch.allclose(projected(["a cat"]), whole(tokens).text_embeds, atol=1e-5)
    assert torch.allclose(projected(["a cat"]), whole.text_projection(pooled(["a cat"])), atol=1e-5)
    assert projected(["a cat", "a mat " * 40]).shape == (2, PROJECTED)


def test_pooled_features_of_the_backbone_are_its_own(base) -> None:
    sd = load_diffusion(base, Sampling())
    assert torch.equal(load_text_features(base, "pooled")(["a cat"]), encode_text(sd, ["a cat"])[1])


def test_an_encoder_without_projection_is_one_line(base) -> None:
    with pytest.raises(InputError, match="feature `projected` needs a CLIPTextModelWithProjection") as error:
        load_text_features(base, "projected")
    assert "\n" not in str(error.value)


def test_an_open_clip_models_text_encoder_is_written_as_it_scores(tmp_path) -> None:
    write_tower(SCORER, tmp_path)
    stanza = {
        "kind": "open_clip",
        "name": "clip",
        "model": f"{SCORER}/config.json",
        "path": f"{SCORER}/open_clip.safetensors",
    }
    texts = ["a red circle", "Two squares, and a GREEN star!  " * 9, "", "Größe & 3.5 %\n— ok", "a star's edge"]
    found = load_text_features(tmp_path, "projected")(texts)
    scored = torch.from_numpy(load_extractor(stanza).texts(texts))
    assert torch.allclose(torch.nn.functional.normalize(found, dim=-1), scored, atol=1e-5)
    assert load_text_features(tmp_path, "pooled")(texts).shape == (5, 60)


def test_what_is_no_open_clip_model_is_one_line(tmp_path) -> None:
    for name in ("config.json", "open_clip.safetensors"):
        shutil.copy(SCORER / name, tmp_path)
    sizes = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"embed_dim": 65}))
    with pytest.raises(InputError, match="not an open_clip model") as error:
        write_tower(tmp_path, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_the_cache_holds_the_other_encoders_features(base, tower, tmp_path) -> None:
    write_layouts(tmp_path / "layouts.jsonl", LAYOUTS)
    write_images(tmp_path / "photos.zip", [(png_name(id), np.zeros((64, 64, 3), np.uint8)) for id in (1, 2)], {})
    inputs = [
        "--model",
        str(base),
        "--layouts",
        str(tmp_path / "layouts.jsonl"),
        "--images",
        str(tmp_path / "photos.zip"),
    ]
    text = ["--text", str(tower), "--text-feature", "projected"]
    assert status(cache.main, [*inputs, *text, "--out", str(tmp_path / "latents")]) == 0
    data, encode = read_cache([tmp_path / "latents"]), load_text_features(tower, "projected")
    assert data.captions_NKD.shape == (2, 5, PROJECTED)
    assert torch.allclose(data.captions_NKD[0, 0], encode(["a cat"])[0], atol=1e-5)
    assert data.names == ("cat", "mat")
    assert torch.allclose(data.texts_LD, encode(["cat", "mat"]), atol=1e-5)


def alignment(width: int) -> Alignment:
    torch.manual_seed(5)
    config = AlignmentConfig(4, 8, width, patch=2, width=16, blocks=1, heads=2, label_template="a {label}")
    return Alignment(config).eval().requires_grad_(False)


def test_targets_are_the_other_encoders_and_change_the_image(base, tower) -> None:
    sd, params = load_diffusion(base, Sampling(steps=2)), Params(mode="grad_norm")
    noise, own = initial_noise(LAYOUTS, 0, sd.latent_shape_CHW), State(alignment(WIDTH), 0.1)
    encoder = load_text_features(tower, "pooled")
    other = replace(own, encoder=encoder)
    assert not torch.equal(generate(sd, LAYOUTS, noise, params, other), generate(sd, LAYOUTS, noise, params, own))
    targets = make_targets(sd, LAYOUTS, encoder(["a cat", "nothing"]), grounding_tokens(sd, LAYOUTS), other)
    assert torch.allclose(targets.labels_BMD[0], encoder(["a cat", "a mat"]), atol=1e-5)
    assert not targets.labels_BMD[1].any()


def test_targets_of_another_width_are_one_line(base, tower) -> None:
    sd, state = load_diffusion(base, Sampling(steps=2)), State(alignment(PROJECTED), 0.1)
    noise = initial_noise(LAYOUTS, 0, sd.latent_shape_CHW)
    with pytest.raises(InputError, match=f"targets of width {PROJECTED}, but its text encoder's are {WIDTH} wide"):
        generate(sd, LAYOUTS, noise, Params(), state)
    whole = replace(state, encoder=load_text_features(tower, "projected"))
    assert generate(sd, LAYOUTS, noise, Params(), whole).shape == (2, 3, 64, 64)


def test_the_spec_names_the_encoder_by_hash(base, tower, tmp_path, capsys) -> None:
    save_alignment(alignment(PROJECTED), tmp_path / "alignment.safetensors")
    (tmp_path / "eta.json").write_text('{"eta": 0.1}')
    other = shutil.copytree(tower, tmp_path / "tower")
    files = {"alignment": tmp_path / "alignment.safetensors", "eta": tmp_path / "eta.json", "text_projected": other}
    artefacts = {name: read_artefact(name, str(path)) for name, path in files.items()}
    spec = as_json(
        Spec("hcma", "hcma.method", str(base), sampling={"steps": 2}, params={"mode": "grad_norm"}, artefacts=artefacts)
    )
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    write_layouts(tmp_path / "layouts.jsonl", [replace(LAYOUTS[0], id=7)])
    flags = {"--spec": "spec.json", "--layouts": "layouts.jsonl", "--work": "work", "--out": "images.zip"}
    arguments = [text for flag, name in flags.items() for text in (flag, str(tmp_path / name))]
    assert status(sample.main, arguments) == 0
    assert read_meta(tmp_path / "images.zip")["weights_sha256"]["text_projected"] == folder_sha256(tower)
    (other / "tokenizer/more.json").write_text("{}")
    write_sums(other)
    assert status(sample.main, arguments) == 1
    assert f"error: {other}: sha256 is" in capsys.readouterr().err
