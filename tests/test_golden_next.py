"""R&B, Attention-Refocusing and DenseDiffusion against numbers of their official code, and a second reading of their rules.

The numbers are those of a folder in the format of the first golden set: the one that HCMA_GOLDEN names if it has these methods,
else `golden_next` beside that one (default: ../shared beside the checkout). Without it these cases skip; test_family.py has a
second reading of the same rules, which needs no folder.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel

from baselines import attention_refocusing, dense_diffusion, rnb
from hcma.sampling.caption_tokens import Thing
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import Diffusion, Sampling, iterate
from hcma.sampling.token_maps import enlarge, inside

ROOT = Path(__file__).resolve().parent.parent
GIVEN = Path(os.environ.get("HCMA_GOLDEN", ROOT.parent / "shared" / "golden"))
FILES = {"rb": "rnb.npz", "ar": "refocus.npz", "dd": "dense.npz", "tr": "trajectories.npz"}
FIRST = torch.tensor([0])
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}


def found_manifest():
    """(folder, manifest) of the set that has these methods; the last folder looked at and nothing where there is none."""
    for folder in (GIVEN, GIVEN.parent / "golden_next"):
        path = folder / "manifest.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        if "rnb" in content:
            return folder, content
    return folder, {}


FOLDER, MANIFEST = found_manifest()


def cases(kind, prefix=""):
    rows = [case for case in MANIFEST.get(kind, []) if case["id"].startswith(prefix)]
    reason = f"{FOLDER}/manifest.json is absent; set HCMA_GOLDEN to a golden set"
    absent = pytest.param(None, id="official", marks=pytest.mark.skip(reason=reason))
    return [pytest.param(case, id=case["id"]) for case in rows] or [absent]


def arrays(case):
    """The case's arrays by name, float64."""
    with np.load(FOLDER / FILES[case["id"][:2]], allow_pickle=False) as stored:
        names = [key for key in stored.files if key.startswith(f"{case['id']}__")]
        return {key.split("__", 1)[1]: torch.from_numpy(stored[key].astype(np.float64)) for key in names}


def near(found, expected, tolerance):
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=tolerance, check_dtype=False
    )


def near_gradient(found, expected, share):
    assert found.shape == expected.shape
    near(found, expected, share * float(expected.abs().max()) + 1e-15)


def things_in(case):
    return [
        Thing(tuple(k), tuple(map(tuple, b)))
        for k, b in zip(case["token_indices"], case["boxes_norm_xyxy"], strict=True)
    ]


EXACT = [torch.float64, torch.float32]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("case", cases("rnb"))
def test_rnb_loss(case, dtype):
    stored, expected, exact = arrays(case), case["expect"], dtype == torch.float64
    names = [name for name, side in case["layers"].items() if side < 32 + (not name.startswith("down"))]
    maps = [stored[name][None].to(dtype).requires_grad_() for name in names]
    things, tolerance = things_in(case), 2e-6 if exact else 1e-5
    loss = rnb.Loss([things], [name.startswith("down") for name in names], rnb.Params())
    (found,), (done,) = loss(maps, FIRST)
    near(found.detach(), expected["loss"], tolerance)
    assert (found.item() == 0) == expected["loss_is_zero"] == (not found.requires_grad)
    assert done == sum(not thing["active"] for thing in expected["objects"])
    if found.requires_grad:
        gradients = torch.autograd.grad(found, maps, allow_unused=True)
        for name, gradient, one in zip(names, gradients, maps, strict=True):
            gradient = torch.zeros_like(one) if gradient is None else gradient
            for head in gradient[0].double() * one.shape[1]:
                near_gradient(head / one.shape[1], stored[f"grad_{name}"], 1e-6 if exact else 1e-4)


@pytest.mark.parametrize("case", cases("rnb"))
def test_rnb_parts(case):
    stored, expected = arrays(case), case["expect"]["objects"]
    names = [name for name, side in case["layers"].items() if side < 32 + (not name.startswith("down"))]
    large = torch.stack([enlarge(stored[name][None].mean(1), 64) for name in names]).mean(0)
    for thing, part in zip(things_in(case), expected, strict=True):
        raw = large[..., list(thing.positions)].sum(-1)
        image, mask = (raw - raw.min()) / (raw.max() - raw.min()), inside(thing.boxes, 64)[None].double()
        limit = rnb.threshold(image, mask, 0.4)
        near(limit.flatten()[0], part["threshold"], 1e-6)
        region, iou = rnb.region(image > limit, mask, True)
        near(iou[0], part["iou"], 1e-6)
        x0, y0, x1, y1 = part["region_xyxy"]
        box = torch.zeros(64, 64)
        box[y0:y1, x0:x1] = 1
        assert torch.equal(region[0].float(), box)


