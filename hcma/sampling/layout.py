"""Layouts as methods get them: the records of `formats.layouts`."""

from collections.abc import Iterable
from pathlib import Path

from formats.layouts import Box, Layout, LayoutError, Object, as_line, as_row, read_layouts
from hcma.sampling.atomic import replacing

__all__ = ["Box", "Layout", "LayoutError", "Object", "as_row", "read_layouts", "write_layouts"]


def write_layouts(path: str | Path, layouts: Iterable[Layout]) -> None:
    """Write layouts as JSON lines, atomically."""
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        file.writelines(as_line(as_row(layout)) for layout in layouts)
