"""Figures as data URIs. They are shown as images, so nothing that an SVG may hold runs."""

import base64
from collections.abc import Sequence
from pathlib import Path

from formats.files import InputError

KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
TITLES = {"panel": "The same layouts across all rows", "sizes": "FD against the number of images"}


def read_figures(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Name, title and data URI of each figure, an SVG instead of the PNG of the same name.

    Raises InputError for other kinds of files, and for one that is missing.
    """
    chosen: dict[str, Path] = {}
    for path in paths:
        if path.suffix not in KINDS:
            raise InputError(f"{path}: a figure is {' or '.join(KINDS)}")
        if path.stem not in chosen or path.suffix == ".svg":
            chosen[path.stem] = path
    return [{"name": name, "title": title(name), "source": data_uri(path)} for name, path in chosen.items()]


def title(name: str) -> str:
    """A figure's name as a heading."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def data_uri(path: Path) -> str:
    """A figure as a URI that holds it whole."""
    try:
        return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
