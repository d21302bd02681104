"""Every program answers `--help` at once: nothing large is imported before its options are read."""

import subprocess
import sys

import pytest

from tests.dag import ROOT

LAYERS = ("formats", "hcma", "baselines", "evaluation", "workflow")
LARGE = {"torch", "diffusers", "transformers", "matplotlib"}
# Parts of `python -m workflow.benchmarks`, which imports the one that is named: no programs.
PARTS = "workflow/benchmarks/"


def _programs() -> list[str]:
    paths = [path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    return sorted(
        ".".join(path.with_suffix("").parts)
        for path in paths
        if "\n    run(main)\n" in (ROOT / path).read_text()
        and (PARTS not in path.as_posix() or path.name == "__main__.py")
    )


PROGRAMS = _programs()


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """program -> what is large among its imports, each in a process of its own that was forked before any import."""
    code = f"""
import importlib, os, sys
for program in {PROGRAMS!r}:
    sys.stdout.flush()
    if not (child := os.fork()):
        importlib.import_module(program)
        print(program, *sorted({LARGE!r} & set(sys.modules)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    words = [line.split() for line in done.stdout.splitlines()]
    return {program: large for program, *large in words}


def test_there_are_programs() -> None:
    assert {"hcma.sampling.sample", "workflow.random_weights.__main__", "evaluation.__main__"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_imports_nothing_large(program, imported) -> None:
    assert imported[program] == []
