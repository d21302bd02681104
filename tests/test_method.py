"""HCMA is GLIGEN where nothing is aligned, and update (8) where it is."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from diffusers import PNDMScheduler

from baselines import gligen
from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.alignment import Alignment, AlignmentConfig, save_alignment
from hcma.method import SCHEDULES, Params, State, align_step, aligns_at, generate, load, make_guide, make_targets
from hcma.sampling import diffusion
from hcma.sampling.diffusion import Sampling, encode_text, initial_noise, load_diffusion
from hcma.sampling.grounding import grounding_tokens
from hcma.sampling.spec import read_artefact
from tests.tiny import WIDTH, write_tiny

LAYOUTS = [
    Layout(1, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9)), Object("mat", (0.0, 0.5, 1.0, 1.0)))),
    Layout(2, 2, "nothing", ()),
    Layout(3, 3, "many cats", (Object("cat", (0.0, 0.0, 0.4, 0.4)),) * 40),
]
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("gated"), gated=True)


@pytest.fixture
def sd(folder):
    return load_diffusion(folder, Sampling(steps=STEPS))


@pytest.fixture
def module():
    torch.manual_seed(5)
    config = AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2)
    return Alignment(config).eval().requires_grad_(False)


def noise(sd, layouts=LAYOUTS):
    return initial_noise(layouts, 0, sd.latent_shape_CHW)


@pytest.mark.parametrize(("eta", "off"), [(0.0, {}), (9.0, {"lambda_global": 0.0, "lambda_local": 0.0})])
def test_without_alignments_it_is_gligen_bit_for_bit(sd, module, eta, off) -> None:
    ours = generate(sd, LAYOUTS, noise(sd), Params(**off), State(module, eta))
    assert torch.equal(ours, gligen.generate(sd, LAYOUTS, noise(sd), gligen.Params()))
    assert sd.counters["alignments"] == 0


def test_alignments_change_the_image_and_are_counted_once_a_step(sd, module) -> None:
    plain = gligen.generate(sd, LAYOUTS, noise(sd), gligen.Params())
    sd.counters.clear()
    moved = generate(sd, LAYOUTS, noise(sd), Params(mode="grad_norm"), State(module, 0.05))
    assert not torch.equal(moved, plain)
    assert sd.counters["alignments"] == STEPS * len(LAYOUTS)
    assert sd.counters["alignment_shift_ppm"] == pytest.approx(0.05e6 * STEPS * len(LAYOUTS), rel=1e-3)
    assert sd.counters["dropped_boxes"] == 10


def targets_of(sd, module, layouts):
    captions = encode_text(sd, [row.caption for row in layouts])[1]
    return make_targets(sd, layouts, captions, grounding_tokens(sd, layouts), State(module, 1.0))


def guide_of(sd, module, params, layouts=LAYOUTS):
    return make_guide(sd, targets_of(sd, module, layouts), params, State(module, 1.0))


@contextmanager
def counted_reads():
    """How often a value is fetched from a tensor: on an accelerator each time the program would wait for it."""
    names, reads = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__"), []
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            original = getattr(torch.Tensor, name)
            patch.setattr(torch.Tensor, name, lambda self, own=original: (reads.append(own.__name__), own(self))[1])
        yield reads


@pytest.mark.parametrize("aligned", [True, False])
def test_no_step_waits_for_the_device(sd, module, aligned) -> None:
    def reads(steps: int) -> list[str]:
        short = replace(sd, sampling=replace(sd.sampling, steps=steps))
        # The solver's tables are on the CPU, where reading a value waits for nothing.
        with counted_reads() as found, pytest.MonkeyPatch.context() as patch:
            patch.setattr(PNDMScheduler, "step", unread(PNDMScheduler.step, found))
            generate(short, LAYOUTS, noise(sd), Params(tau=1.0), State(module, 0.05 * aligned))
        return found

    assert len(reads(8)) == len(reads(4)) > 0


def unread(step, reads):
    """A solver's step that must get its timestep on the CPU, and whose own reads are left out."""

    def stepping(self, noise, t, latents, **options):
        before = len(reads)
        assert t.device == self.alphas_cumprod.device == torch.device("cpu")
        result = step(self, noise, t, latents, **options)
        del reads[before:]
        return result

    return stepping


def test_texts_are_encoded_once_a_batch_and_the_negative_prompt_once_a_job(sd, module, monkeypatch) -> None:
    encoded = []
    read = diffusion.read_tokens
    monkeypatch.setattr(diffusion, "read_tokens", lambda *given: (encoded.append(len(given[1])), read(*given))[1])
    for _ in range(2):
        generate(sd, LAYOUTS, noise(sd), Params(), State(module, 0.05))
    captions, phrases = len(LAYOUTS), len({thing.phrase for row in LAYOUTS for thing in row.objects})
    assert encoded == [captions, phrases, 1, captions, phrases]


def test_plms_duplicate_call_is_not_aligned(sd, module) -> None:
    guide, latents = guide_of(sd, module, Params(mode="grad_norm")), noise(sd)
    moved = [not torch.equal(guide(latents, i, torch.tensor(500)), latents) for i in range(STEPS + 1)]
    assert moved == [True, False, True, True, True]


