"""The rules that weigh the gradients of (6) and (7): closed forms on hand-made gradients, and the ends where they are fixed."""

from dataclasses import replace

import pytest
import torch

from formats.files import InputError
from formats.layouts import Layout, Object
from hcma.alignment import Alignment, AlignmentConfig
from hcma.gradient_weighting import FACTORS, FIXED, MIXTURES, RULES, weighed
from hcma.method import Params, State, Targets, align_step, generate
from hcma.sampling.diffusion import Sampling, initial_noise, load_diffusion
from tests.tiny import WIDTH, write_tiny

ADAPTIVE = [rule for rule in RULES if rule != FIXED]
ONES = (1.0, 1.0)


def step_of(rule: str, first, second, lambdas=ONES, u: float = 0.5, offsets=(0.0, 0.0), both: bool = True, **more):
    """The step on one latent of a point in the plane whose losses have the given gradients and, there, the values `offsets`."""
    latents = torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    losses = tuple(
        (latents.flatten(1) * torch.tensor(gradient, dtype=torch.float64)).sum(1) + offset
        for gradient, offset in zip((first, second), offsets, strict=True)
    )
    found = weighed(
        rule, losses, lambdas, latents, torch.tensor([u], dtype=torch.float64), torch.tensor([both]), **more
    )
    return found.flatten().tolist()


@pytest.mark.parametrize(
    ("rule", "first", "second", "given", "expected"),
    [
        ("fixed", (3, 0), (0, 4), {}, (3, 4)),
        # |a + b| = 5, times the mean of the two unit vectors.
        ("equal_norm", (3, 0), (0, 4), {}, (2.5, 2.5)),
        ("equal_norm", (3, 0), (0, 4), {"lambdas": (1.0, 3.0)}, (153**0.5 / 4, 153**0.5 * 3 / 4)),
        ("equal_norm", (3, 0), (6, 0), {}, (9, 0)),
        ("equal_norm", (2, 0), (-2, 0), {}, (0, 0)),
        ("conflict_free", (3, 0), (0, 4), {}, (3, 4)),
        ("conflict_free", (3, 0), (1, 1), {}, (4, 1)),
        # a = (2, 0), b = (-1, 1): a' = a + b = (1, 1), b' = (0, 1).
        ("conflict_free", (2, 0), (-1, 1), {}, (1, 2)),
        ("conflict_free", (2, 0), (-1, 1), {"lambdas": (1.0, 2.0)}, (1, 3)),
        ("conflict_free", (2, 0), (-4, 0), {}, (0, 0)),
        ("layout_first", (3, 0), (0, 4), {"u": 1.0}, (0, 8)),
        ("layout_first", (3, 0), (0, 4), {"u": 0.0}, (6, 0)),
        ("layout_first", (3, 0), (0, 4), {"u": 0.25}, (4.5, 2)),
        # Inverses 2 and 4 of losses 1/2 and 1/4, scaled to the sum 2: 2/3 and 4/3.
        ("log", (3, 0), (0, 3), {"offsets": (0.5, 0.25)}, (2, 4)),
        ("log", (3, 0), (0, 3), {"offsets": (0.5, 0.5)}, (3, 3)),
    ],
)
def test_each_rule_is_its_closed_form(rule, first, second, given, expected) -> None:
    assert step_of(rule, first, second, **given) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lambdas", [(0.7, 0.0), (0.0, 0.7)])
def test_with_one_weight_every_rule_is_the_fixed_one_exactly(rule, lambdas) -> None:
    given = {"lambdas": lambdas, "u": 0.3, "offsets": (0.4, 0.9)}
    assert step_of(rule, (3, 1), (-2, 5), **given) == step_of(FIXED, (3, 1), (-2, 5), **given)


@pytest.mark.parametrize("rule", RULES)
def test_without_boxes_every_rule_is_the_fixed_one(rule) -> None:
    given = {"lambdas": (0.7, 0.4), "u": 0.3, "offsets": (0.4, 0.0), "both": False}
    assert step_of(rule, (3, 1), (0, 0), **given) == pytest.approx((2.1, 0.7), abs=1e-12)


def test_rescaling_a_loss_leaves_the_direction_of_equal_norms() -> None:
    one, other = (torch.tensor(step_of("equal_norm", (3, 1), second)) for second in ((-2, 5), (-0.02, 0.05)))
    assert torch.allclose(one / one.norm(), other / other.norm())


def test_what_is_left_of_each_gradient_makes_no_other_loss_larger() -> None:
    generator = torch.Generator().manual_seed(0)
    opposing = 0
    for _ in range(50):
        a, b = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        found = torch.tensor(step_of("conflict_free", a.tolist(), b.tolist()), dtype=torch.float64)
        opposing += int(a @ b < 0)
        assert found @ a > -1e-12 and found @ b > -1e-12
        assert (a @ b < 0) or torch.allclose(found, a + b)
    assert 10 < opposing < 40


