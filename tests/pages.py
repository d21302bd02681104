"""Runs made up for the page: layouts, scores and images of which a test knows what the page has to show."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from evaluation.layouts import write_layouts
from evaluation.tables.table import Cell, Column, Table, decimals, write_table
from formats.files import write_json
from formats.images import write_images

HOSTILE = (
    "a cat </script><img src=x onerror=hacked()> <!-- <script>hacked()</script> {{script}} "
    "'and' \"a\" dog\u2028& &lt;b&gt;"
)
PHRASES = ["cat", "dog", "traffic light"]
# One colour a method, so that a pixel tells whose image it is.
COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (210, 180, 20)]
LINES = {
    "real": (Cell(0.0, 0.0), Cell(0.7075, 0.0056, bold=True)),
    "nine": (Cell(9.5, 0.77, mark="†", published=12.12), Cell(-0.152, 0.01, published=0.2238)),
    "ten": (Cell(10.25), Cell()),
    "never run": (Cell(published=18.53), Cell(published=0.2381)),
    "<b>two</b>": (Cell(2.0, 0.1), Cell(0.02, 0.01)),
}
TABLE = Table(
    "Table 1",
    [Column("method", "Method"), Column("fid", "Image FD", decimals(2)), Column("clip", "Region CLIP", decimals(4))],
    [{"method": Cell(name), "fid": fid, "clip": clip} for name, (fid, clip) in LINES.items()],
    ["`real`: the photos."],
    caveat="Nothing is claimed.",
)


def layouts_of(count: int, most: int = 3) -> list[dict]:
    """Layouts with no object to `most` of them, in turn; the first caption is a hostile one."""
    rng = np.random.default_rng(0)
    return [_layout(number, number % (most + 1), rng) for number in range(count)]


def _layout(number: int, objects: int, rng: np.random.Generator) -> dict:
    things = []
    for place in range(objects):
        x, y = rng.integers(0, 5, 2) / 10
        width = 0.05 if place == 1 else 0.3  # the second box is the smaller one
        things.append({"phrase": PHRASES[(number + place) % 3], "box": [x, y, x + width, y + 0.5], "span": None})
    caption = f"picture number {number}, {'red' if number % 5 == 0 else 'blue'}"
    if number == 0:
        caption = HOSTILE
    elif things:
        caption = f"a {things[0]['phrase']} in {caption}"
        things[0]["span"] = [2, 2 + len(things[0]["phrase"])]
    tags = {"level": number % 3, "</script>": "<b>" if number % 2 else "{{script}}"}
    return {"id": 100 + number, "image_id": 10 + number, "caption": caption, "objects": things, "tags": tags}


def scores_of(layouts: Sequence[dict], seed: int) -> pd.DataFrame:
    """The scores file of a method, at random; the last box of each layout is not measured."""
    rng = np.random.default_rng(seed)
    counts = np.array([len(row["objects"]) for row in layouts])
    ids = np.array([row["id"] for row in layouts])
    boxes = pd.DataFrame({"id": np.repeat(ids, counts)})
    boxes["object"] = boxes.groupby("id").cumcount()
    boxes["clip"] = rng.uniform(-0.2, 0.9, len(boxes)).round(4)
    boxes.loc[boxes["object"] == 2, "clip"] = np.nan
    boxes["best_iou"] = rng.uniform(0, 1, len(boxes)).round(4)
    boxes["success"] = (boxes["best_iou"] > 0.5).astype(object)
    images = pd.DataFrame({"id": ids, "object": -1, "clip": rng.uniform(0, 1, len(ids)).round(4)})
    return pd.concat([images, boxes], ignore_index=True)


def write_run(folder: Path, layouts: Sequence[dict], methods: Sequence[str], images: bool = True) -> None:
    """layouts/test.jsonl, scores, a table, a figure, and where wanted the images of one shard."""
    write_layouts(folder / "layouts/test.jsonl", list(layouts))
    for place, method in enumerate(methods):
        (folder / "scores" / method).mkdir(parents=True)
        scores_of(layouts, place).to_parquet(folder / "scores" / method / "test.parquet", index=False)
        if images:
            pixels = np.full((64, 64, 3), COLOURS[place % 4], np.uint8)
            named = [(f"{row['id']:012d}.png", pixels) for row in layouts]
            write_images(folder / "samples" / method / "test/0000.zip", named, {})
    (folder / "tables").mkdir()
    write_table(TABLE, folder / "tables/table1")
    (folder / "figures").mkdir()
    Image.new("RGB", (40, 20), "white").save(folder / "figures/panel.png")


def write_index(path: Path, layouts: Sequence[dict], methods: Sequence[str]) -> None:
    """An index of strips that are not there, of 30,000 bytes each."""
    write_json(path, {"methods": list(methods), "side": 128, "bytes": {f"{row['id']:012d}": 30_000 for row in layouts}})


def strip_arguments(folder: Path, methods: Sequence[str]) -> list[str]:
    """Of `python -m evaluation.contact_sheets`."""
    return [
        *("--layouts", str(folder / "layouts/test.jsonl"), "--samples", str(folder / "samples"), "--shard", "0000"),
        *("--methods", *methods, "--out", str(folder / "report/strips/0000.json")),
    ]


def page_arguments(folder: Path, methods: Sequence[str], *more: str) -> list[str]:
    """Of `python -m evaluation.report`."""
    return [
        *("--run", "try <b>", "--caveat", "Nothing is claimed.", "--tables", str(folder / "tables/table1.json")),
        *("--figures", str(folder / "figures/panel.png"), "--layouts", str(folder / "layouts/test.jsonl")),
        *("--scores", str(folder / "scores"), "--methods", *methods, "--compare", methods[-1], methods[1]),
        *("--strips", str(folder / "report/strips/0000.json"), "--out", str(folder / "report.html"), *more),
    ]


def content_of(page: Path) -> dict:
    """The content that a page carries."""
    html = page.read_text(encoding="utf-8")
    return json.loads(html.split('id="content">', 1)[1].split("</script>", 1)[0])
