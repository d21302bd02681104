"""Training resumes bit for bit, learns what it can, reports what matters; eta comes out where it was asked for."""

import json
import math
from pathlib import Path

import pytest
import torch

from formats.files import InputError
from formats.images import png_name, write_images
from formats.layouts import Layout, Object, write_layouts
from hcma import cache as caching
from hcma import train
from hcma import trainer as training
from hcma.alignment import load_alignment
from hcma.cache import Cache, read_cache, write_cache
from hcma.calibrate import calibrate
from hcma.method import Params
from hcma.sampling.diffusion import Sampling, encode_text, load_diffusion
from hcma.shards import Sharded
from hcma.validate import TIMES, heldout_at, validate
from tests.launch import status
from tests.tiny import write_tiny

MODEL = {"patch": 2, "width": 16, "blocks": 1, "heads": 2}
TRAIN = {"epochs": 3, "batch": 8, "micro_batch": 8, "validate_every": 2, "lr": 1e-2}
KINDS = ("cat", "mat", "a", "z")


def cache(count: int, seed: int) -> Cache:
    """Latents whose left and right halves carry the kind of the box there; the caption is the left kind's text."""
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randn(len(KINDS), 12, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(len(KINDS), (count, 2), generator=generator)
    latents = torch.randn(count, 4, 8, 8, generator=generator) * 0.05
    for side, columns in enumerate((slice(0, 4), slice(4, 8))):
        latents[:, :, :, columns] += torch.nn.functional.one_hot(labels[:, side], 4)[:, :, None, None] * 3.0
    slots = torch.full((count, 30), -1, dtype=torch.int32)
    slots[:, :2] = labels
    boxes = torch.zeros(count, 30, 4)
    boxes[:, 0], boxes[:, 1] = torch.tensor([0, 0, 0.5, 1.0]), torch.tensor([0.5, 0, 1, 1.0])
    captions = texts[labels[:, 0]][:, None].repeat(1, 5, 1)
    counts = torch.full((count,), 5, dtype=torch.int32)
    acp = torch.linspace(0.999, 0.01, 1000)
    return Cache(torch.arange(count), Sharded([latents.half()]), captions, counts, boxes, slots, texts, acp, KINDS)


def trainer(work: Path, **changes) -> training.Trainer:
    return training.Trainer(MODEL, training.Training(**(TRAIN | changes)), cache(24, 1), cache(16, 2), work, "cpu")


def weights(module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize("dies_at", [1, 4, 8])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, dies_at) -> None:
    whole = trainer(tmp_path / "whole")
    expected = whole.train()
    step = training.Trainer._step

    def dying(self, number):
        if number == dies_at:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(training.Trainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed").train()
    monkeypatch.setattr(training.Trainer, "_step", step)
    resumed = trainer(tmp_path / "killed")
    assert resumed.progress.step == dies_at // 2 * 2
    assert resumed.progress.curve[0]["step"] == 0
    assert same(resumed.train(), expected)
    assert resumed.progress == whole.progress


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(tmp_path, capsys) -> None:
    trainer(tmp_path).train()
    assert trainer(tmp_path).progress.step == 9
    assert trainer(tmp_path, micro_batch=2).progress.step == 9  # for memory only: other devices go on with it
    assert not capsys.readouterr().err.endswith("afresh\n")
    assert trainer(tmp_path, lr=1e-3).progress.step == 0
    assert "checkpoint.pt: of other settings or data; this training starts afresh" in capsys.readouterr().err
    other = training.Trainer(MODEL, training.Training(**TRAIN), cache(24, 1), cache(16, 3), tmp_path, "cpu")
    assert other.progress.step == 0  # the best weights so far were chosen on other images


def test_micro_batches_change_nothing_but_rounding(tmp_path) -> None:
    whole, parts = trainer(tmp_path / "a").train(), trainer(tmp_path / "b", micro_batch=3).train()
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(weights(whole), weights(parts), strict=True))


def test_the_best_checkpoint_on_held_out_data_is_kept(tmp_path) -> None:
    run = trainer(tmp_path, epochs=8)
    module = run.train()
    best = min(run.progress.curve, key=lambda row: row["heldout_loss"])
    again = validate(module, run.heldout, run.settings.seed)
    assert again["heldout_global"] == pytest.approx(best["heldout_global"], abs=1e-6)


def test_a_training_that_makes_nothing_better_keeps_the_untrained_module(tmp_path, capsys) -> None:
    contrary = cache(24, 1)
    for targets in (contrary.captions_NKD, contrary.texts_LD):
        targets.neg_()
    run = training.Trainer(MODEL, training.Training(**TRAIN), contrary, cache(16, 2), tmp_path, "cpu")
    untrained = [value.clone() for value in weights(run.module)]
    module = run.train()
    assert run.progress.kept == 0
    assert min(row["heldout_loss"] for row in run.progress.curve[1:]) > run.progress.best
    assert all(torch.equal(x, y) for x, y in zip(untrained, weights(module), strict=True))
    assert "alignment: no held-out loss was below the" in capsys.readouterr().err
    better = trainer(tmp_path / "better", epochs=8)
    better.train()
    assert better.progress.kept > 0
    assert "no held-out loss" not in capsys.readouterr().err


def test_the_checkpoint_is_chosen_on_as_many_images_as_asked_for(tmp_path) -> None:
    run = trainer(tmp_path, validate_images=5)
    run.train()
    drawn = [heldout_at(run.heldout, t, 0, 5).batch(run.heldout).tensors() for t in TIMES]
    module = trainer(tmp_path / "untrained").module.eval()
    with torch.no_grad():
        each = [torch.stack([omega_B.mean() for omega_B in module.losses(*batch)]) for batch in drawn]
    losses = torch.stack(each).mean(0)
    assert run.progress.curve[0]["heldout_global"] == pytest.approx(float(losses[0]), rel=1e-5)
    assert run.progress.curve[0]["heldout_local"] == pytest.approx(float(losses[1]), rel=1e-5)
    asked = [validate(module, run.heldout, 0, images) for images in (None, 16, 256, 5)]
    assert asked[0] == asked[1] == asked[2] != asked[3]
    assert trainer(tmp_path, validate_images=None).progress.step == 0
    with pytest.raises(
        InputError, match=r"alignment\.train\.validate_images: expected a positive integer, or null, found 0"
    ):
        trainer(tmp_path, validate_images=0)
    boxless = cache(16, 2)
    boxless.labels_NM[:3] = -1
    with pytest.raises(
        InputError, match=r"validate_images: 3, but none of the first so many .* has boxes; raise it, or null"
    ):
        training.Trainer(MODEL, training.Training(**TRAIN, validate_images=3), cache(24, 1), boxless, tmp_path, "cpu")


def test_parts_of_what_is_held_out_are_judged_together(tmp_path, monkeypatch) -> None:
    module, data = trainer(tmp_path).train(), cache(16, 2)
    whole = [validate(module, data, 0), calibrate(module, data, Params(), 0.01, 16)["eta"]]
    monkeypatch.setattr("hcma.validate.PART", 5)
    monkeypatch.setattr("hcma.batches.PART", 5)
    parts = [validate(module, data, 0), calibrate(module, data, Params(), 0.01, 16)["eta"]]
    assert parts[0] == pytest.approx(whole[0], rel=1e-4, abs=1e-5)
    assert parts[1] == pytest.approx(whole[1], rel=1e-4)


def test_a_batch_too_large_for_memory_says_what_to_lower(tmp_path, monkeypatch) -> None:
    run = trainer(tmp_path)
    losses = run.module.losses

    def fill() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.module, "losses", lambda *batch: fill() if run.module.training else losses(*batch))
    with pytest.raises(InputError, match="alignment: out of memory at step 0; lower its micro_batch"):
        run.train()


