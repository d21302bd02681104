"""The guided baselines against numbers of the official code, in the format that tests/golden/README.md describes.

Every folder of that format is run in full: the project's own small set, and the one named by HCMA_GOLDEN (default:
../shared/golden beside the checkout). The functions called are those the sampler uses.
"""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import LMSDiscreteScheduler, PNDMScheduler

from baselines import attend_and_excite, boxdiff, layout_guidance
from hcma.sampling import attention_guidance
from hcma.sampling.attention_guidance import make_guide, make_schedule, pad_positions, read_images, step_sizes
from hcma.sampling.caption_tokens import Thing
from hcma.sampling.counters import Counters
from hcma.sampling.diffusion import iterate
from hcma.sampling.token_maps import aggregate, inside, smoothing_kernel, text_maps

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "tests" / "golden"
OFFICIAL = Path(os.environ.get("HCMA_GOLDEN", ROOT.parent / "shared" / "golden"))
SCHEDULE = OWN / "alphas_cumprod.npy"  # diffusers' table of Stable Diffusion's schedule, float32, as AVX2 computes it
FILES = {"ae": "ae.npz", "bd": "boxdiff.npz", "lg": "layout_guidance.npz", "tr": "trajectories.npz"}


def manifest(folder):
    path = folder / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


def cases(*kinds):
    """(folder, case) of every case there is; for a folder that is absent one case that skips."""
    found = []
    for folder in (OWN, OFFICIAL):
        rows = [case for kind in kinds for case in manifest(folder).get(kind, [])]
        found += [pytest.param(folder, case, id=f"{folder.parent.name}-{case['id']}") for case in rows]
    if not manifest(OFFICIAL):
        reason = f"{OFFICIAL}/manifest.json is absent; set HCMA_GOLDEN to a golden set"
        found.append(pytest.param(OFFICIAL, None, id="official", marks=pytest.mark.skip(reason=reason)))
    return found


def arrays(folder, case):
    """The case's arrays by name, float64."""
    with np.load(folder / FILES[case["id"][:2]], allow_pickle=False) as stored:
        names = [key for key in stored.files if key.startswith(f"{case['id']}__")]
        assert names, f"{case['id']} has no arrays"
        return {key.split("__", 1)[1]: torch.from_numpy(stored[key].astype(np.float64)) for key in names}


def near(found, expected, tolerance=1e-6):
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=tolerance, check_dtype=False
    )


def near_gradient(found, expected, share=1e-6):
    assert found.shape == expected.shape
    near(found, expected, share * float(expected.abs().max()) + 1e-15)


def settings(case, **more):
    return {"smoothing": case["smooth"], "sigma": case["sigma"], "kernel_size": case["kernel_size"]} | more


def images_of(case, maps, params):
    """Token images of a case, by the sampler's own functions."""
    end = case["n_prompt_ids"] - 1 if case["normalize_eot"] else None
    return read_images(text_maps(maps[None], end), pad_positions([case["token_indices"]]), params)


