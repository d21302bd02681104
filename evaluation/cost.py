"""What each row cost, and what it left out: one table from the meta.json of its shards.

    python -m evaluation.cost --shards samples/sd14/test/0000.zip samples/hcma/test/0000.zip ... --out tables/cost

writes cost.csv and cost.md. A row's name is the folder two above its shards. Work is the mean over its images, and
`{work}_total` the sum; seconds are those of sampling alone, on the device that made the shard. A row whose shards were made
on several devices or at several commits names them all.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.printing import write_csv
from formats.cli import run
from formats.files import InputError, write_text
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
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    table = build(arguments.shards)
    write_csv(arguments.out.with_suffix(".csv"), table)
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
    row = {"method": method, "images": images, "device": _all(metas, "device"), "commit": _all(metas, "commit")}
    row |= {"seconds": seconds, "seconds_per_image": seconds / images}
    row |= {"hours": seconds / 3600, "hours_per_image": seconds / 3600 / images}
    row |= {name: counts[name] / images for name in WORK} | {f"{name}_total": counts[name] for name in WORK}
    return row | {name: counts[name] for name in LEFT_OUT}


def _all(metas: Sequence[dict[str, Any]], key: str) -> str:
    return " and ".join(sorted({str(meta.get(key) or "unknown") for meta in metas}))


def markdown(table: pd.DataFrame) -> str:
    """The table's work columns, those that any row uses, an image and in all, and how to read them."""
    used = [name for name in WORK if table[name].any()]
    image, total = [], []
    for row in table.to_dict("records"):
        work = [f"{row[name]:.1f}" for name in used]
        image.append([row["method"], f"{row['seconds_per_image']:.3f}", f"{row['hours_per_image']:.2g}", *work])
        work = [f"{row[f'{name}_total']:,}" for name in used]
        spent = [f"{row['seconds']:.0f}", f"{row['hours']:.3g}"]
        total.append([row["method"], str(row["images"]), row["device"], *spent, *work])
    heads = ["Seconds", "Hours", *(WORK[name] for name in used)]
    note = (
        "Sampling alone, over all shards. Hours are the named device's, so GPU hours where it is a GPU. A call of the sampler "
        "is two U-Net passes, with and without caption; guided passes are those that a gradient is taken through, backward "
        "passes the gradients; an alignment is a forward and a backward pass of the alignment module."
    )
    blocks = (_block(["Method", *heads], image), _block(["Method", "Images", "Device", *heads], total))
    return "**Cost**\n\nAn image:\n\n{}\n\nIn all:\n\n{}\n\n- {}\n".format(*blocks, note)


def _block(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    run(main)
