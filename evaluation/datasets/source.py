"""The configuration's sources: which set a split is read from, where it is not the data set of `data.dataset`.

`data.source` is a foreign set {reader, path, ...}, a test: the test layouts are read from it, and the training ones too where
there is no data set. `data.test.source` and `data.train.source` go before it, each for its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.datasets import Prepared, find_dataset
from evaluation.datasets.captioning import TEMPLATE
from evaluation.datasets.readers import find_reader, frame_of, read_set, with_photos
from evaluation.datasets.reading import UNIT, Options
from evaluation.datasets.splits import split_ids
from formats.files import InputError
from formats.layouts import Layout

Settings = Mapping[str, Any]
TRAINING = ("train", "heldout")


def source_of(data: Settings, split: str) -> Settings | None:
    """The set that a split is read from; None is the data set."""
    given: Settings | None = data.get("source")
    if split == "test":
        return (data.get("test") or {}).get("source") or given
    if split in TRAINING:
        there = any(data.get(key) is not None for key in ("root", "draw", "files"))
        return (data.get("train") or {}).get("source") or (None if there else given)
    return None


def needs_data_set(data: Settings) -> bool:
    """Whether any split is read from `data.dataset`."""
    splits = (*TRAINING, "test", *(["val"] if data.get("val") else []))
    return any(source_of(data, split) is None for split in splits)


def paths_of(source: Settings) -> list[str]:
    """The files and folders of a source; none of one that is yet to be fetched."""
    path = source.get("path") or []
    return [path] if isinstance(path, str) else list(path)


def options_of(source: Settings) -> Options:
    """How a source is read."""
    canvas = source.get("canvas")
    sides: Sequence[float] | None = (
        UNIT if canvas == "unit" else [canvas, canvas] if isinstance(canvas, int) else canvas
    )
    return Options(
        source.get("boxes"),
        None if sides is None else (float(sides[0]), float(sides[1])),
        source.get("origin"),
        Path(source["captions"]) if source.get("captions") else None,
        None if source.get("template") == "none" else source.get("template") or TEMPLATE,
        source.get("min_area_frac") or 0.0,
        source.get("max_boxes") or 30,
    )


def faults_of(source: Settings) -> list[str]:
    """One line if a source's reader does not exist."""
    try:
        find_reader(source["reader"])
    except InputError as error:
        return [str(error)]
    return []


def lacking_paths(source: Settings, key: str) -> list[str]:
    """A line for each of a source's files and folders that is not there."""
    named = [("path", path) for path in paths_of(source)]
    named += [(name, source[name]) for name in ("captions", "photos") if source.get(name)]
    return [f"{key}.{name}: no such file or folder: {path}" for name, path in named if not Path(path).exists()]


def frame(source: Settings) -> str:
    """Which part of a photo the source's boxes are of."""
    return frame_of(source["reader"], source.get("frame"))


def prepare_with_sources(dataset: Any, root: Path | None, data: Settings) -> Prepared:
    """Layouts and report of every split, those that have a source of their own read from it."""
    layouts: dict[str, Sequence[Layout]] = {}
    report: dict[str, Any] = {"splits": {}}
    if needs_data_set(data):
        if root is None:
            raise InputError("--root: missing, and needed for the splits that have no source of their own")
        prepared = dataset.prepare(root, data)
        layouts = {split: found for split, found in prepared.layouts.items() if source_of(data, split) is None}
        kept = {split: found for split, found in prepared.report["splits"].items() if split in layouts}
        report = prepared.report | {"splits": kept}
    if source := source_of(data, "test"):
        found, said = _read(source)
        test = data["test"]
        if test.get("require_boxes"):
            bare = sum(not layout.objects for layout in found)
            found, said = [layout for layout in found if layout.objects], said | {"left_out_without_boxes": bare}
        layouts["test"] = _first(found, test["count"], "data.test.count", source)
        report["splits"]["test"] = said
    if source := source_of(data, "train"):
        found, said = _read(source)
        found, said = _without_test_images(found, said, source, layouts.get("test", ()), source_of(data, "test"))
        ids = split_ids({layout.image_id for layout in found}, data["split"]["train_fraction"], data["split"]["seed"])
        for split, of in zip(TRAINING, ids, strict=True):
            place = {image: number for number, image in enumerate(of)}
            mine = sorted(
                (one for one in found if one.image_id in place), key=lambda one: (place[one.image_id], one.id)
            )
            trained = [_for_training(one) for one in mine]
            fewer = "left_out_as_test_images" in said
            layouts[split] = _first(trained, data[split]["count"], f"data.{split}.count", source, fewer)
            report["splits"][split] = said
    return Prepared(layouts, report)


