"""What the rows guided by attention hold: tokens, batches, counts, and diffusers as the oracle; and MultiDiffusion."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionAttendAndExcitePipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from scipy import stats

from baselines import attend_and_excite, boxdiff, layout_guidance, multidiffusion, stable_diffusion
from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.sampling.attention import attention_reader, cross_attention, grid_side, layers_of_blocks, layers_of_side
from hcma.sampling.attention_guidance import Objectives, Schedule, refining_guide
from hcma.sampling.caption_tokens import Named, Thing, append_missing, named_objects, visible
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import Sampling, encode_text, initial_noise, load_diffusion, make_scheduler
from tests.tiny import write_tiny

STEPS = 6
CAT, DOG = Object("cat", (0.1, 0.2, 0.4, 0.9), (2, 5)), Object("dog", (0.5, 0.05, 0.95, 0.6), (12, 15))
LAYOUTS = [
    Layout(1, 1, "a cat and a dog", (CAT, DOG)),
    Layout(2, 2, "a mat", (Object("dog", (0.1, 0.1, 0.5, 0.5)),)),
    Layout(3, 3, "a cat", (CAT, replace(CAT, box=(0.6, 0.1, 0.9, 0.8)))),
    Layout(4, 4, ""),
]
EXCITED = {"resolution": 8, "stop": 3, "thresholds": [[0, 0.9], [2, 0.95]], "max_refinements": 3, "step": 3.0}
ROWS = {
    "attend_and_excite": (attend_and_excite, EXCITED),
    "boxdiff": (boxdiff, EXCITED),
    "boxdiff_no_refine": (boxdiff, EXCITED | {"refine": False}),
    "layout_guidance": (layout_guidance, {"blocks": ["mid_block", "up_blocks.1"], "stop": 3, "threshold": 0.45}),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("plain")), Sampling(steps=STEPS))


@pytest.fixture
def sd(model):
    return replace(model, counters=Counters())


@pytest.fixture(params=ROWS)
def row(request):
    module, params = ROWS[request.param]
    return module, module.Params(**params)


def generate(sd, row, layouts):
    return row[0].generate(sd, layouts, initial_noise(layouts, 0, sd.latent_shape_CHW), row[1])


def latents_of(monkeypatch, row, sd, layouts):
    """The row's latents before decoding."""
    monkeypatch.setattr(row[0], "decode", lambda sd, latents: latents)
    return generate(sd, row, layouts)


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "lms"])
def test_an_image_does_not_depend_on_its_batch(sd, row, scheduler, monkeypatch):
    sd.sampling = replace(sd.sampling, scheduler=scheduler)
    together = latents_of(monkeypatch, row, sd, LAYOUTS)
    work = {i: dict(counts) for i, counts in sd.counters.images.items()}
    for i, layout in enumerate(LAYOUTS):
        sd.counters.clear()
        alone = generate(sd, row, [layout])
        assert (together[i] - alone[0]).abs().max() < 1e-3 * alone.abs().max()
        assert work[i] == dict(sd.counters.images[0])


def test_it_moves_the_images_that_name_an_object_and_no_other(sd, row):
    plain = generate(sd, (stable_diffusion, stable_diffusion.Params()), LAYOUTS)
    guided = generate(sd, row, LAYOUTS)
    assert [not torch.equal(*pair) for pair in zip(plain, guided, strict=True)] == [True, False, True, False]
    assert [sd.counters.images[i]["images_without_token"] for i in range(4)] == [0, 1, 0, 1]
    assert [sd.counters.images[i]["boxes_without_token"] for i in range(4)] == [0, 1, 0, 0]


def test_guidance_off_is_stable_diffusion_bit_for_bit(sd, row):
    off = {"thresholds": [], "stop": 0} if hasattr(row[1], "thresholds") else {"stop": 0}
    plain = generate(sd, (stable_diffusion, stable_diffusion.Params()), LAYOUTS)
    assert torch.equal(generate(sd, (row[0], replace(row[1], **off)), LAYOUTS), plain)
    assert sd.counters["guidance_forwards"] == 0


def test_the_u_net_keeps_its_own_processors_even_after_an_error(sd, row):
    before = {name: layer.processor for name, layer in cross_attention(sd.unet).items()}
    generate(sd, row, LAYOUTS)
    attend = attention_reader(sd, torch.zeros(1, 32, 7), layers_of_side(sd.unet, 8))
    with pytest.raises(RuntimeError):
        attend(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.tensor([0]))
    assert {name: layer.processor for name, layer in cross_attention(sd.unet).items()} == before


