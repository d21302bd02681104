"""Make this folder's golden set: python tests/golden/make.py

A second reading of the three losses and loops, box by box and token by token, for one image at a time; it shares no code
with the project. Format and conventions: README.md here.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import LMSDiscreteScheduler

HERE = Path(__file__).resolve().parent
THRESHOLDS = {0: 0.05, 10: 0.5, 20: 0.8}


def gradient(f, x):
    """d f / d x of a NumPy array, as one."""
    leaf = torch.from_numpy(x).requires_grad_()
    value = f(leaf)
    return torch.autograd.grad(value, leaf)[0].numpy() if value.requires_grad else np.zeros_like(x)


def kernel(side, sigma):
    line = np.arange(side) - side // 2
    weights = np.exp(-((line[:, None] ** 2 + line[None] ** 2) / (4 * sigma**2)))
    return weights / weights.sum()


def mirrored(i, n):
    """Index i of a line of n cells that is mirrored at both ends without repeating the end."""
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


def smoothed(image_YX, weights):
    """Filter by adding shifted copies."""
    pad = weights.shape[0] // 2
    height, width = image_YX.shape
    out = torch.zeros_like(image_YX)
    for dy in range(-pad, pad + 1):
        for dx in range(-pad, pad + 1):
            rows = [mirrored(y + dy, height) for y in range(height)]
            columns = [mirrored(x + dx, width) for x in range(width)]
            out = out + float(weights[dy + pad, dx + pad]) * image_YX[rows][:, columns]
    return out


def token_images(maps_YXT, case):
    """One image a token index."""
    end = case["n_prompt_ids"] - 1 if case["normalize_eot"] else maps_YXT.shape[-1] - 1
    kept = torch.softmax(100 * maps_YXT[..., 1:end], -1)
    images = [kept[..., index - 1] for index in case["token_indices"]]
    return (
        [smoothed(image, kernel(case["kernel_size"], case["sigma"])) for image in images] if case["smooth"] else images
    )


def excite(maps_YXT, case):
    """(loss, peaks): a loss of 0 has no gradient."""
    peaks = [image.max() for image in token_images(maps_YXT, case)]
    loss = 1 - min(peaks, key=torch.Tensor.item)
    return (loss if loss > 0 else torch.zeros(())), [float(peak) for peak in peaks]


def cells(box, side):
    return [max(round(edge * side / 512), 0) for edge in box]


def strongest(values, count):
    return values.sort(descending=True).values[:count].mean() if count else None


def box_parts(maps_YXT, case):
    """Per box: inner mean, outer mean (None of nothing), corner_x, corner_y."""
    side, parts = maps_YXT.shape[1], []
    for image, box in zip(token_images(maps_YXT, case), case["boxes_512px"], strict=True):
        x0, y0, x1, y1 = cells(box, side)
        mask = torch.zeros(side, side)
        mask[y0:y1, x0:x1] = 1
        inner = strongest((image * mask).flatten(), math.floor(case["P"] * int(mask.sum())))
        outer = strongest((image * (1 - mask)).flatten(), math.floor(case["P"] * int((1 - mask).sum())))
        corners = []
        for axis, edges in ((0, (x0, x1)), (1, (y0, y1))):
            lines = [line for line in range(side) if any(abs(line - edge) <= case["L"] for edge in edges)]
            off = (image.amax(axis) - mask.amax(axis)).abs()
            corners.append(sum(off[line] for line in lines) / side)
        parts.append((inner, outer, *corners))
    return parts


def boxdiff(maps_YXT, case):
    """(total, largest inner, sum of inner)."""
    parts = box_parts(maps_YXT, case)
    inner = [1 - p[0] if p[0] is not None and p[0] < 1 else torch.zeros(()) for p in parts]
    outer = [p[1] for p in parts if p[1] is not None]
    return sum(inner) + sum(outer) + sum(p[2] + p[3] for p in parts), max(inner, key=torch.Tensor.item), sum(inner)


def layout_cells(boxes, side):
    return [[int(edge * side) for edge in box] for box in boxes]


def layout_loss(maps_HPT, case):
    """Mean over maps and objects of the mean over tokens of the heads' mean (1 - share inside)^2."""
    losses = []
    for map_HPT in maps_HPT:
        side = math.isqrt(map_HPT.shape[1])
        for boxes, tokens in zip(case["boxes_norm_xyxy"], case["token_indices"], strict=True):
            mask = torch.zeros(side, side)
            for x0, y0, x1, y1 in layout_cells(boxes, side):
                mask[y0:y1, x0:x1] = 1
            shares = [(map_HPT[..., k] * mask.flatten()).sum(-1) / map_HPT[..., k].sum(-1) for k in tokens]
            losses.append(sum(((1 - share) ** 2).mean() for share in shares) / len(shares))
    return sum(losses) / len(losses)


