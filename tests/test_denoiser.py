"""The noise loss behind update (8): what it trains, that it falls, resumes bit for bit, and reaches the module when asked."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from formats.checksums import folder_sha256, verify_folder
from formats.files import InputError, read_json
from formats.layouts import Layout, Object, write_layouts
from hcma import denoiser, train_denoiser
from hcma.alignment import Alignment, AlignmentConfig, save_alignment
from hcma.cache import _read, read_cache, write_cache
from hcma.denoiser import DenoiserTrainer, Denoising, Split
from hcma.method import Params, State, Targets, align_step
from hcma.sampling.diffusion import Sampling, encode_text, load_diffusion
from hcma.sampling.grounding import denoise_grounded, grounding_tokens
from hcma.sampling.seeds import seeded
from hcma.sampling.weights import write_model
from hcma.trainer import Training
from tests.launch import ended, launch, status
from tests.tiny import WIDTH, write_tiny

TRAIN = {"epochs": 1, "batch": 4, "micro_batch": 4, "lr": 1e-3}
SETTINGS = {"steps": 9, "batch": 4, "micro_batch": 3, "validate_every": 2, "lr": 1e-3}
ETA = 2.0


def layouts(count: int) -> list[Layout]:
    boxes = [(0.1, 0.1, 0.6, 0.9), (0.3, 0.0, 1.0, 0.5)]
    return [Layout(i, i, "a cat", (Object("cat", boxes[i % 2]),), ("a cat", "cat")[: 1 + i % 2]) for i in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("gligen") / "model", gated=True)


@pytest.fixture(scope="module")
def caches(base, tmp_path_factory) -> dict[str, Path]:
    sd = load_diffusion(base, Sampling())
    folder = tmp_path_factory.mktemp("caches")
    for name, count, seed in (("train", 8, 1), ("heldout", 4, 2)):
        latents = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).half()
        write_cache(latents, layouts(count), sd, "{label}", folder / f"{name}.safetensors")
        write_layouts(folder / f"{name}.jsonl", layouts(count))
    return {name: folder / name for name in ("train", "heldout")}


def module() -> Alignment:
    torch.manual_seed(5)
    return Alignment(AlignmentConfig(4, 8, WIDTH, patch=2, width=16, blocks=1, heads=2)).eval()


def trainer(
    base: Path, caches: dict[str, Path], work: Path, aligning: dict | None = None, **changes
) -> DenoiserTrainer:
    sd = load_diffusion(base, Sampling())
    train, heldout = (
        Split(read_cache([path.with_suffix(".safetensors")]), layouts(count))
        for path, count in ((caches["train"], 8), (caches["heldout"], 4))
    )
    aligned, denoising = Training(**(TRAIN | (aligning or {}))), {"train_denoiser": "fuser"} | SETTINGS | changes
    state = State(module().requires_grad_(False), ETA)
    return DenoiserTrainer(
        sd, state, Params(), aligned, Denoising(**denoising), train, heldout, work, folder_sha256(base)
    )


def state(run: DenoiserTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.weights.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("trained", ["fuser", "unet"])
def test_the_noise_loss_falls_and_trains_what_it_should(base, caches, tmp_path, trained) -> None:
    run = trainer(base, caches, tmp_path, train_denoiser=trained, steps=40, validate_every=40)
    before = state(run)
    run.train()
    last = run.progress.curve[-1]
    assert last["heldout_noise"] < 0.95 * last["baseline_noise"]
    found = changed(before, run.weights.state_dict())
    ours = {name for name in found if "fuser" in name or "position_net" in name}
    assert ours
    assert (found == ours) == (trained == "fuser")
    assert not any(name.startswith("alignment.") for name in found)


@pytest.mark.parametrize(("dies_at", "second_order"), [(1, False), (5, False), (5, True)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    base, caches, tmp_path, monkeypatch, dies_at, second_order
) -> None:
    whole = trainer(base, caches, tmp_path / "whole", second_order=second_order)
    whole.train()
    step = DenoiserTrainer._step

    def dying(self, number):
        if number == dies_at:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(DenoiserTrainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        trainer(base, caches, tmp_path / "killed", second_order=second_order).train()
    monkeypatch.setattr(DenoiserTrainer, "_step", step)
    resumed = trainer(base, caches, tmp_path / "killed", second_order=second_order)
    assert resumed.progress.step == dies_at // 2 * 2
    assert [row["step"] for row in resumed.progress.curve] == list(range(0, dies_at, 2))
    resumed.train()
    assert not changed(state(whole), state(resumed))
    assert resumed.progress == whole.progress


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(base, caches, tmp_path) -> None:
    trainer(base, caches, tmp_path).train()
    assert trainer(base, caches, tmp_path).progress.step == 9
    for change in ({"lr": 1e-4}, {"weight_decay": 0.1}, {"optimizer": "adam"}, {"grounding_dropout": 0.2}):
        assert trainer(base, caches, tmp_path, **change).progress.step == 0
    for change in ({"caption_dropout": 0.0}, {"validate_images": 2}):
        assert trainer(base, caches, tmp_path, **change).progress.step == 0
    # Held out, other images: here the first of those that are trained on.
    tensors, _ = _read(caches["train"].with_suffix(".safetensors"))
    sd, folder = load_diffusion(base, Sampling()), tmp_path / "other"
    folder.mkdir()
    write_cache(tensors["latents_NCHW"][:4], layouts(4), sd, "{label}", folder / "heldout.safetensors")
    assert trainer(base, caches | {"heldout": folder / "heldout"}, tmp_path).progress.step == 0


def test_micro_batches_change_nothing_but_rounding(base, caches, tmp_path) -> None:
    half = {"caption_dropout": 0.5, "grounding_dropout": 0.5}
    once, parts = (trainer(base, caches, tmp_path / str(size), micro_batch=size, **half) for size in (4, 1))
    assert once._step(0)["train_noise"] == pytest.approx(parts._step(0)["train_noise"], rel=1e-5)


def test_products_in_bfloat16_are_those_of_the_training_alone(base, caches, tmp_path) -> None:
    full, half = (trainer(base, caches, tmp_path / kind, {"precision": kind}) for kind in ("float32", "bfloat16"))
    assert full._heldout_noise() == half._heldout_noise()
    noises = [run._step(0)["train_noise"] for run in (full, half)]
    assert noises[0] != noises[1] == pytest.approx(noises[0], rel=0.02)


def noise_gradient(run: DenoiserTrainer) -> torch.Tensor:
    """The module's gradient by the noise loss alone; zeros where there is none."""
    drawn = denoiser.draw_noise(run.data.cache, torch.arange(4), torch.Generator().manual_seed(0), any_caption=False)
    run._losses(run.data, drawn)["noise"].sum().backward()
    found = [p.grad if p.grad is not None else torch.zeros_like(p) for p in run.module.parameters()]
    return torch.cat([gradient.flatten() for gradient in found])


