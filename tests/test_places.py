"""Where data and weights of a configuration are: in folders that it names, or fetched."""

import json
import os

import pytest
import yaml

from evaluation.extractors import verified
from evaluation.files import InputError, sha256
from tests.dag import ROOT, snakemake
from workflow.scripts.places import settle, unusable

PAPER = yaml.safe_load((ROOT / "workflow/config/paper.yaml").read_text())


def test_sources_settle_into_the_folder_of_downloads() -> None:
    settled, fetched = settle(PAPER)
    assert settled["data"]["root"] == "downloads/coco"
    assert settled["models"] == {
        **{name: f"downloads/{name}" for name in ("sd14", "sd15", "gligen")},
        "gligen_ldm": None,
    }
    assert settled["extractors"]["clip"]["path"] == "downloads/extractors/ViT-B-32.pt"
    detector = "extractors/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
    assert settled["extractors"]["detector"]["path"] == f"downloads/{detector}"
    assert (len(fetched.files), fetched.files[detector]["size"]) == (6, 175_221_657)
    assert set(fetched.models) == {"sd14", "sd15", "gligen"}
    assert "source" not in json.dumps([settled["data"], settled["extractors"]])
    assert PAPER["data"]["root"] is None


def test_a_path_of_ones_own_goes_before_a_source() -> None:
    own = json.loads(json.dumps(PAPER))
    own["data"]["root"] = "/coco"
    own["models"] |= {"sd14": "/sd14", "sd15": own["models"]["sd15"] | {"path": "/sd15"}}
    own["extractors"]["clip"]["path"] = "/clip.pt"
    own["extractors"]["detector"] = None
    settled, fetched = settle(own)
    assert settled["data"]["root"] == "/coco"
    assert (settled["models"]["sd14"], settled["models"]["sd15"]) == ("/sd14", "/sd15")
    assert set(fetched.files) == {"extractors/pt_inception-2015-12-05-6726825d.pth"}
    assert set(fetched.models) == {"gligen"}
    known = PAPER["extractors"]["clip"]["source"]["sha256"]
    assert settled["extractors"]["clip"]["sha256"] == known
    own["extractors"]["clip"]["sha256"] = "0" * 64
    assert settle(own)[0]["extractors"]["clip"]["sha256"] == "0" * 64


def test_an_extractors_own_file_is_held_against_the_published_hash(tmp_path) -> None:
    """Through the DAG's plan, which asks for no file beside it, to the program that reads it."""
    weights = ROOT / "weights/miniature/features/model.safetensors"
    (tmp_path / "mine.safetensors").write_bytes(weights.read_bytes())
    published = {"urls": ["http://nowhere/model.safetensors"], "sha256": sha256(weights), "licence": "cc"}
    stanza = {"path": str(tmp_path / "mine.safetensors"), "source": published}
    fetch = {"folder": "downloads", "hub": "http://nowhere", "offline": False, "licences": {"cc": "x"}, "accept": []}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"fetch": fetch, "extractors": {"frechet": stanza}}))
    run = f"test-own-{os.getpid()}"
    planned = snakemake("-n", "--configfile", str(tmp_path / "own.yaml"), "--config", f"run={run}")
    assert planned.returncode == 0, planned.stderr[-2000:]
    miniature = yaml.safe_load((ROOT / "workflow/config/miniature.yaml").read_text())
    miniature["extractors"]["frechet"] |= stanza
    settled = settle(miniature)[0]["extractors"]["frechet"]
    assert verified(settled) == sha256(weights)
    (tmp_path / "mine.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match=f"expected {sha256(weights)}; the weights were changed"):
        verified(settled)


def test_two_extractors_files_of_one_name_are_kept_apart() -> None:
    two = json.loads(json.dumps(PAPER))
    two["extractors"]["cmmd"] = two["extractors"]["clip"] | {"name": "other"}
    two["extractors"]["cmmd"]["source"] = two["extractors"]["clip"]["source"] | {"sha256": "ab" * 32}
    settled, fetched = settle(two)
    paths = [settled["extractors"][name]["path"] for name in ("clip", "cmmd")]
    assert paths == ["downloads/extractors/ViT-B-32.pt", "downloads/extractors/abababababab-ViT-B-32.pt"]
    assert {path.removeprefix("downloads/") for path in paths} <= set(fetched.files)


def test_folders_of_ones_own_that_cannot_be_used_are_told(tmp_path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare.pt").write_text("")
    extractors = {
        "frechet": {"path": str(tmp_path / "none.pt")},
        "clip": {"path": str(tmp_path / "bare.pt")},
        "cmmd": {"path": str(tmp_path / "bare.pt"), "sha256": "0" * 64},
        "detector": None,
    }
    models = {
        "sd14": str(tmp_path / "bare"),
        "sd15": {"path": str(tmp_path / "none")},
        "made": "results/x/made",
        "no": None,
    }
    found = unusable(
        {"data": {"root": str(tmp_path / "coco")}, "models": models, "extractors": extractors}, made="results/"
    )
    assert [line.partition(":")[0] for line in found] == [
        "data.root",
        "models.sd14",
        "models.sd15",
        "extractors.frechet",
        "extractors.clip",
    ]
    assert "python -m workflow.scripts.seal" in found[1]
    assert "no such folder" in found[2]