def attention_maps(rng, *shape):
    """Random probabilities over the last axis, rounded to float16 as they are stored."""
    weights = np.exp(0.15 * rng.standard_normal(shape))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float16).astype(np.float64)


def map_case(id, what, **more):
    base = {"id": id, "what": what, "res": 8, "n_tokens": 7, "token_indices": [2, 4], "smooth": True, "sigma": 0.5}
    return base | {"kernel_size": 3, "normalize_eot": False, "n_prompt_ids": None} | more


def excite_cases(rng, store):
    peak = np.zeros((8, 8, 7))
    peak[..., 1], peak[3, 4, 1], peak[3, 4, 2] = 1, 0, 1
    even = np.full((8, 8, 7), 1 / 8)
    even[2, 5, 1] += 1 / 512
    rows = [
        (map_case("ae_0", "two tokens"), None),
        (map_case("ae_1", "no smoothing, one token", smooth=False, token_indices=[3]), None),
        (
            map_case("ae_2", "sigma 1, end of text and padding dropped", sigma=1.0, normalize_eot=True, n_prompt_ids=6),
            None,
        ),
        (map_case("ae_3", "even attention but for one cell", smooth=False, token_indices=[1]), even),
        (map_case("ae_4", "one cell's peak: after smoothing the kernel's centre", token_indices=[2]), peak),
        (map_case("ae_5", "saturated without smoothing: loss 0", smooth=False, token_indices=[2]), peak),
    ]
    for case, given in rows:
        maps = attention_maps(rng, 8, 8, 7) if given is None else given
        loss, peaks = excite(torch.from_numpy(maps), case)
        slope = gradient(lambda x, case=case: excite(x, case)[0], maps)
        store[case["id"]] = {"maps": maps.astype(np.float16), "grad": slope}
        expect = {"max_attention": peaks, "losses": [max(0.0, 1 - peak) for peak in peaks], "loss": float(loss)}
        case["expect"] = expect | {"grad_norm": float(np.linalg.norm(slope)), "loss_is_zero": bool(loss == 0)}
    closed = {row["id"]: row["expect"]["loss"] for row, _ in rows}
    assert (
        abs(closed["ae_3"] - 4 / (4 + math.exp(100 / 512))) < 1e-12
        and abs(closed["ae_4"] - (1 - kernel(3, 0.5)[1, 1])) < 1e-9
    )
    return [case for case, _ in rows]


