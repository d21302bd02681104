"""SHA256SUMS: as `sha256sum` writes and checks them, and every damage to a folder as one line."""

import shutil
import subprocess
from pathlib import Path

import pytest

from formats.checksums import digests, folder_sha256, read_sums, stated_sha256, verify_folder, write_sums
from formats.files import InputError, sha256

UNET = "unet/model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet/.cache").write_text("hidden")
    for name, content in {UNET: "weights", "unet/config.json": "{}", "model_index.json": "{ }"}.items():
        (folder / name).write_text(content)
    write_sums(folder, digests(folder))
    return folder


def test_sums_are_those_of_the_program_sha256sum(folder) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    names = ["model_index.json", "unet/config.json", UNET]
    assert list(read_sums(folder)) == names
    for options in ([], ["--binary"]):
        written = subprocess.run(["sha256sum", *options, *names], cwd=folder, check=True, capture_output=True).stdout
        (folder / "SHA256SUMS").write_bytes(written)
        assert read_sums(folder) == digests(folder)
        assert verify_folder(folder) == folder_sha256(folder) == sha256(folder / "SHA256SUMS")
    (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text().replace("*", " ./"))
    verify_folder(folder)


def test_parts_may_be_links_to_another_folders(folder, tmp_path) -> None:
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin/unet").symlink_to(folder / "unet")
    assert digests(tmp_path / "twin") == {name: digest for name, digest in digests(folder).items() if "/" in name}


def test_one_file_is_looked_up_in_the_sums_beside_it(folder) -> None:
    assert stated_sha256(folder / "model_index.json") == sha256(folder / "model_index.json")
    assert stated_sha256(folder / "other.json") is None
    assert stated_sha256(folder / "unet/config.json") is None


def test_a_changed_file_is_named_with_both_hashes(folder) -> None:
    before = sha256(folder / UNET)
    (folder / UNET).write_text("Weights")
    with pytest.raises(InputError) as refused:
        verify_folder(folder)
    message = f"{folder / UNET}: sha256 is {sha256(folder / UNET)}, expected {before} ({folder / 'SHA256SUMS'})"
    assert str(refused.value) == message


SUM = "0" * 64


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / UNET).unlink(), "model.safetensors: missing, but listed"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS: missing"),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "lists no file"),
        (lambda folder: (folder / "SHA256SUMS").write_text("abc  unet"), "SHA256SUMS, line 1: expected"),
        (lambda folder: (folder / "SHA256SUMS").write_text(f"{SUM}  a\n{SUM} b"), "SHA256SUMS, line 2: expected"),
        (lambda folder: (folder / "SHA256SUMS").write_text(f"{SUM}  ../a"), "SHA256SUMS, line 1: expected"),
        (lambda folder: (folder / "SHA256SUMS").write_text(f"{SUM}  /etc/passwd"), "SHA256SUMS, line 1: expected"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\xfe\x00"), "SHA256SUMS, line 1: expected"),
        (lambda folder: (folder / "unet/other.bin").write_text(""), "other.bin: not listed"),
        (lambda folder: shutil.rmtree(folder), "no such model folder"),
    ],
)
def test_damage_is_one_clear_line(folder, damage, message) -> None:
    damage(folder)
    with pytest.raises(InputError, match=message) as refused:
        verify_folder(folder)
    assert len(str(refused.value).splitlines()) == 1