def test_columns_and_rows_are_not_exchanged(sd, row):
    if row[0] is attend_and_excite:
        pytest.skip("uses no boxes")
    turned = [replace(CAT, box=(0.2, 0.1, 0.9, 0.4))]
    upright, lying = (generate(sd, row, [Layout(1, 1, "a cat", (thing,))]) for thing in (CAT, *turned))
    assert not torch.equal(upright, lying)


def test_a_forward_pass_ends_at_the_last_map_it_needs(sd):
    seen = []
    layers = layers_of_blocks(sd.unet, ["mid_block"])
    handle = sd.unet.up_blocks[0].register_forward_hook(lambda *_: seen.append("up"))
    text, _ = encode_text(sd, ["a cat"])
    maps = attention_reader(sd, text, layers)(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.tensor([0]))
    handle.remove()
    assert not seen and len(maps) == len(layers)
    assert maps[0].sum(-1) == pytest.approx(torch.ones(maps[0].shape[:-1]))


def test_the_maps_are_those_that_the_layers_mix_their_values_with(sd):
    latents, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(500)
    text, _ = encode_text(sd, ["a cat", "a dog"])
    layers, outputs = cross_attention(sd.unet), {}
    handles = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: outputs.__setitem__(name, output))
        for name, layer in layers.items()
    ]
    sd.unet(latents, t, text)
    for handle in handles:
        handle.remove()
    maps = attention_reader(sd, text, list(layers))(latents, t, torch.arange(2))
    for (name, layer), map_RHPT in zip(layers.items(), maps, strict=True):
        assert map_RHPT.shape[2] == grid_side(sd.unet, name) ** 2
        value = layer.head_to_batch_dim(layer.to_v(text))
        mixed = layer.to_out[0](layer.batch_to_head_dim(map_RHPT.flatten(0, 1) @ value))
        torch.testing.assert_close(mixed, outputs[name], rtol=1e-4, atol=1e-5)


def test_a_wrong_grid_or_block_is_named(sd):
    with pytest.raises(InputError, match="resolution: no cross-attention at 16 x 16"):
        layers_of_side(sd.unet, 16)
    with pytest.raises(InputError, match=r"'up_blocks\.7' has no cross-attention"):
        layers_of_blocks(sd.unet, ["up_blocks.7"])


@pytest.mark.parametrize(
    ("module", "key", "value"),
    [
        (attend_and_excite, "resolution", 8.0),
        (attend_and_excite, "thresholds", [[0, 2]]),
        (attend_and_excite, "thresholds", {"0": 0.5}),
        (attend_and_excite, "step_range", [1]),
        (attend_and_excite, "kernel_size", 2),
        (attend_and_excite, "sigma", 0),
        (attend_and_excite, "smoothing", "no"),
        (boxdiff, "share", 0),
        (boxdiff, "window", -1),
        (boxdiff, "refine", 1),
        (layout_guidance, "blocks", "mid_block"),
        (layout_guidance, "eta", float("nan")),
        (layout_guidance, "max_iterations", -1),
        (layout_guidance, "sticky", None),
    ],
)
def test_a_bad_parameter_is_named(module, key, value):
    with pytest.raises(InputError, match=key):
        module.Params(**{key: value})