FIRST = torch.tensor([0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("folder", "case"), cases("attend_and_excite"))
def test_attend_and_excite_loss(folder, case, dtype):
    stored, expected = arrays(folder, case), case["expect"]
    maps = stored["maps"].to(dtype).requires_grad_()
    images = images_of(case, maps, attend_and_excite.Params(**settings(case)))
    found = attend_and_excite.weakest_token(pad_positions([case["token_indices"]]))(images, FIRST)
    exact = dtype == torch.float64
    near(images.detach().flatten(2).max(-1).values[0], expected["max_attention"], 1e-6 if exact else 2e-6)
    near(found.tested.detach()[0], expected["loss"], 1e-6 if exact else 2e-6)
    assert (found.tested.item() == 0) == expected["loss_is_zero"]
    gradient = torch.autograd.grad(found.regular.sum(), maps)[0]
    if exact:
        near_gradient(gradient, stored["grad"])
        near(gradient.norm(), expected["grad_norm"], 1e-6 * max(1, expected["grad_norm"]))
    elif expected["loss"] > 0.01:
        near_gradient(gradient.double(), stored["grad"], 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("folder", "case"), cases("boxdiff"))
def test_boxdiff_loss(folder, case, dtype):
    stored, expected = arrays(folder, case), case["expect"]
    params = boxdiff.Params(**settings(case, resolution=case["res"], share=case["P"], window=case["L"]))
    boxes = [tuple(edge / 512 for edge in box) for box in case["boxes_512px"]]
    assert [list(boxdiff.cells(box, case["res"])) for box in boxes] == case["cells_xyxy"]
    areas = boxdiff.make_areas([[[box] for box in boxes]], params)
    maps = stored["maps"].to(dtype).requires_grad_()
    images = images_of(case, maps, params)
    inner, outer, corner = (term.detach()[0] for term in boxdiff.terms(images, areas))
    exact = dtype == torch.float64
    tolerance = 1e-6 if exact else 2e-6
    near(inner, expected["inner_losses"], tolerance)
    near(outer, expected["outer_losses"], tolerance)
    near(corner, np.add(expected["corner_x"], expected["corner_y"]), tolerance)
    for mean, count in ((expected["inner_topk_mean"], areas.inner_BM), (expected["outer_topk_mean"], areas.outer_BM)):
        assert [value is None for value in mean] == (count[0] == 0).tolist()
    found = boxdiff.box_terms(areas, params)(images, FIRST)
    near(found.regular.detach()[0], expected["loss_total"], tolerance)
    near(found.tested.detach()[0], expected["loss_inner_max"], tolerance)
    for objective, name in ((found.regular, "grad_total"), (found.refined, "grad_fg_max")):
        gradient = torch.autograd.grad(objective.sum(), maps, retain_graph=True)[0].double()
        near_gradient(gradient, stored[name], 1e-6 if exact else 1e-4)


@pytest.mark.parametrize(("folder", "case"), cases("layout_guidance"))
def test_layout_guidance_loss(folder, case):
    stored, expected = arrays(folder, case), case["expect"]
    names = [f"mid{i}" for i in range(case["n_mid"])] + [f"up{i}" for i in range(case["n_up"])]
    maps = [stored[name][None].requires_grad_() for name in names]
    things = list(map(Thing, map(tuple, case["token_indices"]), case["boxes_norm_xyxy"]))
    loss = layout_guidance.Loss([things])(maps, FIRST)
    near(loss.detach()[0], expected["loss"])
    gradients = torch.autograd.grad(loss.sum(), maps)
    for name, gradient, norm in zip(names, gradients, expected["grad_norms"], strict=True):
        near_gradient(gradient[0], stored[f"grad_{name}"])
        near(gradient.norm(), norm, 1e-6 * max(1, norm))
    for side, key in ((case["res_mid"], "cells_mid"), (case["res_up"], "cells_up")):
        for thing, cells in zip(things, case[key], strict=True):
            mask = torch.zeros(side, side)
            for x0, y0, x1, y1 in cells:
                mask[y0:y1, x0:x1] = 1
            assert torch.equal(inside(thing.boxes, side), mask)


@pytest.mark.parametrize(("folder", "case"), cases("trajectories"))
def test_trajectory(folder, case, monkeypatch):
    # Refinements multiply what differs by a hundred. What the recorded runs had in float32, kernel and schedule, is taken as
    # recorded: torch's linspace gives another last digit on processors without AVX2. Both are tested by themselves below.
    monkeypatch.setattr(
        attention_guidance, "smoothing_kernel", lambda side, sigma, _: recorded_kernel(folder, side, sigma)
    )
    run = follow_layout_guidance if case["kind"] == "layout_guidance" else follow_excitation
    run(case, arrays(folder, case))


def recorded_kernel(folder, side, sigma):
    with np.load(folder / "aux.npz", allow_pickle=False) as stored:
        return torch.from_numpy(stored[f"kernel_k{side}_s{sigma}"].astype(np.float64))


class Toy:
    """The golden set's scheduler `toy`: t from 981 to 1, x_next = x - 0.05 e."""

    def __init__(self, steps):
        self.num_inference_steps, self.timesteps = steps, torch.linspace(981, 1, steps, dtype=torch.float64)

    def scale_model_input(self, latents, t):
        return latents

    def step(self, epsilon, t, latents):
        return SimpleNamespace(prev_sample=latents - 0.05 * epsilon)


def make_solver(case):
    if case["scheduler"] == "toy":
        return Toy(case["num_inference_steps"])
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    if case["kind"] == "layout_guidance":
        solver, steps = LMSDiscreteScheduler(**betas), case["timesteps"]
    else:
        solver = PNDMScheduler(**betas, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
        steps = case["num_inference_steps"]
    solver.alphas_cumprod = torch.from_numpy(np.load(SCHEDULE, allow_pickle=False))
    solver.set_timesteps(steps)
    return solver


def attention(states_QC, keys_TC, bias_T, t):
    """[queries, tokens] of the toy model."""
    return ((0.5 + float(t) / 2000) * (states_QC @ keys_TC.T + bias_T)).softmax(-1)


class Recorder:
    """A guide around a guide: what it gave, what it tested, how often it refined and followed a gradient at each call."""

    def __init__(self, guide, work, look=None):
        self.guide, self.work, self.look = guide, work, look
        self.guided, self.counts, self.looked = [], [], []

    def __call__(self, latents, i, t):
        if self.look:
            self.looked.append(self.look(latents, t))
        self.work.clear()
        moved = self.guide(latents, i, t)
        self.guided.append(moved)
        names = ("refinements", "guidance_backwards", "guidance_forwards", "guidance_iterations")
        self.counts.append({name: self.work[name] for name in names})
        return moved


def follow_excitation(case, stored):
    """A whole run of Attend-and-Excite or BoxDiff on the toy model."""
    heads, tokens, channels = stored["V"].shape
    side = stored["x0"].shape[-1]
    keys_2THC = stored["enc"].view(2, tokens, heads, channels + 1)
    thresholds = [] if case["refine"] is False else [(int(i), x) for i, x in case["thresholds"].items()]
    shared = settings(case, resolution=side, stop=case["max_iter_to_alter"], thresholds=thresholds)
    shared |= {"max_refinements": case["max_refinement_steps"], "step": float(case["scale_factor"])}
    shared |= {"step_range": case["scale_range"]}

    def maps_HPT(latents_CYX, branch, t):
        states_PC = latents_CYX.flatten(1).T
        keys = keys_2THC[branch]
        return torch.stack([attention(states_PC, keys[:, h, :-1], keys[:, h, -1], t) for h in range(heads)])

    def attend(latents_RCYX, t, rows):
        return [torch.stack([maps_HPT(latents, 1, t) for latents in latents_RCYX])]

    def predict(latents_1CYX, i, t):
        noise = [torch.einsum("hpt,htc->cp", maps_HPT(latents_1CYX[0], branch, t), stored["V"]) for branch in (0, 1)]
        u, c = (part.view_as(latents_1CYX) + 0.1 * latents_1CYX for part in noise)
        return u + case["guidance_scale"] * (c - u)

    positions, solver, work = pad_positions([case["token_indices"]]), make_solver(case), Counters()
    if case["kind"] == "ae":
        params = attend_and_excite.Params(**shared)
        objectives = attend_and_excite.weakest_token(positions)
    else:
        params = boxdiff.Params(**shared, share=case["P"], window=case["L"])
        boxes = [[[tuple(edge / 512 for edge in box)] for box in case["boxes_512px"]]]
        objectives = boxdiff.box_terms(boxdiff.make_areas(boxes, params), params)

    def look(latents, t):
        return objectives(read_images(text_maps(aggregate(attend(latents, t, FIRST))), positions, params), FIRST)

    guide = make_guide(attend, positions, objectives, params, make_schedule(params, solver), work)
    record = Recorder(guide, work, look)
    final = iterate(solver, predict, stored["x0"], record)
    expected = case["expect"]
    assert [float(t) for t in solver.timesteps] == pytest.approx(expected["t"])
    near([float(found.tested) for found in record.looked], expected["stop_loss_first"], 5e-6)
    if "total_loss_first" in expected:
        near([float(found.regular) for found in record.looked], expected["total_loss_first"], 5e-6)
    assert [count["refinements"] for count in record.counts] == expected["refine_iterations"]
    assert [count["guidance_backwards"] for count in record.counts] == expected["n_backward"]
    # An official refinement repeats the forward pass that was tested; here it does not.
    assert [count["guidance_forwards"] for count in record.counts] == expected["n_backward"]
    near(torch.cat([record.guided[i] for i in expected["snap_steps"]]), stored["guided"], 5e-5)
    near(final[0], stored["final"], 5e-5)


def follow_layout_guidance(case, stored):
    """A whole run of Layout-Guidance on the toy model."""
    heads, tokens, channels = stored["V"].shape
    keys_2TLHC = stored["enc"].view(2, tokens, 4, heads, channels + 1)

    def maps_HPT(latents_1CYX, branch, layer, t):
        pool = 8 if layer == 0 else 4
        states_QC = (pool * torch.nn.functional.avg_pool2d(latents_1CYX, pool))[0].flatten(1).T
        keys = keys_2TLHC[branch, :, layer]
        return torch.stack([attention(states_QC, keys[:, h, :-1], keys[:, h, -1], t) for h in range(heads)])

    def attend(latents_RCYX, t, rows):
        return [maps_HPT(latents_RCYX, 1, layer, t)[None] for layer in range(4)]

    def predict(latents_1CYX, i, t):
        parts = []
        for branch in (0, 1):
            coarse = torch.einsum("hpt,htc->cp", maps_HPT(latents_1CYX, branch, 1, t), stored["V"])
            fine = coarse.unflatten(1, (math.isqrt(coarse.shape[1]),) * 2)[None].repeat_interleave(4, 2)
            parts.append(0.05 * fine.repeat_interleave(4, 3) + 0.9 * latents_1CYX)
        return parts[0] + case["guidance_scale"] * (parts[1] - parts[0])

    params = layout_guidance.Params(
        eta=float(case["loss_scale"]),
        threshold=case["loss_threshold"],
        max_iterations=case["max_iter"],
        stop=case["max_index_step"],
    )
    solver, work = make_solver(case), Counters()
    things = list(map(Thing, map(tuple, case["token_indices"]), case["boxes_norm_xyxy"]))
    record = Recorder(layout_guidance.make_guide(attend, [things], params, solver, work), work)
    final = iterate(solver, predict, stored["x0"] * solver.init_noise_sigma, record)
    expected = case["expect"]
    assert [float(t) for t in solver.timesteps] == pytest.approx(expected["t"])
    assert [count["guidance_iterations"] for count in record.counts] == expected["inner_iterations"]
    scales = [math.sqrt(float(solver.sigmas[i]) ** 2 + 1) for i in expected["snap_steps"]]
    guided = [record.guided[i] * scale for i, scale in zip(expected["snap_steps"], scales, strict=True)]
    near(torch.cat(guided), stored["guided"], 5e-5)
    near(final[0], stored["final"], 5e-5)


def test_the_recorded_schedule_is_that_of_diffusers():
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    own = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    recorded = torch.from_numpy(np.load(SCHEDULE, allow_pickle=False)).double()
    for found in (PNDMScheduler(**betas).alphas_cumprod.double(), own):
        torch.testing.assert_close(found, recorded, rtol=2e-6, atol=0)


def aux():
    found = [folder for folder in (OWN, OFFICIAL) if manifest(folder).get("aux")]
    return [pytest.param(folder, id=folder.parent.name) for folder in found]


@pytest.mark.parametrize("folder", aux())
def test_kernels_aggregates_and_step_sizes(folder):
    about = manifest(folder)["aux"]
    with np.load(folder / "aux.npz", allow_pickle=False) as stored:
        for name in about["kernel"]:
            side, sigma = name.removeprefix("kernel_k").split("_s")
            near(smoothing_kernel(int(side), float(sigma)), stored[name].astype(np.float64), 1e-7)
        layers = about["aggregate"]["layers"]
        for side, name in about["aggregate"]["outputs"].items():
            keys = [layer["key"] for layer in layers if layer["res"] == int(side)]
            maps = [torch.from_numpy(stored[key].astype(np.float64))[None] for key in keys]
            near(aggregate(maps)[0], stored[name], 1e-12)
        for name in about["step_size"]:
            near(step_sizes(20.0, (1.0, 0.5), int(name.removeprefix("step_size_N"))), stored[name], 1e-12)