def boxdiff_cases(rng, store):
    more = {"P": 0.2, "L": 1}
    two = [[67, 87, 366, 512], [266, 30, 464, 262]]
    rows = [
        map_case("bd_0", "two boxes", boxes_512px=two, **more),
        map_case("bd_1", "a box of under five cells", token_indices=[2], boxes_512px=[[100, 100, 200, 200]], **more),
        map_case("bd_2", "the whole canvas", token_indices=[2], boxes_512px=[[0, 0, 512, 512]], **more),
        map_case("bd_3", "twice the same box and token", token_indices=[3, 3], boxes_512px=[two[0]] * 2, **more),
        map_case("bd_4", "halves round to even", token_indices=[2], boxes_512px=[[32, 96, 416, 480]], **more),
        map_case("bd_5", "P 0.5, L 2, no smoothing", smooth=False, boxes_512px=two, P=0.5, L=2),
    ]
    names = ("inner_topk_mean", "outer_topk_mean", "corner_x", "corner_y")
    for case in rows:
        maps = attention_maps(rng, 8, 8, 7)
        case["cells_xyxy"] = [cells(box, 8) for box in case["boxes_512px"]]
        parts = box_parts(torch.from_numpy(maps), case)
        expect = {name: [None if p[k] is None else float(p[k]) for p in parts] for k, name in enumerate(names)}
        expect["inner_losses"] = [0.0 if x is None else max(0.0, 1 - x) for x in expect["inner_topk_mean"]]
        expect["outer_losses"] = [0.0 if x is None else x for x in expect["outer_topk_mean"]]
        total, worst, _ = boxdiff(torch.from_numpy(maps), case)
        case["expect"] = expect | {"loss_total": float(total), "loss_inner_max": float(worst)}
        store[case["id"]] = {"maps": maps.astype(np.float16)} | {
            name: gradient(lambda x, k=k, case=case: boxdiff(x, case)[k], maps)
            for k, name in enumerate(("grad_total", "grad_fg_max"))
        }
    return rows


def layout_cases(rng, store):
    base = {"n_heads": 2, "n_tokens": 6, "res_mid": 4, "res_up": 8, "n_mid": 1, "n_up": 2, "n_other_up": 0}
    rows = [
        ("lg_0", "two objects", [[[0.1, 0.2, 0.6, 0.8]], [[0.5, 0.6, 0.95, 1.0]]], [[2], [4]]),
        ("lg_1", "two boxes of one object, two tokens", [[[0.0, 0.0, 0.3, 0.5], [0.6, 0.3, 0.9, 0.9]]], [[1, 3]]),
        ("lg_2", "a box that covers no cell", [[[0.55, 0.55, 0.6, 0.6]], [[0.0, 0.0, 1.0, 0.5]]], [[2], [3]]),
    ]
    cases = []
    for id, what, boxes, tokens in rows:
        case = base | {"id": id, "what": what, "boxes_norm_xyxy": boxes, "token_indices": tokens}
        case |= {f"cells_{place}": [layout_cells(b, side) for b in boxes] for place, side in (("mid", 4), ("up", 8))}
        names = ["mid0", "up0", "up1"]
        maps = [attention_maps(rng, 2, side * side, 6) for side in (4, 8, 8)]
        given = [torch.from_numpy(m).requires_grad_() for m in maps]
        loss = layout_loss(given, case)
        slopes = [slope.numpy() for slope in torch.autograd.grad(loss, given)]
        norms = [float(np.linalg.norm(slope)) for slope in slopes]
        case["expect"] = {"loss": float(loss), "grad_norms": norms}
        store[id] = {n: m.astype(np.float16) for n, m in zip(names, maps, strict=True)}
        store[id] |= {f"grad_{n}": slope for n, slope in zip(names, slopes, strict=True)}
        cases.append(case)
    return cases


def toy_attention(states_QC, keys_THC, t):
    """[heads, queries, tokens] of keys whose last channel is a bias."""
    logits = torch.einsum("qc,thc->hqt", states_QC, keys_THC[..., :-1]) + keys_THC[..., -1].T[:, None]
    return torch.softmax((0.5 + t / 2000) * logits, -1)


def drawn(rng, *shape, dtype=np.float32):
    """Normal numbers that survive being stored."""
    return torch.from_numpy(rng.standard_normal(shape).astype(dtype).astype(np.float64))


