"""YOLO: labels/STEM.txt a photo, `class cx cy w h` in the unit square a line; names in data.yaml or classes.txt above it."""

from pathlib import Path

from evaluation.datasets.opening import open_lines, open_yaml
from evaluation.datasets.reading import RowError, Source, number
from formats import shown
from formats.fields import whole
from formats.files import InputError

NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")
OTHER = {6: "6 columns: predictions with a confidence, or a rotated box?", 9: "9 columns: polygon, or a rotated box?"}


def read(source: Source) -> None:
    """A layout a file of labels, in the order of their names; an empty one is a layout without boxes."""
    source.paths = [path.parent if path.name in NAMES else path for path in source.paths]
    for path in source.files("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "*.txt", "*/*.txt"):
        if path.name in (*NAMES, "notes.txt", "README.txt"):
            continue
        names = _names(path)
        with source.row(path, "") as row:
            folder = path.parent.name
            layout = row.layout(None, path.stem, photo=None, tags={"split": folder if folder != "labels" else None})
            for place, line in open_lines(path):
                with source.record(path, f"line {place}"):
                    if line is None:
                        raise RowError("", "is not UTF-8; save the file as UTF-8")
                    if line:
                        layout.add(*_box(line, names), f"line {place}", form="xywh")


def _box(line: str, names: dict[int, str]) -> tuple[str, list[float]]:
    cells = line.split()
    if len(cells) != 5:
        many = len(cells) > 9 and len(cells) % 2
        raise RowError("", OTHER.get(len(cells), f"{len(cells)} columns, 5 expected{': polygon?' * bool(many)}"))
    kind, cx, cy, width, height = (number(cell, "") for cell in cells)
    name = names.get(int(kind)) if kind.is_integer() and kind >= 0 else None
    if name is None:
        raise RowError("", f"class {shown(cells[0])} has no name; {len(names)} are named")
    return name, [cx - width / 2, cy - height / 2, width, height]


def _names(path: Path) -> dict[int, str]:
    """The classes' names, from the nearest file that has them, at most three folders up."""
    for folder in list(path.parents)[:4]:
        for file in (folder / name for name in NAMES):
            if file.is_file():
                return _of_yaml(file) if file.suffix == ".yaml" else _of_lines(file)
    raise InputError(f"{path}: no {', '.join(NAMES)} beside it or above, which name the classes")


def _of_lines(file: Path) -> dict[int, str]:
    lines = [line for _, line in open_lines(file)]
    if None in lines:
        raise InputError(f"{file}: line {lines.index(None) + 1} is not UTF-8; save the file as UTF-8")
    return {place: _plain(str(name)) for place, name in enumerate(lines) if name}


def _of_yaml(file: Path) -> dict[int, str]:
    content = open_yaml(file)
    names = content.get("names") if isinstance(content, dict) else None
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    found = {whole(key): _plain(name) for key, name in pairs if isinstance(name, str) and name.strip()}
    if not pairs or len(found) < len(pairs) or None in found:
        raise InputError(f"{file}: `names` is {shown(names)}, expected a list of names, or names by number")
    return {key: name for key, name in found.items() if key is not None}


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")
