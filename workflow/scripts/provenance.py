"""What every image, metric and table of a run comes from, as W3C PROV-JSON.

    python -m workflow.scripts.provenance --run results/miniature --methods sd14 hcma --shards 2 \
        --products tables/table1.csv figures/panel.png --out results/miniature/provenance.json

Names are paths below the run's folder (prefix `run`); weights and devices have the prefix `hcma`. A zip of images is
identified by `hcma:fingerprint`, the SHA-256 of its directory (names, sizes and CRC-32 of its members), since reading the
images of the paper's scale again would take longer than drawing its tables; all other files by their own SHA-256.
The commit of a table is the one at which this record was written: tables and record are made anew together.
"""

import argparse
import hashlib
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evaluation.files import read_json, sha256, write_json
from evaluation.images import read_meta
from evaluation.program import run
from evaluation.provenance import made

PREFIXES = {"run": "urn:hcma:run:", "hcma": "urn:hcma:"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's results folder")
    parser.add_argument("--methods", nargs="+", required=True, help="rows of the tables, `real` among them")
    parser.add_argument("--shards", type=int, required=True, help="shards of the test split")
    parser.add_argument("--products", nargs="+", required=True, help="tables and figures, relative to the run's folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.run)
    for number in range(arguments.shards):
        record.prepared(f"layouts/test/{number:04d}.jsonl")
    for method in arguments.methods:
        zips = [f"samples/{method}/test/{number:04d}.zip" for number in range(arguments.shards)]
        for number, name in enumerate(zips):
            record.sampled(name, f"layouts/test/{number:04d}.jsonl", method)
        record.measured(method, zips)
    for name in arguments.products:
        record.drawn(name, arguments.methods)
    write_json(arguments.out, record.document)


class Record:
    """A PROV-JSON document in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, made()
        self.document: dict[str, Any] = {"prefix": PREFIXES}

    def prepared(self, name: str) -> None:
        """A slice of the layouts: the data section of the configuration; what code made it is not written there."""
        self._activity(f"hcma:prepare:{name}", self._file(name), [self._file("config/data.json")], {}, None)

    def sampled(self, name: str, layouts: str, method: str) -> None:
        """A zip of images: its layouts, its method's specification and weights, the code and device that made it."""
        path = self.folder / name
        meta = read_meta(path)
        self._entity(f"run:{name}", {"hcma:fingerprint": fingerprint(path), "hcma:images": meta.get("images")})
        used: list[str | None] = [self._file(layouts)]
        if method != "real":
            used += [
                self._file(f"methods/{method}.json"),
                *map(self._weights, (meta.get("weights_sha256") or {}).values()),
            ]
        about = {key: meta.get(key) for key in ("device", "system", "versions", "batch_size", "seconds", "spec")}
        self._activity(f"hcma:sample:{name}", f"run:{name}", used, about, meta.get("commit"))

    def measured(self, method: str, zips: list[str]) -> None:
        """A metrics file: the images, layouts and networks it was measured with."""
        name = f"metrics/{method}/test.json"
        metrics = read_json(self.folder / name)
        stated = (value for value in metrics["protocol"].values() if isinstance(value, dict))
        networks = [network["sha256"] for network in stated if "sha256" in network]
        used = [f"run:{zip}" for zip in zips] + [self._file("config/extractors.json"), *map(self._weights, networks)]
        stated = metrics.get("made", {})
        about = {"protocol": metrics["protocol"], "reference": metrics["reference"], "versions": stated.get("versions")}
        self._activity(f"hcma:measure:{name}", self._file(name), used, about, stated.get("commit"))

    def drawn(self, name: str, methods: list[str]) -> None:
        """A table or figure of the metrics of all rows."""
        used = [self._file(f"metrics/{method}/test.json") for method in methods]
        about = {"versions": self.made["versions"]}
        self._activity(f"hcma:draw:{name}", self._file(name), used, about, self.made["commit"])

    def _file(self, name: str) -> str:
        key = f"run:{name}"
        if key not in self.document.get("entity", {}):
            self._entity(key, {"hcma:sha256": sha256(self.folder / name)})
        return key

    def _weights(self, digest: str | None) -> str | None:
        if digest is None:
            return None
        self._entity(f"hcma:weights:{digest}", {"hcma:sha256": digest})
        return f"hcma:weights:{digest}"

    def _entity(self, key: str, about: dict[str, Any]) -> None:
        self._add("entity", key, {"prov:label": key.partition(":")[2]} | _attributes(about))

    def _activity(
        self, key: str, product: str, used: Iterable[str | None], about: dict[str, Any], commit: str | None
    ) -> None:
        self._add("activity", key, _attributes({f"hcma:{name}": value for name, value in about.items()}))
        if commit:
            agent = f"hcma:code:{commit}"
            self._add("agent", agent, {"prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"}})
            self._relate("wasAssociatedWith", {"prov:activity": key, "prov:agent": agent})
        self._relate("wasGeneratedBy", {"prov:entity": product, "prov:activity": key})
        for entity in filter(None, used):
            self._relate("used", {"prov:activity": key, "prov:entity": entity})

    def _relate(self, kind: str, ends: dict[str, str]) -> None:
        self._add(kind, f"_:{kind}{len(self.document.get(kind, {}))}", ends)

    def _add(self, kind: str, key: str, about: dict[str, Any]) -> None:
        self.document.setdefault(kind, {})[key] = about


def _attributes(about: dict[str, Any]) -> dict[str, Any]:
    """PROV-JSON's attributes are literals: what is deeper is written as JSON text, what is unknown is left out."""
    return {
        key: json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
        for key, value in about.items()
        if value is not None
    }


def fingerprint(path: Path) -> str:
    """SHA-256 over name, size and CRC-32 of a zip's members, in order; reads the zip's directory alone."""
    with zipfile.ZipFile(path) as archive:
        members = [f"{member.filename} {member.file_size} {member.CRC:08x}\n" for member in archive.infolist()]
    return hashlib.sha256("".join(members).encode()).hexdigest()


if __name__ == "__main__":
    run(main)
