"""COCO 2014's layout: the 80/20 split of train, the test sample of val, boxes, phrases and spans.

The root holds annotations/{instances,captions}_{train,val}2014.json, and the photos in {train,val}2014/ or {train,val}2014.zip.
The splits are train, heldout, test and, with `data.val`, val: the photos of a larger reference set.
"""

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.datasets import Prepared
from evaluation.datasets.annotations import BoxRecord, CaptionRecord, by_id, read_captions, read_instances
from evaluation.datasets.canvas import Frame, rounded
from evaluation.datasets.dropped import Report
from evaluation.datasets.photos import ASIDE, EXIF, Photos, Seen
from evaluation.datasets.spans import Words, read_words
from evaluation.datasets.splits import hash_order, split_ids
from formats import listed, shown
from formats.files import InputError
from formats.layouts import Box, Ignored, Layout, Object, area

# Which of COCO's two sets a split is of.
PHOTOS = {"train": "train2014", "heldout": "train2014", "test": "val2014", "val": "val2014"}
SETS = tuple(dict.fromkeys(PHOTOS.values()))


def annotations(kind: str, name: str) -> str:
    """Where below the root a set's file of `instances` or `captions` is."""
    return f"annotations/{kind}_{name}.json"


ANNOTATIONS = tuple(annotations(kind, name) for kind in ("instances", "captions") for name in SETS)
ARCHIVE = "annotations_trainval2014.zip"  # what ANNOTATIONS are distributed in