def attention(states_QC, keys_TC, bias_T, t):
    """[queries, keys] of the toy models."""
    return ((0.5 + float(t) / 2000) * (states_QC @ keys_TC.T + bias_T)).softmax(-1)


class Recorder:
    """A guide around a guide: what it gave, and how often it looked and followed a gradient at each call."""

    def __init__(self, guide, work):
        self.guide, self.work, self.guided, self.forwards, self.backwards = guide, work, [], [], []

    def __call__(self, latents, i, t):
        self.work.clear()
        moved = self.guide(latents, i, t)
        self.guided.append(moved)
        self.forwards.append(self.work["guidance_forwards"])
        self.backwards.append(self.work["guidance_backwards"])
        return moved


@pytest.mark.parametrize("case", cases("trajectories", "tr_rb"))
def test_rnb_trajectory(case):
    stored, expected = arrays(case), case["expect"]
    heads, tokens, channels = stored["V"].shape
    keys_2T4HC = stored["enc"].view(2, tokens, 4, heads, channels + 1)
    pools = (8, 4, 4, 2)

    def maps_HPT(latents_1CYX, branch, block, t):
        pool = pools[block]
        states = (pool * torch.nn.functional.avg_pool2d(latents_1CYX, pool))[0].flatten(1).T
        keys = keys_2T4HC[branch, :, block]
        return torch.stack([attention(states, keys[:, h, :-1], keys[:, h, -1], t) for h in range(heads)])

    def attend(latents_RCYX, t, rows):
        return [maps_HPT(latents_RCYX, 1, block, t)[None] for block in range(4)]

    def predict(latents_1CYX, i, t):
        parts = []
        for branch in (0, 1):
            coarse = torch.einsum("hpt,htc->cp", maps_HPT(latents_1CYX, branch, 2, t), stored["V"]).unflatten(
                1, (16, 16)
            )
            fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
            parts.append(0.05 * fine + 0.9 * latents_1CYX)
        return parts[0] + case["guidance_scale"] * (parts[1] - parts[0])

    solver, work = DDIMScheduler(**BETAS, clip_sample=False, steps_offset=0), Counters()
    solver.set_timesteps(50)
    params = rnb.Params(step=float(case["step"]), max_iterations=case["max_iter"], stop=case["max_index_step"])
    loss, losses = rnb.Loss([things_in(case)], [False, True, False, False], params), []

    class Watched:
        things = loss.things

        def __call__(self, maps, rows):
            found = loss(maps, rows)
            losses.append(found[0].item())
            return found

    record = Recorder(rnb.make_guide(attend, Watched(), params, range(0), work), work)
    final = iterate(solver, predict, stored["x0"], record)
    assert [float(t) for t in solver.timesteps] == expected["t"]
    assert record.forwards == expected["inner_forwards"]
    assert record.backwards == expected["inner_updates"]
    near(losses, [value for row in expected["losses"] for value in row], 5e-5)
    near(torch.cat([record.guided[i] for i in expected["snap_steps"]]), stored["guided"], 5e-5)
    near(final, stored["final"], 5e-5)


def refocus_maps(case, stored, dtype):
    """Names that the sampler's layers could have, and the stored maps under them, one image each."""
    names = {name: f"{name}.attn2" for name in stored if name.rstrip("0123456789") in ("up", "down")}
    names |= {name: f"{name}.attn1" for name in stored if name.startswith("self")}
    names |= {"gdown0": "down.fuser.attn", "gup0": "up.fuser.attn"} if "gup0" in stored else {}
    return names, [stored[name][None].to(dtype).requires_grad_() for name in names]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("case", cases("refocus"))
