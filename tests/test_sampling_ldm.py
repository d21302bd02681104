"""Folders of the 2022 latent diffusion model: another text encoder, names, schedule and canvas; the same loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import LDMTextToImagePipeline

from baselines import gligen, stable_diffusion
from formats.layouts import Layout, Object
from hcma.sampling.caption_tokens import named_objects
from hcma.sampling.diffusion import (
    Sampling,
    count_truncated,
    decode,
    denoise,
    encode_text,
    initial_noise,
    load_diffusion,
    make_scheduler,
)
from tests.tiny import write_tiny_ldm

LAYOUT = Layout(3, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_ldm(tmp_path_factory.mktemp("ldm"))


@pytest.fixture
def sd(folder):
    return load_diffusion(folder, Sampling(steps=4))


def test_sizes_and_limits_come_from_the_folder(sd):
    assert (sd.latent_shape_CHW, sd.size, sd.prompt_limit) == ((4, 4, 4), 32, 77)
    assert count_truncated(sd, ["cat " * 75, "cat " * 76]) == 1


def test_the_loop_equals_the_stock_pipeline(tmp_path):
    sd = load_diffusion(write_tiny_ldm(tmp_path, gated=False), Sampling(steps=4, scheduler="ddim"))
    stock = LDMTextToImagePipeline(sd.vae, sd.text_encoder, sd.tokenizer, sd.unet, make_scheduler(sd))
    stock.set_progress_bar_config(disable=True)
    noise = initial_noise([LAYOUT], 0, sd.latent_shape_CHW)
    options = {"num_inference_steps": 4, "guidance_scale": 7.5, "height": 32, "width": 32, "output_type": "np"}
    expected = stock("a cat", latents=noise, **options).images[0]
    found = decode(sd, denoise(sd, noise, encode_text(sd, ["a cat"])[0]))[0].permute(1, 2, 0).numpy()
    assert expected.std() > 0.05
    assert np.abs(found - 255 * expected).max() <= 0.51


def test_a_schedule_of_another_solver_is_sampled_by_plms(sd):
    scheduler = make_scheduler(sd)
    assert scheduler.config.skip_prk_steps
    assert scheduler.timesteps.tolist() == [751, 501, 501, 251, 1]


def test_a_phrase_is_its_first_token_and_tells_phrases_apart(sd):
    states_BTD, pooled_BD = encode_text(sd, ["cat", "dog"])
    assert states_BTD.shape == (2, 77, 32)
    assert torch.equal(pooled_BD, states_BTD[:, 0])
    assert (pooled_BD[0] - pooled_BD[1]).abs().max() > 0.01


def test_boxes_reach_the_image_and_words_their_tokens(sd):
    noise = initial_noise([LAYOUT], 0, sd.latent_shape_CHW)
    here = gligen.generate(sd, [LAYOUT], noise, gligen.Params(tau=1.0))
    moved = replace(LAYOUT, objects=(replace(LAYOUT.objects[0], box=(0.5, 0.0, 1.0, 0.4)),))
    assert not torch.equal(here, gligen.generate(sd, [moved], noise, gligen.Params(tau=1.0)))
    off = gligen.generate(sd, [LAYOUT], noise, gligen.Params(tau=0.0))
    assert torch.equal(off, stable_diffusion.generate(sd, [LAYOUT], noise, stable_diffusion.Params()))
    assert named_objects(sd, [LAYOUT])[0][0].positions == (2,)