def excitation_run(rng, store, kind, id, what, **more):
    """A run of the official loop on the toy model and scheduler."""
    side, tokens, heads, channels, n = 8, 7, 2, 4, 50
    case = {"id": id, "kind": kind, "what": what, "scheduler": "toy", "num_inference_steps": n, "token_indices": [2, 5]}
    case |= {"boxes_512px": None, "refine": None, "guidance_scale": 7.5, "thresholds": THRESHOLDS}
    case |= {"max_iter_to_alter": 25, "max_refinement_steps": 20, "scale_factor": 20, "scale_range": [1.0, 0.5]}
    case |= {"smooth": True, "sigma": 0.5, "kernel_size": 3, "P": 0.2, "L": 1} | more
    inner = case | {"normalize_eot": False, "n_prompt_ids": None}
    x = drawn(rng, 1, channels, side, side)
    enc, V = drawn(rng, 2, tokens, heads * (channels + 1)), drawn(rng, heads, tokens, channels)
    store[id] = {"x0": x, "enc": enc, "V": V}
    keys = enc.reshape(2, tokens, heads, channels + 1)

    def maps(x, branch, t):
        return toy_attention(x.reshape(channels, -1).T, keys[branch], t)

    def losses(x, t):
        """What the regular update follows, what is tested and refined, and the update after a refinement."""
        mean = maps(x, 1, t).mean(0).reshape(side, side, tokens)
        return (excite(mean, inner)[0],) * 3 if kind == "ae" else boxdiff(mean, inner)

    def moved(which, t, size):
        if losses(x, t)[which] == 0:
            return x, 0
        slope = gradient(lambda leaf: losses(leaf, t)[which], x.numpy())
        return x - size * torch.from_numpy(slope), 1

    def noise(branch, t):
        return torch.einsum("hpt,htc->cp", maps(x, branch, t), V).reshape(x.shape) + 0.1 * x

    sizes = 20 * np.sqrt(np.linspace(1, 0.5, n))
    times = np.linspace(981, 1, n)
    expect = {"n_loop": n, "snap_steps": [0, 1, 10, 11, 20, 24, 25, 49], "t": times.tolist()}
    lists = {name: [] for name in ("stop_loss_first", "total_loss_first", "refine_iterations", "n_backward")}
    guided = []
    for i, t in enumerate(times):
        total, tested, _ = losses(x, t)
        lists["stop_loss_first"].append(float(tested))
        lists["total_loss_first"].append(float(total))
        refinements = backward = 0
        limit = 1 - THRESHOLDS[i] if i in THRESHOLDS and case["refine"] is not False else math.inf
        value = tested
        while value > limit and refinements < 20:
            value = losses(x, t)[1]
            x, counted = moved(1, t, sizes[i])
            refinements, backward = refinements + 1, backward + counted
        if i < 25:
            # After a refinement only BoxDiff's inner terms are fresh.
            x, counted = moved(2 if refinements else 0, t, sizes[i])
            backward += counted
        lists["refine_iterations"].append(refinements)
        lists["n_backward"].append(backward)
        if i in expect["snap_steps"]:
            guided.append(x[0])
        u, c = noise(0, t), noise(1, t)
        x = x - 0.05 * (u + 7.5 * (c - u))
    if kind == "ae":
        del lists["total_loss_first"]
    store[id] |= {"guided": torch.stack(guided), "final": x[0]}
    store[id] = {name: value.numpy().astype(np.float32) for name, value in store[id].items()}
    return case | {"expect": expect | lists}


