"""What a run will cost on the device of its pilot, and how much of that has been spent: one table, printed and written.

Writes estimate.json and estimate.md and prints the latter. The pilot has timed each kind of pass, each method says how many of
them an image takes (`passes` beside its `generate`). What depends on the image (refinements, inner iterations, boxes) is a
range, from the least to the most that the settings allow for an image whose caption names its boxes. A method that does not say
is taken for plain sampling, and marked. Hours are of one device.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from formats.files import read_json, write_json, write_text
from formats.images import read_meta
from hcma.sampling.work import Passes
from workflow.benchmarks.pilot import Row, Workload, passes_of, workload
from workflow.plan import read_plan

Seconds = dict[str, dict[str, Any]]  # kind of pass -> {seconds, batch}, as pilot.py times them


def main(config: Path, pilot: Path, samples: Path, out: Path) -> None:
    write_table(workload(read_plan(config)), pilot, samples, out)


def write_table(load: Workload, pilot: Path, samples: Path, out: Path) -> None:
    """Print the table, and write it as Markdown and JSON."""
    timed = read_json(pilot)
    content = {"device": timed["device"], "pilot_commit": timed["commit"]}
    content["rows"] = [
        estimated(row, images.count, load, timed["rows"][row.name]) | measured(samples / images.row / images.split)
        for row, images in load.rows
    ]
    content["training_hours"] = training_hours(load.images_trained, timed["rows"].values())
    text = markdown(content)
    write_json(out.with_suffix(".json"), content)
    write_text(out.with_suffix(".md"), text)
    print(text, end="")


def estimated(row: Row, images: int, load: Workload, seconds: Seconds) -> dict[str, Any]:
    """So many images of a row: jobs, work, hours and disk; `known` tells whether its method says all that it takes."""
    passes, says = passes_of(row)
    counts = passes.counts((0, load.most_boxes))
    return {
        "method": row.name,
        "known": says and set(passes.other) <= set(seconds),
        "images": images,
        # Each shard is sampled and its features extracted; a specification and metrics a row.
        "jobs": 2 * -(-images // load.shard_size) + 2,
        "unet_forwards": counts["unet_forwards"],
        "guided_passes": counts["guidance_forwards"],
        "hours": [images * an_image(passes, boxes, seconds) / 3600 for boxes in (0, load.most_boxes)],
        # An image's PNG is at most about its pixels: photographs take half of that.
        "gigabytes_at_most": images * 3 * load.size**2 / 1e9,
    }


def an_image(passes: Passes, boxes: int, seconds: Seconds) -> float:
    """Seconds of an image with so many boxes: without any, at the least work; with boxes, at the most."""
    most = bool(boxes)
    work = {
        "pass": passes.calls + passes.each_box * boxes,
        "grounded_pass": passes.grounded,
        "guided_pass": passes.guided[most],
        # An encoding is taken for a decoding, which takes longer.
        "decoding": 1 + passes.encoded * most,
    } | dict(passes.other)
    return sum(times * seconds[kind]["seconds"] for kind, times in work.items() if times and kind in seconds)


def training_hours(images: int, rows: Iterable[Seconds]) -> float | None:
    """Hours of the alignment's training on so many images, held-out validations aside; None where no row is aligned."""
    return next((images * seconds["training"]["seconds"] / 3600 for seconds in rows if "training" in seconds), None)


def measured(folder: Path) -> dict[str, Any]:
    """Images, hours and gigabytes of the shards that are finished."""
    shards = sorted(folder.glob("[0-9][0-9][0-9][0-9].zip"))
    metas = [read_meta(path) for path in shards]
    return {
        "measured_images": sum(meta["images"] for meta in metas),
        "measured_hours": sum(meta["seconds"] for meta in metas) / 3600,
        "measured_gigabytes": sum(path.stat().st_size for path in shards) / 1e9,
        "measured_on": sorted({meta["device"] for meta in metas}),
    }


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
        done, least = found["measured_images"] > 0, "" if found["known"] else "at least "
        lines.append(
            [
                found["method"],
                str(found["images"]),
                str(found["jobs"]),
                least + _between(found["unet_forwards"], "d"),
                _between(found["guided_passes"], "d") if found["known"] else "not known",
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
            f"{found['method']}: its method does not say all that it takes (`passes`): estimated as plain sampling."
            for found in rows
            if not found["known"]
        ),
        *(f"Measured on another device: {device}." for device in others),
    ]
    return f"**Estimate**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _between(ends: Sequence[float], form: str) -> str:
    least, most = (f"{end:{form}}" for end in ends)
    return least if least == most else f"{least} to {most}"
