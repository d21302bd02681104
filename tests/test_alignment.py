"""The alignment module against the paper's formulas written out, and against GLIGEN's box embedding."""

import pytest
import torch
from diffusers.models.embeddings import get_fourier_embeds_from_boundingbox

from formats.files import InputError
from hcma.alignment import BOX_FEATURES, Alignment, AlignmentConfig, box_mask, fourier, load_alignment, save_alignment

SMALL = {"latent_channels": 4, "latent_size": 8, "text_width": 12, "patch": 2, "width": 16, "blocks": 2, "heads": 2}
BOXES = torch.tensor(
    [[[0.0, 0.0, 0.5, 1.0], [0.25, 0.25, 0.75, 0.5], [0, 0, 0, 0]], [[0.1, 0.2, 0.9, 0.3]] + [[0.0] * 4] * 2]
)
MASK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def module(**changes) -> Alignment:
    torch.manual_seed(0)
    return Alignment(AlignmentConfig(**(SMALL | changes))).eval()


def inputs(seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(2, 4, 8, 8), torch.tensor([10, 900]), draw(2, 12), BOXES, draw(2, 3, 12), MASK


def test_paper_size_has_the_parameters_its_description_implies() -> None:
    config = AlignmentConfig(latent_channels=4, latent_size=64, text_width=768)
    with torch.device("meta"):
        model = Alignment(config)
    count = lambda *parts: sum(p.numel() for part in parts for p in part.parameters()) / 1e6  # noqa: E731
    assert config.cells == 256
    assert model.embed[0].in_features == 64
    assert count(model.blocks) == pytest.approx(18.91, abs=0.01)
    assert count(model.global_head, model.local_head) == pytest.approx(1.84, abs=0.01)
    embedding = count(model.embed) + (model.cls.numel() + model.position.numel()) / 1e6
    assert embedding == pytest.approx(0.43, abs=0.01)


@pytest.mark.parametrize("feature", BOX_FEATURES)
@pytest.mark.parametrize("pool", ["grid_mean", "area_mean"])
def test_pooling_is_the_mean_over_the_outer_product(feature: str, pool: str) -> None:
    model = module(box_feature=feature, pool=pool)
    tokens_BND = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3))
    outer_BNMD = model.box(BOXES)[..., None] * tokens_BND[:, :, None, :]
    expected = outer_BNMD.mean(1)
    if pool == "area_mean":
        expected = outer_BNMD.sum(1) / box_mask(BOXES, 4).sum(1)[..., None].clamp(min=1e-6)
    assert torch.allclose(model._pooled(tokens_BND, BOXES)[MASK > 0], expected[MASK > 0], atol=1e-5)


def test_losses_are_formulas_6_and_7() -> None:
    model = module()
    latents, t, caption, boxes, labels, mask = inputs()
    model.requires_grad_(False)
    f_global, f_local = model(latents, t, boxes)
    cos = lambda a, b: float(a @ b / (a.norm() * b.norm()))  # noqa: E731
    omega_global, omega_local = model.losses(latents, t, caption, boxes, labels, mask)
    for b, true_boxes in enumerate([2, 1]):
        assert float(omega_global[b]) == pytest.approx(1 - cos(f_global[b], caption[b]), abs=1e-5)
        each = [1 - cos(f_local[b, i], labels[b, i]) for i in range(true_boxes)]
        assert float(omega_local[b]) == pytest.approx(sum(each) / true_boxes, abs=1e-5)


def test_without_boxes_the_local_loss_and_its_gradient_are_zero() -> None:
    latents, t, caption, boxes, labels, _ = inputs()
    latents.requires_grad_()
    _, omega_local = module().losses(latents, t, caption, boxes, labels, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(omega_local.sum(), latents)
    assert omega_local.tolist() == [0, 0]
    assert not gradient.any()


def test_padded_slots_change_nothing() -> None:
    model = module()
    latents, t, caption, boxes, labels, mask = inputs()
    before = model.losses(latents, t, caption, boxes, labels, mask)
    labels[0, 2] = 7
    boxes = boxes.clone()
    boxes[0, 2] = torch.tensor([0.3, 0.3, 0.6, 0.9])
    after = model.losses(latents, t, caption, boxes, labels, mask)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_sample_does_not_feel_its_batch() -> None:
    model = module()
    whole = inputs()

    def gradient(parts) -> torch.Tensor:
        latents = parts[0].clone().requires_grad_()
        omegas = model.losses(latents, *parts[1:])
        return torch.autograd.grad(sum(o.sum() for o in omegas), latents)[0]

    alone = torch.cat([gradient([x[i : i + 1] for x in whole]) for i in range(2)])
    assert torch.allclose(gradient(whole), alone, atol=1e-7)


def test_box_mask_is_the_covered_share_of_each_cell() -> None:
    mask_BNM = box_mask(BOXES, 4)
    left_half = mask_BNM[0, :, 0].view(4, 4)
    assert left_half.tolist() == [[1, 1, 0, 0]] * 4
    assert torch.allclose(mask_BNM[1, :, 0].sum() / 16, torch.tensor(0.8 * 0.1))
    quarter = box_mask(torch.tensor([[[0.125, 0.0, 0.25, 0.125]]]), 4)
    assert float(quarter[0, 0, 0]) == pytest.approx(0.25)


def test_fourier_is_gligens() -> None:
    assert torch.allclose(fourier(BOXES, 8), get_fourier_embeds_from_boundingbox(8, BOXES), atol=1e-5)


def test_time_conditioning_is_off_unless_asked_for() -> None:
    latents, _, _, boxes, _, _ = inputs()
    early, late = torch.tensor([1, 1]), torch.tensor([900, 900])
    assert torch.equal(module()(latents, early, boxes)[0], module()(latents, late, boxes)[0])
    timed = module(time_conditioning="add")
    assert not torch.allclose(timed(latents, early, boxes)[0], timed(latents, late, boxes)[0])


def test_centring_subtracts_the_stored_means_from_the_targets() -> None:
    model, plain = module(center=True), module()
    latents, t, caption, boxes, labels, mask = inputs()
    model.caption_mean_D.fill_(0.5)
    model.label_mean_D.fill_(-0.25)
    found = model.losses(latents, t, caption, boxes, labels, mask)
    expected = plain.losses(latents, t, caption - 0.5, boxes, labels + 0.25, mask)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_saved_and_loaded_it_is_the_same_and_frozen(tmp_path) -> None:
    model = module(box_feature="fourier_mlp")
    save_alignment(model, tmp_path / "alignment.safetensors")
    again = load_alignment(tmp_path / "alignment.safetensors")
    latents, t, _, boxes, _, _ = inputs()
    assert again.config == model.config
    assert torch.equal(again(latents, t, boxes)[1], model(latents, t, boxes)[1])
    assert not any(p.requires_grad for p in again.parameters())


def test_other_files_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "alignment.safetensors"
    path.write_bytes(b"no safetensors")
    with pytest.raises(InputError, match=r"alignment\.safetensors: not the weights"):
        load_alignment(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patch": 3}, "patch"),
        ({"heads": 3}, "heads"),
        ({"box_feature": "circle"}, "box_feature"),
        ({"pool": "max"}, "pool"),
    ],
)
def test_impossible_sizes_are_refused_by_key(change: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        AlignmentConfig(**(SMALL | change))
