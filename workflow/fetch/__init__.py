"""Fetching what is published: resumed, verified by checksum, whole or not at all."""

from collections.abc import Callable
from functools import partial

from evaluation.files import InputError
from workflow.fetch.sources import Downloads


def ask(downloads: Downloads) -> tuple[dict[str, int], list[str]]:
    """Bytes still to be fetched of every file and model that can be, and a line for every one that cannot.

    Of files it asks one byte, of repositories the listing and the headers of their files, which a gated one refuses. Offline it
    asks nothing: then what has to be brought must be there.
    """
    from workflow.fetch.download import still_to_come
    from workflow.fetch.hub import model_still_to_come

    asked: dict[str, Callable[[], int]] = {}
    for name, file in downloads.files.items():
        asked[name] = partial(still_to_come, file, downloads.folder / name, downloads.network)
    for name, model in downloads.models.items():
        asked[name] = partial(model_still_to_come, model, downloads.folder / name, downloads.network)
    sizes: dict[str, int] = {}
    faults: list[str] = []
    for name, answer in asked.items():
        try:
            sizes[name] = answer()
        except InputError as error:
            faults.append(f"{name}: {error}")
    return sizes, faults
