"""What each row cost, and what it left out, by the meta.json of its shards.

Work is the mean over a row's images, and `{work}_total` the sum; seconds are those of sampling alone, on the device that
made the shard. A row whose shards were made on several devices or at several commits names them all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evaluation.tables.table import Cell, Column, Row, Table, View
from formats.files import InputError
from formats.images import read_meta

# Means over the images, as the heads of the table have them.
WORK = {
    "unet_forwards": "U-Net passes",
    "guidance_forwards": "guided passes",
    "guidance_backwards": "backward passes",
    "refinements": "refinements",
    "guidance_iterations": "inner iterations",
    "alignments": "alignments",
}
# Sums over the images.
LEFT_OUT = (
    "boxes",
    "boxes_without_token",
    "images_without_token",
    "objects_without_cell",
    "dropped_boxes",
    "truncated_captions",
    "other_first_noise",
)
NOTE = (
    "Sampling alone, over all shards. Hours are the named device's, so GPU hours where it is a GPU. A call of the sampler "
    "is two U-Net passes, with and without caption; guided passes are those that a gradient is taken through, backward "
    "passes the gradients; an alignment is a forward and a backward pass of the alignment module."
)


def cost_table(shards: Sequence[Path], elsewhere: Iterable[str] = ()) -> Table:
    """A line a row, whose name is that of the folder two above its shards, and a bare one for each row made elsewhere.

    Raises InputError for a shard without counts.
    """
    metas: dict[str, list[dict[str, Any]]] = {}
    for path in shards:
        meta = read_meta(path)
        if not {"images", "seconds", "counts"} <= set(meta):
            raise InputError(f"{path}: meta.json has no `images`, `seconds` and `counts`; delete it and run again")
        metas.setdefault(path.parents[1].name, []).append(meta)
    rows = [_row(method, found) for method, found in metas.items()]
    rows += [{"method": Cell(method)} for method in elsewhere]
    used = [name for name in WORK if any(row.get(name, Cell()).value for row in rows)]
    image = ["method", "seconds_per_image", "hours_per_image", *used]
    total = ["method", "images", "device", "seconds", "hours", *(f"{name}_total" for name in used)]
    return Table("Cost", _columns(), rows, [NOTE], [View("An image:", image), View("In all:", total)])


def _columns() -> list[Column]:
    columns = [Column("method", "Method"), Column("images", "Images", "d"), Column("device", "Device")]
    columns += [Column("commit", "Commit"), Column("seconds", "Seconds", ".0f")]
    columns += [Column("seconds_per_image", "Seconds", ".3f"), Column("hours", "Hours", ".3g")]
    columns += [Column("hours_per_image", "Hours", ".2g")]
    columns += [Column(name, head, ".1f") for name, head in WORK.items()]
    columns += [Column(f"{name}_total", head, ",d") for name, head in WORK.items()]
    return columns + [Column(name, name.replace("_", " "), ",d") for name in LEFT_OUT]


def _row(method: str, metas: Sequence[dict[str, Any]]) -> Row:
    images, counts = sum(meta["images"] for meta in metas), Counter[str]()
    for meta in metas:
        counts.update(meta["counts"])
    seconds = sum(meta["seconds"] for meta in metas)
    row = {"method": method, "images": images, "device": _all(metas, "device"), "commit": _all(metas, "commit")}
    row |= {"seconds": seconds, "seconds_per_image": seconds / images}
    row |= {"hours": seconds / 3600, "hours_per_image": seconds / 3600 / images}
    row |= {name: counts[name] / images for name in WORK} | {f"{name}_total": counts[name] for name in WORK}
    row |= {name: counts[name] for name in LEFT_OUT}
    return {key: Cell(value) for key, value in row.items()}


def _all(metas: Sequence[dict[str, Any]], key: str) -> str:
    return " and ".join(sorted({str(meta.get(key) or "unknown") for meta in metas}))
