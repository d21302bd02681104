"""Downloads against a server on this machine that misbehaves: what arrives is whole and right, or one line says why not."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import sys
import time
import zipfile
from http.client import HTTPResponse
from pathlib import Path

import pytest
import yaml

from evaluation.extractors import verified
from formats.checksums import verify_folder
from formats.files import InputError, sha256
from tests.dag import ROOT, jobs_by_rule, snakemake
from tests.served import Shelf, serve_repository, serving
from tests.tiny import write_tiny
from workflow.overlays import merged
from workflow.scripts import room, seal
from workflow.scripts.fetch import annotations, request
from workflow.scripts.fetch.check import ask
from workflow.scripts.fetch.model import fetch_model
from workflow.scripts.fetch.plan import Plan
from workflow.scripts.fetch.request import Access
from workflow.scripts.fetch.sources import Source, verify
from workflow.scripts.fetch.transfer import fetch
from workflow.scripts.places import settle, unusable

CONTENT = random.Random(0).randbytes(3_000_000)
COMMIT = "ab" * 20
LICENCE = "creativeml-openrail-m"
QUICK = Access(wait=0.0, timeout=5)


@pytest.fixture
def shelf(monkeypatch) -> Shelf:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as shelf:
        yield shelf


def source(*urls: str, **expected) -> Source:
    known = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return Source("file.bin", urls, **(known | expected))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fault(*arguments) -> str:
    with pytest.raises(InputError) as caught:
        fetch(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT)
    assert fetch(source(url), tmp_path / "file.bin", QUICK) == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["file.bin"]
    assert shelf.asked("/file.bin") == [None]


def test_broken_connections_are_gone_on_with(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, cuts=[1_000_000, 700_000, 5], statuses=[503])
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, None, "bytes=1000000-", "bytes=1700000-", "bytes=1700005-"]
    assert shelf.sent == len(CONTENT) + len(b"not now")


def test_a_download_left_by_a_killed_program_is_gone_on_with(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, cuts=[1_000_000, 0, 0, 0, 0, 0])
    assert "given up after 5 tries, run again to go on" in fault(source(url), tmp_path / "file.bin", QUICK)
    assert left(tmp_path) == ["file.bin.part", "file.bin.part.json"]
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert shelf.asked("/file.bin")[-1] == "bytes=1000000-"
    assert left(tmp_path) == ["file.bin"]


def test_a_server_that_ignores_ranges_gives_the_file_from_its_first_byte(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, ranges=False, cuts=[1_000_000])
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-"]


@pytest.mark.parametrize("error", [ssl.SSLError("decryption failed"), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_network_that_breaks_in_between_is_gone_on_with(shelf, tmp_path, monkeypatch, error) -> None:
    read, broken = HTTPResponse.read, [error]

    def breaking(self: HTTPResponse, *arguments: int) -> bytes:
        if broken and self.headers["Content-Range"] is None:
            body = read(self, 1_000_000)
            monkeypatch.setattr(HTTPResponse, "read", failing)
            return body
        return read(self, *arguments)

    def failing(self: HTTPResponse, *_: int) -> bytes:
        monkeypatch.setattr(HTTPResponse, "read", read)
        raise broken.pop()

    monkeypatch.setattr(HTTPResponse, "read", breaking)
    url = shelf.put("/file.bin", CONTENT)
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changes_in_between_is_never_glued(shelf, tmp_path, honours_if_range) -> None:
    """Of the same size and without a checksum, nothing but the server's version tells."""
    old = CONTENT[::-1]
    url = shelf.put("/file.bin", CONTENT, before=[old], cuts=[1_000_000], honours_if_range=honours_if_range)
    fetch(Source("file.bin", (url,)), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-"] + [None] * (not honours_if_range)


def test_what_cannot_be_told_apart_is_not_gone_on_with(shelf, tmp_path) -> None:
    """A part from another mirror, and no checksum: from the first byte."""
    first = shelf.put("/a/file.bin", b"y" * 2_000_000, cuts=[1_000_000, 0, 0, 0, 0, 0])
    second = shelf.put("/b/file.bin", CONTENT)
    fetch(Source("file.bin", (first, second)), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/b/file.bin") == [None]


def test_a_known_checksum_lets_another_mirror_go_on(shelf, tmp_path) -> None:
    first = shelf.put("/a/file.bin", CONTENT, cuts=[1_000_000, 0, 0, 0, 0, 0])
    second = shelf.put("/b/file.bin", CONTENT)
    fetch(source(first, second), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/b/file.bin") == ["bytes=1000000-"]


def test_a_part_longer_than_the_file_starts_again(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT)
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert shelf.asked("/file.bin") == [None]
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": url, "version": ""}))
    fetch(source(url, size=None), tmp_path / "file.bin", QUICK)
    assert shelf.asked("/file.bin")[1:] == [f"bytes={len(CONTENT) + 4}-", None]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_changed_bytes_are_named_with_both_digests_and_thrown_away(shelf, tmp_path) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    text = fault(source(shelf.put("/file.bin", wrong)), tmp_path / "file.bin", QUICK)
    assert hashlib.sha256(wrong).hexdigest() in text
    assert f"expected {hashlib.sha256(CONTENT).hexdigest()}: changed or damaged" in text
    assert left(tmp_path) == []


def test_md5_and_gits_id_are_checked_too(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", b"hello\n")
    known = {"sha256": None, "size": 6}
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # printf 'hello\n' | git hash-object --stdin
    fetch(source(url, **known, md5="b1946ac92492d2347c6235b4d2611184", git=git), tmp_path / "file.bin", QUICK)
    assert "md5 is b1946ac92492d2347c6235b4d2611184" in fault(source(url, **known, md5="0" * 32), tmp_path / "b", QUICK)
    assert f"git is {git}" in fault(source(url, **known, git="0" * 40), tmp_path / "b", QUICK)


def test_a_file_cut_off_on_the_server_is_refused_before_its_first_byte(shelf, tmp_path) -> None:
    text = fault(source(shelf.put("/file.bin", CONTENT[:-9])), tmp_path / "file.bin", QUICK)
    assert "the server's file has 2,999,991 bytes, expected 3,000,000" in text
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_a_page_instead_of_the_file_is_told(shelf, tmp_path, kind) -> None:
    page = b"\n<!DOCTYPE html><title>Sign in</title>".ljust(3_000_000)
    assert "an HTML page came" in fault(source(shelf.put("/file.bin", page, kind=kind)), tmp_path / "file.bin", QUICK)
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize(
    ("status", "token", "text"),
    [
        (401, None, "accept its licence on its page and give your access token in HF_TOKEN"),
        (403, "hf_secret", "the token in HF_TOKEN does not open it: accept the repository's licence"),
        (404, None, "404 Not Found: no such file or revision there"),
        (410, None, "no such file or revision there"),
        (400, None, "400 Bad Request"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_tried_again(shelf, tmp_path, capsys, status, token, text) -> None:
    url = shelf.put("/file.bin", CONTENT, statuses=[status] * 9)
    access = Access(hub=shelf.address, token=token, wait=0.0)
    assert text in fault(source(url), tmp_path / "file.bin", access)
    assert len(shelf.requests) == 1
    assert "hf_secret" not in repr(access) + "".join(capsys.readouterr())


def test_a_refusal_elsewhere_than_at_the_hub_speaks_of_mirrors(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, statuses=[403])
    assert "put another mirror first" in fault(source(url), tmp_path / "file.bin", QUICK)


def test_mirrors_are_tried_in_order_and_all_named_when_none_helps(shelf, tmp_path) -> None:
    bad, good = shelf.put("/a", CONTENT[:5]), shelf.put("/b", CONTENT)
    fetch(source(f"{shelf.address}/none", bad, good), tmp_path / "file.bin", QUICK)
    text = fault(source(f"{shelf.address}/none", bad), tmp_path / "other.bin", QUICK)
    assert "404" in text and "cut off" in text


def test_a_local_path_is_a_mirror(tmp_path) -> None:
    (tmp_path / "here.bin").write_bytes(CONTENT)
    fetch(source(f"file://{tmp_path}/here.bin"), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert "cannot be reached" in fault(source(f"file://{tmp_path}/none"), tmp_path / "b", QUICK)


def test_without_a_network_it_says_so_after_its_tries(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    text = fault(source("http://127.0.0.1:9/file.bin"), tmp_path / "file.bin", Access())
    assert "http://127.0.0.1:9/file.bin: cannot be reached (Connection refused)" in text
    assert waits == [1, 2, 4, 8, 16]


def test_a_server_that_asks_for_patience_gets_it(shelf, tmp_path, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    url = shelf.put("/file.bin", CONTENT, statuses=[429], headers={"Retry-After": "7"})
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert waits == [7]


def test_offline_it_says_which_file_to_put_where_and_takes_it_from_there(shelf, tmp_path) -> None:
    wanted, out = source(shelf.put("/file.bin", CONTENT)), tmp_path / "file.bin"
    text = fault(wanted, out, Access(offline=True))
    assert f"put {shelf.address}/file.bin, 3,000,000 bytes at {out}.part and run again" in text
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:-1] + b"?")
    assert f"changed or damaged; remove {out}.part" in fault(wanted, out, Access(offline=True))
    assert (tmp_path / "file.bin.part").exists()
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    fetch(wanted, out, Access(offline=True))
    assert left(tmp_path) == ["file.bin"]
    assert not shelf.requests


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_the_hubs_own_offline_switch_counts(monkeypatch, value) -> None:
    assert not request.access_from_environment("https://hub", False).offline
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert request.access_from_environment("https://hub", False).offline


def test_too_little_disk_is_told_before_the_first_byte(shelf, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 101 << 20))
    text = fault(source(shelf.put("/file.bin", CONTENT)), tmp_path / "file.bin", QUICK)
    assert "file.bin needs 0.00 GB more and 0.11 GB are free" in text
    assert left(tmp_path) == []


def test_a_part_that_will_be_written_over_counts_as_room(shelf, tmp_path, monkeypatch) -> None:
    url = shelf.put("/file.bin", CONTENT, ranges=False)
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:2_000_000])
    free = room.MARGIN + 1_500_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    fetch(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_what_is_written_on_one_disk_is_summed_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 5 * 10**9))
    needs = [room.Need("coco/train2014.zip", tmp_path / "a", 3 * 10**9), room.Need("run", tmp_path / "b", 2 * 10**9)]
    assert room.lacking(needs[:1]) == []
    (line,) = room.lacking(needs)
    assert (
        line
        == f"{tmp_path}: 5.00 GB are free, needed are 3.00 GB for coco/train2014.zip and 2.00 GB for run, estimated"
    )


def test_what_a_run_writes_is_less_by_what_is_there(tmp_path) -> None:
    estimate = {"methods": {"sd14": {"images": 100}}, "photos": 100, "trained_on": 0, "size": 512}
    need = room.need_of_run(estimate, tmp_path)
    assert need.size == int(200 * 3 * 512**2 * (1 / 2 + 1 / 8 + 1 / 20))
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/0000.zip").write_bytes(b"x" * 1000)
    assert room.need_of_run(estimate, tmp_path).size == need.size - 1000


def test_a_folder_that_cannot_be_written_is_told_before_any_request(shelf, tmp_path) -> None:
    (tmp_path / "taken").write_text("a file")
    text = fault(source(shelf.put("/file.bin", CONTENT)), tmp_path / "taken" / "file.bin", QUICK)
    assert "taken: cannot be written" in text
    assert not shelf.requests


def test_the_token_goes_to_the_hub_alone(shelf, tmp_path) -> None:
    with serving() as store:
        large = store.put("/large", CONTENT)
        shelf.put("/one", redirect=f"{shelf.address}/two")
        shelf.put("/two", redirect=large)
        fetch(source(f"{shelf.address}/one"), tmp_path / "a", Access(hub=shelf.address, token="secret"))
        fetch(source(large), tmp_path / "b", Access(hub=shelf.address, token="secret"))
        assert [row[2] for row in shelf.requests] == ["Bearer secret", "Bearer secret"]
        assert [row[2] for row in store.requests] == [None, None]


def test_verify_tells_a_page_whatever_its_checksum(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"<html>")
    with pytest.raises(InputError, match="an HTML page"):
        verify(tmp_path / "x", Source("x", ("http://x",)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = write_tiny(tmp_path_factory.mktemp("tiny"), gated=True)
    (folder / "SHA256SUMS").unlink()
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


def served_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def repository(shelf, tiny) -> Shelf:
    pickle = {"unet/diffusion_pytorch_model.bin": b"pickled", "safety_checker/model.safetensors": b"not needed"}
    odd = {"tokenizer/../../escape.json": b"{}", "unet/diffusion_pytorch_model.fp16.safetensors": b"half"}
    serve_repository(shelf, "some/model", COMMIT, served_files(tiny) | pickle | odd, LICENCE)
    return shelf


ENTRY = {"hub": "some/model", "revision": COMMIT, "licence": LICENCE}


def model_fault(entry: dict, folder: Path, access: Access) -> str:
    with pytest.raises(InputError) as caught:
        fetch_model(entry, folder, access)
    assert not (folder / "SHA256SUMS").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_folder_is_fetched_sealed_and_says_where_it_is_from(repository, tiny, tmp_path) -> None:
    folder, access = tmp_path / "model", Access(hub=repository.address)
    fetch_model(ENTRY, folder, access)
    assert verify_folder(folder)
    record = json.loads((folder / "SOURCE.json").read_text())
    assert record | {"files": 0} == ENTRY | {"licence_tag": LICENCE, "files": 0}
    assert set(record["files"]) == set(served_files(tiny))
    assert all((folder / name).read_bytes() == content for name, content in served_files(tiny).items())
    assert not (tmp_path / "escape.json").exists()
    repository.requests.clear()
    fetch_model(ENTRY, folder, access)
    assert not repository.requests


def test_only_what_is_missing_or_damaged_is_fetched_again(repository, tmp_path) -> None:
    folder, access = tmp_path / "model", Access(hub=repository.address)
    fetch_model(ENTRY, folder, access)
    (folder / "vae/config.json").write_text("{}")
    (folder / "unet/config.json").unlink()
    repository.requests.clear()
    fetch_model(ENTRY, folder, access)
    assert [path.rpartition(COMMIT)[2] for path, _, _ in repository.requests] == [
        "/unet/config.json",
        "/vae/config.json",
    ]


def test_a_fetch_of_a_model_that_fails_seals_nothing_and_goes_on(repository, tmp_path) -> None:
    path = f"/some/model/resolve/{COMMIT}/vae/config.json"
    kept = repository.pages.pop(path)
    folder, access = tmp_path / "model", Access(hub=repository.address)
    assert "404" in model_fault(ENTRY, folder, access)
    assert (folder / "unet/config.json").exists()
    repository.pages[path] = kept
    fetch_model(ENTRY, folder, access)
    assert len(repository.asked(f"/some/model/resolve/{COMMIT}/unet/config.json")) == 1


def test_large_files_that_the_hub_changed_are_refused_before_their_first_byte(repository, tmp_path) -> None:
    name = f"/some/model/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    repository.pages[name].headers["X-Linked-Etag"] = f'"{"0" * 64}"'
    store = repository.pages[name].redirect.removeprefix(repository.address)
    assert "it changed" in model_fault(ENTRY, tmp_path / "model", Access(hub=repository.address))
    assert not (tmp_path / "model/unet/diffusion_pytorch_model.safetensors").exists()
    assert repository.asked(store) == [None]


def test_the_hubs_own_word_stands_in_where_its_listing_has_no_checksum(repository, tmp_path) -> None:
    path = f"/api/models/some/model/revision/{COMMIT}"
    listing = json.loads(repository.pages[path].content)
    for row in listing["siblings"]:
        row.pop("lfs", None)
    repository.pages[path].content = json.dumps(listing).encode()
    weights = f"/some/model/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    repository.pages[weights].headers["X-Linked-Etag"] = f'"{"0" * 64}"'
    text = model_fault(ENTRY, tmp_path / "model", Access(hub=repository.address))
    assert f"expected {'0' * 64}" in text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"revision": COMMIT[:7]}, f"is no full commit hash; the hub has {COMMIT}, put that into the config"),
        ({"revision": "main"}, f"is no full commit hash; the hub has {COMMIT}"),
        ({"revision": "1234567"}, "the hub knows no such commit"),
        ({"revision": "cd" * 20}, "404 Not Found: no such file or revision"),
        ({"hub": "some/other"}, "404 Not Found"),
        ({"licence": "mit"}, "its licence is 'creativeml-openrail-m', the config says 'mit'"),
    ],
)
def test_a_wrong_revision_repository_or_licence_is_one_line(repository, tmp_path, change, text) -> None:
    assert text in model_fault(ENTRY | change, tmp_path / "model", Access(hub=repository.address))
    assert not any("resolve" in path for path, _, _ in repository.requests)


def test_a_repository_without_a_network_of_the_pipeline_is_refused(shelf, tiny, tmp_path) -> None:
    files = {name: content for name, content in served_files(tiny).items() if "vae" not in name}
    serve_repository(shelf, "some/model", COMMIT, files, None)
    assert "no vae or vqvae/config.json" in model_fault(ENTRY, tmp_path / "model", Access(hub=shelf.address))


def test_a_host_that_is_no_hub_is_told(shelf, tmp_path) -> None:
    shelf.put(f"/api/models/some/model/revision/{COMMIT}", b"<html>welcome")
    assert "is fetch.hub a model hub?" in model_fault(ENTRY, tmp_path / "model", Access(hub=shelf.address))


def test_all_that_cannot_be_fetched_is_told_before_the_first_download(repository, tmp_path) -> None:
    """One byte of each file is asked for: gone at every mirror, of another size, a wrong commit, a gated repository."""
    address, licence = repository.address, {"licence": "cc"}
    gated = f"/some/model/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors"
    repository.pages[gated].statuses = [401]
    good = {"urls": [f"{address}/none", repository.put("/good.zip", CONTENT)], "size": len(CONTENT), "md5": "0" * 32}
    files = {
        "coco/good.zip": good | licence,
        "coco/gone.zip": {"urls": [f"{address}/none", f"{address}/neither"], "md5": "0" * 32} | licence,
        "coco/other.zip": {"urls": [repository.put("/other.zip", b"x")], "size": 7, "md5": "0" * 32} | licence,
    }
    models = {"gligen": ENTRY, "sd14": ENTRY | {"revision": "cd" * 20}}
    sizes, faults = ask(Plan(files, models, Access(hub=address, wait=0.0)), tmp_path)
    assert sizes == {"coco/good.zip": len(CONTENT)}
    told = dict(fault.split(": ", 1) for fault in faults)
    assert set(told) == {"coco/gone.zip", "coco/other.zip", "gligen", "sd14"}
    assert "/none: 404" in told["coco/gone.zip"] and "/neither: 404" in told["coco/gone.zip"]
    assert "has 1 bytes, expected 7" in told["coco/other.zip"]
    assert "gated, or no such repository: accept its licence" in told["gligen"]
    assert "no such file or revision" in told["sd14"]
    assert not any("\n" in fault for fault in faults)
    assert repository.asked("/good.zip") == ["bytes=0-0"]


def test_of_what_is_there_nothing_is_asked_and_offline_it_must_be_there(repository, tiny, tmp_path) -> None:
    files = {"coco/a.zip": {"urls": [repository.put("/a.zip", CONTENT)], "size": len(CONTENT), "licence": "cc"}}
    plan = Plan(files, {"gligen": ENTRY}, Access(hub=repository.address))
    sizes, _ = ask(plan, tmp_path)
    assert sizes == {"coco/a.zip": len(CONTENT), "gligen": sum(map(len, served_files(tiny).values()))}
    fetch_model(ENTRY, tmp_path / "gligen", plan.access)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/a.zip.part").write_bytes(CONTENT)
    repository.requests.clear()
    assert ask(Plan(files, {"gligen": ENTRY}, Access(offline=True)), tmp_path) == ({"coco/a.zip": 0, "gligen": 0}, [])
    (tmp_path / "coco/a.zip.part").unlink()
    _, (fault,) = ask(Plan(files, {"gligen": ENTRY}, Access(offline=True)), tmp_path)
    assert f"put {repository.address}/a.zip, 3,000,000 bytes at {tmp_path}/coco/a.zip.part" in fault
    assert not repository.requests


def test_a_model_offline_is_asked_for_as_a_sealed_folder(tmp_path) -> None:
    text = model_fault(ENTRY, tmp_path / "sd14", Access(offline=True))
    assert "give models.sd14 a folder that holds some/model" in text
    assert "python -m workflow.scripts.seal" in text


def test_a_folder_of_ones_own_is_sealed_once(tiny, tmp_path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("")
    seal.seal(folder)
    assert verify_folder(folder) == sha256(folder / "SHA256SUMS")
    assert ".cache" not in (folder / "SHA256SUMS").read_text()
    with pytest.raises(InputError, match="is there already"):
        seal.seal(folder)
    with pytest.raises(InputError, match="not a pipeline folder"):
        seal.seal(tmp_path)


def write_archive(path: Path, **changes: bytes | None) -> Path:
    files = {Path(name).stem: name.encode() for name in annotations.MEMBERS} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for stem, content in files.items():
            if content is not None:
                archive.writestr(f"annotations/{stem}.json", content)
        archive.writestr("../outside.json", "{}")
        archive.writestr("annotations/person_keypoints_train2014.json", "{}")
    return path


def test_only_the_four_annotation_files_leave_the_zip(tmp_path) -> None:
    annotations.unpack(write_archive(tmp_path / "a.zip"), tmp_path / "coco")
    assert left(tmp_path) == ["a.zip", "coco"]
    assert left(tmp_path / "coco/annotations") == sorted(Path(name).name for name in annotations.MEMBERS)
    assert (tmp_path / "coco" / annotations.MEMBERS[0]).read_text() == annotations.MEMBERS[0]


def test_a_zip_without_annotations_or_damaged_or_a_bomb_is_one_line(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"has no annotations/captions_val2014\.json"):
        annotations.unpack(write_archive(tmp_path / "a.zip", captions_val2014=None), tmp_path)
    broken = write_archive(tmp_path / "b.zip")
    broken.write_bytes(broken.read_bytes().replace(b"annotations/instances_train2014.json", b"x" * 36, 1))
    with pytest.raises(InputError, match="not a readable zip"):
        annotations.unpack(broken, tmp_path)
    monkeypatch.setattr(annotations, "LIMIT", 10)
    with pytest.raises(InputError, match="would have 36 bytes, expected under 10"):
        annotations.unpack(write_archive(tmp_path / "c.zip"), tmp_path)


PAPER = merged(given={"scale": "paper"})


def test_sources_settle_into_the_folder_of_downloads() -> None:
    settled, fetched = settle(PAPER)
    assert settled["data"]["root"] == "downloads/coco"
    assert settled["models"] == {
        **{name: f"downloads/{name}" for name in ("sd14", "sd15", "gligen")},
        "gligen_ldm": None,
    }
    assert settled["extractors"]["clip"]["path"] == "downloads/extractors/ViT-B-32.pt"
    detector = "extractors/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
    assert settled["extractors"]["detector"]["path"] == f"downloads/{detector}"
    assert (len(fetched.files), fetched.files[detector]["size"]) == (6, 175_221_657)
    assert set(fetched.models) == {"sd14", "sd15", "gligen"}
    assert "source" not in json.dumps([settled["data"], settled["extractors"]])
    assert PAPER["data"]["root"] is None


def test_a_path_of_ones_own_goes_before_a_source() -> None:
    own = json.loads(json.dumps(PAPER))
    own["data"]["root"] = "/coco"
    own["models"] |= {"sd14": "/sd14", "sd15": own["models"]["sd15"] | {"path": "/sd15"}}
    own["extractors"]["clip"]["path"] = "/clip.pt"
    own["extractors"]["detector"] = None
    settled, fetched = settle(own)
    assert settled["data"]["root"] == "/coco"
    assert (settled["models"]["sd14"], settled["models"]["sd15"]) == ("/sd14", "/sd15")
    assert set(fetched.files) == {"extractors/pt_inception-2015-12-05-6726825d.pth"}
    assert set(fetched.models) == {"gligen"}
    known = PAPER["extractors"]["clip"]["source"]["sha256"]
    assert settled["extractors"]["clip"]["sha256"] == known
    own["extractors"]["clip"]["sha256"] = "0" * 64
    assert settle(own)[0]["extractors"]["clip"]["sha256"] == "0" * 64


def test_an_extractors_own_file_is_held_against_the_published_hash(tmp_path) -> None:
    """Through the DAG's plan, which asks for no file beside it, to the program that reads it."""
    weights = ROOT / "weights/miniature/features/model.safetensors"
    (tmp_path / "mine.safetensors").write_bytes(weights.read_bytes())
    published = {"urls": ["http://nowhere/model.safetensors"], "sha256": sha256(weights), "licence": "cc"}
    stanza = {"path": str(tmp_path / "mine.safetensors"), "source": published}
    fetch = {"folder": "downloads", "hub": "http://nowhere", "offline": False, "licences": {"cc": "x"}, "accept": []}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"fetch": fetch, "extractors": {"frechet": stanza}}))
    run = f"test-own-{os.getpid()}"
    planned = snakemake("-n", "--configfile", str(tmp_path / "own.yaml"), "--config", f"run={run}")
    assert planned.returncode == 0, planned.stderr[-2000:]
    miniature = merged()
    miniature["extractors"]["frechet"] |= stanza
    settled = settle(miniature)[0]["extractors"]["frechet"]
    assert verified(settled) == sha256(weights)
    (tmp_path / "mine.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match=f"expected {sha256(weights)}; the weights were changed"):
        verified(settled)


def test_two_extractors_files_of_one_name_are_kept_apart() -> None:
    two = json.loads(json.dumps(PAPER))
    two["extractors"]["cmmd"] = two["extractors"]["clip"] | {"name": "other"}
    two["extractors"]["cmmd"]["source"] = two["extractors"]["clip"]["source"] | {"sha256": "ab" * 32}
    settled, fetched = settle(two)
    paths = [settled["extractors"][name]["path"] for name in ("clip", "cmmd")]
    assert paths == ["downloads/extractors/ViT-B-32.pt", "downloads/extractors/abababababab-ViT-B-32.pt"]
    assert {path.removeprefix("downloads/") for path in paths} <= set(fetched.files)


def test_folders_of_ones_own_that_cannot_be_used_are_told(tmp_path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare.pt").write_text("")
    extractors = {
        "frechet": {"path": str(tmp_path / "none.pt")},
        "clip": {"path": str(tmp_path / "bare.pt")},
        "cmmd": {"path": str(tmp_path / "bare.pt"), "sha256": "0" * 64},
        "detector": None,
    }
    models = {
        "sd14": str(tmp_path / "bare"),
        "sd15": {"path": str(tmp_path / "none")},
        "made": "results/x/made",
        "no": None,
    }
    found = unusable(
        {"data": {"root": str(tmp_path / "coco")}, "models": models, "extractors": extractors}, made="results/"
    )
    assert [line.partition(":")[0] for line in found] == [
        "data.root",
        "models.sd14",
        "models.sd15",
        "extractors.frechet",
        "extractors.clip",
    ]
    assert "python -m workflow.scripts.seal" in found[1]
    assert "no such folder" in found[2]


def entry_of(shelf: Shelf, path: Path, licence: str = "cc") -> dict:
    content = path.read_bytes()
    url = shelf.put(f"/{path.name}", content, cuts=[len(content) // 2])
    return {"urls": [url], "size": len(content), "md5": hashlib.md5(content).hexdigest(), "licence": licence}


def zipped(folder: Path, out: Path) -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*.json")):
            archive.write(path, path.relative_to(folder.parent))
    return out


def test_the_rules_fetch_what_a_configuration_names_and_nothing_before_its_licence(shelf, tmp_path) -> None:
    """The real DAG: refused, then fetched over connections that break, then used, then with nothing more to do.

    Nor is there when it is to be fetched from elsewhere: only what a thing is may cause a new download.
    """
    run, downloads = f"test-fetch-{os.getpid()}", tmp_path / 'it\'s $HOME "x" down loads'
    draw = [sys.executable, "-m", "workflow.scripts.miniature.draw", "--out", str(tmp_path / "drawn")]
    subprocess.run([*draw, "--train", "60", "--val", "20", "--seed", "1"], cwd=ROOT, check=True)
    drawn = tmp_path / "drawn"
    archive = zipped(drawn / "annotations", tmp_path / "annotations_trainval2014.zip")
    weights = ROOT / "weights/miniature"  # its parts are links to one another's
    parts = {path.name: served_files(path) for path in (weights / "gligen").iterdir() if path.is_dir()}
    gligen = {f"{part}/{name}": content for part, files in parts.items() for name, content in files.items()}
    gligen["model_index.json"] = (weights / "gligen/model_index.json").read_bytes()
    serve_repository(shelf, "some/gligen", COMMIT, gligen, LICENCE)
    features = entry_of(shelf, weights / "features/model.safetensors")
    features["sha256"] = sha256(weights / "features/model.safetensors")
    config = {
        "run": run,
        "fetch": {
            "folder": str(downloads),
            "hub": shelf.address,
            "offline": False,
            "licences": {"cc": "https://cc", LICENCE: "https://rail"},
            "accept": ["cc"],
        },
        "data": {
            "draw": None,
            "train": {"count": 32},
            "heldout": {"count": 8},
            "test": {"count": 8},
            "shard_size": 8,
            "source": {
                path.name: entry_of(shelf, path) for path in (drawn / "train2014.zip", drawn / "val2014.zip", archive)
            },
        },
        "models": {"gligen": {"hub": "some/gligen", "revision": COMMIT, "licence": LICENCE}},
        "extractors": {"frechet": {"path": None, "source": features}},
        "alignment": {"calibrate": {"count": 8}},
    }
    results = ROOT / "results" / run
    targets = ["fetch", f"results/{run}/samples/real/test/0000.zip", f"results/{run}/methods/gligen_sd.json"]

    def fetched(*more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return snakemake(*targets, *more, "--configfile", str(tmp_path / "config.yaml"))

    try:
        refused = fetched()
        assert refused.returncode != 0
        assert f"error: not accepted: {LICENCE}: some/gligen (gligen): https://rail" in refused.stderr
        assert not shelf.requests
        config["fetch"]["accept"] = ["cc", LICENCE]
        config["methods"] = {"hcma": {"params": {"tau": 7}}}
        refused = fetched()
        assert "error: methods.hcma.params: tau: expected a number from 0 to 1, found 7" in refused.stderr
        assert not shelf.requests
        del config["methods"]
        config["models"]["gligen"]["revision"] = "cd" * 20
        refused = fetched()
        assert refused.returncode != 0
        assert "error: gligen: " in refused.stderr
        assert set(shelf.asked("/val2014.zip")) == {"bytes=0-0"}
        shelf.requests.clear()
        config["models"]["gligen"]["revision"] = COMMIT
        photos = shelf.pages["/val2014.zip"]
        shelf.put("/val2014.zip", b"<html>please log in</html>", kind="text/html")
        refused = fetched()
        assert re.search("error: coco/val2014.zip: .*an HTML page came instead", refused.stderr), refused.stderr[-2000:]
        shelf.put("/val2014.zip", photos.content[:-1] + b"?", cuts=[1000])
        shelf.requests.clear()
        refused = fetched()
        assert shelf.asked("/val2014.zip")[0] == "bytes=0-0"
        assert re.search(r"error: .*val2014.zip: .*MD5", refused.stderr, re.IGNORECASE), refused.stderr[-2000:]
        assert not [path.name for path in (downloads / "coco").iterdir() if path.name.startswith("val2014.zip")]
        shelf.pages["/val2014.zip"] = photos
        shelf.requests.clear()
        done = fetched()
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        assert (downloads / "coco/val2014.zip").read_bytes() == (drawn / "val2014.zip").read_bytes()
        assert shelf.asked("/val2014.zip") == [None, f"bytes={len(photos.content) // 2}-"]
        record = json.loads((downloads / "coco/val2014.zip.source.json").read_text())
        assert record["sha256"] == sha256(drawn / "val2014.zip")
        assert json.loads((results / "methods/gligen_sd.json").read_text())["model"] == str(downloads / "gligen")
        assert verify_folder(downloads / "gligen")
        assert "Nothing to be done" in fetched().stderr
        shelf.requests.clear()
        kept = {path: path.stat().st_mtime_ns for path in downloads.rglob("*.zip")}
        config["fetch"] |= {"offline": True, "hub": "http://nowhere"}
        for entry in config["data"]["source"].values():
            entry |= {"urls": ["http://nowhere/x.zip", *entry["urls"]], "licence": LICENCE}
        again = fetched()
        assert again.returncode == 0, again.stderr[-3000:]
        checks = {"check_licences", "write_plan", "check_sources", "pass_sources"}
        assert set(jobs_by_rule(again.stdout + again.stderr)) == {*checks, "total"}
        assert {path: path.stat().st_mtime_ns for path in downloads.rglob("*.zip")} == kept
        config["data"]["source"]["val2014.zip"] |= {"size": 7}
        assert jobs_by_rule(fetched("-n").stdout)["fetch_file"] == 1
        assert not shelf.requests
    finally:
        shutil.rmtree(results, ignore_errors=True)


def test_parts_that_are_links_to_another_folders_are_sealed_too(tmp_path) -> None:
    (tmp_path / "base/vae").mkdir(parents=True)
    (tmp_path / "base/vae/config.json").write_text("{}")
    (tmp_path / "mine/unet").mkdir(parents=True)
    (tmp_path / "mine/unet/config.json").write_text("{}")
    (tmp_path / "mine/vae").symlink_to("../base/vae")
    (tmp_path / "mine/.hidden").write_text("")
    seal.seal(tmp_path / "mine")
    verify_folder(tmp_path / "mine")
    lines = (tmp_path / "mine/SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["unet/config.json", "vae/config.json"]