def test_ddim_has_no_duplicate_call(folder, sd, module) -> None:
    sd.sampling = replace(sd.sampling, scheduler="ddim")
    guide, latents = guide_of(sd, module, Params(mode="grad_norm")), noise(sd)
    assert all(not torch.equal(guide(latents, i, torch.tensor(500)), latents) for i in range(STEPS))


def test_the_raw_step_is_eta_times_the_gradient(sd, module) -> None:
    params, layouts = Params(lambda_global=0.7, lambda_local=0.3), LAYOUTS[:2]
    module = module.double()
    targets = targets_of(sd, module, layouts)
    targets = type(targets)(*(getattr(targets, key).double() for key in targets.__dataclass_fields__))
    latents, t = noise(sd, layouts).double(), torch.tensor([500, 500])

    def total(x: torch.Tensor) -> torch.Tensor:
        a, b = module.losses(x, t, targets.caption_BD, targets.boxes_BM4, targets.labels_BMD, targets.mask_BM)
        return (0.7 * a + 0.3 * b).sum()

    step = align_step(module, latents, t, targets, params, 2.0)
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).double()
    slope = (total(latents + 1e-5 * direction) - total(latents - 1e-5 * direction)) / 2e-5
    assert float((step * direction).sum()) == pytest.approx(2.0 * float(slope), rel=1e-5)


def test_a_weight_of_zero_switches_its_loss_off(sd, module) -> None:
    latents, t = noise(sd), torch.tensor([300] * 3)
    targets = targets_of(sd, module, LAYOUTS)
    other = replace(targets, caption_BD=targets.caption_BD.flip(0))
    local = Params(lambda_global=0.0)
    assert torch.equal(
        align_step(module, latents, t, targets, local, 1.0), align_step(module, latents, t, other, local, 1.0)
    )
    nobody = replace(targets, mask_BM=torch.zeros_like(targets.mask_BM))
    whole = Params(lambda_local=0.0)
    assert torch.equal(
        align_step(module, latents, t, targets, whole, 1.0), align_step(module, latents, t, nobody, whole, 1.0)
    )
    assert not align_step(module, latents, t, nobody, local, 1.0).any()


def test_images_do_not_depend_on_the_batch(sd, module) -> None:
    params, state = Params(mode="grad_norm"), State(module, 0.02)
    together = generate(sd, LAYOUTS, noise(sd), params, state).int()
    alone = torch.cat([generate(sd, [row], noise(sd, [row]), params, state) for row in LAYOUTS]).int()
    assert (together - alone).abs().max() <= 1


def test_targets_are_the_phrases_own_features_in_gligens_order(sd, module) -> None:
    targets = targets_of(sd, module, LAYOUTS)
    assert targets.boxes_BM4.shape == (3, 30, 4)
    assert targets.mask_BM.sum(1).tolist() == [2, 0, 30]
    assert torch.allclose(targets.labels_BMD[0, :2], encode_text(sd, ["cat", "mat"])[1], atol=1e-5)


def test_a_label_template_changes_the_targets_alone(sd, module) -> None:
    module.config = replace(module.config, label_template="a photo of a {label}")
    targets = targets_of(sd, module, LAYOUTS[:1])
    assert torch.allclose(targets.labels_BMD[0, 0], encode_text(sd, ["a photo of a cat"])[1][0], atol=1e-5)


def test_schedules() -> None:
    assert [SCHEDULES[name](0.25, 0.6) for name in SCHEDULES] == pytest.approx([1, 0.6, 3.0, 0.75**0.5])


def test_start_stop_and_every_choose_steps() -> None:
    chosen = [step for step in range(10) if aligns_at(step, 10, Params(start=0.2, stop=0.9, every=3))]
    assert chosen == [2, 5, 8]


@pytest.mark.parametrize("wrong", [{"lambda_local": -1.0}, {"mode": "x"}, {"every": 0}, {"tau": float("nan")}])
def test_wrong_settings_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        Params(**wrong)


def test_the_state_is_what_the_artefacts_hold(sd, module, tmp_path) -> None:
    save_alignment(module, tmp_path / "alignment.safetensors")
    (tmp_path / "eta.json").write_text(json.dumps({"eta": 0.25}))
    artefacts = {
        name: read_artefact(name, str(tmp_path / file))
        for name, file in (("alignment", "alignment.safetensors"), ("eta", "eta.json"))
    }
    state = load(artefacts, sd)
    assert state.eta == 0.25
    assert torch.equal(next(state.module.parameters()), next(module.parameters()))
    assert state.encoder is None
    with pytest.raises(InputError, match="`alignment` among the artefacts of the method's stanza, found eta"):
        load({"eta": artefacts["eta"]}, sd)


@pytest.mark.parametrize("eta", [-1.0, float("nan"), "1", None, True])
def test_an_eta_that_is_no_step_size_is_refused(module, eta) -> None:
    with pytest.raises(InputError, match="eta: expected a number of at least 0"):
        State(module, eta)