def test_it_learns_what_the_latent_tells(tmp_path) -> None:
    run = trainer(tmp_path, epochs=60, validate_every=60)
    run.train()
    last = run.progress.curve[-1]
    assert last["heldout_global"] < 0.6 * last["baseline_global"]
    assert last["label_accuracy_100"] > 0.9
    assert last["recall_100"] > 0.9
    assert last["gradient_local"] > 0


def test_a_batch_larger_than_the_data_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"alignment\.train\.batch: 99, but only 24"):
        trainer(tmp_path, batch=99)


def test_a_loss_that_is_not_finite_is_named(tmp_path) -> None:
    run = trainer(tmp_path)
    run.data.latents_NCHW.parts[0].fill_(float("nan"))
    with pytest.raises(InputError, match="not finite at step 0"):
        run.train()
    run = trainer(tmp_path / "heldout")
    run.heldout.latents_NCHW.parts[0].fill_(float("nan"))
    with pytest.raises(InputError, match="alignment: the held-out loss is not finite before the first step"):
        run.train()


def test_eta_moves_held_out_latents_by_the_step_asked_for(tmp_path) -> None:
    module, data = trainer(tmp_path).train(), cache(16, 2)
    row = calibrate(module, data, Params(), 0.01, 16)
    again = calibrate(module, data, Params(), 0.02, 16)
    assert row["eta"] * row["median_ratio_at_eta_1"] == pytest.approx(0.01)
    assert again["eta"] == pytest.approx(2 * row["eta"])
    normed = calibrate(module, data, Params(mode="grad_norm"), 0.01, 16)
    assert normed["eta"] == pytest.approx(0.01, rel=1e-4)