def test_refocusing_losses(case, dtype):
    stored, expected, exact = arrays(case), case["expect"], dtype == torch.float64
    names, maps = refocus_maps(case, stored, dtype)
    things, params = things_in(case), attention_refocusing.Params()
    found = attention_refocusing.losses(maps, list(names.values()), [things], case["t"], params)
    tolerance = 2e-6 if exact else 1e-5
    keys = ("cross_loss", "self_loss", "ground_loss", "min_inside")
    for value, key in zip(found, keys, strict=True):
        if key not in expected:
            continue
        if expected[key] is None:
            # Not a number there, for a box without a cell: such boxes are dropped before.
            assert any(not inside([box], 16).any() for thing in things for box in thing.boxes)
        else:
            near(value.detach()[0], expected[key], tolerance)
    if exact or min(abs(v - limit) for v in expected["inside"] for limit in (0.1, 0.2)) > 1e-4:
        for value, kinds in zip(found[:3], (("up", "down"), ("self",), ("gup", "gdown")), strict=True):
            chosen = [n for n, name in enumerate(names) if name.rstrip("0123456789") in kinds]
            if chosen and value.requires_grad:
                gradients = torch.autograd.grad(
                    value[0], [maps[n] for n in chosen], retain_graph=True, materialize_grads=True
                )
                for n, gradient in zip(chosen, gradients, strict=True):
                    kept = stored.get(f"grad_{list(names)[n]}")
                    if kept is not None:
                        gradient = gradient[0].double()
                        near_gradient(gradient[0] if kept.dim() == 2 else gradient, kept, 1e-6 if exact else 1e-4)


@pytest.mark.parametrize("case", cases("trajectories", "tr_ar"))
def test_refocusing_trajectory(case):
    stored, expected = arrays(case), case["expect"]
    _, tokens, channels = stored["enc"].shape[0], stored["V"].shape[1], stored["V"].shape[2]
    heads = stored["V"].shape[0]
    keys_2T2HC = stored["enc"].view(2, tokens, 2, heads, channels + 1)

    def maps_of(latents_1CYX, branch, block, t, seen):
        """Cross-attention [H, P, T], self-attention [H, P, P] and gated attention [H, P, P + 30] of a block."""
        states_PC, factor = latents_1CYX[0].flatten(1).T, 0.5 + float(t) / 2000
        keys = keys_2T2HC[branch, :, block]
        cross = torch.stack([attention(states_PC, keys[:, h, :-1], keys[:, h, -1], t) for h in range(heads)])
        scores = factor * torch.einsum("hc,pc,qc->hpq", stored["W"][block], states_PC, states_PC)
        boxes = stored["G"][block] if seen else torch.zeros_like(stored["G"][block])
        more = factor * (torch.einsum("pc,hjc->hpj", states_PC, boxes[..., :-1]) + boxes[:, None, :, -1])
        return cross, scores.softmax(-1), torch.cat([scores, more], -1).softmax(-1)

    solver, work = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1), Counters()
    solver.alphas_cumprod = solver.alphas_cumprod.double()
    solver.set_timesteps(50)
    layers = ["down.attn2", "up.attn2", "down.attn1", "up.attn1", "down.fuser.attn", "up.fuser.attn"]

    def attend(latents_RCYX, t, rows):
        blocks = [maps_of(latents_RCYX, 1, block, t, True) for block in (0, 1)]
        return [blocks[block][kind][None] for kind in (0, 1, 2) for block in (0, 1)]

    def predict(latents_1CYX, i, t):
        parts = []
        for branch in (0, 1):
            cross, _, gated = maps_of(latents_1CYX, branch, 1, t, branch == 1)
            noise = torch.einsum("hpk,hkc->cp", cross, stored["V"])
            if i <= case["grounded_steps"]:
                noise = noise + torch.einsum("hpj,hjc->cp", gated[:, :, 256:], stored["U"])
            parts.append(0.2 * noise.view_as(latents_1CYX[0])[None] + 0.9 * latents_1CYX)
        return parts[0] + case["guidance_scale"] * (parts[1] - parts[0])

    params = attention_refocusing.Params()
    assert [list(row) for row in params.schedule][:4] == case["scales"][:4]
    guide = attention_refocusing.make_guide(attend, layers, [things_in(case)], params, range(1, 2), work)
    record = Recorder(guide, work)
    final = iterate(solver, predict, stored["x0"], record)
    calls = [0, *range(2, 51)]  # official step s
    assert [float(solver.timesteps[i]) for i in calls] == [float(t) for t in expected["t"]]
    assert [record.forwards[i] for i in calls] == expected["inner_iterations"]
    assert record.forwards[1] == 0
    near(torch.cat([record.guided[calls[s]] for s in expected["snap_steps"]]), stored["guided"], 1e-4)
    near(final, stored["final"], 1e-4)


def dense_segments(case, stored):
    """The case's own layouts, which part the canvas or not as they are."""
    tokens = torch.full((case.get("n_tokens", 77),), -1)
    for number, positions in enumerate(first_positions(case)):
        tokens[positions] = number
    return dense_diffusion.Segments(stored["layouts"].float(), tokens)


