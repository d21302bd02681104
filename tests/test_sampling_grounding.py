from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionGLIGENPipeline
from diffusers.models.attention import GatedSelfAttentionDense

from baselines import gligen, stable_diffusion
from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.sampling.diffusion import Sampling, denoise, encode_text, initial_noise, load_diffusion, make_scheduler
from hcma.sampling.grounding import denoise_grounded, fusers_enabled, grounded_calls, grounding_tokens
from tests.tiny import CONTEXT, write_tiny

CAT, DOG = Object("cat", (0.1, 0.2, 0.4, 0.9)), Object("dog", (0.5, 0.05, 0.95, 0.3))
LAYOUTS = [Layout(1, 1, "a cat and a dog", (CAT, DOG)), Layout(2, 2, "a mat"), Layout(3, 3, "a dog", (DOG,))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("gated"), gated=True), Sampling(steps=4))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("plain")), Sampling(steps=4))


@pytest.fixture
def sd(model):
    for fuser in fusers(model):
        fuser.enabled = True
    return replace(model, counters=type(model.counters)())


def noise(sd, layouts=LAYOUTS):
    return initial_noise(layouts, 0, sd.latent_shape_CHW)


def ground(sd, layouts, tau=0.5):
    text, _ = encode_text(sd, [layout.caption for layout in layouts])
    return denoise_grounded(sd, grounding_tokens(sd, layouts), noise(sd, layouts), text, tau)


def generate(sd, layouts, tau=0.5):
    return gligen.generate(sd, layouts, noise(sd, layouts), gligen.Params(tau=tau)).int()


def many(count):
    return tuple(Object(f"cat {k}", (0, 0, 1, (1 + k) / 50)) for k in range(count))


def fusers(sd):
    return [module for module in sd.unet.modules() if isinstance(module, GatedSelfAttentionDense)]


def test_the_loop_equals_the_stock_pipeline(sd):
    # The stock pipeline pads phrases to the longest one only, which changes rounding; so the longest fills the limit.
    things = (replace(CAT, phrase="cat"), replace(DOG, phrase="cat " * (CONTEXT - 2)))
    layout = Layout(1, 1, "a cat and a dog", things)
    stock = StableDiffusionGLIGENPipeline(
        sd.vae, sd.text_encoder, sd.tokenizer, sd.unet, make_scheduler(sd), None, None, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        layout.caption,
        num_inference_steps=4,
        # The stock pipeline grounds int(0.61 * 5) = 3 calls; half of 4 steps are 3 calls of PLMS.
        gligen_scheduled_sampling_beta=0.61,
        gligen_phrases=[thing.phrase for thing in things],
        gligen_boxes=[list(thing.box) for thing in things],
        latents=noise(sd, [layout]),
        output_type="latent",
    ).images
    found = [fuser.enabled for fuser in fusers(sd)]
    torch.testing.assert_close(ground(sd, [layout]), expected, rtol=0, atol=1e-5)
    assert [fuser.enabled for fuser in fusers(sd)] == found


def test_unconditional_half_is_null_and_conditional_half_holds_the_layout(sd):
    tokens = grounding_tokens(sd, LAYOUTS)
    assert {name: tuple(value.shape) for name, value in tokens.items()} == {
        "boxes": (6, 30, 4),
        "masks": (6, 30),
        "positive_embeddings": (6, 30, 32),
    }
    assert all((value[:3] == 0).all() for value in tokens.values())
    assert tokens["masks"][3:].sum(dim=1).tolist() == [2, 0, 1]
    assert tokens["boxes"][3, :2].tolist() == torch.tensor([CAT.box, DOG.box]).tolist()
    features = encode_text(sd, ["cat", "dog"])[1]
    torch.testing.assert_close(tokens["positive_embeddings"][3, :2], features, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens["positive_embeddings"][5, 0], features[1], rtol=0, atol=1e-5)
    assert (tokens["positive_embeddings"][5, 1:] == 0).all()


