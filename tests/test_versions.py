"""One set of versions: the lock, environment.yml, workflow/envs, pyproject.toml, and what is installed."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+)==([^ ;]+)( ;.*)?", line) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def lock() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(pins(lines)) == len(lines), "every line of the lock is a pin"
    return pins(lines)


def conda(path: Path) -> dict[str, str]:
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    (pip,) = [item["pip"] for item in dependencies if isinstance(item, dict)]
    assert len(pins(pip)) == len(pip)
    return pins(pip)


def test_all_files_agree_with_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = pins(project["dependencies"]) | pins(project["optional-dependencies"]["dev"])
    environment, harness = conda(ROOT / "environment.yml"), conda(ROOT / "workflow/envs/harness.yaml")
    assert stated.items() <= lock().items()
    assert environment == pins(project["dependencies"])
    assert harness.items() <= environment.items()
    started = "snakemake-executor-plugin-cluster-generic", "snakemake-executor-plugin-slurm"
    assert set(environment) - set(harness) == {"snakemake", *started}


def test_what_runs_here_is_what_the_lock_says() -> None:
    for name in ("torch", "diffusers", "transformers", "numpy", "scipy", "snakemake", "open-clip-torch"):
        assert version(name).split("+")[0] == lock()[name]


def test_every_rule_has_an_environment_a_log_and_a_message() -> None:
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"\n(?=rule )", path.read_text())[1:]:
            if "shell:" not in rule:
                continue
            name = rule.split(":")[0]
            for key in ("conda:", "log:", "message:"):
                assert key in rule, f"{path.name}, {name}: no {key}"
            assert "retries:" not in rule, f"{path.name}, {name}: retries belong in a profile"
            assert "\n    run:" not in rule
            assert "directory(" not in rule