def test_attend_and_excite_gives_diffusers_latents(sd, monkeypatch):
    """diffusers' port, kept as an oracle; batch 1, as it guides images one by one."""
    sd.sampling = replace(sd.sampling, steps=12)
    params = attend_and_excite.Params(
        resolution=8, stop=7, thresholds=[[0, 0.3], [3, 0.5], [6, 0.8]], max_refinements=20
    )
    layout = Layout(5, 5, "a cat and a dog", (CAT, DOG))
    pipeline = StableDiffusionAttendAndExcitePipeline(
        vae=sd.vae,
        text_encoder=sd.text_encoder,
        tokenizer=sd.tokenizer,
        unet=sd.unet,
        scheduler=make_scheduler(sd),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    positions = attend_and_excite.head_nouns(named_objects(sd, [layout])[0])
    processors = {name: layer.processor for name, layer in cross_attention(sd.unet).items()}
    expected = pipeline(
        layout.caption,
        positions,
        num_inference_steps=sd.sampling.steps,
        guidance_scale=sd.sampling.guidance_scale,
        latents=initial_noise([layout], 0, sd.latent_shape_CHW),
        output_type="latent",
        max_iter_to_alter=params.stop,
        thresholds=dict(params.thresholds),
        attn_res=(8, 8),
    ).images
    for name, layer in cross_attention(sd.unet).items():
        layer.processor = processors[name]
    sd.counters.clear()
    found = latents_of(monkeypatch, (attend_and_excite, params), sd, [layout])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert sd.counters["refinements"] > 3


def text_layout(caption, word, number=1):
    start = caption.index(word)
    return Layout(number, number, caption, (Object(word, (0.1, 0.1, 0.6, 0.6), (start, start + len(word))),))


def test_a_word_of_several_tokens_has_all_their_positions(sd):
    caption = "a  Dog, a cat"
    tokens = sd.tokenizer.convert_ids_to_tokens(sd.tokenizer(caption).input_ids)
    (dog,), (cat,) = named_objects(sd, [text_layout(caption, "Dog"), text_layout(caption, "cat", 2)])
    assert [tokens[k] for k in dog.positions] == ["d", "o", "g</w>"]
    assert [tokens[k] for k in cat.positions] == ["cat</w>"]


def test_what_the_tokenizer_cuts_has_no_position(sd):
    """32 tokens: the start, 30 of the text, the end."""
    inside, partly, outside = (text_layout("a " * n + "dog", "dog", n) for n in (27, 28, 30))
    found = named_objects(sd, [inside, partly, outside])
    assert [[thing.positions for thing in things] for things in found] == [[(28, 29, 30)], [(29, 30)], []]
    assert sd.counters["images_without_token"] == 1


def test_unnamed_boxes_are_appended_once_a_phrase_where_asked_for(sd):
    dog = Object("dog", (0.1, 0.1, 0.5, 0.5))
    (layout,) = append_missing([Layout(1, 1, "a cat ", (CAT, dog, dog))])
    assert layout.caption == "a cat, a dog"
    assert [layout.caption[slice(*thing.span)] for thing in layout.objects] == ["cat", "dog", "dog"]
    assert append_missing([Layout(2, 2, "", (dog,))])[0].caption == "a dog"


@pytest.mark.parametrize(
    "boxes",
    [
        [(0.0, 0.0, 1.0, 1.0)],
        [(0.5, 0.5, 0.501, 0.501)],
        [(0.2, 0.2, 0.7, 0.7)] * 2,
        [(k / 31, 0.1, (k + 1) / 31, 0.9) for k in range(30)],
        [(0.3, 0.3, 0.6, 0.6)] * 40,
    ],
    ids=["the whole canvas", "tiny", "twice the same", "thirty", "forty"],
)
def test_odd_boxes_give_an_image(sd, row, boxes):
    layout = Layout(1, 1, "a cat", tuple(replace(CAT, box=box) for box in boxes))
    image = generate(sd, row, [layout])
    assert image.shape == (1, 3, 64, 64) and image.float().std() > 0


def test_boxdiff_has_no_inner_term_for_a_small_box_unless_asked_for():
    small = [[[(0.0, 0.0, 0.25, 0.25)]]]
    counts = [boxdiff.make_areas(small, boxdiff.Params(small_boxes=on)).inner_BM.item() for on in (False, True)]
    assert counts == [3, 3]
    tiny = [[[(0.0, 0.0, 0.125, 0.125)]]]
    counts = [boxdiff.make_areas(tiny, boxdiff.Params(small_boxes=on)).inner_BM.item() for on in (False, True)]
    assert counts == [0, 1]


def test_boxdiff_can_join_the_boxes_of_a_phrase(sd):
    (things,) = named_objects(sd, [LAYOUTS[2]])
    assert len(boxdiff.make_entries(things, False)) == 2
    ((_, boxes),) = boxdiff.make_entries(things, True)
    area = boxdiff.make_areas([[boxes]], boxdiff.Params()).inside_BMYX
    apart = boxdiff.make_areas([[[box] for box in boxes]], boxdiff.Params()).inside_BMYX
    assert torch.equal(area[0, 0], apart[0].amax(0))


def test_layout_guidance_can_leave_out_what_covers_no_cell(sd):
    things = [Thing((2,), ((0.5, 0.5, 0.51, 0.51),)), Thing((5,), ((0.1, 0.1, 0.9, 0.9),))]
    kept = [visible(sd.counters, 0, things, [4, 8], drop=on) for on in (False, True)]
    assert kept == [things, things[1:]] and sd.counters["objects_without_cell"] == 2


def test_guidance_before_plms_second_call_is_a_setting(sd):
    layout = LAYOUTS[:1]
    for module, base in ((attend_and_excite, EXCITED), (layout_guidance, ROWS["layout_guidance"][1])):
        forwards = []
        for on in (False, True):
            sd.counters.clear()
            quiet = {"thresholds": []} if module is attend_and_excite else {"threshold": 0.0, "max_iterations": 1}
            generate(sd, (module, module.Params(**(base | quiet), guide_duplicate=on)), layout)
            forwards.append(sd.counters["guidance_forwards"])
        assert forwards == [2, 3]


MULTI = multidiffusion.Params(bootstrap=3)


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "lms"])
def test_multidiffusion_does_not_depend_on_the_batch(sd, scheduler, monkeypatch):
    sd.sampling = replace(sd.sampling, scheduler=scheduler)
    together = latents_of(monkeypatch, (multidiffusion, MULTI), sd, LAYOUTS)
    assert [sd.counters.images[i]["unet_forwards"] // sd.counters.images[3]["unet_forwards"] for i in range(4)] == [
        3,
        2,
        3,
        1,
    ]
    for i, layout in enumerate(LAYOUTS):
        alone = generate(sd, (multidiffusion, MULTI), [layout])
        assert (together[i] - alone[0]).abs().max() < 1e-3 * alone.abs().max()


