"""What each row cost, and what it left out: one table from the meta.json of its shards.

    python -m evaluation.cost --shards samples/sd14/test/0000.zip samples/hcma/test/0000.zip ... --out tables/cost

writes cost.csv and cost.md. A row's name is the folder two above its shards. Work is the mean over its images; seconds are
those of sampling alone, on the `device` that made the shard; rows of several devices name all.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.files import InputError, replacing, write_text
from evaluation.images import read_meta
from evaluation.program import run

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
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    table = build(arguments.shards)
    with replacing(arguments.out.with_suffix(".csv")) as beside:
        table.to_csv(beside, index=False)
    write_text(arguments.out.with_suffix(".md"), markdown(table))


def build(shards: Sequence[Path]) -> pd.DataFrame:
    """One row a method: images, seconds in all and an image, the means of WORK and the sums of LEFT_OUT."""
    metas: dict[str, list[dict[str, Any]]] = {}
    for path in shards:
        meta = read_meta(path)
        if not {"images", "seconds", "counts"} <= set(meta):
            raise InputError(f"{path}: meta.json has no `images`, `seconds` and `counts`; delete it and run again")
        metas.setdefault(path.parents[1].name, []).append(meta)
    return pd.DataFrame([_row(method, found) for method, found in metas.items()])


def _row(method: str, metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    images, counts = sum(meta["images"] for meta in metas), Counter[str]()
    for meta in metas:
        counts.update(meta["counts"])
    seconds = sum(meta["seconds"] for meta in metas)
    row = {"method": method, "images": images, "seconds": seconds, "seconds_per_image": seconds / images}
    row |= {name: counts[name] / images for name in WORK} | {name: counts[name] for name in LEFT_OUT}
    return row | {"device": "; ".join(sorted({meta.get("device", "unknown") for meta in metas}))}


def markdown(table: pd.DataFrame) -> str:
    """The table's work columns, those that any row uses, and how to read them."""
    used = [name for name in WORK if table[name].any()]
    heads = ["Method", "Images", "Seconds", "Seconds an image", *(WORK[name] for name in used)]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for row in table.to_dict("records"):
        work = [f"{row[name]:.1f}" for name in used]
        spent = [f"{row['seconds']:.0f}", f"{row['seconds_per_image']:.3f}"]
        lines.append([row["method"], str(row["images"]), *spent, *work])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    devices = table.groupby("device")["method"].agg(", ".join)
    where = (
        "; ".join(f"{device} ({rows})" for device, rows in devices.items()) if len(devices) > 1 else devices.index[0]
    )
    note = (
        "Seconds of sampling, over all shards; passes are means over the images, and a call of the sampler is two U-Net "
        "passes, with and without caption."
    )
    return f"**Cost**\n\n{body}\n\n- {note}\n- Sampled on: {where}.\n"


if __name__ == "__main__":
    run(main)
