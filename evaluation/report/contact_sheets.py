"""Where the page finds the images of each layout: in itself, or in files beside it."""

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from evaluation.contact_sheets import Index
from formats.files import InputError


def strip_sources(indices: Sequence[Index], ids: Sequence[int], embed: int, page: Path) -> list[str]:
    """The source of each layout's strip: a data URI each while all take at most `embed` bytes, else paths from the page.

    Raises InputError unless the indices hold the strips of `ids` in this order.
    """
    files = list(_files(indices))
    if (found := [number for number, _ in files]) != list(ids):
        odd = min(set(found) ^ set(ids), default=None)
        what = "in another order" if odd is None else f"{odd} is one of those that differ"
        raise InputError(f"{indices[0].path}: strips of other layouts than those given; {what}")
    if sum(sum(index.sizes.values()) for index in indices) <= embed:
        return [_embedded(path) for _, path in files]
    return [quote(os.path.relpath(path, page.parent)) for _, path in files]


def _files(indices: Sequence[Index]) -> Iterator[tuple[int, Path]]:
    for index in indices:
        folder = index.path.with_suffix("")
        for name in index.sizes:
            yield int(name), folder / f"{name}.webp"


def _embedded(path: Path) -> str:
    try:
        return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the strips again") from None
