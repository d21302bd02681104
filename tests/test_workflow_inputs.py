"""Where data and weights of a configuration are: in folders that it names, or downloaded."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from evaluation.extractors import verified
from formats.files import InputError, sha256
from tests.dag import ROOT, snakemake
from workflow.inputs import resolve, unusable
from workflow.settings import Settings, read


def settings(scale: str, changes: dict[str, Any] | None = None) -> Settings:
    """Those of a shipped scale with changes on it."""
    config: dict[str, Any] = {}
    for name in ("base", scale):
        update_config(config, yaml.safe_load((ROOT / f"workflow/config/{name}.yaml").read_text()))
    update_config(config, changes or {})
    return read(config, [])


def test_sources_resolve_into_the_folder_of_downloads() -> None:
    resolved, downloads = resolve(settings("paper"))
    assert resolved.data.root == "downloads/coco"
    paths = {name: model and model.path for name, model in resolved.models.items()}
    assert paths == {**{name: f"downloads/{name}" for name in ("sd14", "sd15", "gligen")}, "gligen_ldm": None}
    assert resolved.extractors.clip.path == "downloads/extractors/ViT-B-32.pt"
    detector = "extractors/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
    assert resolved.extractors.detector.path == f"downloads/{detector}"
    assert (len(downloads.files), downloads.files[detector].size) == (7, 175_221_657)
    detectors = {"extractors/grounding_dino", "extractors/owlv2"}
    assert set(downloads.models) == {"sd14", "sd15", "gligen"} | detectors


def test_a_path_of_ones_own_goes_before_a_source() -> None:
    changes = {
        "data": {"root": "/coco"},
        "models": {"sd14": "/sd14", "sd15": {"path": "/sd15"}},
        "extractors": {"clip": {"path": "/clip.pt"}, "detector": None}
        | dict.fromkeys(("dinov2", "grounding_dino", "owlv2")),
    }
    given = settings("paper", changes)
    resolved, downloads = resolve(given)
    assert resolved.data.root == "/coco"
    assert (resolved.models["sd14"].path, resolved.models["sd15"].path) == ("/sd14", "/sd15")
    assert set(downloads.files) == {"extractors/pt_inception-2015-12-05-6726825d.pth"}
    assert set(downloads.models) == {"gligen"}
    assert resolved.extractors.clip.sha256 == given.extractors.clip.source.sha256
    changes["extractors"]["clip"]["sha256"] = "0" * 64
    assert resolve(settings("paper", changes))[0].extractors.clip.sha256 == "0" * 64


def test_an_extractors_own_file_is_held_against_the_published_hash(tmp_path) -> None:
    """Through the DAG's plan, which asks for no file beside it, to the program that reads it."""
    weights = ROOT / "weights/miniature/features/model.safetensors"
    (tmp_path / "mine.safetensors").write_bytes(weights.read_bytes())
    published = {"urls": ["http://nowhere/model.safetensors"], "sha256": sha256(weights), "licence": "cc"}
    stanza = {"path": str(tmp_path / "mine.safetensors"), "source": published}
    own = {"fetch": {"licences": {"cc": "x"}}, "extractors": {"frechet": stanza}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    run = f"test-own-{os.getpid()}"
    planned = snakemake("-n", "--configfile", str(tmp_path / "own.yaml"), "--config", f"run={run}")
    assert planned.returncode == 0, planned.stderr[-2000:]
    extractor = resolve(settings("miniature", own))[0].extractors.frechet.model_dump()
    assert verified(extractor) == sha256(weights)
    (tmp_path / "mine.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match=f"expected {sha256(weights)}; the weights were changed"):
        verified(extractor)


def test_two_extractors_files_of_one_name_are_kept_apart() -> None:
    clip = settings("paper").extractors.clip.model_dump()
    clip |= {"name": "other", "source": clip["source"] | {"sha256": "ab" * 32}}
    resolved, downloads = resolve(settings("paper", {"extractors": {"cmmd": clip}}))
    paths = [resolved.extractors.clip.path, resolved.extractors.cmmd.path]
    assert paths == ["downloads/extractors/ViT-B-32.pt", "downloads/extractors/abababababab-ViT-B-32.pt"]
    assert {path.removeprefix("downloads/") for path in paths} <= set(downloads.files)


def test_networks_of_the_hub_are_folders_and_ones_own_go_before_them(tmp_path) -> None:
    resolved, downloads = resolve(settings("paper"))
    assert resolved.extractors.owlv2.path == "downloads/extractors/owlv2/model.safetensors"
    assert downloads.models["extractors/owlv2"].hub == "google/owlv2-base-patch16-ensemble"
    again, same = resolve(resolved)
    assert (again.extractors, set(same.models)) == (resolved.extractors, set(downloads.models))
    own = {"extractors": {"owlv2": {"path": str(tmp_path / "model.safetensors")}, "grounding_dino": None}}
    resolved, downloads = resolve(settings("paper", own))
    assert (resolved.extractors.owlv2.path, resolved.extractors.owlv2.hub) == (
        str(tmp_path / "model.safetensors"),
        None,
    )
    assert not {"extractors/owlv2", "extractors/grounding_dino"} & set(downloads.models)
    (tmp_path / "model.safetensors").write_text("")
    (fault,) = [line for line in unusable(settings("paper", own), made="results/") if "extractors" in line]
    assert "has no SHA256SUMS beside it" in fault and "workflow.fetch seal" in fault


def test_folders_of_ones_own_that_cannot_be_used_are_told(tmp_path) -> None:
    for name in ("coco", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "bare.pt").write_text("")
    changes = {
        "data": {"root": str(tmp_path / "coco")},
        "models": {
            "sd14": str(tmp_path / "bare"),
            "sd15": {"path": str(tmp_path / "none")},
            "gligen": "results/paper/made",
        },
        "extractors": {
            "frechet": {"path": str(tmp_path / "none.pt")},
            "frechet_legacy": None,
            "clip": {"path": str(tmp_path / "bare.pt"), "source": None},
            "detector": None,
        },
    }
    found = unusable(settings("paper", changes), made="results/")
    keys = [line.partition(":")[0] for line in found]
    assert keys == ["data.root", "models.sd14", "models.sd15", "extractors.frechet", "extractors.clip"]
    assert "python -m workflow.fetch seal" in found[1]
    assert "no such folder" in found[2]
    changes["extractors"]["clip"]["sha256"] = "0" * 64
    assert len(unusable(settings("paper", changes), made="results/")) == 4


def test_files_of_ones_own_that_are_not_there_are_told(tmp_path) -> None:
    artefacts = {"alignment": str(tmp_path / "mine.safetensors"), "eta": "train/calibration.json"}
    changes = {"data": {"words": str(tmp_path / "words.yaml")}, "methods": {"hcma_no_c2ia": {"artefacts": artefacts}}}
    assert unusable(settings("miniature", changes), made="results/") == [
        f"data.words: no such file: {tmp_path / 'words.yaml'}",
        f"methods.hcma_no_c2ia.artefacts.alignment: no such file or folder: {tmp_path / 'mine.safetensors'}",
    ]


def test_weights_of_another_run_that_are_not_there_are_one_line(tmp_path, monkeypatch) -> None:
    given = settings("rehearsal", {"run": "mine", "data": {"root": "workflow"}})
    monkeypatch.chdir(tmp_path)
    found = [line for line in unusable(given, made="results/") if "another run" in line]
    (line,) = found
    assert line.startswith(
        "models.sd14 and 10 more: results/rehearsal/weights/sd14 is not there, and of another run than"
    )
    Path("results/rehearsal/weights/sd14").mkdir(parents=True)
    assert "models.sd15 and 9 more: " in "".join(unusable(given, made="results/"))
    own = given.model_copy(update={"run": "rehearsal"})
    assert not [line for line in unusable(own, made="results/") if "another run" in line]
