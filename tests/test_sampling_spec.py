import json

import pytest

from formats.files import InputError
from formats.layouts import Layout
from formats.params import from_keys
from hcma.sampling.spec import Artefact, Spec, as_json, read_spec


def test_a_spec_survives_the_round_trip(tmp_path):
    artefacts = {
        "eta": Artefact("train/eta.json", "0" * 64, 0.25),
        "alignment": Artefact("train/a.safetensors", "1" * 64),
    }
    spec = Spec("hcma", "hcma.method", "weights/gligen", params={"tau": 1.0}, artefacts=artefacts, version=2)
    (tmp_path / "spec.json").write_text(json.dumps(as_json(spec)))
    assert read_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"method": "sd"}, "missing key 'model'"),
        ({"method": "sd", "modul": "x"}, "modul: unknown key"),
        ({"method": "sd", "module": None, "model": "x"}, "'module' must be text"),
        ({"method": "sd", "module": "x", "model": "x", "params": []}, "'params' must be an object"),
        ({"method": "sd", "module": "x", "model": "x", "artefacts": {"eta": 1}}, "'eta' must be an object, found 1"),
        (
            {"method": "sd", "module": "x", "model": "x", "artefacts": {"eta": {"path": "x", "sha": "y"}}},
            "artefacts, eta: sha: unknown key",
        ),
        ([], "expected an object"),
    ],
)
def test_a_bad_spec_names_its_file_and_key(tmp_path, row, message):
    (tmp_path / "spec.json").write_text(json.dumps(row))
    with pytest.raises(InputError, match=message) as error:
        read_spec(tmp_path / "spec.json")
    assert "spec.json" in str(error.value)


def test_unknown_keys_name_the_key_and_the_place():
    with pytest.raises(InputError, match=r"method sd, params: tua: unknown key.*caption"):
        from_keys(Layout, {"tua": 1}, "method sd, params")
