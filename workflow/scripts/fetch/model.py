"""Fetch a model folder from the hub at one commit, and seal it with SHA256SUMS when it is whole.

    python -m workflow.scripts.fetch.model --plan downloads/plan.json --name sd14 --out downloads/sd14

LISTING.json in the folder keeps what the hub said of the repository at that commit; a later fetch compares with it, not with
what the hub says then. SOURCE.json names repository, commit, licence, and every file's size and SHA-256.
"""

import argparse
from pathlib import Path
from typing import Any

from formats.checksums import write_sums
from formats.cli import run
from formats.files import InputError, read_json, write_json
from workflow.scripts.fetch.hub import list_repository, sources_of
from workflow.scripts.fetch.plan import read_plan
from workflow.scripts.fetch.request import Access
from workflow.scripts.fetch.sources import Source, verify
from workflow.scripts.fetch.transfer import check_folder, check_room, fetch

LISTING, RECORD = "LISTING.json", "SOURCE.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--name", required=True, help="one of the plan's models")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    plan = read_plan(arguments.plan)
    fetch_model(plan.models[arguments.name], arguments.out, plan.access)


def fetch_model(entry: dict[str, Any], folder: Path, access: Access) -> None:
    """Fill the folder, its SHA256SUMS last; files that are there and right stay. Raises InputError and OSError."""
    sources, licence_tag = listed(entry, folder, access)
    held = {source.name: digest for source in sources if (digest := _digest(folder / source.name, source))}
    missing = [source for source in sources if source.name not in held]
    check_room(folder, sum(source.size or 0 for source in missing) - begun(folder), entry["hub"])
    held |= {source.name: fetch(source, folder / source.name, access) for source in missing}
    files = {name: {"size": (folder / name).stat().st_size, "sha256": held[name]} for name in sorted(held)}
    write_json(folder / RECORD, entry | {"licence_tag": licence_tag, "files": files})
    write_sums(folder, held)


def listed(entry: dict[str, Any], folder: Path, access: Access) -> tuple[list[Source], str | None]:
    """The files that the folder needs and the repository's licence tag; raises InputError."""
    check_folder(folder)
    described = _described(entry, folder, access)
    _check_licence(entry, described)
    return sources_of(entry["hub"], described, access), _licence_tag(described)


def _described(entry: dict[str, Any], folder: Path, access: Access) -> dict[str, Any]:
    """The listing of the commit: the one kept in the folder, else the hub's."""
    kept = read_json(folder / LISTING) if (folder / LISTING).exists() else {}
    if (kept.get("hub"), kept.get("sha")) == (entry["hub"], entry["revision"]):
        return kept
    if access.offline:
        raise InputError(
            f"{folder.name}: offline (HF_HUB_OFFLINE or fetch.offline): give models.{folder.name} a folder that holds"
            f" {entry['hub']} at {entry['revision']}, sealed by `python -m workflow.scripts.seal FOLDER`"
        )
    described = list_repository(entry["hub"], entry["revision"], access)
    keep = {key: described.get(key) for key in ("sha", "siblings", "cardData")}
    write_json(folder / LISTING, {"hub": entry["hub"]} | keep)
    return described


def _licence_tag(described: dict[str, Any]) -> str | None:
    return (described.get("cardData") or {}).get("license")


def _check_licence(entry: dict[str, Any], described: dict[str, Any]) -> None:
    """The repository's own tag, where it has one, must be the licence that was accepted."""
    tag = _licence_tag(described)
    if tag not in (None, entry["licence"]):
        raise InputError(f"{entry['hub']}: its licence is {tag!r}, the config says {entry['licence']!r}")


def _digest(path: Path, source: Source) -> str | None:
    """The SHA-256 of a file that is there and right."""
    try:
        return verify(path, source) if path.is_file() else None
    except InputError:
        return None


def begun(folder: Path) -> int:
    """Bytes of downloads that are under way."""
    return sum(part.stat().st_size for part in folder.rglob("*.part"))


if __name__ == "__main__":
    run(main)