@pytest.mark.parametrize("box", [(0.6, 0.2, 0.9, 0.9), (0.2, 0.1, 0.9, 0.4)])
def test_moving_a_box_or_swapping_its_axes_changes_the_image(sd, box):
    moved = [replace(LAYOUTS[0], objects=(replace(CAT, box=box), DOG))]
    assert (generate(sd, moved) - generate(sd, LAYOUTS[:1])).abs().max() > 1


def test_phrases_reach_the_image(sd):
    renamed = [replace(LAYOUTS[0], objects=(replace(CAT, phrase="fish"), DOG))]
    assert (generate(sd, renamed) - generate(sd, LAYOUTS[:1])).abs().max() > 1


def test_an_image_does_not_depend_on_its_batch(sd):
    layouts = [*LAYOUTS, Layout(4, 4, "cats", many(40))]
    together = generate(sd, layouts)
    for row, layout in enumerate(layouts):
        assert (together[row] - generate(sd, [layout])[0]).abs().max() <= 1


def test_fusers_off_is_stable_diffusion_bit_for_bit(sd, plain):
    params = stable_diffusion.Params()
    expected = stable_diffusion.generate(plain, LAYOUTS, noise(sd), params).int()
    assert torch.equal(stable_diffusion.generate(sd, LAYOUTS, noise(sd), params).int(), expected)
    assert torch.equal(generate(sd, LAYOUTS, tau=0.0), expected)
    assert not torch.equal(generate(sd, LAYOUTS, tau=0.5), expected)


def test_the_largest_thirty_boxes_are_kept_and_the_rest_counted(sd):
    layouts = [Layout(1, 1, "cats", many(40)), Layout(2, 2, "cats", many(30))]
    tokens = grounding_tokens(sd, layouts)
    assert tokens["masks"][2:].sum(dim=1).tolist() == [30, 30]
    assert tokens["boxes"][2, :, 3].min() == pytest.approx(11 / 50)
    assert tokens["boxes"][3, :, 3].tolist() == pytest.approx([(1 + k) / 50 for k in range(30)])
    sd.counters.clear()
    generate(sd, layouts)
    assert sd.counters["dropped_boxes"] == 10


@pytest.mark.parametrize(
    ("tau", "steps", "n_calls", "expected"),
    [(0.3, 50, 51, 16), (0.3, 50, 50, 15), (0.2, 50, 51, 11), (0, 50, 51, 0), (1.0, 50, 51, 51), (0.3, 10, 11, 4)],
)
def test_grounded_calls(tau, steps, n_calls, expected):
    assert grounded_calls(tau, steps, n_calls) == expected


def test_boxes_are_seen_in_the_grounded_calls_only(sd, monkeypatch):
    seen = []
    forward = GatedSelfAttentionDense.forward
    monkeypatch.setattr(
        GatedSelfAttentionDense, "forward", lambda self, x, objs: seen.append(x) or forward(self, x, objs)
    )
    ground(sd, LAYOUTS[:1], tau=0.5)
    assert len(seen) == 3 * len(fusers(sd))


def test_fusers_are_left_as_they_were_found_even_after_an_error(sd):
    first, *others = fusers(sd)
    first.enabled = False
    with pytest.raises(KeyError), fusers_enabled(sd.unet):
        assert first.enabled
        raise KeyError
    assert not first.enabled and all(fuser.enabled for fuser in others)


def test_a_plain_unet_is_refused(plain):
    with pytest.raises(InputError, match='attention_type "gated", found "default"'):
        ground(plain, LAYOUTS)


@pytest.mark.parametrize("tau", [-0.1, 1.5, "0.3", None])
def test_a_bad_tau_is_named(tau):
    with pytest.raises(InputError, match="tau"):
        gligen.Params(tau=tau)


def test_without_objects_the_null_tokens_still_take_part(sd):
    empty = [LAYOUTS[1]]
    text, _ = encode_text(sd, [LAYOUTS[1].caption])
    assert (ground(sd, empty) - denoise(sd, noise(sd, empty), text)).abs().max() > 1e-3