def layout_run(rng, store, id, what, boxes, tokens, threshold):
    """A run of Layout-Guidance in the sigma frame, as officially."""
    heads, T, C, n = 2, 6, 4, 51
    solver = LMSDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    solver.set_timesteps(n)
    case = {"id": id, "kind": "layout_guidance", "what": what, "scheduler": "LMSDiscreteScheduler", "timesteps": n}
    case |= {"token_indices": tokens, "boxes_norm_xyxy": boxes, "loss_scale": 30, "loss_threshold": threshold}
    case |= {"max_iter": 5, "max_index_step": 10, "guidance_scale": 7.5}
    x0, V = drawn(rng, 1, C, 64, 64, dtype=np.float16), drawn(rng, heads, T, C)
    enc = drawn(rng, 2, T, 4 * heads * (C + 1))
    keys = enc.reshape(2, T, 4, heads, C + 1)

    def states(x, pool):
        side = 64 // pool
        return pool * x.reshape(C, side, pool, side, pool).mean((2, 4)).reshape(C, -1).T

    def maps(x, branch, t):
        return [toy_attention(states(x, 4 if layer else 8), keys[branch, :, layer], t) for layer in range(4)]

    def noise(x, branch, t):
        coarse = torch.einsum("hpt,htc->cp", maps(x, branch, t)[1], V).reshape(1, C, 16, 16)
        return 0.05 * coarse.repeat_interleave(4, 2).repeat_interleave(4, 3) + 0.9 * x

    z, last = x0 * float(solver.init_noise_sigma), math.inf
    guided, iterations, losses = [], [], []
    for i, t in enumerate(solver.timesteps):
        sigma, time = float(solver.sigmas[i]), float(t)
        tested = []
        while last > threshold and len(tested) < 5 and i < 10:
            leaf = z.clone().requires_grad_()
            loss = layout_loss(maps(leaf / math.sqrt(sigma**2 + 1), 1, time), case)
            z = z - sigma**2 * torch.autograd.grad(30 * loss, leaf)[0]
            last = float(loss)
            tested.append(last)
        iterations.append(len(tested))
        losses.append(tested)
        if i in (0, 1, 5):
            guided.append(z[0])
        x = solver.scale_model_input(z, t)
        u, c = noise(x, 0, time), noise(x, 1, time)
        z = solver.step(u + 7.5 * (c - u), t, z).prev_sample
    arrays = {"x0": x0, "enc": enc, "V": V, "guided": torch.stack(guided), "final": z[0]}
    store[id] = {name: a.numpy().astype(np.float16 if name == "x0" else np.float32) for name, a in arrays.items()}
    expect = {"n_loop": n, "snap_steps": [0, 1, 5], "t": [float(t) for t in solver.timesteps]}
    return case | {"expect": expect | {"inner_iterations": iterations, "losses": losses[:10]}}


def write(name, store):
    arrays = {f"{id}__{key}": value for id, rows in store.items() for key, value in rows.items()}
    np.savez_compressed(HERE / name, **arrays)


def main():
    rng = np.random.default_rng(20261123)
    stores = SimpleNamespace(ae={}, bd={}, lg={}, tr={})
    two = [[67, 87, 366, 512], [266, 30, 464, 262]]
    whole = {
        "format": 1,
        "set": "own",
        "made_by": "tests/golden/make.py",
        "attend_and_excite": excite_cases(rng, stores.ae),
        "boxdiff": boxdiff_cases(rng, stores.bd),
        "layout_guidance": layout_cases(rng, stores.lg),
        "trajectories": [
            excitation_run(rng, stores.tr, "ae", "tr_0", "Attend-and-Excite"),
            excitation_run(rng, stores.tr, "bd", "tr_1", "BoxDiff with refinement", boxes_512px=two, refine=True),
            excitation_run(rng, stores.tr, "bd", "tr_2", "BoxDiff without", boxes_512px=two, refine=False),
            layout_run(rng, stores.tr, "tr_3", "stops for good", [[[0.1, 0.1, 0.7, 0.9]]], [[2]], 0.15),
        ],
        "aux": {"kernel": ["kernel_k3_s0.5"], "step_size": ["step_size_N51"]},
    }
    layers = [("agg_layer0", 8), ("agg_layer1", 4), ("agg_layer2", 8)]
    maps = {key: attention_maps(rng, 2, side * side, 5) for key, side in layers}
    joined = np.concatenate([maps["agg_layer0"], maps["agg_layer2"]]).mean(0).reshape(8, 8, 5)
    whole["aux"]["aggregate"] = {
        "layers": [{"key": key, "res": side} for key, side in layers],
        "outputs": {"8": "agg_res8"},
    }
    aux = {key: value.astype(np.float16) for key, value in maps.items()} | {"agg_res8": joined}
    aux |= {"kernel_k3_s0.5": kernel(3, 0.5), "step_size_N51": 20 * np.sqrt(np.linspace(1, 0.5, 51))}
    for name, store in (
        ("ae", stores.ae),
        ("boxdiff", stores.bd),
        ("layout_guidance", stores.lg),
        ("trajectories", stores.tr),
    ):
        write(f"{name}.npz", store)
    np.savez_compressed(HERE / "aux.npz", **aux)
    (HERE / "manifest.json").write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
