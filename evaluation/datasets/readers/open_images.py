"""Open Images: CSV *-annotations-bbox.csv, a row a box in XMin, XMax, YMin, YMax of the unit square; names in another CSV.

Names are in class-descriptions*.csv, without a header, beside it or among the paths.
"""

from pathlib import Path

from evaluation.datasets.opening import open_csv
from evaluation.datasets.reading import Source, number
from formats.files import InputError

COLUMNS = ("ImageID", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax")
NAMES = "class-descriptions*.csv"


def read(source: Source) -> None:
    """A layout a photo, in the order of their first rows. Group boxes, and labels that were not confirmed, are left out."""
    files = source.files("*annotations-bbox.csv")
    given = [path for path in files if path.match(NAMES)]
    for path in (path for path in files if path not in given):
        names = _names(given or sorted(path.parent.glob(NAMES)), path)
        images: dict[str, list[tuple[int, dict[str, str]]]] = {}
        for place, cells in source.table(path, *COLUMNS):
            images.setdefault(cells["ImageID"].strip(), []).append((place, cells))
        for image, boxes in images.items():
            with source.row(path, f"row {boxes[0][0]} (ImageID {image})", boxes[0][1]) as row:
                layout = row.layout(None, row.text("ImageID"), photo=f"{image}.jpg")
                for place, cells in boxes:
                    label, field = cells["LabelName"].strip(), f"row {place}"
                    x0, x1, y0, y1 = (number(cells[key].strip(), f"{field}, {key}") for key in COLUMNS[3:])
                    if number(cells["Confidence"].strip(), f"{field}, Confidence") == 0:
                        layout.drop("not confirmed (Confidence 0)")
                    elif label not in names:
                        layout.drop("unknown category", label)
                    else:
                        group = "box of a group" if cells.get("IsGroupOf", "0").strip() == "1" else ""
                        layout.add(
                            names[label].lower(), [x0, y0, x1, y1], field, category=names[label], leave_out=group
                        )


def _names(files: list[Path], path: Path) -> dict[str, str]:
    if not files:
        raise InputError(f"{path}: no {NAMES} beside it, which names the classes; give it as another path")
    found: dict[str, str] = {}
    for file in files:
        for place, cells in open_csv(file, header=False):
            if len(cells) != 2 or not cells[1].strip():
                raise InputError(f"{file}: row {place}: {len(cells)} columns, expected a label and its name")
            found[cells[0].strip()] = cells[1].strip()
    return found
