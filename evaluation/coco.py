"""COCO 2014 annotations to layouts: the 80/20 split of train, the test sample of val, boxes, phrases and spans.

    python -m evaluation.coco --root results/miniature/coco --config results/miniature/data.json --out layouts

writes train.jsonl, heldout.jsonl, test.jsonl and report.json, which counts everything that was left out and why; with
`data.val` also val.jsonl, the photos of a larger reference set.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.files import InputError, hash_order, read_json, sha256, write_json
from evaluation.layouts import write_layouts
from evaluation.photos import Frame
from evaluation.program import run
from evaluation.report import Report
from evaluation.spans import Words, find_spans, read_words

KEYS = {"images": ("id", "width", "height"), "annotations": ("id", "image_id"), "categories": ("id", "name")}
# All that is kept of an annotation file: nine tenths of it are outlines, whose numbers would take gigabytes.
READ = {*KEYS, *(key for keys in KEYS.values() for key in keys), "bbox", "category_id", "iscrowd", "caption"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder in COCO 2014's layout")
    parser.add_argument("--config", type=Path, required=True, help="the config's `data` section as JSON")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    prepare(arguments.root, read_json(arguments.config), arguments.out)


def prepare(root: Path, data: dict[str, Any], out: Path) -> None:
    """Write the layouts files and the report; the same input gives the same bytes. Raises InputError."""
    words = read_words(Path(data["words"]))
    train = Split(root, "train2014", data, words)
    val = Split(root, "val2014", data, words)
    train_ids, held_out_ids = split_ids(train.image_ids, data["split"]["train_fraction"], data["split"]["seed"])
    chosen = {
        "train": (train, _take(train_ids, data["train"]["count"], "data.train.count"), True),
        "heldout": (train, _take(held_out_ids, data["heldout"]["count"], "data.heldout.count"), True),
        "test": (val, _test_ids(val, data), False),
    }
    if "val" in data:
        chosen["val"] = (val, _val_ids(val, data, chosen["test"][1]), False)
    reports = {}
    for name, (split, ids, every_caption) in chosen.items():
        report = Report()
        rows = [split.layout(image_id, report, every_caption) for image_id in ids]
        write_layouts(out / f"{name}.jsonl", [row for row in rows if row])
        reports[name] = report.summary([row for row in rows if row], words) | {"sha256": sha256(out / f"{name}.jsonl")}
    read = {split.name: split.report.as_dict() for split in (train, val)}
    write_json(out / "report.json", {"splits": reports, "annotations": read, "config": data})


def split_ids(ids: Iterable[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Image ids in the order of a seeded hash, the first `fraction` (rounded down) apart from the rest."""
    order = sorted(ids, key=lambda number: hash_order(seed, number))
    cut = int(len(order) * fraction)
    return order[:cut], order[cut:]


def _test_ids(val: "Split", data: dict[str, Any]) -> list[int]:
    """The seeded sample without replacement of val; `require_boxes` keeps only images that give a layout with objects."""
    ids = sorted(val.image_ids, key=lambda number: hash_order(data["test"]["seed"], number))
    if data["test"]["require_boxes"]:
        ids = [i for i in ids if (row := val.layout(i, Report(), False)) and row["objects"]]
    return _take(ids, data["test"]["count"], "data.test.count")


def _val_ids(val: "Split", data: dict[str, Any], test_ids: list[int]) -> list[int]:
    """The test sample and after it as many others of val, in the same order, as make up `data.val.count`."""
    others = sorted(set(val.image_ids) - set(test_ids), key=lambda number: hash_order(data["test"]["seed"], number))
    return _take([*test_ids, *others], data["val"]["count"], "data.val.count")


def _take(ids: list[int], count: int, key: str) -> list[int]:
    if count > len(ids):
        raise InputError(f"{key}: {count} images asked for, {len(ids)} there; lower {key} in the config")
    return ids[:count]


@dataclass(frozen=True)
class Annotations:
    """An annotation file: images by id, records `of` an image by ascending id, and categories."""

    images: dict[int, dict[str, Any]]
    of: dict[int, list[dict[str, Any]]]
    categories: list[dict[str, Any]]


