"""Fetching what is published: resumed, verified by checksum, whole or not at all."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from formats.files import InputError
from workflow.inputs import Downloads
from workflow.settings import Fetch


def refused(downloads: Downloads, settings: Fetch) -> list[str]:
    """One line for every licence that a download is under and that the configuration does not accept by its name."""
    needed = downloads.licences(settings.licences)
    found = [
        f"not accepted: {name}: {', '.join(licence['of'])}: {licence['text']}"
        for name, licence in needed.items()
        if name not in settings.accept
    ]
    return [*found, f"nothing was fetched; read them, then set fetch.accept: [{', '.join(needed)}]"] if found else []


def ask(downloads: Downloads, settings: Fetch) -> tuple[dict[str, int], list[str]]:
    """Bytes still to be fetched of every file and model that can be, and a line for every one that cannot.

    Of files it asks one byte, of repositories the listing and the headers of their files, which a gated one refuses. Offline it
    asks nothing: then what has to be brought must be there.
    """
    from workflow.fetch.download import network_of, still_to_come
    from workflow.fetch.hub import model_still_to_come

    network, folder = network_of(settings), Path(downloads.folder)
    asked: dict[str, Callable[[], int]] = {}
    for name, source in downloads.files.items():
        asked[name] = partial(still_to_come, source, folder / name, network)
    for name, model in downloads.models.items():
        asked[name] = partial(model_still_to_come, model, folder / name, network)
    sizes: dict[str, int] = {}
    faults: list[str] = []
    for name, answer in asked.items():
        try:
            sizes[name] = answer()
        except InputError as error:
            faults.append(f"{name}: {error}")
    return sizes, faults
