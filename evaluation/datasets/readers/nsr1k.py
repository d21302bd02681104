"""NSR-1K: JSON, a list with `prompt` and either obj1, obj2: [name, box] or object_list: [[name, box], ...].

A box is x, y, width, height of the unit square that the photo was letterboxed into.
"""

from evaluation.datasets.opening import open_json
from evaluation.datasets.reading import Source, checked_list

FRAME = "letterbox"
TAGS = {"type": "type", "sub-type": "sub_type", "relation": "relation"}


def read(source: Source) -> None:
    """A layout an entry; the set's own id is that of the file, such as "counting", and the entry's."""
    for path in source.files("*.json"):
        for where, fields in source.entries(path, open_json(path)):
            with source.row(path, where, fields) as row:
                tags = {tag: row.text(key) for key, tag in TAGS.items() if row.has(key)}
                own = f"{path.stem} {row.own_id('id')}"
                photo = row.whole("image_id") if row.has("image_id") else None
                layout = row.layout(row.text("prompt", filled=False), own, photo, tags={"split": path.stem, **tags})
                several = row.has("object_list")
                keys = [] if several else sorted(key for key in fields if key in ("obj1", "obj2"))
                things = row.several("object_list") if several else [row.field(key) for key in keys or ("obj1",)]
                for place, thing in enumerate(things):
                    field = f"`object_list[{place}]`" if several else f"`{keys[place]}`"
                    name, box = checked_list(thing, field, 2)
                    layout.add(name, box, field, form="xywh")
