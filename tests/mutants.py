"""Break a rule of the guided baselines or of weighting and see whether a test notices: python tests/mutants.py [word]...

Each mutant is one textual change in a copy of the checkout; words choose those in whose description or file one of them is.
Prints a table; exits with 1 if a mutant survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/test_golden.py", "tests/test_guided.py", "tests/test_golden_next.py", "tests/test_family.py"]
TESTS += ["tests/test_weights.py"]
FAMILY = ["tests/test_golden_next.py", "tests/test_family.py"]
MAPS, LOOP, READ = "hcma/sampling/token_maps.py", "hcma/sampling/attention_guidance.py", "hcma/sampling/attention.py"
SOLVE = "hcma/sampling/diffusion.py"
RNB, DENSE, REFOCUS = "baselines/rnb.py", "baselines/dense_diffusion.py", "baselines/attention_refocusing.py"
BOX, LAYOUT, EXCITE = "baselines/boxdiff.py", "baselines/layout_guidance.py", "baselines/attend_and_excite.py"
WEIGHTS = "hcma/gradient_weighting.py"
# The tests that are likely to notice, which go first.
NEAREST = dict.fromkeys((RNB, DENSE, REFOCUS), FAMILY) | {WEIGHTS: ["tests/test_weights.py"]}
# what is broken, file, text, replacement
MUTANTS = [
    ("a true Gaussian of the stated sigma", MAPS, "(line / (2 * sigma)) ** 2", "line**2 / (2 * sigma**2)"),
    ("last token kept", MAPS, "maps_RYXT.shape[-1] - 1 if end is None", "maps_RYXT.shape[-1] if end is None"),
    ("start token kept", MAPS, "maps_RYXT[..., 1 :", "maps_RYXT[..., 0 :"),
    ("no factor of 100", MAPS, "FACTOR = 100.0", "FACTOR = 1.0"),
    ("token index not shifted", MAPS, "(positions_RM - 1)", "positions_RM"),
    ("zero padding", MAPS, '[left.flip(-1), images_RCYX, right.flip(-1)]', '[0 * left, images_RCYX, 0 * right]'),
    ("first layer alone instead of the mean", MAPS, "torch.cat(list(maps), dim=1)", "maps[0]"),
    ("step sizes without the root", LOOP, ".sqrt()", ""),
    ("one call more guided", LOOP, "i < schedule.stop", "i <= schedule.stop"),
    ("threshold and 1 - threshold exchanged", LOOP, "1 - schedule.thresholds", "0 + schedule.thresholds"),
    ("refinement ends one update early", LOOP, "range(schedule.max_refinements - 1)", "range(schedule.max_refinements - 2)"),
    ("no update after a refinement", LOOP, "if regular and len(missed)", "if False"),
    ("gradients averaged over the batch", LOOP, "grad(followed.sum()", "grad(followed.mean()"),
    ("all images refined if one misses", LOOP, "missed = rows[moving.update(rows, first) > limit]",
     "missed = rows[(moving.update(rows, first) > limit).any().expand(len(rows))]"),
    ("the mean token instead of the weakest", EXCITE, ".where(positions_BM[rows] > 0, -1.0).max(1).values", ".mean(1)"),
    ("first token of a name", EXCITE, "thing.positions[-1] for", "thing.positions[0] for"),
    ("boxes truncated", BOX, "round(edge * side)", "int(edge * side)"),
    ("boxes rounded half up", BOX, "round(edge * side)", "int(edge * side + 0.5)"),
    ("at least one inner cell", BOX, "(params.share * area).floor()", "(params.share * area).floor().clamp(min=1)"),
    ("number of cells rounded up", BOX, "(params.share * area).floor()", "(params.share * area).ceil()"),
    ("corner term at the last column inside", BOX, "(x0, x1), params.window", "(x0, x1 - 1), params.window"),
    ("corner window of both sides halved", BOX, ".abs() <= window", ".abs() < window"),
    ("corner mean over the selected", BOX, ".abs()).mean(-1)", ".abs()).sum(-1) / near.sum(-1).clamp(min=1)"),
    ("mean over boxes", BOX, "regular_R = inner_R +", "regular_R = 0.5 * inner_R +"),
    ("outer term left out", BOX, "(outer_RM + corner_RM)", "corner_RM"),
    ("columns and rows exchanged", BOX, "inside[b, m, y0:y1, x0:x1]", "inside[b, m, x0:x1, y0:y1]"),
    ("sum of inner terms tested", BOX, "worst_R = inner_RM.max(1).values", "worst_R = inner_R"),
    ("fresh terms after a refinement", BOX, "inner_R if params.stale_terms", "inner_R if not params.stale_terms"),
    ("refinement off", BOX, "params if params.refine", "params if not params.refine"),
    ("heads averaged before the square", LAYOUT, "missing_RHOT.square().mean(1)", "missing_RHOT.mean(1).square()"),
    ("half of the heads", LAYOUT, "for map_RHPT in maps:", "for map_RHPT in [m.chunk(2, 1)[1] for m in maps]:"),
    ("first layer alone", LAYOUT, "for map_RHPT in maps:", "for map_RHPT in maps[:1]:"),
    ("boxes rounded", MAPS, "int(y0 * side) : int(y1 * side), int(x0 * side) : int(x1 * side)",
     "round(y0 * side) : round(y1 * side), round(x0 * side) : round(x1 * side)"),
    ("columns and rows exchanged", MAPS, "int(y0 * side) : int(y1 * side), int(x0 * side) : int(x1 * side)",
     "int(x0 * side) : int(x1 * side), int(y0 * side) : int(y1 * side)"),
    ("tokens summed", LAYOUT, "1 / (len(thing.positions) * len(found))", "1 / len(found)"),
    ("objects summed", LAYOUT, "1 / (len(thing.positions) * len(found))", "1 / len(thing.positions)"),
    ("first box alone", MAPS, "in boxes:\n        mask", "in boxes[:1]:\n        mask"),
    ("stop not sticky", LAYOUT, "if not params.sticky", "if params.sticky"),
    ("step without the noise's share", LAYOUT, "* noise_share(scheduler, i)", ""),
    ("root of the noise's share", LAYOUT, "* noise_share(scheduler, i)", "* noise_share(scheduler, i) ** 0.5"),
    ("threshold on the scaled loss", LAYOUT, "loss_R.detach().float()", "(params.eta * loss_R).detach().float()"),
    ("one call more guided", LAYOUT, "i >= params.stop", "i > params.stop"),
    ("processors left behind", READ, "layers[name].processor = processor", "pass"),
    ("forward pass not ended", READ, "raise _Enough", "pass"),
    ("text of another image", READ, "text_BTD[rows]", "text_BTD[:1].expand(len(rows), -1, -1)"),
    ("downward layers of the finest side", RNB, 'params.resolution + (not name', 'params.resolution + (name'),
    ("half inside, half outside", RNB, "inner * means[0] + (1 - inner) * means[1]", "(means[0] + means[1]) / 2"),
    ("threshold where nothing is outside", RNB, " * outside_NYX.amax((1, 2), True)", ""),
    ("last row and column kept", RNB, "+ (not is_open)", "+ 1"),
    ("minimum and maximum detached", RNB, "(raw_NYX - low) / (high - low)", "(raw_NYX - low.detach()) / (high - low).detach()"),
    ("threshold detached", RNB, "image_NYX - threshold(image_NYX,", "image_NYX - threshold(image_NYX.detach(),"),
    ("boundary always", RNB, "if stray_N[n] and count_N[n] > 1", "if count_N[n] > 1"),
    ("boundary of a single object", RNB, "if stray_N[n] and count_N[n] > 1", "if stray_N[n]"),
    ("edges of all layers", RNB, "if not down]", "]"),
    ("kernel of sigma 1", RNB, "smoothing_kernel(3, 3.0)", "smoothing_kernel(3, 1.0)"),
    ("no factor of 120", RNB, "(120 * mean", "(1 * mean"),
    ("soft region of full weight", RNB, "missing / 2)", "missing)"),
    ("objects summed", RNB, "loss[None] / count_N[n]", "loss[None]"),
    ("a loss of 0 is forgotten at every call", RNB, "torch.inf if i < params.idle else 0.0", "torch.inf"),
    ("a loss of 0 ends guidance at once", RNB, "torch.inf if i < params.idle else 0.0", "0.0"),
    ("PLMS's second call guided", RNB, "i >= params.stop or i in skip", "i >= params.stop"),
    ("one call more guided", RNB, "i >= params.stop or", "i > params.stop or"),
    ("corners aligned", MAPS, "+ 0.5) * own / side - 0.5", ") * (own - 1) / (side - 1)"),
    ("slope of the rows alone", MAPS, "torch.stack([sobel, sobel.T])", "torch.stack([sobel, 0 * sobel])"),
    ("no smoothing", REFOCUS, "smooth(images_1JYX, smoothing_kernel(3, 0.5))[0]", "images_1JYX[0]"),
    ("weight 4 instead of 6", REFOCUS, "+ 5 * (peaks", "+ 3 * (peaks"),
    ("weight 6 instead of 4", REFOCUS, "+ 3 * (others", "+ 5 * (others"),
    ("terms never switched off", REFOCUS, "float(early)", "1.0"),
    ("own boxes not blanked", REFOCUS, "image_JP.masked_fill(own_JP, 0)", "image_JP"),
    ("background not times boxes", REFOCUS, "* own_JN.sum(1) / 2", "/ 2"),
    ("upward gated maps once", REFOCUS, "if params.count_up_twice and", "if False and"),
    ("keys in the box instead of outside", REFOCUS, "* (1 - mask_NP)", "* mask_NP"),
    ("the mean of other tokens", REFOCUS, ".amax(-1).mean(0).sum()\n\n\ndef _mean", ".mean(-1).mean(0).sum()\n\n\ndef _mean"),
    ("own token not spared", REFOCUS, "theirs_N[:, None] == torch", "theirs_N[:, None] > 99 + torch"),
    ("objects summed", REFOCUS, "/ len(things))\n    return", ")\n    return"),
    ("gated term once", REFOCUS, "3 * terms[2]", "terms[2]"),
    ("the loss ends late steps too", REFOCUS, "| (s >= params.dense)", "| (s >= 99)"),
    ("layers of the middle", REFOCUS, 'if not name.startswith("mid")', "if True"),
    ("boxes of other images", "hcma/sampling/grounding.py", "all.chunk(2)[1][rows]", "all.chunk(2)[1][: len(rows)]"),
    ("null boxes", "hcma/sampling/grounding.py", "all.chunk(2)[1][rows]", "all.chunk(2)[0][rows]"),
    ("boxes in every pass of guidance", "hcma/sampling/grounding.py", "if self.call >= self.calls", "if self.tau is None"),
    ("call not followed", "hcma/sampling/grounding.py", "self.call = i", "pass"),
    ("no area factor", DENSE, "strength * size_Q1", "strength"),
    ("area of the whole", DENSE, "same_QQ.mean(1, keepdim=True)", "same_QQ.mean()"),
    ("range over all queries", DENSE, "scores_HQK.amax(-1, True)", "scores_HQK.amax((-2, -1), True)"),
    ("start and padding with the first segment", DENSE, " & (segments.token_T >= 0)", ""),
    ("fourth power", DENSE, "power: float = 5.0", "power: float = 4.0"),
    ("every second cell from the second", DENSE, "[:, ::every, ::every]", "[:, every - 1 :: every, every - 1 :: every]"),
    ("largest box on top", DENSE, "key=lambda n: float(", "key=lambda n: -float("),
    ("a name's start token", DENSE, "own_TD[1 : 1 + len", "own_TD[0 : len"),
    ("unconditional half changed", READ, "enumerate(changes, start=half)", "enumerate(changes, start=0)"),
    ("scores not scaled", READ, "attn.scale * (query.to", "1.0 * (query.to"),
    ("conditional halves exchanged", SOLVE, "unconditional, conditional = sd", "conditional, unconditional = sd"),
    ("weights: an end that adapts", WEIGHTS, "if rule == FIXED or 0 in lambdas", "if rule == FIXED"),
    ("weights: factors without boxes too", WEIGHTS, "torch.where(both_B, factor, 1.0)", "factor"),
    ("weights: mixtures without boxes too", WEIGHTS, "torch.where(both_B[:, None, None, None], MIXTURES",
     "torch.where(both_B[:, None, None, None] | True, MIXTURES"),
    ("weights: any two gradients oppose", WEIGHTS, "both_B & (_dot(a, b).flatten() < 0)", "both_B"),
    ("weights: opposed without boxes", WEIGHTS, "both_B & (_dot(a, b).flatten() < 0)", "_dot(a, b).flatten() <= 0"),
    ("weights: of the whole batch", WEIGHTS, ".flatten(1).sum(1)[:, None, None, None]", ".sum()"),
    ("weights: norms of the whole batch", WEIGHTS, "x_BCHW.detach().flatten(1).norm(dim=1)[:, None, None, None]",
     "x_BCHW.detach().norm()"),
    ("weights: length 1", WEIGHTS, "_norm(a + b) * mean", "mean"),
    ("weights: the lambdas forgotten by equal norms", WEIGHTS, "weight / sum(lambdas) for weight", "0.5 for weight"),
    ("weights: always projected", WEIGHTS, "_dot(a, b).clamp(max=0)", "_dot(a, b)"),
    ("weights: one gradient projected", WEIGHTS, " - along / _dot(a, a).clamp(min=TINY) * a", ""),
    ("weights: projected on the projected", WEIGHTS, "along / _dot(a, a).clamp(min=TINY) * a", "0.5 * along / _dot(a, a) * a"),
    ("weights: the caption first", WEIGHTS, "2 * (1 - share_B), 2 * share_B", "2 * share_B, 2 * (1 - share_B)"),
    ("weights: factors that add up to 1", WEIGHTS, "2 * (1 - share_B), 2 * share_B", "1 - share_B, share_B"),
    ("weights: losses instead of their inverses", WEIGHTS, "1 / loss_B.clamp", "loss_B.clamp"),
    ("weights: sum not kept", WEIGHTS, "scale_B * inverse_global_B, scale_B *", "inverse_global_B,"),
    ("latents not scaled back", SOLVE, "moved / scheduler", "moved / 1 if True else scheduler"),
]  # fmt: skip


def main() -> int:
    words = sys.argv[1:] or [""]
    chosen = [mutant for mutant in MUTANTS if any(word in text for word in words for text in mutant[:2])]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "results", ".snakemake", "*.zip"))
        if notice(copy, TESTS):
            sys.exit("error: the tests fail without any mutant")
        survivors = 0
        for what, name, text, replacement in chosen:
            path = copy / name
            original = path.read_text(encoding="utf-8")
            if text not in original:
                sys.exit(f"error: {name} no longer has {text!r} ({what})")
            path.write_text(original.replace(text, replacement), encoding="utf-8")
            found = notice(copy, list(dict.fromkeys([*NEAREST.get(name, []), *TESTS])))
            path.write_text(original, encoding="utf-8")
            survivors += not found
            print(f"| {what} | `{name}` | {found or 'SURVIVES'} |", flush=True)
    print(f"{len(chosen)} mutants, {survivors} survive")
    return int(survivors > 0)


def notice(copy: Path, tests: list[str]) -> str:
    """The first of the tests that fails, or nothing."""
    environment = os.environ | {"HCMA_GOLDEN": os.environ.get("HCMA_GOLDEN", "absent"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *tests,
    ]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].split("::")[-1] if failed else "" if done.returncode == 0 else "collection"


if __name__ == "__main__":
    sys.exit(main())