def test_only_second_order_lets_the_noise_loss_reach_the_module(base, caches, tmp_path) -> None:
    assert not noise_gradient(trainer(base, caches, tmp_path)).any()
    assert noise_gradient(trainer(base, caches, tmp_path, second_order=True)).norm() > 0
    run = trainer(base, caches, tmp_path, second_order=True, train_denoiser="none", steps=2)
    before = state(run)
    run.train()
    found = changed(before, run.weights.state_dict())
    assert found and all(name.startswith("alignment.") for name in found)


def test_u_net_and_module_decay_each_as_its_own_settings_say(base, caches, tmp_path) -> None:
    aligning = {"optimizer": "adam", "weight_decay": 0.5, "lr": 0.01}
    run = trainer(base, caches, tmp_path, aligning, second_order=True, lr=0.1, weight_decay=0.2)
    assert [type(optimizer) for optimizer in run.optimizers] == [torch.optim.AdamW, torch.optim.Adam]
    for parameter in run.weights.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.where(parameter >= 0, 1.0, -1.0))  # none is near 0
            parameter.grad = torch.zeros_like(parameter)
    before = state(run)
    run._update()
    after = run.weights.state_dict()
    for name, parameter in run.weights.named_parameters():
        value = before[name]
        if name.startswith("alignment."):  # L2 is the gradient, and Adam's first step is its sign
            expected = value - 0.01 * value.sign()
        else:
            expected = value * (1 - 0.1 * 0.2) if parameter.requires_grad else value
        assert torch.allclose(after[name], expected, atol=1e-6), name
    default = trainer(base, caches, tmp_path / "default").optimizers
    assert [(type(one), one.defaults["weight_decay"], one.defaults["lr"]) for one in default] == [
        (torch.optim.AdamW, 0.0, 1e-3)
    ]


