"""One set of versions: the lock, environment.yml, workflow/envs, pyproject.toml, and what is installed."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


LOCKS = "requirements.lock", "requirements-torch.lock"


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+)==([^ ;]+)( ;.*?)?( \\)?", line) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def locked(name: str) -> dict[str, str]:
    """A lock's pins, each of which has hashes; of a package with several, by Python's version, the last."""
    text = (ROOT / name).read_text()
    entries = re.findall(r"^([^#\s].*\n)((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    stated = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert [line.rstrip() for line, _ in entries] == stated, f"{name}: every pin has hashes"
    return pins(stated)


def lock() -> dict[str, str]:
    return locked(LOCKS[0]) | locked(LOCKS[1])


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


def test_cudas_packages_are_in_the_locks_second_part_alone() -> None:
    cuda = {name for name in lock() if re.match("torch$|torchvision$|nvidia-|cuda-|triton", name)}
    assert {"torch", "torchvision", "triton", "nvidia-cublas"} <= cuda == set(locked(LOCKS[1]))


def test_no_lock_names_a_host() -> None:
    for name in LOCKS:
        assert not re.search("://|index-url|find-links", (ROOT / name).read_text())


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
