"""What is fetched and from where, as workflow/rules/fetch.smk writes it of the configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formats.files import read_json
from workflow.scripts.fetch.request import Access, access_from_environment


@dataclass(frozen=True)
class Plan:
    """Entries of the configuration: files by their path in the folder of downloads, models by their name."""

    files: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    access: Access


def read_plan(path: Path) -> Plan:
    """The plan, with the environment's word on the network; raises InputError."""
    content = read_json(path)
    access = access_from_environment(content["hub"], content["offline"])
    return Plan(content["files"], content["models"], access)