Rule = tuple[str, Callable[[Any], bool]]
_WHOLE: Rule = ("an integer", lambda value: type(value) is int)
_COUNT: Rule = ("an integer of at least 1", lambda value: type(value) is int and value >= 1)
_SHARE: Rule = ("a number from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1)
_SWITCH: Rule = ("true or false", lambda value: type(value) is bool)
# What the configuration's `data` has to hold; `exif` and `val` may be absent.
RULES: dict[str, Rule] = {
    "words": ("a path", lambda value: isinstance(value, str)),
    "caption": ("first or random", lambda value: value in ("first", "random")),
    "resize": ("center_crop or squash", lambda value: value in ("center_crop", "squash")),
    "exif": ("apply or ignore", lambda value: value in ("apply", "ignore")),
    "boxes.min_area_frac": _SHARE,
    "boxes.max": _COUNT,
    "boxes.drop_crowd": _SWITCH,
    "split.train_fraction": _SHARE,
    "split.seed": _WHOLE,
    "train.count": _COUNT,
    "heldout.count": _COUNT,
    "test.count": _COUNT,
    "test.seed": _WHOLE,
    "test.require_boxes": _SWITCH,
    "val.count": _COUNT,
}
OPTIONAL = {"exif", "val.count"}
_MISSING = object()


def faults(data: Any) -> list[str]:
    """A line for every key of `data` that is missing or of another kind than its rule says."""
    found = []
    for key, (expected, fits) in RULES.items():
        value = data
        for name in key.split("."):
            value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
        if value is _MISSING and key not in OPTIONAL:
            found.append(f"data.{key} is missing, expected {expected}")
        elif value is not _MISSING and not fits(value):
            found.append(f"data.{key} is {shown(value)}, expected {expected}")
    return found


def prepare(root: Path, data: dict[str, Any]) -> Prepared:
    """Layouts and report of every split. Raises InputError for annotations and photos that cannot be read without doubt."""
    words = read_words(Path(data["words"]))
    sets = {name: CocoSet(root, name, data, words) for name in SETS}
    train, val = sets.values()
    train_ids, held_out_ids = split_ids(train.image_ids, data["split"]["train_fraction"], data["split"]["seed"])
    chosen = {
        "train": train.take(train_ids, data["train"]["count"], "data.train.count"),
        "heldout": train.take(held_out_ids, data["heldout"]["count"], "data.heldout.count"),
    }
    # A test sample of another set needs none of this one.
    if not (data.get("source") or data["test"].get("source")):
        chosen["test"] = _test_ids(val, data)
    if "val" in data:
        chosen["val"] = _val_ids(val, data, chosen["test"])
    used = {name: {i for split, ids in chosen.items() if PHOTOS[split] == name for i in ids} for name in SETS}
    for name, every in used.items():
        sets[name].check_photos(sorted(every))
    layouts, counts = {}, {}
    for split, ids in chosen.items():
        one, counted = sets[PHOTOS[split]], Report()
        layouts[split] = [one.layout(image_id, counted, every_caption=one is train) for image_id in ids]
        counts[split] = counted.summary(layouts[split], words)
    report = {
        "splits": counts,
        "accounts": {name: sets[name].account(every) for name, every in used.items()},
        "annotations": {name: one.report.dropped.as_dict() for name, one in sets.items()},
        "read_as": {name: one.report.noted.as_dict() for name, one in sets.items()},
        "config": data,
    }
    return Prepared(layouts, report)


def describe(data: dict[str, Any]) -> str:
    """Which images, captions and boxes the test layouts have."""
    boxes, test = data["boxes"], data["test"]
    caption = "the caption of the lowest annotation id" if data["caption"] == "first" else "a caption by a seeded hash"
    frame = "its centre square" if data["resize"] == "center_crop" else "all of it, squashed"
    kept = "only those with boxes" if test["require_boxes"] else "those without boxes as well"
    return (
        f"Layouts: {test['count']} images of {PHOTOS['test']} in the order of a hash with seed {test['seed']}, {kept}; "
        f"{caption}; of a photo {frame} at {data['size']} px; boxes of at least {100 * boxes['min_area_frac']:g} % of the "
        f"canvas, {'not crowds, ' if boxes['drop_crowd'] else ''}the {boxes['max']} largest."
    )


def open_photos(root: Path, split: str, exif: str = "apply") -> "CocoPhotos":
    """The photos of a split."""
    return CocoPhotos(root, PHOTOS[split], exif)


def photo_name(name: str, image_id: int) -> str:
    """COCO's name of a photo of one of SETS."""
    return f"COCO_{name}_{image_id:012d}.jpg"


class CocoPhotos(Photos):
    """The photos of one of SETS."""

    layout = "COCO 2014's layout"

    def usual(self, image_id: int) -> str:
        return photo_name(self.name, image_id)


def _test_ids(val: "CocoSet", data: dict[str, Any]) -> list[int]:
    """The seeded sample without replacement of val; `require_boxes` keeps only images that give a layout with objects."""
    ids = sorted(val.image_ids, key=lambda number: hash_order(data["test"]["seed"], number))
    if data["test"]["require_boxes"]:
        bare = {i for i in ids if not val.layout(i, Report(), every_caption=False).objects}
        ids = [i for i in ids if i not in bare]
        return val.take(ids, data["test"]["count"], "data.test.count", f"{len(bare)} without a box that the rules keep")
    return val.take(ids, data["test"]["count"], "data.test.count")


def _val_ids(val: "CocoSet", data: dict[str, Any], test_ids: list[int]) -> list[int]:
    """The test sample and after it as many others of val, in the same order, as make up `data.val.count`."""
    others = sorted(set(val.image_ids) - set(test_ids), key=lambda number: hash_order(data["test"]["seed"], number))
    return val.take([*test_ids, *others], data["val"]["count"], "data.val.count")


class CocoSet:
    """The annotations of one of SETS, by image, and its photos."""

    def __init__(self, root: Path, name: str, data: dict[str, Any], words: Words) -> None:
        self.name, self.data, self.words, self.report = name, data, words, Report()
        self.rules = data["boxes"]
        self.photos = CocoPhotos(root, name, data.get("exif", "apply"))
        self.instances_path, captions_path = (root / annotations(kind, name) for kind in ("instances", "captions"))
        self.instances = read_instances(self.instances_path, self.report)
        self.captions = read_captions(captions_path, self.report)
        if unknown := sorted(set(self.instances.names.values()) - set(words)):
            raise InputError(
                f"{data['words']}: no words for category {shown(unknown[0])} of {self.instances_path.name}"
            )
        images, said = self.instances.images, self.captions.of
        for image_id in sorted(set(said) - set(images)):
            self.report.drop("caption of an image that is not listed", image_id)
        for image_id in sorted(set(images) - set(said)):
            self.report.drop("image without a caption", image_id)
        self.image_ids = sorted(set(images) & set(said))
        if images and said and not self.image_ids:
            raise InputError(
                f"{captions_path}: none of its {len(said)} images with a caption is in {self.instances_path.name}: the lowest "
                f"id here is {min(said)}, there {min(images)}"
            )
        self._check_names()
        if self.captions.ids_repeat:
            self.report.note(
                f"ids of layouts are their images', since those of captions repeat in {captions_path.name}", None
            )
        self.sizes: dict[int, tuple[int, int]] = {}
        self.other_names: dict[int, str] = {}

    def _check_names(self) -> None:
        """Raises InputError for an id under which the two files list photos of different names."""
        faults = []
        for image_id in self.image_ids:
            names = [of[image_id].file_name for of in (self.instances.images, self.captions.images)]
            if None not in names and len({posixpath.basename((name or "").replace("\\", "/")) for name in names}) > 1:
                both = " and ".join(map(shown, names))
                faults.append(f"image {image_id} is {both}")
        if faults:
            raise InputError(f"instances and captions of {self.name} differ in `file_name`: {listed(faults)}")

    def take(self, ids: list[int], count: int, key: str, lacking: str = "") -> list[int]:
        """The first `count` ids; raises InputError saying why there are fewer."""
        if count <= len(ids):
            return ids[:count]
        bare = len(self.instances.images) - len(self.image_ids)
        reasons = [f"{bare} without a caption"] * bool(bare) + [lacking] * bool(lacking)
        left_out = (
            f" (of {len(self.instances.images)} in {self.instances_path.name}, {', '.join(reasons)})" if reasons else ""
        )
        raise InputError(f"{key}: {count} images asked for, {len(ids)} there{left_out}; lower {key} in the config")

    def check_photos(self, ids: list[int]) -> None:
        """Raises InputError for photos that are missing, unreadable, or of another size than their record says."""
        faults, other, names = [], "", set()
        for image_id in ids:
            try:
                seen, record = self._look(image_id), self.instances.images[image_id]
            except InputError as error:
                faults.append(str(error))
                continue
            if seen.name in names:
                self.report.note("photo that an earlier image has as well", image_id)
            names.add(seen.name)
            said = record.width or seen.width, record.height or seen.height
            if said != seen[1:3]:
                turned = f", of EXIF orientation {seen.orientation}," if seen.orientation in ASIDE else ""
                size = f"{seen.name}{turned} is {seen.width} x {seen.height}"
                faults.append(f"image {image_id}: {size}, its record says {said[0]} x {said[1]}")
                if turned and said == seen[2:0:-1]:
                    other = next(choice for choice in EXIF if choice != self.photos.exif)
        if faults:
            remedy = f"; if boxes were drawn on photos so turned, set data.exif to {other}" if other else ""
            count = f"{len(faults)} of the {len(ids)} photos that are used do not fit {self.instances_path}"
            raise InputError(f"{count}: {listed(faults)}{remedy}")

    def _look(self, image_id: int) -> Seen:
        record = self.instances.images[image_id]
        seen = self.photos.look(image_id, record.file_name)
        if seen.name != self.photos.usual(image_id):
            self.other_names[image_id] = seen.name
        if not (record.width and record.height):
            self.sizes[image_id] = seen.width, seen.height
        return seen

    def _frame(self, image_id: int) -> Frame:
        """By the size that the record says, or else the photo."""
        _, width, height, _ = self.instances.images[image_id]
        if not (width and height):
            if image_id not in self.sizes:
                self._look(image_id)
            width, height = self.sizes[image_id]
        return Frame(width, height, self.data["resize"])

    def account(self, used: set[int]) -> dict[str, dict[str, int]]:
        """How many images and boxes the files have, of each image once, and where they went."""
        every, captioned = set(self.instances.images), set(self.image_ids)
        parts = {"used": used, "not asked for": captioned - used, "without a caption": every - captioned}
        return {
            "images": {"listed": len(every)} | {name: len(ids) for name, ids in parts.items()},
            "boxes": {"listed": self._boxes_of(every)} | {name: self._boxes_of(ids) for name, ids in parts.items()},
        }

    def _boxes_of(self, ids: set[int]) -> int:
        return sum(len(self.instances.of.get(image_id, ())) for image_id in ids)

    def layout(self, image_id: int, report: Report, every_caption: bool) -> Layout:
        """The layout of one image: a caption, the boxes that the rules keep, and as ignored those that they do not."""
        said = self.captions.of[image_id]
        chosen = self._caption(said)
        spans = self.words.spans(chosen.caption)
        kept, ignored = self._boxes(image_id, report)
        return Layout(
            id=image_id if self.captions.ids_repeat else chosen.id,
            image_id=image_id,
            caption=chosen.caption,
            objects=tuple(
                Object(
                    phrase,
                    box,
                    spans.get(phrase),
                    record.id if isinstance(record.id, int) else None,
                    attributes=dict(record.attributes),
                )
                for record, phrase, box in kept
            ),
            captions=tuple(one.caption for one in said) if every_caption else (),
            ignored=tuple(ignored),
            photo=self.other_names.get(image_id),
        )

    def _caption(self, said: list[CaptionRecord]) -> CaptionRecord:
        """The caption of the lowest annotation id, or with `caption: random` one drawn by a hash of the ids."""
        if self.data["caption"] == "first":
            return said[0]
        seed, by_place = self.data["test"]["seed"], self.captions.ids_repeat
        names = [f"{row.image_id} {place}" if by_place else row.id for place, row in enumerate(said)]
        return said[min(range(len(said)), key=lambda place: hash_order(seed, names[place]))]

    def _boxes(self, image_id: int, report: Report) -> tuple[list[tuple[BoxRecord, str, Box]], list[Ignored]]:
        """(record, category, box) of an image, largest first, and the others that are on the canvas, with the reason."""
        frame, largest, ignored = self._frame(image_id), self.rules["max"], []
        boxes = [(record, frame.box(record.xywh)) for record in self.instances.of.get(image_id, [])]
        report.boxes += len(boxes)
        fitting: list[tuple[BoxRecord, str, Box]] = []
        for record, box in sorted(boxes, key=lambda pair: (-area(pair[1]) if pair[1] else 0.0, by_id(pair[0]))):
            edges, phrase = rounded(box), self.instances.names.get(record.category_id)
            reason = self._refuse(record, box) or ("" if edges else "narrower than a millionth of the canvas")
            if not reason and len(fitting) == largest:
                reason = f"beyond the {largest} largest"
            if not reason and phrase and edges:
                fitting.append((record, phrase, edges))
                continue
            report.drop(reason, record.id)
            if phrase and edges:
                ignored.append(Ignored(phrase, edges, reason))
        return fitting, ignored

    def _refuse(self, record: BoxRecord, box: Box | None) -> str:
        """Why the rules leave a box out; empty where they keep it."""
        if record.category_id not in self.instances.names:
            return "unknown category"
        if self.rules["drop_crowd"] and record.crowd:
            return "crowd"
        if box is None:
            return "without area" if 0 in record.xywh[2:] else "outside the canvas"
        return "smaller than min_area_frac" if area(box) < self.rules["min_area_frac"] else ""
