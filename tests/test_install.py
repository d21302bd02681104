"""The Makefile's installation, from indexes on this disk: hashes are held, and TORCH=cpu takes PyTorch's own builds."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def wheel(folder: Path, name: str, version: str) -> str:
    """A package of one empty module in an index's folder; its SHA-256."""
    folder = folder / name.replace("_", "-")
    folder.mkdir(parents=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{name}.py", "")
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{path.name}">{path.name}</a>')
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The Makefile beside locks of packages that an index on disk has, one of CPU builds included."""
    folder = tmp_path / "it's a checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    locks = {"requirements.lock": ["some_package"], "requirements-torch.lock": ["nvidia_thing", "torch", "torchvision"]}
    for lock, names in locks.items():
        entries = [f"{name}==1.0 \\\n    --hash=sha256:{wheel(tmp_path / 'pypi', name, '1.0')}\n" for name in names]
        (folder / lock).write_text("".join(entries))
    for name in ("torch", "torchvision"):
        wheel(tmp_path / "cpu", name, "1.0+cpu")
    return folder


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    indexes = {kind: (checkout.parent / kind).as_uri() for kind in ("pypi", "cpu")}
    command = ["make", ".venv", f"PYTHON={sys.executable}", f"CPU_INDEX={indexes['cpu']}", *words]
    environment = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": indexes["pypi"]}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # as in many a container
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def installed(checkout: Path) -> set[str]:
    found = (checkout / ".venv").glob("lib/python3*/site-packages/*.dist-info")
    return {path.stem for path in found if not path.name.startswith(("pip-", "setuptools-"))}


def test_both_parts_of_the_lock_are_installed(checkout) -> None:
    done = make(checkout)
    assert done.returncode == 0, done.stderr
    assert installed(checkout) == {"some_package-1.0", "nvidia_thing-1.0", "torch-1.0", "torchvision-1.0"}
    compiled = {
        path.name.split(".")[0] for path in (checkout / ".venv").glob("lib/python3*/site-packages/__pycache__/*.pyc")
    }
    assert compiled >= {"some_package", "nvidia_thing", "torch", "torchvision"}


def test_without_cuda_torch_is_pytorchs_cpu_build(checkout) -> None:
    done = make(checkout, "TORCH=cpu")
    assert done.returncode == 0, done.stderr
    assert installed(checkout) == {"some_package-1.0", "torch-1.0+cpu", "torchvision-1.0+cpu"}
    assert "error: TORCH is cuda or cpu, found rocm" in make(checkout, "TORCH=rocm", "-B").stderr


def test_a_package_that_is_not_the_locks_is_refused(checkout) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0000")[: -len("0000\n")] + "\n")
    done = make(checkout)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (checkout / ".venv/installed").exists()
