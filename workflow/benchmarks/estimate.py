"""What a run will cost on the device of its pilot, and how much of that has been spent: one table, printed and written.

The pilot has timed each kind of pass, and each method says how many of them an image takes (`passes` beside its `generate`).
What depends on the image (refinements, inner iterations, boxes) is a range, from the least to the most that the settings allow
for an image whose caption names its boxes. A method that does not say is taken for plain sampling, and marked. Hours are of one
device.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evaluation.tables.table import Cell, Column, Table, markdown, write_table
from formats.files import read_json
from formats.images import read_meta
from hcma.sampling.counters import Passes
from workflow.benchmarks.feature_costs import note
from workflow.benchmarks.pilot import TimedRow, Workload, passes_of, workload
from workflow.plan import read_plan

Seconds = dict[str, dict[str, Any]]  # kind of pass -> {seconds, batch}, as pilot.py times them


def main(config: Path, pilot: Path, samples: Path, out: Path) -> None:
    print_table(workload(read_plan(config)), pilot, samples, out)


def print_table(load: Workload, pilot: Path, samples: Path, out: Path) -> None:
    """Print the table, and write it as every table is."""
    timed = read_json(pilot)
    rows = [
        estimated(row, images.count, load, timed["rows"][row.name]) | measured(samples / images.row / images.split)
        for row, images in load.rows
    ]
    evaluation = note(load.evaluation, timed["evaluation"]) if load.evaluation and "evaluation" in timed else None
    table = as_table(rows, timed["device"], training_hours(load.images_trained, timed["rows"].values()), evaluation)
    write_table(table, out)
    print(markdown(table), end="")


def estimated(row: TimedRow, images: int, load: Workload, seconds: Seconds) -> dict[str, Any]:
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
        "guided_grounded_pass": passes.guided_grounded[most],
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


COLUMNS = [
    Column("method", "Method"),
    Column("images", "Images", "d"),
    Column("jobs", "Jobs", "d"),
    Column("passes", "U-Net passes"),
    Column("guided", "Guided passes"),
    Column("hours", "Hours, estimated"),
    Column("hours_least", number=".3g", shown=False),
    Column("hours_most", number=".3g", shown=False),
    Column("hours_measured", "Hours, measured", ".3g"),
    Column("images_measured", "of images", "d"),
    Column("gigabytes", "GB at most", ".3g"),
    Column("gigabytes_measured", "GB, measured", ".3g"),
]


def as_table(
    rows: Sequence[dict[str, Any]], device: str, training: float | None, evaluation: str | None = None
) -> Table:
    """The rows, their sums, and how to read them; `training`: hours that the alignment's takes; `evaluation`: its cost."""
    least, most = (sum(found["hours"][end] for found in rows) for end in (0, 1))
    spent = sum(found["measured_hours"] for found in rows)
    others = sorted({other for found in rows for other in found["measured_on"]} - {device})
    notes = [
        f"Hours of sampling on one {device}: {_between((least, most), '.3g')} in all, {spent:.3g} measured so far."
        " Passes are an image's; ranges reach from the least to the most that the settings allow."
    ]
    if training is not None:
        notes.append(f"Training of the alignment in float32: {training:.3g} hours on that device, validations aside.")
    notes += [evaluation] if evaluation else []
    beside = "downloads, caches, and training on the noise loss where it is asked for"
    notes.append(f"Beside it: {beside if evaluation else f'features and metrics, {beside}'}.")
    notes += [
        f"{found['method']}: its method does not say all that it takes (`passes`): estimated as plain sampling."
        for found in rows
        if not found["known"]
    ]
    notes += [f"Measured on another device: {other}." for other in others]
    return Table("Estimate", COLUMNS, [_row(found) for found in rows], notes)


def _row(found: dict[str, Any]) -> dict[str, Cell]:
    done, at_least = found["measured_images"] > 0, "" if found["known"] else "at least "
    values = {name: found[name] for name in ("method", "images", "jobs")} | {
        "passes": at_least + _between(found["unet_forwards"], "d"),
        "guided": _between(found["guided_passes"], "d") if found["known"] else "not known",
        "hours": at_least + _between(found["hours"], ".3g"),
        "hours_least": found["hours"][0],
        "hours_most": found["hours"][1],
        "gigabytes": found["gigabytes_at_most"],
    }
    spent = {f"{name}_measured": found[f"measured_{name}"] for name in ("hours", "images", "gigabytes") if done}
    return {name: Cell(value) for name, value in (values | spent).items()}


def _between(ends: Sequence[float], form: str) -> str:
    least, most = (f"{end:{form}}" for end in ends)
    return least if least == most else f"{least} to {most}"
