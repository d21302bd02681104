"""Our own record (docs/layouts.md), a layout a line; its `id` is kept."""

from evaluation.datasets.reading import Source
from formats.files import InputError
from formats.layouts import Layout, LayoutError, read_layouts

PATTERNS = ("*.jsonl",)


def read(source: Source) -> None:
    """Every line; boxes, spans and numbers stay as they are."""
    found: dict[int, str] = {}
    for path in source.files(*PATTERNS):
        try:
            layouts = read_layouts(path)
        except LayoutError as error:
            raise InputError(str(error)) from None
        for place, layout in enumerate(layouts):
            source.rows += 1
            source.report.boxes += len(layout.objects)
            if first := found.get(layout.id):
                source.fault(path, f"layout {layout.id}", f"duplicate id, which {first} has")
            found[layout.id] = path.name
            if layout.caption.strip():
                source.keep(Layout(**{**vars(layout), "source_id": _own(layout)}), path, f"layout {place}")
            else:
                source.report.drop("empty caption", layout.id)


def _own(layout: Layout) -> str | int:
    return layout.id if layout.source_id is None else layout.source_id