def test_calibration_on_more_images_than_there_are_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="only 16"):
        calibrate(trainer(tmp_path).train(), cache(16, 2), Params(), 0.01, 17)


def test_the_program_trains_writes_and_removes_its_checkpoint(tmp_path) -> None:
    sd = load_diffusion(write_tiny(tmp_path / "model", gated=True), Sampling())
    layouts = [Layout(i, i, "a cat", (Object("cat", (0.1, 0.1, 0.9, 0.9)),), ("a cat", "cat")) for i in range(8)]
    layouts.append(Layout(9, 9, "a", ()))
    write_cache(torch.randn(9, 4, 8, 8).half(), layouts, sd, "{label}", tmp_path / "latents.safetensors")
    data = read_cache([tmp_path / "latents.safetensors"])
    assert data.names == ("cat",)
    assert data.counts_N.tolist() == [2] * 8 + [1]
    assert torch.allclose(data.captions_NKD[0, 1], encode_text(sd, ["cat"])[1][0], atol=1e-5)
    (tmp_path / "config.json").write_text(json.dumps({"alignment": {"model": MODEL, "train": TRAIN}}))
    paths = {"--train": "latents.safetensors", "--heldout": "latents.safetensors", "--config": "config.json"}
    paths |= {"--work": "work", "--out": "alignment.safetensors", "--curves": "curves.csv"}
    arguments = [text for flag, name in paths.items() for text in (flag, str(tmp_path / name))]
    assert status(train.main, arguments) == 0
    assert load_alignment(tmp_path / "alignment.safetensors").config.text_width == 32
    header = (tmp_path / "curves.csv").read_text().splitlines()[0].split(",")
    assert {"step", "train_global", "heldout_local", "baseline_local", "recall_500", "gradient_global"} <= set(header)
    assert header[-1] == "kept"
    assert not list((tmp_path / "work").iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A split of six images in two cache files, with labels that only one of them has, and the same in one file."""
    folder = tmp_path_factory.mktemp("cached")
    sd = load_diffusion(write_tiny(folder / "model"), Sampling())
    box, latents = (0.1, 0.1, 0.9, 0.9), torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    kinds = ("mat", "cat", "a", "cat", "z", "mat")
    layouts = [Layout(10 + i, i, f"a {kind}", (Object(kind, box),)[: i != 2]) for i, kind in enumerate(kinds)]
    for name, rows in {"0": slice(0, 4), "1": slice(4, 6), "whole": slice(0, 6)}.items():
        write_cache(latents[rows], layouts[rows], sd, "{label}", folder / name)
    return [folder / name for name in ("0", "1", "whole")]


def test_a_split_in_two_files_is_the_split_in_one(files) -> None:
    apart, whole = read_cache(files[:2]), read_cache(files[2:])
    assert apart.names == whole.names == ("cat", "mat", "z")
    assert apart.ids_N.tolist() == [10, 11, 12, 13, 14, 15]
    rows = torch.tensor([5, 0, 3, 4, 0])
    assert torch.equal(apart.latents_NCHW[rows], whole.latents_NCHW.parts[0][rows])
    assert torch.equal(apart.labels_NM, whole.labels_NM)
    for name in ("captions_NKD", "texts_LD"):  # of other batches of the encoder
        assert torch.allclose(getattr(apart, name), getattr(whole, name), atol=1e-5)


def test_a_cache_file_that_is_not_what_was_written_is_named(files, tmp_path) -> None:
    content = files[0].read_bytes()
    changed = bytearray(content)
    changed[-1] ^= 1
    for name, held in {"cut": content[:-10], "changed": bytes(changed), "page": b"<html>not found</html>"}.items():
        (tmp_path / name).write_bytes(held)
    for name, said in {
        "cut": "not a whole cache",
        "changed": "SHA-256",
        "page": "not a whole cache",
        "gone": "not",
    }.items():
        with pytest.raises(InputError, match=f"{name}: .*{said}.*; delete it and run again"):
            read_cache([files[1], tmp_path / name])


def test_cache_files_that_do_not_belong_together_are_refused(files, tmp_path) -> None:
    with pytest.raises(InputError, match="an image occurs twice"):
        read_cache([files[0], files[2]])
    sd = load_diffusion(write_tiny(tmp_path / "model"), Sampling())
    write_cache(torch.zeros(1, 4, 4, 4).half(), [Layout(1, 1, "a cat")], sd, "{label}", tmp_path / "small")
    with pytest.raises(InputError, match="small: encoded by another model"):
        read_cache([files[0], tmp_path / "small"])


def first_gradient(run: training.Trainer) -> torch.Tensor:
    """The gradient of the first optimiser step, which is not made."""
    run._update = lambda: None
    run._step(0)
    return torch.cat([parameter.grad.flatten() for parameter in run.module.parameters() if parameter.grad is not None])


def test_training_in_bfloat16_rounds_products_alone(tmp_path) -> None:
    # Where two such trainings end is chaotic and another on each processor; what must hold is held at one step.
    full, half = trainer(tmp_path / "a"), trainer(tmp_path / "b", precision="bfloat16")
    assert full._validate() == half._validate()  # selection on held-out images is in float32
    found: list[torch.Tensor] = []
    losses = half.module.losses
    half.module.losses = lambda *batch: found.extend(losses(*batch)) or tuple(found[-2:])
    gradients = [first_gradient(run) for run in (full, half)]
    assert {omega_B.dtype for omega_B in found} == {torch.float32}
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 0 < error < 2 * torch.finfo(torch.bfloat16).eps


def test_a_training_in_bfloat16_keeps_its_state_in_float32(tmp_path) -> None:
    run = trainer(tmp_path, precision="bfloat16")
    run.train()
    (optimizer,) = run.optimizers
    kept = [run.module.state_dict(), run.best, *optimizer.state_dict()["state"].values()]
    assert {tensor.dtype for state in kept for tensor in state.values() if tensor.is_floating_point()} == {
        torch.float32
    }
    assert all(math.isfinite(value) for row in run.progress.curve for value in row.values())


def test_an_unknown_precision_of_training_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"alignment\.train\.precision: 'half' is not one of float32, bfloat16"):
        trainer(tmp_path, precision="half")


def test_large_photos_are_encoded_few_at_a_time(tmp_path, monkeypatch) -> None:
    assert [caching.photos_at_a_time(size) for size in (64, 512, 2048)] == [32, 4, 1]
    model = write_tiny(tmp_path / "model")
    layouts = [Layout(i, i, "a cat", (Object("cat", (0.1, 0.1, 0.9, 0.9)),)) for i in range(5)]
    write_layouts(tmp_path / "layouts.jsonl", layouts)
    photos = torch.randint(256, (5, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    write_images(tmp_path / "photos.zip", [(png_name(i), photo) for i, photo in enumerate(photos)], {})
    seen, found, encode = [], [], caching.encode_images
    monkeypatch.setattr(caching, "encode_images", lambda sd, images: seen.append(len(images)) or encode(sd, images))
    inputs = ["--layouts", str(tmp_path / "layouts.jsonl"), "--images", str(tmp_path / "photos.zip")]
    for pixels in (2**20, 2 * 64**2):
        monkeypatch.setattr(caching, "PIXELS", pixels)
        assert status(caching.main, ["--model", str(model), *inputs, "--out", str(tmp_path / "latents")]) == 0
        found.append(read_cache([tmp_path / "latents"]).latents_NCHW.parts[0])
    assert seen == [5, 2, 2, 1]
    assert found[0].shape == (5, 4, 8, 8)
    assert (found[0].float() - found[1].float()).abs().max() < 1e-3


def test_a_misspelt_key_is_one_line(tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"alignment": {"model": MODEL, "train": {"epoch": 3}}}))
    flags = ("--train", "--heldout", "--work", "--out", "--curves")
    arguments = [text for flag in flags for text in (flag, str(tmp_path / flag[2:]))]
    assert status(train.main, [*arguments, "--config", str(tmp_path / "config.json")]) == 1
    error = capsys.readouterr().err
    assert "alignment.train: epoch: unknown key" in error
    assert error.count("\n") == 1
