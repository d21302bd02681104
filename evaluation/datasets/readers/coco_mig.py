"""COCO-MIG: YAML {caption: {label: [box, ...], coco_id}}, or JSON {number: {caption, segment: [{bbox, label}], image_id}}.

Boxes are xyxy of the unit square, of a photo of COCO's val2014 squashed to it. A label is "a COLOUR NAME".
"""

from collections.abc import Iterator
from typing import Any

from evaluation.datasets.opening import open_json, open_yaml
from evaluation.datasets.reading import Row, RowError, Source, checked_list, checked_text
from formats import shown
from formats.fields import whole


def read(source: Source) -> None:
    """A layout a caption; its tag `level` is the number of its instances, as the bench counts them."""
    for path in source.files("mig_bench*.json", "mig_bench*.yaml", "*.yaml", "*.json"):
        content = open_json(path) if path.suffix.lower() == ".json" else open_yaml(path)
        if not isinstance(content, dict):
            source.fault(path, "", f"is {shown(content)}, expected captions with their boxes")
            continue
        for place, (key, fields) in enumerate(content.items()):
            with source.row(path, f"key {place + 1}, {shown(key)}", fields) as row:
                of_json = row.has("segment") or row.has("caption")
                boxes = list(_of_json(row) if of_json else _of_yaml(row))
                caption = row.text("caption", filled=False) if of_json else key
                photo = whole(row.field("image_id")) if of_json and row.has("image_id") else None
                own = str(key) if of_json else str(row.own_id("coco_id"))
                level = {"level": len(boxes)}
                layout = row.layout(checked_text(caption, "caption", filled=False), own, photo, tags=level)
                for field, label, box in boxes:
                    words = checked_text(label, f"label of {field}").split()
                    named = len(words) > 2 and words[0].lower() in ("a", "an")
                    own_name, colour = (" ".join(words[2:]), {"color": words[1]}) if named else (None, {})
                    layout.add(label, box, field, category=own_name, attributes=colour)


def _of_yaml(row: Row) -> Iterator[tuple[str, Any, Any]]:
    row.field("coco_id", "the number of the layout")
    for label, boxes in row.fields.items():
        if label != "coco_id":
            for place, box in enumerate(checked_list(boxes, f"`{label}`")):
                yield f"`{label}[{place}]`", label, box


def _of_json(row: Row) -> Iterator[tuple[str, Any, Any]]:
    for place, segment in enumerate(row.several("segment")):
        if not isinstance(segment, dict) or not {"bbox", "label"} <= segment.keys():
            raise RowError(f"`segment[{place}]`", f"is {shown(segment)}, expected a `bbox` and a `label`")
        yield f"`segment[{place}].bbox`", segment["label"], segment["bbox"]
