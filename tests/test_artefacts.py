"""A method with an artefact that is not HCMA's: trained by its own rule, stated by hash, loaded, used and verified."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from formats.files import InputError, sha256, write_json
from formats.images import read_images, read_meta
from formats.layouts import Layout, write_layouts
from hcma.sampling import sample
from hcma.sampling.spec import Spec, as_json, read_artefact
from tests.dag import ROOT, is_nothing_to_do, jobs_by_rule, snakemake
from tests.launch import status
from tests.tiny import write_tiny

LAYOUTS = [Layout(1, 1, "a cat"), Layout(2, 2, "nothing")]


def train(path: Path, *colour: float) -> None:
    save_file({"colour": torch.tensor(colour)}, path)


@pytest.fixture
def method(tmp_path):
    """Writes the specification for the artefact as it is, and samples by it: exit status."""
    model = write_tiny(tmp_path / "model")
    write_layouts(tmp_path / "layouts.jsonl", LAYOUTS)
    train(tmp_path / "colour.safetensors", 100, 120, 140)

    def specify(artefact: Path = tmp_path / "colour.safetensors") -> None:
        artefacts = {"colour": read_artefact("colour", str(artefact))}
        spec = Spec("colour", "tests.colour_method", str(model), sampling={"steps": 2}, artefacts=artefacts)
        write_json(tmp_path / "spec.json", as_json(spec))

    def run() -> int:
        names = {"--spec": "spec.json", "--layouts": "layouts.jsonl", "--work": "work", "--out": "images.zip"}
        return status(sample.main, [text for flag, name in names.items() for text in (flag, str(tmp_path / name))])

    return specify, run


def means(folder: Path) -> list[list[float]]:
    return [image.mean((0, 1)).tolist() for _, image in read_images(folder / "images.zip", [1, 2])]


def test_the_artefact_is_stated_by_hash_loaded_and_used(method, tmp_path) -> None:
    specify, run = method
    specify()
    path = tmp_path / "colour.safetensors"
    artefact = {"path": str(path), "sha256": sha256(path), "value": None}
    assert json.loads((tmp_path / "spec.json").read_text())["artefacts"] == {"colour": artefact}
    assert run() == 0
    assert read_meta(tmp_path / "images.zip")["weights_sha256"]["colour"] == sha256(path)
    assert all(found == pytest.approx([100, 120, 140], abs=1) for found in means(tmp_path))


def test_a_changed_artefact_is_refused_until_it_is_specified_and_then_sampled_with(method, tmp_path, capsys) -> None:
    specify, run = method
    specify()
    assert run() == 0
    train(tmp_path / "colour.safetensors", 140, 120, 100)
    assert run() == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path}/colour.safetensors: sha256 is" in error
    assert "but method colour was specified with" in error
    specify()
    assert run() == 0
    assert all(found == pytest.approx([140, 120, 100], abs=1) for found in means(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "colour.safetensors").unlink(), "colour.safetensors: no such file"),
        (lambda folder: edit(folder, module="baselines.gligen", params={}), "module 'baselines.gligen' has no load"),
        (lambda folder: edit(folder, artefacts={"colour": 1}), "'artefacts': 'colour' must be an object, found 1"),
    ],
)
def test_an_artefact_that_cannot_be_used_is_one_line(method, tmp_path, capsys, spoil, named) -> None:
    specify, run = method
    specify()
    spoil(tmp_path)
    assert run() == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def edit(folder: Path, **changes: object) -> None:
    path = folder / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_number_in_json_is_stated_as_such(tmp_path, method) -> None:
    specify, _ = method
    (tmp_path / "colour.json").write_text('{"colour": 0.5, "curve": [1, 2]}')
    specify(tmp_path / "colour.json")
    assert json.loads((tmp_path / "spec.json").read_text())["artefacts"]["colour"]["value"] == 0.5
    (tmp_path / "colour.json").write_text("{")
    with pytest.raises(InputError, match=r"colour\.json: not JSON"):
        specify(tmp_path / "colour.json")


def test_its_rule_is_part_of_the_graph_and_a_new_artefact_samples_its_row_alone() -> None:
    run = f"test-colour-{os.getpid()}"
    results = ROOT / "results" / run
    options = ["--snakefile", "tests/colour.smk", "--configfile", "tests/config/colour.yaml", "--config", f"run={run}"]
    wanted = [f"results/{run}/samples/{row}/test/0000.zip" for row in ("colour", "sd14")]
    try:
        done = snakemake(*wanted, *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        spec = json.loads((results / "methods/colour.json").read_text())
        assert spec["artefacts"]["colour"]["sha256"] == sha256(results / "train/colour.safetensors")
        assert is_nothing_to_do(snakemake("-n", *wanted, *options))
        train(results / "train/colour.safetensors", 0, 0, 0)
        jobs = jobs_by_rule(snakemake("-n", *wanted, *options).stdout)
        assert jobs == {"write_method": 1, "sample": 1, "total": 2}
    finally:
        shutil.rmtree(results, ignore_errors=True)
