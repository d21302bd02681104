"""LayoutSAM-Eval: parquet with `bbox_list`, `region_captions` and `detail_region_captions` as Python literals in text.

Boxes are xyxy in pixels of the photo; the photos, nearly all of the file, are not read, and wanted as a folder.
"""

from evaluation.datasets.opening import literal, open_parquet
from evaluation.datasets.reading import Row, RowError, Source, checked_list

COLUMNS = (
    "image_id",
    "global_caption",
    "detail_region_captions",
    "region_captions",
    "bbox_list",
    "width",
    "height",
    "file_name",
)


def read(source: Source) -> None:
    """A layout a row; the detailed caption of a region is its attribute `detail`."""
    for path in source.files("data/*.parquet", "*.parquet"):
        for number, cells in open_parquet(path, *COLUMNS):
            with source.row(path, f"row {number} (image_id {cells['image_id']})", cells) as row:
                canvas = row.whole("width", 1), row.whole("height", 1)
                phrases, boxes, details = map(
                    _literal, (row,) * 3, ("region_captions", "bbox_list", "detail_region_captions")
                )
                if len(phrases) != len(boxes):
                    raise RowError("", f"region_captions has {len(phrases)} entries, bbox_list {len(boxes)}")
                if details and len(details) != len(boxes):
                    raise RowError("", f"detail_region_captions has {len(details)} entries, bbox_list {len(boxes)}")
                photo = row.text("file_name") if row.has("file_name") else None
                own = row.whole("image_id")
                layout = row.layout(row.text("global_caption", filled=False), own, own, photo)
                for place, (phrase, box) in enumerate(zip(phrases, boxes, strict=True)):
                    detail = {"detail": details[place]} if details else {}
                    layout.add(phrase, box, f"`bbox_list[{place}]`", canvas, cut=True, attributes=detail)


def _literal(row: Row, key: str) -> list[object]:
    try:
        return checked_list(literal(row.text(key)), f"`{key}`")
    except ValueError as error:
        if isinstance(error, RowError):
            raise
        raise RowError(f"`{key}`", str(error)) from None
