"""Who may import whom: the table that keeps methods, evaluation and workflow apart."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# package -> first-party packages it may import (longest prefix wins), and libraries it must not
ALLOWED = {
    "formats": ({"formats"}, {"snakemake", "torch"}),
    "formats.device": ({"formats"}, {"snakemake"}),
    "hcma.sampling": ({"formats", "hcma.sampling"}, {"snakemake", "pandas", "cleanfid", "open_clip"}),
    "hcma": ({"formats", "hcma"}, {"snakemake", "cleanfid", "open_clip"}),
    "baselines": ({"formats", "hcma.sampling"}, {"snakemake", "cleanfid", "open_clip"}),
    "evaluation": ({"formats", "evaluation"}, {"snakemake", "diffusers", "transformers"}),
    "evaluation.networks": ({"formats", "evaluation"}, {"snakemake", "diffusers"}),
    "workflow": ({"formats", "hcma", "baselines", "evaluation", "workflow"}, set()),
}
PACKAGES = sorted({name.split(".")[0] for name in ALLOWED})
# hcma.sampling knows no method: it loads the module that a specification names.
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, packages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_their_layer(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    layer = max((name for name in ALLOWED if within(module, {name})), key=len)
    first_party, forbidden = ALLOWED[layer]
    for name in imported(path):
        if within(name, set(PACKAGES)):
            assert within(name, first_party), f"{module} must not import {name}"
        assert not within(name, forbidden), f"{module} must not import {name}"


# Leaf packages: for people, run by name.
LEAVES = {"workflow.benchmarks"}


def test_nothing_imports_a_leaf() -> None:
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for leaf in LEAVES:
            if not within(module, {leaf}):
                assert not [name for name in imported(path) if within(name, {leaf})], f"{module} must not import {leaf}"


def test_formats_needs_numpy_and_pil_alone() -> None:
    for path in (ROOT / "formats").glob("*.py"):
        needed = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names
        assert needed <= {"formats", "numpy", "PIL", *(["torch"] if path.name == "device.py" else [])}, path


def test_no_baseline_imports_another() -> None:
    for path in (ROOT / "baselines").glob("*.py"):
        assert not [name for name in imported(path) if name.startswith("baselines.")]


def test_no_code_asks_at_which_scale_it_runs() -> None:
    """A scale is a configuration: outside docstrings no string names one. The workflow's programs may name places alone."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
            texts = [text for text in said if isinstance(text, str) and not (package == "workflow" and "/" in text)]
            found = [text for text in texts if re.search(r"\b(miniature|rehearsal)\b|^paper$", text)]
            assert not found, f"{path}: {found}"
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert not re.findall(r"[\"'](?:miniature|rehearsal|paper)[\"']", path.read_text()), path