class Split:
    """One split's annotations, by image."""

    def __init__(self, root: Path, name: str, data: dict[str, Any], words: Words) -> None:
        self.name, self.data, self.words, self.report = name, data, words, Report()
        self.rules = data["boxes"]
        self.instances = _load(root / "annotations" / f"instances_{name}.json", self.report)
        self.captions = _load(root / "annotations" / f"captions_{name}.json", self.report)
        self.names = {row["id"]: row["name"] for row in self.instances.categories}
        if unknown := sorted(set(self.names.values()) - set(words)):
            raise InputError(f"{data['words']}: no words for category {unknown[0]!r} of instances_{name}.json")
        with_caption = set(self.captions.of)
        for image_id in sorted(with_caption - set(self.instances.images)):
            self.report.drop("caption of an image that is not listed", image_id)
        for image_id in sorted(set(self.instances.images) - with_caption):
            self.report.drop("image without a caption", image_id)
        self.image_ids = sorted(set(self.instances.images) & with_caption)

    def layout(self, image_id: int, report: Report, every_caption: bool) -> dict[str, Any]:
        """The layout of one image: one of its captions, and the boxes that the rules keep."""
        said = self.captions.of[image_id]
        chosen = self._caption(said)
        caption = chosen["caption"].strip()
        spans = find_spans(caption, self.words)
        boxes = self._boxes(image_id, report)
        objects = [
            {
                "phrase": phrase,
                "box": [round(edge, 6) for edge in box],
                "span": spans.get(phrase),
                "annotation_id": number,
            }
            for number, phrase, box in boxes
        ]
        row = {"id": chosen["id"], "image_id": image_id, "caption": caption, "objects": objects}
        return row | ({"captions": [row["caption"].strip() for row in said]} if every_caption else {})

    def _caption(self, said: list[dict[str, Any]]) -> dict[str, Any]:
        """The caption of the lowest annotation id, or with `caption: random` one drawn by a hash of the ids."""
        if self.data["caption"] == "first":
            return said[0]
        return min(said, key=lambda row: hash_order(self.data["test"]["seed"], row["id"]))

    def _boxes(self, image_id: int, report: Report) -> list[tuple[int, str, tuple[float, float, float, float]]]:
        """(annotation id, category, box) of an image, largest first."""
        image = self.instances.images[image_id]
        frame, kept = Frame(image["width"], image["height"], self.data["resize"]), []
        for row in self.instances.of.get(image_id, []):
            report.boxes += 1
            box = frame.box(row["bbox"])
            reason = self._refuse(row, box)
            if reason or box is None:
                report.drop(reason or "outside the canvas", row["id"])
            else:
                kept.append((row["id"], self.names[row["category_id"]], box))
        kept.sort(key=lambda item: (-_area(item[2]), item[0]))
        for number, _, _ in kept[self.rules["max"] :]:
            report.drop(f"beyond the {self.rules['max']} largest", number)
        return kept[: self.rules["max"]]

    def _refuse(self, row: dict[str, Any], box: tuple[float, float, float, float] | None) -> str | None:
        if row["category_id"] not in self.names:
            return "unknown category"
        if self.rules["drop_crowd"] and row.get("iscrowd"):
            return "crowd"
        if box is None:
            return "outside the canvas"
        return "smaller than min_area_frac" if _area(box) < self.rules["min_area_frac"] else None


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _load(path: Path, report: Report) -> Annotations:
    """A checked annotation file; duplicate annotation ids keep their first record."""
    content = read_json(path, lambda row: {key: value for key, value in row.items() if key in READ})
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected COCO's object with `images` and `annotations`, found {type(content).__name__}"
        )
    needed = dict(KEYS) if path.name.startswith("instances") else {k: KEYS[k] for k in ("images", "annotations")}
    needed["annotations"] += ("bbox", "category_id") if path.name.startswith("instances") else ("caption",)
    for part, keys in needed.items():
        _check(path, part, content.get(part), keys)
    first = {row["id"]: row for row in reversed(content["annotations"])}
    for row in content["annotations"]:
        if first[row["id"]] is not row:
            report.drop(f"duplicate annotation id in {path.name}", row["id"])
    images, of = {row["id"]: row for row in content["images"]}, defaultdict(list)
    for _, row in sorted(first.items()):
        if row["image_id"] in images:
            of[row["image_id"]].append(row)
        else:
            report.drop(f"annotation of an unlisted image in {path.name}", row["id"])
    return Annotations(images, dict(of), content.get("categories", []))


def _check(path: Path, part: str, rows: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(rows, list):
        raise InputError(f"{path}: `{part}` should be a list, found {type(rows).__name__}")
    for number, row in enumerate(rows):
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise InputError(f"{path}: {part}[{number}] has no `{missing[0]}`")
        if "bbox" in keys and not _is_box(row["bbox"]):
            raise InputError(f"{path}: annotation {row['id']}: bbox {row['bbox']} is not [x, y, width, height]")


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(v, (int, float)) for v in value)


if __name__ == "__main__":
    run(main)
