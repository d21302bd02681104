"""The checks before the first job: all faults at once, a line each, and nothing kept."""

import sys
from types import SimpleNamespace

import pytest

from tests.dag import ROOT
from tests.test_plan import planned
from workflow import disk_space, preflight
from workflow.products import clashes


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["preflight", *arguments])
    preflight.main()


def test_faults_of_all_checks_are_printed_at_once(monkeypatch, capsys) -> None:
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    monkeypatch.setitem(
        preflight.CHECKS, "methods", lambda plan: ["methods.hcma.params: tau: too much", "methods.x: y"]
    )
    with pytest.raises(SystemExit):
        run(monkeypatch, "--configfile", "workflow/config/regress.yaml", "--check", "methods", "disk")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error"] * 3
    assert lines[0] == "error: methods.hcma.params: tau: too much"
    assert "GB are free, needed are" in lines[2] and "results/regress" in lines[2]


def test_a_configuration_without_faults_passes_in_silence(monkeypatch, capsys) -> None:
    run(monkeypatch, "--configfile", "workflow/config/regress.yaml", "--check", "disk", "sources", "device")
    assert capsys.readouterr() == ("", "")


def test_a_misspelt_key_is_one_line(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "own.yaml").write_text("sampling: {stepz: 3}")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--configfile", str(tmp_path / "own.yaml"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/own.yaml: sampling.stepz: unknown key")


def test_what_is_there_is_not_needed_again(tmp_path, monkeypatch) -> None:
    plan = planned()
    monkeypatch.setattr(plan.path, "folder", str(tmp_path))
    need = disk_space.need_of_run(plan).size
    (tmp_path / "some").write_bytes(b"x" * 1000)
    assert disk_space.need_of_run(plan).size == need - 1000


def test_a_table_may_not_have_another_tables_name() -> None:
    (line,) = clashes(planned(tables={"cost": ["sd14"]}))
    assert line.startswith("tables: cost is the name of another table")
    (line,) = clashes(planned(tables={"panel": {"by": ["size"]}}))
    assert line.startswith("tables: panel is the name of another figure")


def test_locks_of_the_dead_are_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    preflight.drop_stale_locks()
    assert not lock.exists()
    preflight._alive.pop().close()
