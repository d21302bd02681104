"""LayoutBench-COCO: JSON, a list of {id, caption, box_captions, boxes_normalized}; boxes xyxy of the unit square."""

from evaluation.datasets.opening import open_json
from evaluation.datasets.reading import RowError, Source


def read(source: Source) -> None:
    """A layout an entry; its tag `split` is the file's name without its ending, its `level` the number of boxes."""
    for path in source.files("*_layouts*.json", "*.json"):
        for where, fields in source.entries(path, open_json(path)):
            with source.row(path, where, fields) as row:
                phrases, boxes = row.several("box_captions"), row.several("boxes_normalized")
                if len(phrases) != len(boxes):
                    raise RowError("", f"box_captions has {len(phrases)} entries, boxes_normalized {len(boxes)}")
                own = row.own_id(next((key for key in ("id", "file_name") if row.has(key)), "caption"))
                photo = row.text("file_name") if row.has("file_name") else None
                tags = {"split": path.stem, "level": len(boxes)}
                layout = row.layout(row.text("caption", filled=False), own, photo=photo, tags=tags)
                for number, (phrase, box) in enumerate(zip(phrases, boxes, strict=True)):
                    layout.add(phrase, box, f"`boxes_normalized[{number}]`")
