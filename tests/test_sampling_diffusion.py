from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch._dynamo.exc import TorchDynamoException

from baselines import stable_diffusion
from formats.files import InputError
from formats.layouts import Layout
from hcma.sampling.diffusion import (
    NonFiniteLatents,
    Sampling,
    count_truncated,
    decode,
    denoise,
    encode_text,
    initial_noise,
    load_diffusion,
    make_scheduler,
    speed_up,
)
from hcma.sampling.loading import Method
from tests.tiny import CONTEXT, WIDTH, write_tiny

LAYOUTS = [Layout(11, 1, "a cat"), Layout(12, 2, "two dogs"), Layout(13, 3, "")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("sd")), Sampling(steps=4))


@pytest.fixture
def sd(model):
    return replace(model, counters=type(model.counters)())


def noise(sd, layouts=LAYOUTS):
    return initial_noise(layouts, 0, sd.latent_shape_CHW)


def captions(sd, layouts=LAYOUTS):
    return encode_text(sd, [layout.caption for layout in layouts])[0]


def test_sizes_come_from_the_configurations(sd):
    assert (sd.latent_shape_CHW, sd.size, sd.device.type) == ((4, 8, 8), 64, "cpu")


def test_the_loop_equals_the_stock_pipeline(sd):
    scheduler = make_scheduler(sd)
    stock = StableDiffusionPipeline(
        sd.vae, sd.text_encoder, sd.tokenizer, sd.unet, scheduler, None, None, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    expected = stock("a cat", num_inference_steps=4, latents=noise(sd, LAYOUTS[:1]), output_type="latent").images
    found = denoise(sd, noise(sd, LAYOUTS[:1]), captions(sd, LAYOUTS[:1]))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    expected_pixels = stock.image_processor.postprocess(stock.vae.decode(expected / 0.18215).sample.detach())[0]
    assert torch.equal(
        decode(sd, expected)[0].permute(1, 2, 0),
        torch.tensor(list(expected_pixels.get_flattened_data())).view(64, 64, 3),
    )


def test_pndm_makes_one_call_more_than_steps_and_each_counts_twice(sd):
    denoise(sd, noise(sd), captions(sd))
    assert sd.counters["unet_forwards"] == 2 * 5 * len(LAYOUTS)
    assert len(make_scheduler(replace(sd, sampling=Sampling(steps=50))).timesteps) == 51


def test_half_precision_gives_nearly_the_latents_of_float32_in_float32(sd):
    whole = denoise(sd, noise(sd), captions(sd))
    lowered = load_diffusion(sd.folder, replace(sd.sampling, precision="bfloat16"))
    half = denoise(lowered, noise(lowered), captions(lowered))
    assert half.dtype == torch.float32
    assert 0 < (half - whole).norm() / whole.norm() < 0.05
    assert (decode(lowered, whole).int() - decode(sd, whole).int()).abs().float().mean() < 2
    method = Method(stable_diffusion, stable_diffusion.Params(), lowered)
    exact = method.exact
    assert exact is method.exact and exact.exact is exact
    assert torch.equal(denoise(exact.sd, noise(exact.sd), captions(exact.sd)), whole)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_of_all_that_is_multiplied_but_text_photos_and_boxes(tmp_path, precision):
    sd = load_diffusion(write_tiny(tmp_path, gated=True), Sampling(precision=precision))
    dtype = getattr(torch, precision)
    kept = {name for name, value in sd.unet.named_parameters() if value.dtype == torch.float32}
    assert kept and all(name.startswith("position_net.") for name in kept)
    assert {value.dtype for value in sd.unet.parameters()} == {torch.float32, dtype}
    assert {value.dtype for value in sd.vae.decoder.parameters()} == {dtype}
    assert {value.dtype for value in [*sd.vae.encoder.parameters(), *sd.text_encoder.parameters()]} == {torch.float32}
    shape = (2, 30)
    boxes = {
        "boxes": torch.rand(*shape, 4),
        "masks": torch.ones(shape),
        "positive_embeddings": torch.randn(*shape, WIDTH),
    }
    assert sd.unet.position_net(**boxes).dtype == dtype


def test_pixels_that_are_not_finite_name_their_rows(sd):
    latents = noise(sd)
    latents[1] = float("nan")
    with pytest.raises(NonFiniteLatents, match=r"pixels are not finite in rows \[1\]"):
        decode(sd, latents)


def test_what_is_compiled_is_for_one_batch_size(sd, monkeypatch):
    seen = []

    def compiling(unet, dynamic):
        assert dynamic is False
        return lambda latents, *rest, **options: seen.append(len(latents)) or unet(latents, *rest, **options)

    whole = denoise(sd, noise(sd), captions(sd))
    monkeypatch.setattr(torch, "compile", compiling)
    speed_up(sd, compile=True, channels_last=False)
    assert torch.equal(denoise(sd, noise(sd), captions(sd)), whole)
    assert seen == [2 * len(LAYOUTS)] * 5
    denoise(sd, noise(sd, LAYOUTS[:2]), captions(sd, LAYOUTS[:2]))
    assert len(seen) == 5


def test_where_compiling_fails_the_u_net_runs_as_it_is(sd, monkeypatch, capsys):
    def failing(*_, **__):
        raise TorchDynamoException("no C compiler\nand more")

    whole = denoise(sd, noise(sd), captions(sd))
    monkeypatch.setattr(torch, "compile", lambda unet, dynamic: failing)
    speed_up(sd, compile=True, channels_last=False)
    assert sd.compiled.works
    assert torch.equal(denoise(sd, noise(sd), captions(sd)), whole)
    assert not sd.compiled.works
    assert capsys.readouterr().err == "torch.compile fails here, the U-Net runs as it is: no C compiler\n"


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"sampling\.precision: 'half' is not one of float32, bfloat16, float16"):
        Sampling(precision="half")


