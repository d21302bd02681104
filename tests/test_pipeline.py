"""A row that is a whole pipeline of diffusers: tiny random ones of every class, against the pipeline called by hand."""

import string

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from baselines import pipeline, stable_diffusion
from formats.files import InputError
from formats.layouts import Layout, Object
from formats.params import from_keys
from hcma.sampling import fallback
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import Sampling, image_generator, initial_noise, load_diffusion
from hcma.sampling.loading import Method, load_method, open_model
from hcma.sampling.spec import Spec
from tests.tiny import _write_tokenizer, text_config, write_sums, write_tiny

WIDTH = 32
LAYOUTS = [
    Layout(3, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5)),)),
    Layout(1, 2, "cat " * 60),
    Layout(2, 3, ""),
]
OWN = {"steps": 2, "guidance_scale": 3.0, "scheduler": "own"}


def vae(channels):
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
        shift_factor=0.1,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
    )


def unet(**more):
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        use_linear_projection=True,
        **more,
    )


def clip(folder, kind=CLIPTextModel, **more):
    tokenizer = _write_tokenizer(folder)
    return tokenizer, kind(CLIPTextConfig(**(text_config(tokenizer).to_dict() | more)))


def t5():
    letters = string.ascii_letters + ",."
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in letters)]
    tokenizer = T5Tokenizer(vocab=[*pieces, ("\u2581cat", -1.0), ("\u2581a", -1.0)], extra_ids=0)
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return tokenizer, T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes, initializer_factor=1.0))


def stable_diffusion_2(folder):
    tokenizer, encoder = clip(folder / "words")
    solver = EulerAncestralDiscreteScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear")
    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet(cross_attention_dim=WIDTH),
        scheduler=solver,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(folder):
    tokenizer, encoder = clip(folder / "words")
    second, projecting = clip(folder / "words2", CLIPTextModelWithProjection, projection_dim=WIDTH)
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=encoder,
        text_encoder_2=projecting,
        tokenizer=tokenizer,
        tokenizer_2=second,
        unet=unet(cross_attention_dim=2 * WIDTH, projection_class_embeddings_input_dim=6 * 8 + WIDTH, **more),
        scheduler=DPMSolverMultistepScheduler(beta_schedule="scaled_linear"),
    )


def stable_diffusion_3(folder):
    parts = [clip(folder / name, CLIPTextModelWithProjection, projection_dim=WIDTH) for name in ("words", "words2")]
    words, encoder = t5()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=16,
        pos_embed_max_size=8,
    )
    # T5's states are padded to the joint width, which is that of both CLIPs together.
    encoder = T5EncoderModel(T5Config(**(encoder.config.to_dict() | {"d_model": 2 * WIDTH})))
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(16),
        text_encoder=parts[0][1],
        tokenizer=parts[0][0],
        text_encoder_2=parts[1][1],
        tokenizer_2=parts[1][0],
        text_encoder_3=encoder,
        tokenizer_3=words,
    )


def pixart(folder):
    words, encoder = t5()
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    )
    return PixArtSigmaPipeline(
        transformer=transformer,
        tokenizer=words,
        text_encoder=encoder,
        vae=vae(4),
        scheduler=DPMSolverMultistepScheduler(),
    )


def flux(folder):
    (tokenizer, encoder), (words, longer) = clip(folder / "words"), t5()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(4),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=longer,
        tokenizer_2=words,
        transformer=transformer,
    )


SHORT = {"options": {"max_sequence_length": 16}}
CLASSES = {
    "sd2": (stable_diffusion_2, {}, 2),
    "sdxl": (stable_diffusion_xl, {"options": {"clip_skip": 1}}, 2),
    "sd3": (stable_diffusion_3, SHORT, 2),
    "pixart": (pixart, SHORT | {"size": 24}, 2),
    "flux": (flux, SHORT | {"size": 16}, 1),
}


@pytest.fixture(scope="module", params=CLASSES)
def written(request, tmp_path_factory):
    """A pipeline's folder, its parameters, and its network passes of a step."""
    build, params, passes = CLASSES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    build(folder).save_pretrained(folder / "model")
    write_sums(folder / "model")
    return folder / "model", pipeline.Params(**params), passes


@pytest.fixture
def method(written):
    folder, params, _ = written
    return Method(pipeline, params, open_model(pipeline, str(folder), Sampling(**OWN), params, "cpu"))


def generate(method, layouts):
    return method.generate(layouts, initial_noise(layouts, method.sd.sampling.seed, method.sd.latent_shape_CHW))