def seen_by_the_u_net(run: DenoiserTrainer, call) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Text states and grounding that the U-Net is given inside `call`."""
    seen = []
    forward = run.sd.unet.forward

    def spy(*arguments, **options):
        seen.append((arguments[2], options["cross_attention_kwargs"]["gligen"]))
        return forward(*arguments, **options)

    run.sd.unet.forward = spy
    try:
        call()
    finally:
        run.sd.unet.forward = forward
    return seen[0]


def test_what_is_dropped_is_what_guidances_unconditional_half_has(base, caches, tmp_path) -> None:
    run = trainer(base, caches, tmp_path, caption_dropout=1.0, grounding_dropout=1.0, micro_batch=4)
    text_BTD, gligen = seen_by_the_u_net(run, lambda: run._step(0))
    rows = layouts(4)
    tokens = grounding_tokens(run.sd, rows)

    def sample() -> None:
        captions = encode_text(run.sd, [layout.caption for layout in rows])[0]
        denoise_grounded(run.sd, tokens, torch.zeros(4, 4, 8, 8), captions, 1.0)

    doubled_BTD, both = seen_by_the_u_net(run, sample)
    assert torch.allclose(text_BTD, doubled_BTD[:4], atol=1e-6)
    assert not torch.allclose(text_BTD, doubled_BTD[4:], atol=1e-3)
    for name, values in gligen.items():
        assert torch.equal(values, both[name][:4]), name
        assert not torch.equal(values, both[name][4:]), name


def test_each_dropout_keeps_from_the_u_net_what_it_names_and_leaves_update_8_alone(
    base, caches, tmp_path, monkeypatch
) -> None:
    found = {}
    for kind in ("none", "caption", "grounding"):
        pulls, step = [], align_step
        monkeypatch.setattr(
            denoiser, "align_step", lambda *inputs, step=step, pulls=pulls: pulls.append(inputs) or step(*inputs)
        )
        shares = {f"{name}_dropout": float(name == kind) for name in ("caption", "grounding")}
        run = trainer(base, caches, tmp_path / kind, **shares, micro_batch=4)
        heldout = run._heldout_noise()
        pulls.clear()
        text_BTD, gligen = seen_by_the_u_net(run, lambda run=run: run._step(0))
        (_, latents, t_B, targets, *_) = pulls[0]
        found[kind] = text_BTD, gligen["masks"], [latents, t_B, *vars(targets).values()], heldout
        monkeypatch.setattr(denoiser, "align_step", step)
    texts, masks, pulled, losses = zip(*found.values(), strict=True)
    assert [torch.equal(text, texts[0]) for text in texts] == [True, False, True]
    assert [int(mask.sum()) for mask in masks] == [4, 4, 0]
    assert all(torch.equal(a, b) for other in pulled[1:] for a, b in zip(pulled[0], other, strict=True))
    assert len(set(losses)) == 1


def test_dropouts_are_independent_and_change_no_other_draw(caches) -> None:
    data, rows = read_cache([caches["train"].with_suffix(".safetensors")]), torch.zeros(20000, dtype=torch.int64)
    plain, dropped = (denoiser.draw_noise(data, rows, seeded(7), True, *shares) for shares in ((), (0.1, 0.3)))
    for name in ("t_B", "noise_BCHW", "which_B"):
        assert torch.equal(getattr(plain, name), getattr(dropped, name))
    assert not plain.without_caption_B.any() and not plain.without_boxes_B.any()
    both = dropped.without_caption_B & dropped.without_boxes_B
    for found, share in ((dropped.without_caption_B, 0.1), (dropped.without_boxes_B, 0.3), (both, 0.03)):
        assert float(found.float().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / len(rows)) ** 0.5)


@pytest.mark.parametrize("mode", ["raw", "grad_norm"])
def test_the_second_order_gradient_is_that_of_the_step(mode) -> None:
    aligning = module().double()
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).double()

    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.8]]]).double()
    targets = Targets(normal(1, WIDTH), boxes, normal(1, 1, WIDTH), torch.ones(1, 1).double())
    latents, t, direction = normal(1, 4, 8, 8), torch.tensor([500]), normal(1, 4, 8, 8)
    weight = aligning.embed[0].weight

    def pull() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            step = align_step(aligning, latents, t, targets, Params(mode=mode), ETA, second_order=True)
        return (step * direction).sum()

    (gradient,) = torch.autograd.grad(pull(), weight)
    along = normal(*weight.shape)
    with torch.no_grad():
        weight += 1e-6 * along
        above = float(pull().detach())
        weight -= 2e-6 * along
        below = float(pull().detach())
    assert float((gradient * along).sum()) == pytest.approx((above - below) / 2e-6, rel=1e-5)
    assert not align_step(aligning, latents, t, targets, Params(mode=mode), ETA).requires_grad


def test_the_model_is_written_sealed_and_differs_in_its_u_net_alone(base, caches, tmp_path) -> None:
    run = trainer(base, caches, tmp_path / "work", steps=2)
    run.train()
    write_model(base, run.sd.unet, tmp_path / "model")
    assert verify_folder(tmp_path / "model") != verify_folder(base)
    again = load_diffusion(tmp_path / "model", Sampling())
    assert not changed(run.sd.unet.state_dict(), again.unet.state_dict())
    assert (tmp_path / "model/vae/config.json").read_bytes() == (base / "vae/config.json").read_bytes()
    assert read_json(tmp_path / "model/unet/config.json")["_name_or_path"] == ""
    with pytest.raises(InputError, match="is there already"):
        write_model(base, run.sd.unet, tmp_path / "model")


@pytest.fixture
def arguments(base, caches, tmp_path) -> dict[str, str]:
    save_alignment(module(), tmp_path / "alignment.safetensors")
    (tmp_path / "eta.json").write_text(json.dumps({"eta": ETA}))
    denoiser = asdict(Denoising("fuser", **SETTINGS))
    own = {key: denoiser.pop(key) for key in ("train_denoiser", "second_order")}
    train = TRAIN | own | {"objective": "align+noise", "denoiser": denoiser}
    config = {"alignment": {"method": "hcma", "train": train}, "methods": {"hcma": {"params": {"tau": 0.7}}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    named = {
        "alignment": "alignment.safetensors",
        "eta": "eta.json",
        "config": "config.json",
        "work": "work",
        "out": "out",
    }
    paths = {f"--{name}": str(tmp_path / file) for name, file in named.items()} | {"--model": str(base)}
    for name, path in caches.items():
        paths |= {f"--{name}": f"{path}.safetensors", f"--{name}-layouts": f"{path}.jsonl"}
    return paths


def program(arguments: dict[str, str]) -> int:
    return status(train_denoiser.main, [text for pair in arguments.items() for text in pair])


def test_the_program_writes_model_module_and_curves(arguments, tmp_path) -> None:
    assert program(arguments) == 0
    verify_folder(tmp_path / "out/model")
    assert (tmp_path / "out/alignment.safetensors").read_bytes() == (tmp_path / "alignment.safetensors").read_bytes()
    rows = (tmp_path / "out/curves.csv").read_text().splitlines()
    assert rows[0] == "step,train_noise,heldout_noise,baseline_noise,heldout_loss,kept"
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "2", "4", "6", "8", "9"]
    assert rows[1].split(",")[1] == ""
    assert sum(int(row.split(",")[-1]) for row in rows[1:]) == 1
    assert not list((tmp_path / "work").iterdir())


def test_a_training_that_makes_nothing_better_leaves_the_weights_and_says_so(arguments, base, tmp_path, capsys) -> None:
    config = json.loads((tmp_path / "config.json").read_text())
    config["alignment"]["train"]["train_denoiser"] = "unet"
    config["alignment"]["train"]["denoiser"] |= {"lr": 1.0, "steps": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert program(arguments) == 0
    assert "denoiser: no held-out loss was below the" in capsys.readouterr().err
    untrained, trained = (
        load_diffusion(folder, Sampling()).unet.state_dict() for folder in (base, tmp_path / "out/model")
    )
    assert not changed(untrained, trained)
    kept = [row.split(",")[-1] for row in (tmp_path / "out/curves.csv").read_text().splitlines()[1:]]
    assert kept == ["1", "0", "0"]


@pytest.mark.slow
def test_two_processes_with_a_part_each_give_the_bytes_of_one(arguments, tmp_path) -> None:
    for number in (1, 2):
        own = {"--work": str(tmp_path / f"work-{number}"), "--out": str(tmp_path / str(number)), "--micro-batch": "2"}
        program = [text for pair in (arguments | own).items() for text in pair]
        ended(launch(["hcma.train_denoiser", *program], number))
    for name in ("curves.csv", "model/SHA256SUMS"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_layouts_of_other_images_are_one_line(arguments, caches, capsys) -> None:
    assert program(arguments | {"--train-layouts": f"{caches['heldout']}.jsonl"}) == 1
    error = capsys.readouterr().err
    assert "error: the 4 layouts are not those of the 8 cached images" in error
    assert error.count("\n") == 1


def test_a_noise_loss_that_trains_nothing_and_a_plain_u_net_are_refused(caches, tmp_path) -> None:
    with pytest.raises(InputError, match="trains nothing"):
        Denoising("none")
    for key, value in {"optimizer": "sgd", "weight_decay": -1, "caption_dropout": 1.5, "validate_images": 0}.items():
        with pytest.raises(InputError, match=rf"alignment\.train\.denoiser\.{key}: expected .*, found {value!r}"):
            Denoising("fuser", **{key: value})
    plain = write_tiny(tmp_path / "plain")
    with pytest.raises(InputError, match='attention_type "gated"'):
        trainer(plain, caches, tmp_path)
    with pytest.raises(InputError, match=r"alignment\.train\.denoiser\.batch: 99"):
        trainer(plain, caches, tmp_path, batch=99)
