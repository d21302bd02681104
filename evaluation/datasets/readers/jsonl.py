"""Our own record (docs/layouts.md), a layout a line; its `id` is kept."""

from dataclasses import replace

from evaluation.datasets.reading import Source
from formats.layouts import read_layouts


def read(source: Source) -> None:
    """Every line; boxes, spans and numbers stay as they are."""
    numbers: dict[int, str] = {}
    for path in source.files("*.jsonl"):
        for layout in read_layouts(path):
            with source.record(path, f"layout {layout.id}"):
                source.rows += 1
                source.report.boxes += len(layout.objects)
                if first := numbers.get(layout.id):
                    source.fault(path, f"layout {layout.id}", f"duplicate id, which {first} has")
                numbers[layout.id] = path.name
                own = layout.id if layout.source_id is None else layout.source_id
                source.claim(own, path, f"layout {layout.id}")
                if layout.caption.strip():
                    source.layouts.append(replace(layout, source_id=own))
                else:
                    source.report.drop("empty caption", layout.id)
