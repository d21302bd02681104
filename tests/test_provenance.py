"""provenance.json is PROV-JSON in which every product leads back to code, configuration and weights."""

import json
import re
import sys
from itertools import chain

import numpy as np
import pytest

from evaluation.images import write_images
from workflow.scripts import provenance

ENDS = {
    "used": ("activity", "entity"),
    "wasGeneratedBy": ("entity", "activity"),
    "wasAssociatedWith": ("activity", "agent"),
}
MADE_BY = {"alignment": "a" * 64, "model": "b" * 64}


@pytest.fixture
def folder(tmp_path):
    for method in ("real", "hcma"):
        for number in range(2):
            meta = {"spec": {"method": method}, "images": 1, "commit": "0123-dirty"}
            if method == "hcma":
                meta |= {
                    "weights_sha256": MADE_BY,
                    "device": "cpu x86_64",
                    "system": {"os": "Linux"},
                    "versions": {"torch": "2"},
                }
            pixels = np.full((8, 8, 3), number, np.uint8)
            write_images(tmp_path / f"samples/{method}/test/{number:04d}.zip", [(f"{number:012d}.png", pixels)], meta)
        protocol = {"clip": {"name": "clip", "sha256": "c" * 64}, "label_template": "{label}"}
        metrics = {"protocol": protocol, "reference": "d" * 64, "made": {"commit": "4567", "versions": {"numpy": "2"}}}
        write(tmp_path / f"metrics/{method}/test.json", json.dumps(metrics))
    for name in ("layouts/test/0000.jsonl", "layouts/test/0001.jsonl", "methods/hcma.json", "tables/table1.csv"):
        write(tmp_path / name, name)
    for name in ("data", "extractors"):
        write(tmp_path / f"config/{name}.json", "{}")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def record(folder, monkeypatch):
    command = (
        f"--run {folder} --methods real hcma --shards 2 --products tables/table1.csv --out {folder}/provenance.json"
    )
    monkeypatch.setattr(sys, "argv", ["provenance", *command.split()])
    provenance.run(provenance.main)
    return json.loads((folder / "provenance.json").read_text())


def test_it_is_prov_json(folder, monkeypatch):
    document = record(folder, monkeypatch)
    assert set(document) == {"prefix", "entity", "activity", "agent", *ENDS}
    for kind, members in document.items():
        for key, about in members.items() if kind != "prefix" else ():
            assert re.fullmatch(r"(run|hcma|_):\S+", key)
            assert kind not in ENDS or set(about) == {f"prov:{end}" for end in ENDS[kind]}
            for end in ENDS.get(kind, ()):
                assert about[f"prov:{end}"] in document[end]
            for name, value in about.items():
                assert name.partition(":")[0] in ("prov", *document["prefix"])
                assert isinstance(value, str | int | float) or set(value) == {"$", "type"}
    generated = [link["prov:entity"] for link in document["wasGeneratedBy"].values()]
    assert len(generated) == len(set(generated))


def lineage(document, entity):
    """Everything that an entity comes from."""
    made_by = {link["prov:entity"]: link["prov:activity"] for link in document["wasGeneratedBy"].values()}
    activity = made_by.get(entity)
    used = [link["prov:entity"] for link in document["used"].values() if link["prov:activity"] == activity]
    agents = [
        link["prov:agent"] for link in document["wasAssociatedWith"].values() if link["prov:activity"] == activity
    ]
    return {entity, activity, *agents, *chain.from_iterable(lineage(document, one) for one in used)} - {None}


def test_a_table_leads_back_to_commits_configuration_weights_and_device(folder, monkeypatch):
    document = record(folder, monkeypatch)
    found = lineage(document, "run:tables/table1.csv")
    digests = [*MADE_BY.values(), "c" * 64]
    assert {f"hcma:weights:{digest}" for digest in digests} <= found
    assert {"hcma:code:0123-dirty", "hcma:code:4567", f"hcma:code:{provenance.made()['commit']}"} <= found
    assert {"run:config/data.json", "run:config/extractors.json", "run:methods/hcma.json"} <= found
    assert {f"run:samples/{method}/test/000{number}.zip" for method in ("real", "hcma") for number in (0, 1)} <= found
    sampling = document["activity"]["hcma:sample:samples/hcma/test/0000.zip"]
    assert sampling["hcma:device"] == "cpu x86_64" and json.loads(sampling["hcma:versions"]) == {"torch": "2"}


def test_a_fingerprint_is_of_the_images(folder, monkeypatch):
    first = record(folder, monkeypatch)["entity"]
    path = folder / "samples/hcma/test/0001.zip"
    write_images(path, [(f"{1:012d}.png", np.full((8, 8, 3), 7, np.uint8))], {})
    second = record(folder, monkeypatch)["entity"]
    changed = {key for key in second if second[key] != first.get(key)}
    assert changed == {"run:samples/hcma/test/0001.zip"}


def test_a_missing_zip_is_one_line(folder, monkeypatch, capsys):
    (folder / "samples/hcma/test/0001.zip").unlink()
    with pytest.raises(SystemExit):
        record(folder, monkeypatch)
    assert capsys.readouterr().err.endswith("0001.zip: no such file\n")
    assert not (folder / "provenance.json").exists()
