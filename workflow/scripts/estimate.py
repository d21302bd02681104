"""What a run will cost on the device of its pilot, and what of it has been spent: one table, printed and written.

    python -m workflow.scripts.estimate --config results/paper/config.json --pilot pilot.json --samples samples --out estimate

writes estimate.json and estimate.md and prints the latter. Work is counted from the settings as the loops do it; what depends
on the images (refinements, inner iterations, boxes) is a range, from the least to the most that the settings allow for an
image whose caption names its boxes. Of a module that is not this project's only the least is known: one pass a call. Hours
are of one device.
"""

import argparse
import importlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from formats.cli import options, quick_imports, run
from formats.files import replacing
from hcma.sampling.spec import from_keys
from workflow.plan import Plan, read_plan

Range = tuple[int, int]
# Modules whose loops are counted here.
COUNTED = {
    "baselines.attend_and_excite",
    "baselines.boxdiff",
    "baselines.gligen",
    "baselines.layout_guidance",
    "baselines.multidiffusion",
    "baselines.stable_diffusion",
    "hcma.method",
}


@dataclass(frozen=True)
class Counts:
    """Work of one image: calls of the sampler, those with boxes, guided passes, alignments, and passes of the autoencoder, an
    encoding taken for a decoding, which takes longer; ranges are (least, most)."""

    passes: Range
    grounded: int = 0
    guided: Range = (0, 0)
    aligned: int = 0
    coded: Range = (1, 1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument("--pilot", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True, help="results/{run}/samples, which may not be there yet")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args(argv)
    _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    plan, pilot = estimated(read_plan(arguments.config)), json.loads(arguments.pilot.read_text())
    with quick_imports():
        rows = [row(name, plan, pilot["rows"][name], arguments.samples) for name in plan["methods"]]
    content = {"device": pilot["device"], "pilot_commit": pilot["commit"], "rows": rows}
    content["training_hours"] = training_hours(plan["images_trained"], pilot["rows"].values())
    text = markdown(content)
    for suffix, written in ((".json", json.dumps(content, indent=1) + "\n"), (".md", text)):
        with replacing(arguments.out.with_suffix(suffix)) as path:
            path.write_text(written)
    print(text, end="")


def estimated(plan: Plan) -> dict[str, Any]:
    """What the pilot times and the estimate counts: of each row its stanza and its images, and the run's sizes."""
    settings, methods = plan.settings, {}
    for row, split, images in plan.sampled:
        # The row that candidates for eta are judged against is sampled on both splits.
        name = f"{row}, held out" if split == "heldout" and row not in plan.candidates else row
        stanza = plan.stanza(row).model_dump(exclude_none=True)
        sampling = settings.sampling.model_dump()
        methods[name] = {"stanza": stanza, "sampling": sampling, "row": row, "split": split, "images": images}
    train = settings.alignment.train
    return {
        "methods": methods,
        "models": {name: model and model.path for name, model in settings.models.items()},
        "alignment": settings.alignment.model.model_dump(),
        # What does not fill a batch is left out of its epoch.
        "images_trained": train.epochs * (plan.count("train") // train.batch) * train.batch,
        "size": settings.data.size,
        "shard_size": settings.data.shard_size,
        "most_boxes": settings.data.boxes.max,
        "batch_size": settings.resources.batch_size,
    }


def row(name: str, plan: dict[str, Any], seconds: dict[str, Any], samples: Path) -> dict[str, Any]:
    """A method's images, jobs, work, hours and disk, as estimated, and what its finished shards took."""
    method = plan["methods"][name]
    counts = count(method["stanza"], method["sampling"], plan["most_boxes"])
    counted = method["stanza"]["module"] in COUNTED
    if not counted and "grounded_pass" not in seconds:
        counts = replace(counts, grounded=0)
    images = method["images"]
    shards = -(-images // plan["shard_size"])
    # An image's PNG is at most about its pixels: photographs take half of that.
    estimate = {
        "method": name,
        "counted": counted,
        "images": images,
        # Each shard is sampled and looked at; a specification and metrics a row.
        "jobs": 2 * shards + 2,
        "unet_forwards": [2 * calls for calls in counts.passes],
        "guided_passes": list(counts.guided),
        "hours": [images * an_image(counts, seconds, end) / 3600 for end in (0, 1)],
        "gigabytes_at_most": images * 3 * plan["size"] ** 2 / 1e9,
    }
    return estimate | measured(samples / method["row"] / method["split"])


def training_hours(images: int, rows: Iterable[dict[str, Any]]) -> float | None:
    """Hours of the alignment's training on so many images, held-out validations aside; None where no row is aligned."""
    return next((images * seconds["training"] / 3600 for seconds in rows if "training" in seconds), None)


def an_image(counts: Counts, seconds: dict[str, Any], end: int) -> float:
    """Seconds of an image at the least (end 0) or the most work (1)."""
    work = {
        "pass": counts.passes[end] - counts.grounded,
        "grounded_pass": counts.grounded,
        "guided_pass": counts.guided[end],
        "alignment": counts.aligned,
        "decoding": counts.coded[end],
    }
    return sum(times * seconds[kind] for kind, times in work.items() if times)


def measured(folder: Path) -> dict[str, Any]:
    """Images, hours and gigabytes of the shards that are there."""
    from formats.images import read_meta

    shards = sorted(folder.glob("[0-9][0-9][0-9][0-9].zip"))
    metas = [read_meta(path) for path in shards]
    return {
        "measured_images": sum(meta["images"] for meta in metas),
        "measured_hours": sum(meta["seconds"] for meta in metas) / 3600,
        "measured_gigabytes": sum(path.stat().st_size for path in shards) / 1e9,
        "measured_on": sorted({meta["device"] for meta in metas}),
    }


def params_of(stanza: dict[str, Any]) -> Any:
    """The Params of a stanza."""
    kind = importlib.import_module(stanza["module"]).Params
    return from_keys(kind, stanza.get("params", {}), f"{stanza['module']}, params")


def count(stanza: dict[str, Any], shared: dict[str, Any], most_boxes: int) -> Counts:
    """The work of one image under a stanza and the sampling that all rows share."""
    from hcma.sampling.diffusion import Sampling
    from hcma.sampling.grounding import grounded_calls

    sampling, params = Sampling(**(shared | stanza.get("sampling", {}))), params_of(stanza)
    duplicates = int(sampling.scheduler == "pndm")
    calls = sampling.steps + duplicates
    passes = (calls, calls)
    if stanza["module"] == "baselines.multidiffusion":
        return Counts((calls, calls * (1 + most_boxes)), coded=(1, 1 + params.bootstrap))
    skipped = range(1, 1 + duplicates) if not getattr(params, "guide_duplicate", True) else range(0)
    grounded = grounded_calls(params.tau, sampling.steps, calls) if hasattr(params, "tau") else 0
    if stanza["module"] not in COUNTED:
        return Counts(passes, grounded)
    return Counts(passes, grounded, guided(params, calls, skipped), alignments(params, sampling.steps))


def guided(params: Any, calls: int, skipped: range) -> Range:
    """Forward passes that guidance makes for an image with a named box."""
    if not hasattr(params, "max_iterations") and not hasattr(params, "max_refinements"):
        return 0, 0
    where = [i for i in range(min(params.stop, calls)) if i not in skipped]
    if hasattr(params, "max_iterations"):
        return min(1, len(where)), params.max_iterations * len(where)
    tested = {int(i) for i, _ in params.thresholds if i < calls and i not in skipped}
    if not getattr(params, "refine", True):
        tested = set()
    # A test's own pass is its first refinement; one update more follows where the call is guided anyway.
    least = len(tested | set(where))
    return least, least + sum(params.max_refinements - (i not in where) for i in tested)


def alignments(params: Any, steps: int) -> int:
    """Steps at which HCMA aligns."""
    from hcma.method import Params, aligns_at

    if not isinstance(params, Params) or not params.aligns:
        return 0
    return sum(aligns_at(step, steps, params) for step in range(steps))


HEADS = (
    "Method",
    "Images",
    "Jobs",
    "U-Net passes",
    "Guided passes",
    "Hours, estimated",
    "Hours, measured",
    "of images",
    "GB at most",
    "GB, measured",
)


def markdown(content: dict[str, Any]) -> str:
    """The table, its sums, and how to read it."""
    lines = [list(HEADS), ["---"] + ["---:"] * (len(HEADS) - 1)]
    rows = content["rows"]
    for found in rows:
        done, least = found["measured_images"] > 0, "" if found["counted"] else "at least "
        lines.append(
            [
                found["method"],
                str(found["images"]),
                str(found["jobs"]),
                least + _between(found["unet_forwards"], "d"),
                _between(found["guided_passes"], "d") if found["counted"] else "not known",
                least + _between(found["hours"], ".3g"),
                f"{found['measured_hours']:.3g}" if done else "",
                str(found["measured_images"]) if done else "",
                f"{found['gigabytes_at_most']:.3g}",
                f"{found['measured_gigabytes']:.3g}" if done else "",
            ]
        )
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    least, most = (sum(found["hours"][end] for found in rows) for end in (0, 1))
    spent = sum(found["measured_hours"] for found in rows)
    others = sorted({device for found in rows for device in found["measured_on"]} - {content["device"]})
    notes = [
        f"Hours of sampling on one {content['device']}: {_between((least, most), '.3g')} in all, {spent:.3g} measured so far."
        " Passes are an image's; ranges reach from the least to the most that the settings allow.",
        *(
            f"Training of the alignment in float32: {hours:.3g} hours on that device, validations aside."
            for hours in [content["training_hours"]]
            if hours is not None
        ),
        "Beside it: features and metrics, downloads, caches, and training on the noise loss where it is asked for.",
        *(
            f"{found['method']}: its module is none of this project's, so that its loop is not counted: one pass a call."
            for found in rows
            if not found["counted"]
        ),
        *(f"Measured on another device: {device}." for device in others),
    ]
    return f"**Estimate**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _between(ends: Sequence[float], form: str) -> str:
    least, most = (f"{end:{form}}" for end in ends)
    return least if least == most else f"{least} to {most}"


if __name__ == "__main__":
    run(main)