def test_multidiffusion_without_boxes_is_stable_diffusion(sd):
    plain = generate(sd, (stable_diffusion, stable_diffusion.Params()), LAYOUTS[3:])
    assert torch.equal(generate(sd, (multidiffusion, MULTI), LAYOUTS[3:]), plain)


def test_multidiffusion_of_a_whole_canvas_box_is_stable_diffusion_of_its_prompt(sd):
    layout = Layout(7, 7, "a mat", (Object("cat", (0.0, 0.0, 1.0, 1.0)),))
    expected = generate(sd, (stable_diffusion, stable_diffusion.Params()), [replace(layout, caption="a cat")])
    assert torch.equal(generate(sd, (multidiffusion, MULTI), [layout]), expected)


def canvases(sd, layouts, count):
    """The backgrounds drawn for layouts, and the canvases that were encoded for them."""
    seen, encode = [], sd.vae.encode
    views = [view for row, layout in enumerate(layouts) for view in multidiffusion.make_views(row, layout, 8, MULTI)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sd.vae, "encode", lambda canvas: seen.append(canvas) or encode(canvas))
        drawn = multidiffusion.draw_backgrounds(sd, layouts, views, count)
    return *drawn, seen


def test_multidiffusion_draws_twenty_plain_colours_an_image(sd):
    plain, choices, seen = canvases(sd, LAYOUTS, multidiffusion.Params().bootstrap)
    assert plain.shape == (4, 20, *sd.latent_shape_CHW)
    assert choices.shape == (20, 3 + 2 + 3 + 1)
    assert len(seen) == 3 * 20, "an image without boxes needs none"
    for canvas in seen:
        assert canvas.shape == (1, 3, sd.size, sd.size)
        assert torch.equal(canvas, canvas[:, :, :1, :1].expand_as(canvas))
        assert canvas.abs().max() <= 1
    assert len({tuple(canvas[0, :, 0, 0].tolist()) for canvas in seen}) == 60
    assert not plain[3].any()