@pytest.mark.parametrize("rule", RULES)
def test_opposing_gradients_are_told_by_the_rules_that_know_both(rule) -> None:
    told = []
    for second, both in (((-1, 1), True), ((1, 1), True), ((-1, 1), False)):
        step_of(rule, (2, 0), second, offsets=ONES, both=both, tally=lambda *one: told.append([int(x) for x in one]))
    assert told == ([[1, 1], [1, 0], [0, 0]] if rule in MIXTURES else [])


# On a module: what a batch, a device and the sampler make of it.

LAYOUTS = [
    Layout(1, 1, "a cat", (Object("cat", (0.1, 0.2, 0.6, 0.9)), Object("mat", (0.0, 0.5, 1.0, 1.0)))),
    Layout(2, 2, "nothing", ()),
    Layout(3, 3, "a dog", (Object("dog", (0.0, 0.0, 0.4, 0.4)),)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("gated"), gated=True)


@pytest.fixture
def module():
    torch.manual_seed(5)
    return Alignment(AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2)).eval().requires_grad_(False)


def batch() -> tuple[torch.Tensor, torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.0, 0.5, 1.0, 1.0]]).expand(3, 2, 4)
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    return (
        normal(3, 4, 8, 8),
        torch.tensor([900, 500, 100]),
        Targets(normal(3, WIDTH), boxes, normal(3, 2, WIDTH), mask),
    )


def first(targets: Targets, rows: slice) -> Targets:
    return Targets(*(value[rows] for value in vars(targets).values()))


@pytest.mark.parametrize("rule", RULES)
def test_a_sample_does_not_feel_its_batch(module, rule) -> None:
    latents, t_B, targets = batch()
    params = Params(weights=rule)
    whole = align_step(module, latents, t_B, targets, params, 1.0)
    for row in range(3):
        rows = slice(row, row + 1)
        alone = align_step(module, latents[rows], t_B[rows], first(targets, rows), params, 1.0)
        assert torch.allclose(whole[rows], alone, rtol=1e-4, atol=1e-9), row


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_a_rule_changes_the_layouts_with_boxes_alone(module, rule) -> None:
    latents, t_B, targets = batch()
    fixed, adapted = (align_step(module, latents, t_B, targets, Params(weights=one), 1.0) for one in (FIXED, rule))
    assert torch.allclose(fixed[1], adapted[1], rtol=1e-5, atol=1e-9)
    assert all(not torch.allclose(fixed[row], adapted[row], rtol=1e-3) for row in (0, 2))


def test_the_module_is_passed_through_once(module, monkeypatch) -> None:
    passes, forward = [], Alignment.forward
    monkeypatch.setattr(Alignment, "forward", lambda self, *given: (passes.append(1), forward(self, *given))[1])
    latents, t_B, targets = batch()
    for rule in RULES:
        align_step(module, latents, t_B, targets, Params(weights=rule), 1.0)
    assert len(passes) == len(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_second_order_reaches_the_module_through_the_step(module, rule) -> None:
    latents, t_B, targets = batch()
    trained = module.requires_grad_(True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        step = align_step(trained, latents, t_B, targets, Params(weights=rule), 1.0, second_order=True)
        step.square().sum().backward()
    assert trained.embed[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("off", ["lambda_global", "lambda_local"])
def test_with_a_weight_of_zero_images_are_the_ablations_bit_for_bit(folder, module, rule, off) -> None:
    sd = load_diffusion(folder, Sampling(steps=3))
    noise = initial_noise(LAYOUTS, 0, sd.latent_shape_CHW)
    params, state = Params(mode="grad_norm", **{off: 0.0}), State(module, 0.05)
    ablated = generate(sd, LAYOUTS, noise, params, state)
    assert torch.equal(generate(sd, LAYOUTS, noise, replace(params, weights=rule), state), ablated)


@pytest.mark.parametrize("rule", RULES)
def test_the_sampler_counts_steps_with_both_gradients_and_those_that_oppose(folder, module, rule) -> None:
    sd = load_diffusion(folder, Sampling(steps=3))
    noise = initial_noise(LAYOUTS, 0, sd.latent_shape_CHW)
    generate(sd, LAYOUTS, noise, Params(mode="grad_norm", weights=rule), State(module, 0.05))
    counted = [sd.counters.images[row]["alignments_of_both"] for row in range(3)]
    assert counted == ([3, 0, 3] if rule in MIXTURES else [0, 0, 0])
    opposed = [sd.counters.images[row]["alignments_opposed"] for row in range(3)]
    assert all(0 <= few <= many for few, many in zip(opposed, counted, strict=True))


def test_an_unknown_rule_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="weights: 'equal' is not one of fixed, equal_norm, conflict_free"):
        Params(weights="equal")
    assert {*FACTORS, *MIXTURES, FIXED} == {*RULES}
