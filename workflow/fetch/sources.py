"""What a configuration has to fetch, under which licences, and how the network may be used."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.scripts.places import folder_of, settle


@dataclass(frozen=True)
class Source:
    """A published file: mirrors in order, and what its bytes must be."""

    urls: list[str]
    licence: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Model:
    """A repository of the hub at one commit."""

    hub: str
    revision: str
    licence: str


@dataclass(frozen=True)
class Network:
    """How it may be used. `wait` (seconds, as `timeout`) doubles from one try to the next; the token goes to the hub alone."""

    hub: str = ""
    offline: bool = False
    token: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    wait: float = 1.0


@dataclass(frozen=True)
class Downloads:
    """Files by their path in the folder of downloads, and models by their name, which is their folder there."""

    folder: Path
    files: dict[str, Source]
    models: dict[str, Model]
    network: Network
    licences: dict[str, str]
    accepted: list[str]

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Downloads":
        """What a configuration needs that is not its user's own, with the environment's word on the network."""
        fetch = config.get("fetch") or {}
        _, needed = settle(config)
        return cls(
            Path(folder_of(config)),
            {name: Source(**entry) for name, entry in needed.files.items()},
            {name: Model(**entry) for name, entry in needed.models.items()},
            network_of(fetch.get("hub", ""), fetch.get("offline", False)),
            fetch.get("licences", {}),
            fetch.get("accept", []),
        )

    def identity(self, name: str) -> dict[str, Any]:
        """What reruns a download: another commit, size or checksum; not another mirror or licence."""
        if model := self.models.get(name):
            return {"hub": model.hub, "revision": model.revision}
        file = self.files[name]
        return {"size": file.size, "sha256": file.sha256, "md5": file.md5}

    def refused(self) -> list[str]:
        """One line for every licence that something here is under and that the configuration does not accept."""
        things = {Path(path).name: file.licence for path, file in self.files.items()}
        things |= {f"{model.hub} ({name})": model.licence for name, model in self.models.items()}
        return [
            f"not accepted: {name}: {', '.join(thing for thing, licence in things.items() if licence == name)}: {text};"
            f" nothing is fetched before you have read it and fetch.accept names it"
            for name, text in self.licences.items()
            if name in things.values() and name not in self.accepted
        ]


def network_of(hub: str, offline: bool) -> Network:
    """As the hub's own client does: HF_ENDPOINT, HF_TOKEN, and HF_HUB_OFFLINE, which here stops every download."""
    silent = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hub = os.environ.get("HF_ENDPOINT") or hub
    return Network(hub.rstrip("/"), offline or silent, os.environ.get("HF_TOKEN") or None)
