"""Pascal VOC: an XML file a photo, a box xmin, ymin, xmax, ymax in pixels, by name, whatever their order.

VOC counts pixels from 1, both ends inclusive; LabelImg, CVAT, Label Studio and Roboflow from 0: `origin` 0 is theirs.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from evaluation.datasets.opening import open_xml
from evaluation.datasets.reading import RowError, Source, number
from formats.files import InputError

TAKES = ("origin",)
EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(source: Source) -> None:
    """A layout a file, in the order of their names; boxes marked difficult are kept, and counted."""
    for path in source.files("Annotations/*.xml", "*.xml", "*/*.xml"):
        with source.row(path, "") as row:
            try:
                root = open_xml(path)
            except InputError as error:
                raise RowError("", str(error).removeprefix(f"{path}: ")) from None
            canvas, photo = size_of(root), (root.findtext("filename") or "").strip() or None
            layout = row.layout(None, path.stem, photo=photo, tags={"split": _folder(path)})
            for place, thing in enumerate(root.findall("object"), 1):
                with source.record(path, f"object {place}"):
                    box, name = thing.find("bndbox"), (thing.findtext("name") or "").strip()
                    if box is None:
                        raise RowError("", "no `bndbox`")
                    if (thing.findtext("difficult") or "0").strip() == "1":
                        layout.note("object marked difficult, kept")
                    edges = edges_of(box, "bndbox", 1 if source.options.origin is None else source.options.origin)
                    phrase = name.replace("_", " ").lower()
                    layout.add(phrase, edges, "bndbox", canvas, cut=True, category=name)


def size_of(root: ET.Element) -> tuple[float, float]:
    """Width and height of an annotation's photo; raises RowError for none, or one of 0."""
    sides = [
        number((root.findtext(f"size/{side}") or "").strip() or "0", f"size/{side}") for side in ("width", "height")
    ]
    if min(sides) < 1:
        raise RowError("size", f"is {sides[0]:g} x {sides[1]:g}: no image size")
    return sides[0], sides[1]


def edges_of(box: ET.Element, field: str, origin: int) -> list[float]:
    """The edges of a `bndbox`, from 0; pixels counted from 1 are inclusive at both ends."""
    x0, y0, x1, y1 = (number((box.findtext(name) or "").strip(), f"{field}, {name}") for name in EDGES)
    return [x0 - origin, y0 - origin, x1, y1]


def _folder(path: Path) -> str | None:
    return path.parent.name if path.parent.name in ("train", "val", "valid", "test") else None
