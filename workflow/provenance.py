r"""What every image, metric, table and figure of a run comes from, as W3C PROV-JSON.

    python -m workflow.provenance --run results/miniature --lineage results/miniature/work/lineage.json \
        --products results/miniature/tables/table1.csv ... --out results/miniature/provenance.json

LINEAGE says of each file which rule makes it and from what: it is `lineage_of` Snakemake's jobs, written before the first of
them. What the products come from is followed to the annotations, weights and configuration. Names are paths below the
run's folder (prefix `run`); files elsewhere, weights and code have the prefix `hcma`. Files are identified by their SHA-256. A
zip of images is by `hcma:fingerprint`, the SHA-256 of its directory (names, sizes and CRC-32 of its members), and a folder of
slices (features, latents), or photos' archive, by nothing but its name: reading all that again would take longer than drawing
the tables.

Code is associated with what states its commit: meta.json of a zip of images, and `made` in a file of metrics; with images made
elsewhere whoever their row says made them. Of all else the
commit at which it was made is not known; `hcma:recorded_at_commit` is that of this record.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from formats.cli import options, run
from formats.files import read_json, sha256, write_json
from formats.images import read_meta
from formats.records import made
from workflow.inputs import unlinked

PREFIXES = {"run": "urn:hcma:run:", "hcma": "urn:hcma:"}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's results folder")
    parser.add_argument("--lineage", type=Path, required=True, help="JSON: {file: {rule, inputs}}, of the planned jobs")
    parser.add_argument("--products", nargs="+", required=True, help="tables and figures")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.run, read_json(arguments.lineage))
    for name in arguments.products:
        record.trace(name.removeprefix(f"{arguments.run}/"))
    write_json(arguments.out, record.document)


def lineage_of(jobs: Iterable[Any], folder: str) -> dict[str, dict[str, Any]]:
    """{file: {"rule", "inputs"}} of Snakemake's jobs; names in the run's folder begin there, shards count as their folder."""
    lineage: dict[str, dict[str, Any]] = {}
    for job in jobs:
        # The configuration is no input, since its change reruns nothing by itself, but jobs read it.
        config = ["config.json"] if "{params.config" in (job.rule.shellcmd or "") else []
        inputs = [*(_collected(str(path), folder) for path in job.input), *config]
        for path in job.output:
            entry = lineage.setdefault(_collected(str(path), folder), {"rule": job.rule.name, "inputs": []})
            entry["inputs"] = sorted({*entry["inputs"], *inputs})
    return lineage


def _collected(path: str, folder: str) -> str:
    return re.sub(r"/[0-9]{4}\.\w+$", "", unlinked(path).removeprefix(f"{folder}/"))


class Record:
    """A PROV-JSON document in the making: of what is traced, and of all that it comes from."""

    def __init__(self, folder: Path, lineage: dict[str, dict[str, Any]]) -> None:
        self.folder, self.lineage, self.made = folder, lineage, made()
        self.document: dict[str, Any] = {"prefix": PREFIXES}

    def trace(self, name: str) -> str:
        """The key of a file or folder, after recording it and, by its rule, what it comes from."""
        key = f"run:{name}" if name in self.lineage or (self.folder / name).exists() else f"hcma:file/{quote(name)}"
        if key in self.document.get("entity", {}):
            return key
        path = self.folder / name if key.startswith("run:") else Path(name)
        self._entity(key, _described(name, path))
        if name not in self.lineage:
            return key
        rule = self.lineage[name]["rule"]
        used: list[str | None] = [self.trace(one) for one in self.lineage[name]["inputs"]]
        if name.startswith("samples/"):
            self._sampled(key, path, used)
        elif name.startswith("metrics/"):
            self._measured(key, rule, path, used)
        else:
            # Made at some commit, which these files do not say: that of this record is told as what it is.
            about = {"recorded_at_commit": self.made["commit"], "recorded_with": self.made["versions"]}
            self._activity(f"hcma:{rule}:{name}", key, used, about, None)
        return key

    def _sampled(self, key: str, folder: Path, used: list[str | None]) -> None:
        """The zips of a row: each with the code, weights and device that its own record states."""
        for path in sorted(folder.glob("*.zip")):
            meta = read_meta(path)
            member = f"{key}/{path.name}"
            self._entity(member, {"hcma:fingerprint": fingerprint(path), "hcma:images": meta.get("images")})
            weights = [self._weights(digest) for digest in (meta.get("weights_sha256") or {}).values()]
            about = {name: meta.get(name) for name in ("device", "system", "versions", "batch_size", "seconds", "spec")}
            activity = f"hcma:sample:{member.partition(':')[2]}"
            self._activity(activity, member, [*used, *weights], about, meta.get("commit"))
            if made_by := (meta.get("spec") or {}).get("made_by"):
                self._add("agent", f"hcma:made_by:{quote(made_by)}", {"prov:label": made_by})
                ends = {"prov:activity": activity, "prov:agent": f"hcma:made_by:{quote(made_by)}"}
                self._relate("wasAssociatedWith", ends)
            self._relate("hadMember", {"prov:collection": key, "prov:entity": member})

    def _measured(self, key: str, rule: str, path: Path, used: list[str | None]) -> None:
        """A metrics file: the networks, protocol and code that it states."""
        metrics = read_json(path)
        stated = (value for value in metrics["protocol"].values() if isinstance(value, dict))
        used += [self._weights(network["sha256"]) for network in stated if "sha256" in network]
        code = metrics.get("made", {})
        about = {"protocol": metrics["protocol"], "reference": metrics["reference"], "versions": code.get("versions")}
        self._activity(f"hcma:{rule}:{key.partition(':')[2]}", key, used, about, code.get("commit"))

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


def _described(name: str, path: Path) -> dict[str, Any]:
    """What identifies a file; of a folder the number of its files. Features are deleted when they are summed up."""
    if name.startswith("features/") and not path.exists():
        return {"prov:type": "prov:Collection"}
    if path.is_dir():
        return {"prov:type": "prov:Collection", "hcma:files": sum(1 for file in path.iterdir() if file.is_file())}
    return {} if path.suffix == ".zip" else {"hcma:sha256": sha256(path)}


def fingerprint(path: Path) -> str:
    """SHA-256 over name, size and CRC-32 of a zip's members, in order; reads the zip's directory alone."""
    with zipfile.ZipFile(path) as archive:
        members = [f"{member.filename} {member.file_size} {member.CRC:08x}\n" for member in archive.infolist()]
    return hashlib.sha256("".join(members).encode()).hexdigest()


if __name__ == "__main__":
    run(main)
