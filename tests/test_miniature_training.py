"""The pretraining: a resumed training is the uninterrupted one, a broken one says where, and all stages fit together."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from formats.checksums import verify_folder
from hcma.sampling.diffusion import Sampling, load_diffusion
from tests.dag import ROOT, snakemake
from workflow.miniature.grounded import Grounded, gated
from workflow.miniature.sizes import STAGES, UNET
from workflow.miniature.spatial_losses import Located, places, shape_of_tokens, word_loss
from workflow.miniature.text import SHAPES
from workflow.miniature.training import Run, train


def line(model: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
    x = torch.from_numpy(rng.standard_normal((16, 3), np.float32))
    return (model(x) - x.sum(1, keepdim=True)).pow(2).mean()


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def run(work: Path, steps: int = 60) -> Run:
    return Run("line", work, steps, 0.05, seed=1, warmup=5, save_every=10, threads=torch.get_num_threads())


class Interrupt(Exception):
    pass


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, _ = train(run(tmp_path / "a"), model(), line, line)
    calls = 0

    def interrupted(m: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 37:
            raise Interrupt
        return line(m, rng)

    with pytest.raises(Interrupt):
        train(run(tmp_path / "b"), model(), interrupted, line)
    resumed, state = train(run(tmp_path / "b"), model(), line, line)
    assert state.step == 60 and [row["step"] for row in state.curve] == [10, 20, 30, 40, 50, 60]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_it_learns_and_records_the_held_out_loss(tmp_path: Path) -> None:
    _, state = train(run(tmp_path, steps=100), model(), line, line)
    assert state.curve[-1]["held_out"] < 0.3 * state.curve[0]["loss"]


def test_snapshots_keep_an_earlier_average(tmp_path: Path) -> None:
    settings = replace(run(tmp_path), snapshots=(20,))
    last, _ = train(settings, model(), line, line)
    early = torch.load(settings.snapshot(20), weights_only=True)["average"]
    assert not torch.equal(early[0], next(last.parameters()).detach())


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 0"):
        train(run(tmp_path), model(), lambda m, rng: line(m, rng) * float("nan"), line)


def small_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**(UNET | {"block_out_channels": (16, 32), "cross_attention_dim": 8}))


def test_places_are_rows_and_columns() -> None:
    grid = places(4).view(4, 4, 10)
    assert grid[:, 0, 0].tolist() == grid[0, :, 5].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert torch.equal(grid[2, 0, :5], grid[2, 3, :5])


def test_the_place_loss_reads_every_block_and_leaves_a_plain_u_net() -> None:
    unet = small_unet()
    names = set(unet.state_dict())
    located = Located(unet)
    unet(torch.randn(2, 4, 8, 8), torch.tensor(5), torch.randn(2, 3, 8))
    located.place_loss().backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in located.heads)
    assert unet.conv_in.weight.grad.abs().sum() > 0
    assert set(located.unet.state_dict()) == names


def test_a_word_loss_is_zero_where_words_attend_to_their_boxes_alone() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]])
    kinds, tokens = torch.tensor([[3, 1, -1]]), torch.tensor([[-1, 3, -1, 1]])
    left = (torch.arange(16) % 4 < 2).float()
    right_map = torch.zeros(1, 2, 16, 4)
    right_map[..., 1], right_map[..., 3] = left, 1 - left
    assert word_loss([right_map], tokens, boxes, kinds) == 0
    assert word_loss([right_map.flip(2)], tokens, boxes, kinds) > 1
    even = torch.full((1, 2, 16, 4), 0.25)
    halves = ((1 - 0.5) ** 2 - math.log(0.25 / 0.6)) / 2
    assert float(word_loss([even, even], tokens, boxes, kinds)) == pytest.approx(halves)
    assert word_loss([even], torch.full((1, 4), -1), boxes, kinds) == 0


def test_a_token_names_the_shape_of_its_word() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(Path(__file__).parents[1] / "weights/miniature/sd14/tokenizer")
    table = shape_of_tokens(tokenizer)
    for word, shape in (("stars", "star"), ("wedge", "triangle"), ("disc", "circle")):
        (token,) = tokenizer(word).input_ids[1:-1]
        assert SHAPES[table[token]] == shape
    red, left = (tokenizer(word).input_ids[1] for word in ("red", "left"))
    assert table[red] == table[left] == -1


def test_the_cover_loss_teaches_the_fusers_and_leaves_the_base_alone() -> None:
    sizes = UNET | {"block_out_channels": (16, 32), "cross_attention_dim": 8}
    unet = gated(UNet2DConditionModel(**sizes), sizes)
    grounded = Grounded(unet, torch.eye(5, 8))
    boxes, masks = torch.zeros(2, 30, 4), torch.zeros(2, 30)
    boxes[0, 0], masks[0, 0] = torch.tensor([0.0, 0.0, 0.5, 1.0]), 1
    phrases = torch.eye(8)[torch.zeros(2, 30, dtype=torch.long)]
    arguments = {"gligen": {"boxes": boxes, "masks": masks, "positive_embeddings": phrases}}
    unet(torch.randn(2, 4, 8, 8), torch.tensor(5), torch.randn(2, 3, 8), cross_attention_kwargs=arguments)
    grounded.cover_loss().backward()
    learning = {name for name, parameter in unet.named_parameters() if parameter.grad is not None}
    assert any("fuser" in name for name in learning)
    assert any("position_net" in name for name in learning)
    assert all("fuser" in name or "position_net" in name for name in learning)


@pytest.mark.slow
def test_pretraining_goes_from_nothing_to_weights_in_one_command() -> None:
    """Two hundred steps a stage: that the stages fit together and what they ship loads, not that it has learnt."""
    folder = ROOT / "results/test-pretrain"
    shutil.rmtree(folder, ignore_errors=True)
    done = snakemake("pretrain", "--configfile", "tests/config/pretrain.yaml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    card = json.loads((folder / "weights/weights.json").read_text())
    assert {name: row["steps"] for name, row in card["stages"].items()} == dict.fromkeys(STAGES, 200)
    assert all(len(row["devices"]) == 1 for row in card["stages"].values())
    for name in ("sd14", "sd15", "gligen", "gligen_ldm"):
        load_diffusion(folder / "weights" / name, Sampling())
    for name in ("clip", "features", "judge", "detector"):
        verify_folder(folder / "weights" / name)
    shutil.rmtree(folder)
