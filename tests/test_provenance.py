"""provenance.json is PROV-JSON in which every product leads back to code, configuration and weights."""

import json
import re
import sys
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from formats.images import write_images
from tests.dag import ROOT
from workflow import provenance

ENDS = {
    "used": ("activity", "entity"),
    "wasGeneratedBy": ("entity", "activity"),
    "wasAssociatedWith": ("activity", "agent"),
    "hadMember": ("collection", "entity"),
}
MADE_BY = {"alignment": "a" * 64, "model": "b" * 64}

METRICS = [f"metrics/{method}/test.json" for method in ("real", "hcma")]
FROM = {
    "layouts/test": ["config.json", "coco/annotations.json"],
    "samples/real/test": ["layouts/test"],
    "samples/hcma/test": ["layouts/test", "methods/hcma.json"],
    METRICS[0]: ["samples/real/test", "config.json"],
    METRICS[1]: ["samples/hcma/test", "config.json"],
    "tables/table1.csv": [*METRICS, "pyproject.toml"],
}
LINEAGE = {name: {"rule": "rule_of_it", "inputs": inputs} for name, inputs in FROM.items()}


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
    write(tmp_path / "config.json", "{}")
    write(tmp_path / "coco/annotations.json", "{}")
    write(tmp_path / "lineage.json", json.dumps(LINEAGE))
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def record(folder, monkeypatch):
    command = f"--run {folder} --lineage {folder}/lineage.json --products {folder}/tables/table1.csv"
    command += f" --out {folder}/provenance.json"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["provenance", *command.split()])
    provenance.run(provenance.main)
    return json.loads((folder / "provenance.json").read_text())


def job(rule, inputs, outputs, shell="python -m it"):
    names = {"input": [f"results/a/{name}" for name in inputs], "output": [f"results/a/{name}" for name in outputs]}
    return SimpleNamespace(rule=SimpleNamespace(name=rule, shellcmd=shell), **names)


def test_the_lineage_is_what_snakemakes_jobs_state():
    jobs = [
        job("sample", ["methods/hcma.json", f"layouts/test/000{n}.jsonl"], [f"samples/hcma/test/000{n}.zip"])
        for n in range(2)
    ]
    jobs.append(job("train", [], ["train/x.csv", "train/x.png"], "it --config {params.config}"))
    jobs.append(job("all", ["train/x.csv"], [], None))
    found = provenance.lineage_of(jobs, "results/a")
    assert found["samples/hcma/test"] == {"rule": "sample", "inputs": ["layouts/test", "methods/hcma.json"]}
    assert found["train/x.csv"] == found["train/x.png"] == {"rule": "train", "inputs": ["config.json"]}
    assert len(found) == 3


def test_it_is_prov_json(folder, monkeypatch):
    document = record(folder, monkeypatch)
    assert set(document) == {"prefix", "entity", "activity", "agent", *ENDS}
    for kind, members in document.items():
        for key, about in members.items() if kind != "prefix" else ():
            assert re.fullmatch(r"(run|hcma|_):\S+", key)
            assert kind not in ENDS or set(about) == {f"prov:{end}" for end in ENDS[kind]}
            for end in ENDS.get(kind, ()):
                assert about[f"prov:{end}"] in document["entity" if end == "collection" else end]
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
    used += [link["prov:entity"] for link in document["hadMember"].values() if link["prov:collection"] == entity]
    return {entity, activity, *agents, *chain.from_iterable(lineage(document, one) for one in used)} - {None}


def test_a_table_leads_back_to_commits_configuration_weights_and_device(folder, monkeypatch):
    document = record(folder, monkeypatch)
    found = lineage(document, "run:tables/table1.csv")
    digests = [*MADE_BY.values(), "c" * 64]
    assert {f"hcma:weights:{digest}" for digest in digests} <= found
    assert {one for one in found if one.startswith("hcma:code:")} == {"hcma:code:0123-dirty", "hcma:code:4567"}
    drawn = document["activity"]["hcma:rule_of_it:tables/table1.csv"]
    assert drawn["hcma:recorded_at_commit"] == provenance.made()["commit"]
    assert {"run:coco/annotations.json", "hcma:file/pyproject.toml"} <= found
    assert {"run:config.json", "run:methods/hcma.json"} <= found
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


def test_what_no_product_comes_from_is_not_claimed(folder, monkeypatch):
    (folder / "lineage.json").write_text(json.dumps(LINEAGE | {"tables/table1.csv": LINEAGE["samples/real/test"]}))
    assert not [key for key in record(folder, monkeypatch)["entity"] if "hcma/test" in key or "metrics" in key]


def test_a_missing_file_is_one_line(folder, monkeypatch, capsys):
    (folder / "metrics/hcma/test.json").unlink()
    with pytest.raises(SystemExit):
        record(folder, monkeypatch)
    assert capsys.readouterr().err.strip().endswith("metrics/hcma/test.json: No such file or directory")
    assert not (folder / "provenance.json").exists()