def test_it_is_the_pipeline_called_by_hand(method, written):
    _, params, passes = written
    found, sd = fallback.generate(method, LAYOUTS), method.sd
    assert found.float().std() > 1
    for layout, image in zip(LAYOUTS, found, strict=True):
        mine = (
            {"latents": initial_noise([layout], 0, sd.latent_shape_CHW)}
            if not isinstance(sd.pipe, FluxPipeline)
            else {}
        )
        binning = {"use_resolution_binning": False} if isinstance(sd.pipe, PixArtSigmaPipeline) else {}
        generator = image_generator(0, layout, "pipeline")
        (expected,) = sd.pipe(
            layout.caption,
            height=sd.size,
            width=sd.size,
            num_inference_steps=2,
            guidance_scale=3.0,
            generator=generator,
            output_type="np",
            **mine,
            **binning,
            **params.options,
        ).images
        pixels = torch.from_numpy(expected * 255).round().permute(2, 0, 1)
        assert (image - pixels).abs().max() <= 1
    assert [sd.counters.images[row]["unet_forwards"] for row in range(3)] == [2 * passes] * 3
    assert sd.counters["other_first_noise"] == (3 if isinstance(sd.pipe, FluxPipeline) else 0)


def test_an_image_does_not_depend_on_its_batch_or_on_global_random_state(method):
    torch.manual_seed(1)
    together = generate(method, LAYOUTS)
    torch.manual_seed(2)
    assert torch.equal(together, generate(method, LAYOUTS))
    backwards = generate(method, LAYOUTS[::-1]).flip(0)
    alone = torch.cat([generate(method, [layout]) for layout in LAYOUTS])
    assert (together.int() - backwards.int()).abs().max() <= 1
    assert (together.int() - alone.int()).abs().max() <= 1
    assert not torch.equal(together[0], together[2])
    method.sd.sampling = Sampling(**OWN, seed=1)
    assert not torch.equal(generate(method, LAYOUTS[:1])[0], together[0])


def test_a_negative_prompt_is_the_pipelines(method):
    method.sd.sampling = Sampling(**OWN, negative_prompt="a cat")
    other = generate(method, LAYOUTS)
    method.sd.sampling = Sampling(**OWN)
    assert torch.equal(other, generate(method, LAYOUTS)) == isinstance(method.sd.pipe, FluxPipeline)


def test_what_does_not_fit_is_named(written, tmp_path):
    folder, params, _ = written

    def opened(sampling=OWN, given=params):
        return open_model(pipeline, str(folder), Sampling(**sampling), given, "cpu")

    with pytest.raises(InputError, match=r"sampling\.scheduler: expected 'own', the pipeline's, found 'ddim'"):
        opened(OWN | {"scheduler": "ddim"})
    with pytest.raises(InputError, match=r"Pipeline has no colour$"):
        opened(given=pipeline.Params(options={"colour": 1}))
    with pytest.raises(InputError, match="own' is for whole pipelines"):
        load_diffusion(folder, Sampling(**OWN))
    changed = next((folder / "vae").glob("*.safetensors"))
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors"):
        opened()
    changed.write_bytes(content)


def test_what_half_precision_spoils_is_made_again_by_the_pipeline_in_float32(written, capsys, monkeypatch):
    folder, params, _ = written
    spec = {
        kind: Spec("row", "baselines.pipeline", str(folder), sampling=OWN | {"precision": kind}, params=vars(params))
        for kind in ("float32", "bfloat16")
    }
    whole = generate(load_method(spec["float32"], "cpu"), LAYOUTS)
    lowered, made = load_method(spec["bfloat16"], "cpu"), pipeline.generate

    def spoilt(sd, layouts, noise_BCHW, params):
        pixels = made(sd, layouts, noise_BCHW, params)
        return pixels * 0 if sd.sampling.precision == "bfloat16" else pixels

    monkeypatch.setattr(pipeline, "generate", spoilt)
    pixels, counters = fallback.generate_with_fallback(lowered, LAYOUTS)
    assert torch.equal(pixels, whole) and counters[fallback.REDONE] == len(LAYOUTS)
    assert lowered.exact is lowered.exact and lowered.exact.sd.unet.dtype == torch.float32


def test_captions_that_are_cut_are_counted(method):
    fallback.generate(method, LAYOUTS)
    assert [method.sd.counters.images[row]["truncated_captions"] for row in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(("key", "value"), [("size", 0), ("size", 64.0), ("options", []), ("options", {"latents": 1})])
def test_a_bad_parameter_is_named(key, value):
    with pytest.raises(InputError, match=key):
        from_keys(pipeline.Params, {key: value}, "params")


def test_stable_diffusions_own_pipeline_is_the_row_of_stable_diffusion(tmp_path):
    """Of one folder and one noise: what the harness's loop makes, and what diffusers' pipeline makes."""
    folder = write_tiny(tmp_path / "sd")
    sampling = {"steps": 5, "guidance_scale": 3.0}
    rows = {
        name: load_method(Spec("row", f"baselines.{name}", str(folder), sampling=sampling | more), "cpu")
        for name, more in (("stable_diffusion", {}), ("pipeline", {"scheduler": "own"}))
    }
    images = [generate(method, LAYOUTS) for method in rows.values()]
    assert rows["stable_diffusion"].module is stable_diffusion and images[0].float().std() > 1
    assert (images[0].int() - images[1].int()).abs().max() <= 1
    assert isinstance(rows["pipeline"].sd.counters, Counters)