def test_multidiffusion_colours_and_choices_are_uniform(sd, monkeypatch):
    layouts = [replace(LAYOUTS[1], id=id) for id in range(100)]
    nothing = AutoencoderKLOutput(DiagonalGaussianDistribution(torch.zeros(1, 8, 8, 8)))
    monkeypatch.setattr(sd.vae, "encode", lambda canvas: nothing)
    _, choices, seen = canvases(sd, layouts, 20)
    colours = torch.cat([canvas[:, :, 0, 0] for canvas in seen])
    for channel in colours.T:
        assert stats.kstest(channel.numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert abs(torch.corrcoef(colours.T) - torch.eye(3)).max() < 4 / len(colours) ** 0.5
    assert stats.chisquare(torch.bincount(choices.flatten(), minlength=20)).pvalue > 0.01
    # Anew for each call and view: two neighbours agree one time in twenty.
    for one, next_ in ((choices[:-1], choices[1:]), (choices[:, ::2], choices[:, 1::2])):
        assert (one == next_).float().mean() == pytest.approx(1 / 20, abs=0.02)


def test_multidiffusion_encodes_a_colour_by_a_sample_of_the_posterior(sd):
    layouts = [replace(LAYOUTS[1], id=id) for id in range(6)]
    plain, _, seen = canvases(sd, layouts, 20)
    posteriors = [sd.vae.encode(canvas).latent_dist for canvas in seen]
    mean, std = (torch.cat([getattr(one, name) for one in posteriors]) for name in ("mean", "std"))
    noise = (plain.flatten(0, 1) / sd.vae.config.scaling_factor - mean) / std
    assert stats.kstest(noise.numpy().ravel(), "norm").pvalue > 0.01
    assert abs(torch.corrcoef(noise.flatten(1)) - torch.eye(len(noise))).max() < 6 / noise[0].numel() ** 0.5


def test_multidiffusion_backgrounds_depend_on_the_image_alone(sd):
    plain, choices, _ = canvases(sd, LAYOUTS, 20)
    alone = [canvases(sd, [layout], 20)[:2] for layout in LAYOUTS]
    assert torch.equal(plain, torch.cat([one for one, _ in alone]))
    assert torch.equal(choices, torch.cat([one for _, one in alone], dim=1))
    other = replace(sd, sampling=replace(sd.sampling, seed=1))
    assert not torch.equal(plain, canvases(other, LAYOUTS, 20)[0])
    assert not torch.equal(plain[0], canvases(sd, [replace(LAYOUTS[0], id=9)], 20)[0][0])


def reference_multidiffusion(sd, layout, count):
    """Denoised views averaged where they count: the method's definition, one view at a time, with DDIM's own steps."""
    views = multidiffusion.make_views(0, layout, 8, MULTI)
    plain, choices = (part.squeeze(0) for part in multidiffusion.draw_backgrounds(sd, [layout], views, count))
    scheduler, (noise,) = make_scheduler(sd), initial_noise([layout], 0, sd.latent_shape_CHW)
    latent = noise[None]
    for i, t in enumerate(scheduler.timesteps):
        value, weight = torch.zeros_like(latent), torch.zeros_like(latent)
        for number, view in enumerate(views):
            seen = latent
            if view.boxed and i < count:
                around = scheduler.add_noise(plain[choices[i, number]], noise, t)
                seen = latent * view.mask_HW + around * (1 - view.mask_HW)
            plain_text, text = (encode_text(sd, [prompt])[0] for prompt in ("", view.prompt))
            without, with_text = (sd.unet(seen, t, states).sample for states in (plain_text, text))
            noise_found = without + sd.sampling.guidance_scale * (with_text - without)
            value += scheduler.step(noise_found, t, seen).prev_sample * view.mask_HW
            weight += view.mask_HW
        latent = value / weight
    return latent


@pytest.mark.parametrize("count", [0, 3, 20])
@torch.no_grad()
def test_multidiffusion_is_its_definition_under_ddim(sd, count, monkeypatch):
    sd.sampling = replace(sd.sampling, scheduler="ddim")
    found = latents_of(monkeypatch, (multidiffusion, multidiffusion.Params(bootstrap=count)), sd, LAYOUTS[:1])
    expected = reference_multidiffusion(sd, LAYOUTS[0], count)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_multidiffusion_masks_are_upright():
    mask = multidiffusion.cells((0.5, 0.0, 1.0, 0.25), 8)
    assert mask[:2, 4:].all() and mask.sum() == 8
    views = multidiffusion.make_views(0, LAYOUTS[0], 8, MULTI)
    assert torch.stack([view.mask_HW for view in views]).amax(0).all() and len(views) == 3


def test_the_last_token_of_a_name_counts_once():
    things = [Named("wine glass", CAT.box, (4, 5)), Named("glass", DOG.box, (5,)), Named("cat", CAT.box, (2,))]
    assert attend_and_excite.head_nouns(things) == [5, 2]


@pytest.mark.parametrize("refine", [True, False])
def test_boxdiff_refines_if_it_is_told_to(sd, refine):
    sd.counters.clear()
    params = boxdiff.Params(**EXCITED, refine=refine)
    boxdiff.generate(sd, LAYOUTS[:1], initial_noise(LAYOUTS[:1], 0, sd.latent_shape_CHW), params)
    assert (sd.counters["refinements"] > 0) is refine


def test_of_a_batch_only_the_images_that_miss_a_threshold_are_refined():
    """An image is one number x, its loss x; steps are 1 long, so that each update takes 1 off x."""

    def evaluate(latents, t, rows):
        loss = latents.flatten()
        return Objectives(tested=loss.detach(), refined=loss, regular=loss, after=loss)

    work = Counters()
    schedule = Schedule(stop=1, thresholds={0: 0.5}, max_refinements=9, steps=torch.ones(2))
    guide = refining_guide(evaluate, torch.arange(2), schedule, work)
    moved = guide(torch.tensor([0.25, 3.0]).view(2, 1, 1, 1), 0, torch.tensor(0))
    assert (work.images[0]["refinements"], work.images[1]["refinements"]) == (0, 4)
    assert moved.flatten().tolist() == [-0.75, -2.0]