@pytest.mark.parametrize("scheduler", ["ddim", "lms"])
def test_other_schedulers_equal_the_stock_pipeline(sd, scheduler):
    sd.sampling = replace(sd.sampling, scheduler=scheduler)
    stock = StableDiffusionPipeline(
        sd.vae, sd.text_encoder, sd.tokenizer, sd.unet, make_scheduler(sd), None, None, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    expected = stock("a cat", num_inference_steps=4, latents=noise(sd, LAYOUTS[:1]), output_type="latent").images
    torch.testing.assert_close(
        denoise(sd, noise(sd, LAYOUTS[:1]), captions(sd, LAYOUTS[:1])), expected, rtol=0, atol=1e-4
    )


def test_noise_depends_on_seed_and_id_only(sd):
    together = noise(sd)
    alone = noise(sd, [LAYOUTS[1]])
    assert torch.equal(together[1], alone[0])
    other_text = noise(sd, [replace(LAYOUTS[1], caption="x", image_id=9)])
    assert torch.equal(other_text, alone)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(initial_noise(LAYOUTS, 1, sd.latent_shape_CHW), together)
    state = torch.random.get_rng_state()
    noise(sd)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_image_does_not_depend_on_its_batch(sd):
    params = stable_diffusion.Params()
    together = stable_diffusion.generate(sd, LAYOUTS, noise(sd), params).int()
    for row, layout in enumerate(LAYOUTS):
        alone = stable_diffusion.generate(sd, [layout], noise(sd, [layout]), params).int()
        assert (together[row] - alone[0]).abs().max() <= 1
    turned = stable_diffusion.generate(sd, LAYOUTS[::-1], noise(sd, LAYOUTS[::-1]), params).int()
    assert (together - turned.flip(0)).abs().max() <= 1
    assert (together[0] - together[1]).abs().float().mean() > 1


def test_caption_guidance_and_negative_prompt_reach_the_image(sd):
    base = denoise(sd, noise(sd), captions(sd))
    for change in ({"guidance_scale": 2.0}, {"negative_prompt": "a cat"}, {"steps": 3}):
        changed = replace(sd, sampling=replace(sd.sampling, **change))
        assert (denoise(changed, noise(sd), captions(sd)) - base).abs().max() > 1e-3
    assert (denoise(sd, noise(sd), captions(sd).flip(0)) - base).abs().max() > 1e-3


def test_guide_sees_every_call_and_call_one_ignores_it(sd):
    calls = []

    def guide(latents, i, t):
        calls.append((i, int(t)))
        return latents

    base = denoise(sd, noise(sd), captions(sd), guide=guide)
    assert [i for i, _ in calls] == [0, 1, 2, 3, 4]
    assert calls[1][1] == calls[2][1]
    moved = denoise(sd, noise(sd), captions(sd), guide=lambda latents, i, t: latents + 0.5 * (i == 2))
    assert (moved - base).abs().max() > 1e-2


def test_a_guide_may_enable_gradients(sd):
    def guide(latents, i, t):
        with torch.enable_grad():
            moving = latents.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(moving.square().sum(), moving)
        return latents - 0.01 * gradient

    latents = denoise(sd, noise(sd), captions(sd), guide=guide)
    assert not latents.requires_grad


def test_latents_that_are_not_finite_name_their_rows(sd):
    spoilt = noise(sd)
    spoilt[1, 0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteLatents) as error:
        denoise(sd, spoilt, captions(sd))
    assert error.value.rows == [1]


def test_long_text_is_cut_to_the_limit_and_counted(sd):
    long = "cat " * 100
    states, pooled = encode_text(sd, [long, "cat " * 200, "cat"])
    assert states.shape == (3, CONTEXT, 32) and pooled.shape == (3, 32)
    assert torch.equal(states[0], states[1])
    fits = "cat " * (CONTEXT - 2)
    assert count_truncated(sd, [long, "cat", fits, fits + "cat"]) == 2


def test_pooled_state_is_the_end_of_text_token(sd):
    states, pooled = encode_text(sd, ["a cat"])
    assert torch.equal(pooled[0], states[0, 3])


def test_decoding_rounds_to_the_nearest_level(sd):
    class Flat:
        config = sd.vae.config

        def decode(self, latents):
            return type("Decoded", (), {"sample": torch.full((1, 3, 2, 2), 2 * 100.6 / 255 - 1)})

    assert decode(replace(sd, vae=Flat()), torch.zeros(1, 4, 8, 8)).unique().tolist() == [101]


def test_pndm_without_its_plms_flag_is_refused(sd):
    broken = replace(sd, scheduler_config=sd.scheduler_config | {"skip_prk_steps": False})
    with pytest.raises(InputError, match="skip_prk_steps"):
        make_scheduler(broken)


@pytest.mark.parametrize(
    "setting", [{"scheduler": "plms"}, {"steps": 0}, {"steps": 5.0}, {"guidance_scale": "7"}, {"seed": None}]
)
def test_bad_sampling_settings_are_named(setting):
    with pytest.raises(InputError, match="sampling"):
        Sampling(**setting)