def first_positions(case):
    """Where each phrase's ids first stand in the prompt, 1 being the first."""
    prompt, found = case["prompt_ids"], []
    for ids in case["phrase_ids"]:
        starts = [k for k in range(len(prompt)) if prompt[k : k + len(ids)] == ids]
        found.append([starts[0] + 1 + n for n in range(len(ids))] if starts else [])
    return found


def dense_params(case):
    return dense_diffusion.Params(
        creg=case["creg"], sreg=case["sreg"], sizereg=case["sizereg"], background="none", overlap="literal"
    )


@pytest.mark.parametrize("case", cases("dense"))
def test_dense_diffusion_modulates(case):
    stored, params = arrays(case), dense_params(case)
    segments, expected = dense_segments(case, stored), case["expect"]
    assert first_positions(case) == expected["phrase_positions"]
    for one in expected["modulations"]:
        crossed, query = one["kind"] == "cross", stored[f"{one['name']}_q"]
        key = stored[f"{one['name']}_k"] if crossed else query
        query, key = (part.unflatten(-1, (one["n_heads"], -1)).transpose(1, 2) for part in (query, key))
        scores = query @ key.mT / query.shape[-1] ** 0.5
        if one["modulated"]:
            changed = dense_diffusion.modulate(segments, (one["t"] / 1000) ** params.power, params, scores[1], crossed)
            near((one["t"] / 1000) ** params.power, one["factor"], 1e-6)
        else:
            changed = scores[1]
        near(changed.softmax(-1), stored[f"{one['name']}_probs"], 2e-6)


@pytest.mark.parametrize("case", cases("dense"))
def test_dense_diffusion_masks_and_text(case, monkeypatch):
    stored, params = arrays(case), dense_params(case)
    segments = dense_segments(case, stored)
    for side in (16, 8, 4, 2):
        cells = dense_diffusion.on_grid(segments.layouts_SYX, side).flatten(1)
        near(1 - params.sizereg * (cells.T @ cells).mean(1), stored[f"size_{side}"], 1e-6)
        if f"self_{side}" in stored:
            assert torch.equal((cells.T @ cells > 0).double(), (stored[f"self_{side}"] > 0).double())
        crossed = (cells[segments.token_T].T > 0) & (segments.token_T >= 0)
        assert torch.equal(crossed[:, :16].double(), stored[f"cross_{side}"])
    text = list(stored["text"][1:])
    monkeypatch.setattr(dense_diffusion, "encode_text", lambda sd, words: (text[int(words[0])][None], None))
    things = [Thing(tuple(k), (), (), str(n)) for n, k in enumerate(first_positions(case)) if k]
    assert torch.equal(dense_diffusion.replaced(None, stored["text"][0], things), stored["text_after"])


@pytest.mark.parametrize("case", cases("trajectories", "tr_dd"))
def test_dense_diffusion_trajectory(case):
    stored, params, expected = arrays(case), dense_params(case), case["expect"]
    about = MANIFEST["unet"]
    unet = UNet2DConditionModel(**about["config"]).double().eval().requires_grad_(False)
    flat, place = torch.from_numpy(np.load(FOLDER / "dense_unet.npz")["weights"]).double(), 0
    parameters = dict(unet.named_parameters())
    for name, shape in about["parameters"]:
        size = int(np.prod(shape))
        parameters[name].copy_(flat[place : place + size].view(shape))
        place += size
    assert place == len(flat) and len(parameters) == len(about["parameters"])
    config = BETAS | {"clip_sample": False, "steps_offset": 1, "_class_name": "DDIMScheduler"}
    sd = Diffusion(None, None, unet, None, config, Sampling(steps=50, scheduler="ddim", guidance_scale=7.5))
    batch, seen = case["batch"], []
    sd.__dict__["negative_1TD"] = stored["text"][:1]
    assert torch.equal(stored["text"][:batch], stored["text"][:1].expand(batch, -1, -1))
    segments = [dense_segments(case, stored)] * batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DDIMScheduler, "step", lambda self, *given: keep(seen, STEP(self, *given)))
        final = dense_diffusion.denoise_dense(sd, segments, stored["x0"], stored["text"][batch:], params)
    near(torch.stack([seen[i] for i in expected["snap_steps"]]), stored["after"], 5e-5)
    near(final, stored["final"], 5e-5)


STEP = DDIMScheduler.step


def keep(seen, done):
    seen.append(done.prev_sample)
    return done
