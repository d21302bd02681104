"""The record of what made a file."""

import sys
from importlib.metadata import version
from types import SimpleNamespace

from formats import records


def test_a_library_that_is_imported_says_its_build(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.0+cu130"))
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    found = records.versions(["torch", "pandas"])
    assert found == {"python": found["python"], "torch": "2.0+cu130", "pandas": version("pandas")}


def test_outside_a_repository_there_is_no_commit(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    assert records.commit() is None


def test_the_record_of_a_measurement_names_every_library_that_decides_a_number() -> None:
    made = records.made()
    assert set(made) == {"commit", "versions", "machine"}
    assert set(made["versions"]) == {"python", *records.MEASURING}