def _read(source: Settings) -> tuple[list[Layout], dict[str, Any]]:
    if not paths_of(source):
        raise InputError(
            "a source has `files` that are to be fetched, and no path; give a path, or a run's config.json"
        )
    layouts, report = read_set(source["reader"], [Path(path) for path in paths_of(source)], options_of(source))
    return with_photos(layouts, Path(source["photos"])) if source.get("photos") else layouts, report


def _without_test_images(
    found: list[Layout], said: dict[str, Any], source: Settings, test: Sequence[Layout], of_test: Settings | None
) -> tuple[list[Layout], dict[str, Any]]:
    """The layouts of a training set, and its report, without those of the test sample's images: of one set these have the same
    number, of two sets of the same photos the same file. Raises InputError where none is left.
    """
    same = of_test is not None and all(of_test[key] == source[key] for key in ("reader", "path"))
    numbers = {layout.image_id for layout in test} if same else set()
    files = {_file(layout, of_test) for layout in test} if of_test and of_test.get("photos") else set()
    left = [one for one in found if one.image_id not in numbers and not (files and _file(one, source) in files)]
    if found and not left:
        where = ", ".join(paths_of(source))
        raise InputError(
            f"{where}: all {len(found)} layouts are of images of the test sample, none is left to train on; lower"
            " data.test.count, or give data.train.source another set"
        )
    return left, said | ({"left_out_as_test_images": len(found) - len(left)} if len(left) < len(found) else {})


def _file(layout: Layout, source: Settings) -> str:
    """Where a layout's photo is, links followed: two sets may have the same photos."""
    return os.path.realpath(os.path.join(source["photos"], str(layout.photo)))


def _for_training(layout: Layout) -> Layout:
    return replace(layout, captions=layout.captions or (layout.caption,))


def _first(layouts: list[Layout], count: int, key: str, source: Settings, beside_test: bool = False) -> list[Layout]:
    if count > len(layouts):
        where = ", ".join(paths_of(source)) + (" without the test sample" if beside_test else "")
        raise InputError(
            f"{key}: {count} asked for, {where} has {len(layouts)}; set {key} to {len(layouts)} in the config"
        )
    return layouts[:count]


def describe(data: Settings) -> list[str]:
    """Sentences for the tables' notes: which layouts are the test's, and of which set aligned rows were trained where that is
    another.
    """
    test, train = source_of(data, "test"), source_of(data, "train")
    of_set = find_dataset(data.get("dataset", "coco")) if "split" in data or not test else None
    if test is None:
        said = [of_set.describe(data)] if of_set else []
    else:
        photos = f"photos {frame(test).replace('_', ' ')}" if test.get("photos") else "no photos"
        least = (
            f"boxes of at least {100 * test['min_area_frac']:g} % of the canvas"
            if test.get("min_area_frac")
            else "all boxes"
        )
        said = [
            f"Layouts: {data['test']['count']} of {_named(test)}, in the order of its file; {photos}; {least}, "
            f"the {test.get('max_boxes') or 30} largest at most."
        ]
    if train != test:
        of = _named(train) if train else f"the data set {data.get('dataset', 'coco')}"
        said.append(f"Trained and calibrated on other layouts than those of the test: {of}.")
    return said


def _named(source: Settings) -> str:
    return f"{source['reader']} ({', '.join(Path(path).name for path in paths_of(source))})"
