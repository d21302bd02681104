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
import threading
import time
import zipfile
from http.client import HTTPResponse
from pathlib import Path

import pytest
import yaml

from evaluation.datasets.coco import ANNOTATIONS
from formats.checksums import read_sums, verify_folder
from formats.files import InputError, sha256
from tests.dag import ROOT, checkout, command, environment, is_nothing_to_do, jobs_by_rule, snakemake
from tests.served import Shelf, serve_repository, serving
from tests.tiny import write_tiny
from workflow.disk_space import Need, lacking
from workflow.fetch import __main__ as program
from workflow.fetch import ask, refused
from workflow.fetch.download import Expected, Network, fetch_file, network_of, verify
from workflow.fetch.hub import fetch_model, model_still_to_come
from workflow.inputs import Downloads
from workflow.settings import Fetch, HubNetwork, Model, Source

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "ab" * 20
LICENCE = "creativeml-openrail-m"
QUICK = Network(wait=0.0, timeout=5)


def source(*urls: str, **expected) -> Source:
    return Source(**({"urls": list(urls), "licence": "cc", "size": len(CONTENT), "sha256": SHA256} | expected))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def fault(source: Source, out: Path, network: Network = QUICK) -> str:
    with pytest.raises(InputError) as caught:
        fetch_file(source, out, network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT)
    assert fetch_file(source(url), tmp_path / "file.bin", QUICK) == SHA256
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["file.bin"]
    assert fetch_file(source(url), tmp_path / "file.bin", QUICK) == SHA256
    assert shelf.asked("/file.bin") == [None], "what is there is not fetched twice"
    (tmp_path / "file.bin").write_bytes(b"an older one")
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_broken_connections_are_gone_on_with(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, cuts=[1_000_000, 700_000, 5], statuses=[503])
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, None, "bytes=1000000-", "bytes=1700000-", "bytes=1700005-"]
    assert shelf.sent == len(CONTENT) + len(b"not now")


def test_a_download_left_by_a_killed_program_is_gone_on_with(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, cuts=[1_000_000, 0, 0, 0, 0, 0])
    assert "given up after 5 tries, run again to go on" in fault(source(url), tmp_path / "file.bin")
    assert left(tmp_path) == ["file.bin.part"]
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert shelf.asked("/file.bin")[-1] == "bytes=1000000-"
    assert left(tmp_path) == ["file.bin"]


def test_a_server_that_ignores_ranges_gives_the_file_from_its_first_byte(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, ranges=False, cuts=[1_000_000])
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-"]


@pytest.mark.parametrize("error", [ssl.SSLError("decryption failed"), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_network_that_breaks_in_between_is_gone_on_with(shelf, tmp_path, monkeypatch, error) -> None:
    read, broken = HTTPResponse.read1, [error]

    def breaking(self: HTTPResponse, *arguments: int) -> bytes:
        if broken and self.headers["Content-Range"] is None and self.length < 2_000_000:
            raise broken.pop()
        return read(self, *arguments)

    monkeypatch.setattr(HTTPResponse, "read1", breaking)
    url = shelf.put("/file.bin", CONTENT)
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [span[:7] for span in shelf.asked("/file.bin")[1:]] == ["bytes=1"]


def test_pieces_of_two_versions_are_never_glued(shelf, tmp_path) -> None:
    """The file changes on the server in between, and a part is left of another."""
    url = shelf.put("/file.bin", CONTENT, before=[CONTENT[::-1]], cuts=[1_000_000])
    fetch_file(source(url, size=None), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-", None]
    (tmp_path / "other.bin.part").write_bytes(b"y" * 1000)
    fetch_file(source(url), tmp_path / "other.bin", QUICK)
    assert (tmp_path / "other.bin").read_bytes() == CONTENT


def test_another_mirror_goes_on_where_one_gave_up(shelf, tmp_path) -> None:
    first = shelf.put("/a/file.bin", CONTENT, cuts=[1_000_000, 0, 0, 0, 0, 0])
    second = shelf.put("/b/file.bin", CONTENT)
    fetch_file(source(first, second), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/b/file.bin") == ["bytes=1000000-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_longer_than_the_file_starts_again(shelf, tmp_path, size) -> None:
    url = shelf.put("/file.bin", CONTENT)
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    fetch_file(source(url, size=size), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin")[-1] is None


def test_changed_bytes_are_named_with_both_digests_and_thrown_away(shelf, tmp_path) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    text = fault(source(shelf.put("/file.bin", wrong)), tmp_path / "file.bin")
    assert f"{hashlib.sha256(wrong).hexdigest()}, expected {SHA256}: changed or damaged" in text
    text = fault(source(shelf.put("/file.bin", wrong), sha256=None, md5="0" * 32), tmp_path / "file.bin")
    assert f"md5 is {hashlib.md5(wrong).hexdigest()}, expected {'0' * 32}" in text
    assert left(tmp_path) == []


def test_gits_id_and_a_page_are_known_whatever_else_is(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # printf 'hello\n' | git hash-object --stdin
    assert verify(tmp_path / "x", Expected(6, git=git)) == sha256(tmp_path / "x")
    with pytest.raises(InputError, match=f"git is {git}"):
        verify(tmp_path / "x", Expected(git="0" * 40))
    (tmp_path / "x").write_bytes(b"<html>")
    with pytest.raises(InputError, match="an HTML page"):
        verify(tmp_path / "x", Expected())


def test_a_file_cut_off_on_the_server_is_refused_before_its_first_byte(shelf, tmp_path) -> None:
    text = fault(source(shelf.put("/file.bin", CONTENT[:-9])), tmp_path / "file.bin")
    assert "the server's file has 2,999,991 bytes, expected 3,000,000" in text
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_a_page_instead_of_the_file_is_told(shelf, tmp_path, kind) -> None:
    page = b"\n<!DOCTYPE html><title>Sign in</title>".ljust(3_000_000)
    assert "an HTML page came" in fault(source(shelf.put("/file.bin", page, kind=kind)), tmp_path / "file.bin")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "whose access token is in HF_TOKEN"),
        (403, "put another mirror first in `urls`"),
        (404, "404 Not Found: no such file there"),
        (410, "no such file there"),
        (400, "400 Bad Request"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_tried_again(shelf, tmp_path, status, text) -> None:
    url = shelf.put("/file.bin", CONTENT, statuses=[status] * 9)
    assert text in fault(source(url), tmp_path / "file.bin")
    assert len(shelf.requests) == 1


def test_mirrors_are_tried_in_order_and_all_named_when_none_helps(shelf, tmp_path) -> None:
    bad, good = shelf.put("/a", CONTENT[:5]), shelf.put("/b", CONTENT)
    fetch_file(source(f"{shelf.address}/none", bad, good), tmp_path / "file.bin", QUICK)
    text = fault(source(f"{shelf.address}/none", bad), tmp_path / "other.bin")
    assert "404" in text and "cut off" in text


def test_a_local_path_is_a_mirror(tmp_path) -> None:
    (tmp_path / "it is here.bin").write_bytes(CONTENT)
    fetch_file(source((tmp_path / "it is here.bin").as_uri()), tmp_path / "file.bin", QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert "cannot be reached" in fault(source(f"file://{tmp_path}/none"), tmp_path / "b")


def test_without_a_network_it_says_so_after_its_tries(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    text = fault(source("http://127.0.0.1:9/file.bin"), tmp_path / "file.bin", Network())
    assert "http://127.0.0.1:9/file.bin: cannot be reached (Connection refused)" in text
    assert waits == [2, 4, 8, 16]


def test_a_server_that_asks_for_patience_gets_it(shelf, tmp_path, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    url = shelf.put("/file.bin", CONTENT, statuses=[429], headers={"Retry-After": "7"})
    fetch_file(source(url), tmp_path / "file.bin", QUICK)
    assert waits == [7]


def test_offline_it_says_which_file_to_put_where_and_takes_it_from_there(shelf, tmp_path) -> None:
    wanted, out, offline = source(shelf.put("/file.bin", CONTENT)), tmp_path / "file.bin", Network(offline=True)
    text = fault(wanted, out, offline)
    assert f"put {shelf.address}/file.bin, 3,000,000 bytes at {out}.part and run again" in text
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:-1] + b"?")
    assert f"changed or damaged; remove {out}.part" in fault(wanted, out, offline)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    fetch_file(wanted, out, offline)
    assert left(tmp_path) == ["file.bin"]
    assert not shelf.requests


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_the_hubs_own_switches_count(monkeypatch, value) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert network_of(Fetch(hub="https://hub/")) == Network("https://hub")
    for name, said in {"HF_HUB_OFFLINE": value, "HF_ENDPOINT": "https://mirror", "HF_TOKEN": "hf_secret"}.items():
        monkeypatch.setenv(name, said)
    assert network_of(Fetch()) == Network("https://mirror", offline=True, token="hf_secret")
    assert "hf_secret" not in repr(network_of(Fetch()))


def test_a_folder_that_cannot_be_written_is_told_before_any_request(shelf, tmp_path) -> None:
    (tmp_path / "taken").write_text("a file")
    text = fault(source(shelf.put("/file.bin", CONTENT)), tmp_path / "taken" / "file.bin")
    assert "taken: cannot be written" in text
    assert not shelf.requests


def test_the_token_goes_to_the_hub_alone(shelf, tmp_path) -> None:
    with serving() as store:
        large = store.put("/large", CONTENT)
        shelf.put("/one", redirect=f"{shelf.address}/two")
        shelf.put("/two", redirect=large)
        network = Network(hub=shelf.address, token="secret")
        fetch_file(source(f"{shelf.address}/one"), tmp_path / "a", network)
        fetch_file(source(large), tmp_path / "b", network)
        assert [row[2] for row in shelf.requests] == ["Bearer secret", "Bearer secret"]
        assert [row[2] for row in store.requests] == [None, None]


def together(*calls) -> None:
    """All at once; whatever one raises is raised here."""
    faults = []

    def caught(call) -> None:
        try:
            call()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=caught, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_two_starts_side_by_side_fetch_a_file_once(shelf, tmp_path) -> None:
    url = shelf.put("/file.bin", CONTENT, cuts=[1_000_000])
    together(*[lambda: fetch_file(source(url), tmp_path / "file.bin", Network(wait=0.2))] * 2)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert shelf.asked("/file.bin") == [None, "bytes=1000000-"]


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
MODEL = Model(**ENTRY)
RESOLVED = f"/some/model/resolve/{COMMIT}"


def model_fault(folder: Path, network: Network, **changes: str) -> str:
    with pytest.raises(InputError) as caught:
        fetch_model(Model(**(ENTRY | changes)), folder, network)
    assert not (folder / "SHA256SUMS").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_folder_is_fetched_sealed_and_says_where_it_is_from(repository, tiny, tmp_path) -> None:
    folder, network = tmp_path / "model", Network(hub=repository.address)
    together(*[lambda: fetch_model(MODEL, folder, network)] * 2)
    assert verify_folder(folder)
    record = json.loads((folder / "SOURCE.json").read_text())
    assert record | {"files": 0} == ENTRY | {"licence_tag": LICENCE, "files": 0}
    assert set(record["files"]) == set(served_files(tiny))
    assert all((folder / name).read_bytes() == content for name, content in served_files(tiny).items())
    assert not (tmp_path / "escape.json").exists()
    fetched = [path for path, _, _ in repository.requests if path.startswith(("/store", RESOLVED))]
    assert len(fetched) == len(served_files(tiny)), "each once: the second start found them all"


def test_a_network_is_fetched_with_the_files_at_its_top(shelf, tmp_path) -> None:
    wanted = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "vocab.txt": b"[PAD]",
        "preprocessor_config.json": b"{}",
    }
    other = {"pytorch_model.bin": b"pickled", "README.md": b"#", "onnx/model.onnx": b"o", "sub/config.json": b"{}"}
    serve_repository(shelf, "some/net", COMMIT, wanted | other, LICENCE)
    network = HubNetwork(**(ENTRY | {"hub": "some/net"}))
    fetch_model(network, tmp_path / "extractors/owl", Network(hub=shelf.address))
    assert verify_folder(tmp_path / "extractors/owl")
    assert set(read_sums(tmp_path / "extractors/owl")) == set(wanted)
    with pytest.raises(
        InputError, match=r"extractors\.dino the path of model\.safetensors in a folder that holds some/net"
    ):
        fetch_model(network, tmp_path / "extractors/dino", Network(offline=True))
    serve_repository(shelf, "some/other", COMMIT, other, LICENCE)
    with pytest.raises(InputError, match=r"some/other: no config\.json and no model\.safetensors at its top"):
        fetch_model(HubNetwork(**(ENTRY | {"hub": "some/other"})), tmp_path / "x", Network(hub=shelf.address))


def test_another_commit_replaces_the_files_of_the_one_before(repository, tiny, tmp_path) -> None:
    folder, network = tmp_path / "model", Network(hub=repository.address)
    fetch_model(MODEL, folder, network)
    pickles = {"/model.safetensors": "/pytorch_model.bin", "pytorch_model.safetensors": "pytorch_model.bin"}
    files = served_files(tiny)
    for old, new in pickles.items():
        files = {name.replace(old, new): content for name, content in files.items()}
    serve_repository(repository, "some/model", "cd" * 20, files, None)
    newer = MODEL.model_copy(update={"revision": "cd" * 20})
    plain = sum(len(content) for name, content in files.items() if name.endswith(".bin"))
    assert model_still_to_come(newer, folder, network) >= plain
    fetch_model(newer, folder, network)
    assert verify_folder(folder)
    assert not list(folder.rglob("*.safetensors"))
    assert model_still_to_come(newer, folder, Network(offline=True)) == 0


def test_only_what_is_missing_or_damaged_is_fetched_again(repository, tmp_path) -> None:
    folder, network = tmp_path / "model", Network(hub=repository.address)
    fetch_model(MODEL, folder, network)
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    damaged = bytes(1) + weights.read_bytes()[1:]
    weights.write_bytes(damaged)
    os.utime(weights, (time.time() + 10,) * 2)  # by this huggingface_hub tells; else our checksum does, and removes it
    (folder / "unet/config.json").unlink()
    repository.requests.clear()
    fetch_model(MODEL, folder, network)
    assert verify_folder(folder) and weights.read_bytes() != damaged
    assert len([path for path, _, _ in repository.requests if path.startswith("/store")]) == 1
    assert repository.asked(f"{RESOLVED}/unet/config.json") == [None]


def test_a_fetch_of_a_model_that_fails_seals_nothing_and_goes_on(repository, tmp_path) -> None:
    path = f"{RESOLVED}/vae/config.json"
    kept = repository.pages.pop(path)
    folder, network = tmp_path / "model", Network(hub=repository.address)
    assert "404" in model_fault(folder, network)
    repository.pages[path] = kept
    fetch_model(MODEL, folder, network)
    assert len(repository.asked(f"{RESOLVED}/unet/config.json")) == 1


def test_files_that_are_not_the_listings_are_refused_and_removed(repository, tmp_path) -> None:
    name = "unet/diffusion_pytorch_model.safetensors"
    store = repository.pages["/store/" + repository.pages[f"{RESOLVED}/{name}"].redirect.rpartition("/")[2]]
    store.content = store.content[:-1] + b"?"
    text = model_fault(tmp_path / "model", Network(hub=repository.address))
    assert "changed or damaged; it was removed, run again" in text
    assert not (tmp_path / "model" / name).exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"revision": COMMIT[:7]}, f"is no full commit hash; the hub has {COMMIT}, put that into the config"),
        ({"revision": "1234567"}, "and main has no such commit"),
        ({"revision": "cd" * 20}, f"no commit {'cd' * 20} at"),
        ({"hub": "some/other"}, "no such repository, or a gated one"),
        ({"licence": "mit"}, "its licence is 'creativeml-openrail-m', the config says 'mit'"),
    ],
)
def test_a_wrong_revision_repository_or_licence_is_one_line(repository, tmp_path, changes, text) -> None:
    assert text in model_fault(tmp_path / "model", Network(hub=repository.address), **changes)
    assert not any("resolve" in path for path, _, _ in repository.requests)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (None, "gated: accept its licence on .*/some/model and give your access token in HF_TOKEN"),
        ("hf_secret", "gated: the token in HF_TOKEN does not open it"),
    ],
)
def test_a_gated_repository_is_one_line(repository, tmp_path, token, text) -> None:
    for path, page in repository.pages.items():
        if path.startswith(RESOLVED):
            page.statuses, page.headers["X-Error-Code"] = [403] * 9, "GatedRepo"
    network = Network(hub=repository.address, token=token)
    assert re.search(text, model_fault(tmp_path / "model", network))
    assert repository.requests[-1][2] == (token and f"Bearer {token}")


def test_a_repository_without_a_network_of_the_pipeline_is_refused(shelf, tiny, tmp_path) -> None:
    files = {name: content for name, content in served_files(tiny).items() if "vae" not in name}
    serve_repository(shelf, "some/model", COMMIT, files, None)
    assert "no vae or vqvae/config.json" in model_fault(tmp_path / "model", Network(hub=shelf.address))


def test_a_host_that_is_no_hub_or_is_not_there_is_told(shelf, tmp_path) -> None:
    shelf.put(f"/api/models/some/model/revision/{COMMIT}", b"<html>welcome")
    assert "is fetch.hub a model hub?" in model_fault(tmp_path / "model", Network(hub=shelf.address))
    assert "http://127.0.0.1:9" in model_fault(tmp_path / "model", Network(hub="http://127.0.0.1:9"))


def downloads(folder: Path, files: dict, **models: dict) -> Downloads:
    sources = {name: Source(**({"sha256": SHA256, "licence": "cc"} | entry)) for name, entry in files.items()}
    return Downloads(str(folder), sources, {name: Model(**entry) for name, entry in models.items()})


def test_licences_are_accepted_by_name(tmp_path) -> None:
    wanted = downloads(tmp_path, {"coco/a.zip": {"urls": ["http://nowhere"]}}, sd14=ENTRY)
    settings = {"licences": {"cc": "https://cc", LICENCE: "https://rail"}, "accept": ["cc"]}
    assert refused(wanted, Fetch(**settings)) == [
        f"not accepted: {LICENCE}: some/model (sd14): https://rail",
        f"nothing was fetched; read them, then set fetch.accept: [cc, {LICENCE}]",
    ]
    assert refused(wanted, Fetch(**settings | {"accept": ["cc", LICENCE]})) == []


def test_all_that_cannot_be_fetched_is_told_before_the_first_download(repository, tmp_path) -> None:
    """One byte of each file is asked for: gone at every mirror, of another size, a wrong commit, a gated repository."""
    address = repository.address
    repository.pages[f"{RESOLVED}/unet/diffusion_pytorch_model.safetensors"].statuses = [401] * 9
    files = {
        "coco/good.zip": {"urls": [f"{address}/none", repository.put("/good.zip", CONTENT)], "size": len(CONTENT)},
        "coco/gone.zip": {"urls": [f"{address}/none", f"{address}/neither"]},
        "coco/other.zip": {"urls": [repository.put("/other.zip", b"x")], "size": 7},
    }
    wanted = downloads(tmp_path, files, gligen=ENTRY, sd14=ENTRY | {"revision": "cd" * 20})
    sizes, faults = ask(wanted, Fetch(hub=address))
    assert sizes == {"coco/good.zip": len(CONTENT)}
    told = dict(fault.split(": ", 1) for fault in faults)
    assert set(told) == {"coco/gone.zip", "coco/other.zip", "gligen", "sd14"}
    assert "/none: 404" in told["coco/gone.zip"] and "/neither: 404" in told["coco/gone.zip"]
    assert "has 1 bytes, expected 7" in told["coco/other.zip"]
    assert "accept its licence" in told["gligen"]
    assert "no commit" in told["sd14"]
    assert not any("\n" in fault for fault in faults)
    assert repository.asked("/good.zip") == ["bytes=0-0"]
    assert not (tmp_path / "gligen/SHA256SUMS").exists()


def test_of_what_is_there_nothing_is_asked_and_offline_it_must_be_there(repository, tiny, tmp_path) -> None:
    files = {"coco/a.zip": {"urls": [repository.put("/a.zip", CONTENT)], "size": len(CONTENT)}}
    online, offline = Fetch(hub=repository.address), Fetch(hub="http://nowhere", offline=True)
    sizes, _ = ask(downloads(tmp_path, files, gligen=ENTRY), online)
    assert sizes == {"coco/a.zip": len(CONTENT), "gligen": sum(map(len, served_files(tiny).values()))}
    fetch_model(MODEL, tmp_path / "gligen", network_of(online))
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/a.zip.part").write_bytes(CONTENT)
    repository.requests.clear()
    assert ask(downloads(tmp_path, files, gligen=ENTRY), offline) == ({"coco/a.zip": 0, "gligen": 0}, [])
    (tmp_path / "coco/a.zip.part").unlink()
    _, (fault, other) = ask(downloads(tmp_path, files, gligen=ENTRY, sd14=ENTRY), offline)
    assert f"put {repository.address}/a.zip, 3,000,000 bytes at {tmp_path}/coco/a.zip.part" in fault
    assert "give models.sd14 a folder that holds some/model" in other and "workflow.fetch seal" in other
    assert not repository.requests


def test_what_is_written_on_one_disk_is_summed_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 5 * 10**9))
    needs = [Need("coco/train2014.zip", tmp_path / "a", 3 * 10**9), Need("run", tmp_path / "b", 2 * 10**9)]
    assert lacking(needs[:1]) == []
    (line,) = lacking(needs)
    assert (
        line
        == f"{tmp_path}: 5.00 GB are free, needed are 3.00 GB for coco/train2014.zip and 2.00 GB for run, estimated"
    )


def test_a_folder_of_ones_own_is_sealed_once(tiny, tmp_path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("")
    program.seal(folder)
    assert verify_folder(folder) == sha256(folder / "SHA256SUMS")
    assert ".cache" not in (folder / "SHA256SUMS").read_text()
    with pytest.raises(InputError, match="is there already"):
        program.seal(folder)
    with pytest.raises(InputError, match="not a pipeline folder"):
        program.seal(tmp_path)


def test_parts_that_are_links_to_another_folders_are_sealed_too(tmp_path) -> None:
    (tmp_path / "base/vae").mkdir(parents=True)
    (tmp_path / "base/vae/config.json").write_text("{}")
    (tmp_path / "mine/unet").mkdir(parents=True)
    (tmp_path / "mine/unet/config.json").write_text("{}")
    (tmp_path / "mine/vae").symlink_to("../base/vae")
    (tmp_path / "mine/.hidden").write_text("")
    program.seal(tmp_path / "mine")
    verify_folder(tmp_path / "mine")
    lines = (tmp_path / "mine/SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["unet/config.json", "vae/config.json"]


def write_archive(path: Path, **changes: bytes | None) -> Path:
    files = {Path(name).stem: name.encode() for name in ANNOTATIONS} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for stem, content in files.items():
            if content is not None:
                archive.writestr(f"annotations/{stem}.json", content)
        archive.writestr("../outside.json", "{}")
        archive.writestr("annotations/person_keypoints_train2014.json", "{}")
    return path


def test_only_the_four_annotation_files_leave_the_zip(tmp_path) -> None:
    program.unpack(write_archive(tmp_path / "a.zip"), tmp_path / "coco", ANNOTATIONS)
    assert left(tmp_path) == ["a.zip", "coco"]
    assert left(tmp_path / "coco/annotations") == sorted(Path(name).name for name in ANNOTATIONS)
    assert (tmp_path / "coco" / ANNOTATIONS[0]).read_text() == ANNOTATIONS[0]


def test_a_zip_without_annotations_or_damaged_or_a_bomb_is_one_line(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"has no annotations/captions_val2014\.json"):
        program.unpack(write_archive(tmp_path / "a.zip", captions_val2014=None), tmp_path, ANNOTATIONS)
    broken = write_archive(tmp_path / "b.zip")
    broken.write_bytes(broken.read_bytes().replace(b"annotations/instances_train2014.json", b"x" * 36, 1))
    with pytest.raises(InputError, match="not a readable zip"):
        program.unpack(broken, tmp_path, ANNOTATIONS)
    monkeypatch.setattr(program, "LIMIT", 10)
    with pytest.raises(InputError, match="would have 36 bytes, expected under 10"):
        program.unpack(write_archive(tmp_path / "c.zip"), tmp_path, ANNOTATIONS)


def test_another_data_sets_annotations_are_fetched_and_unpacked_too(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/archived.py").write_text("from tests.jsonl_dataset import *\n\nARCHIVE = 'annotations.zip'\n")
    config = {
        "run": f"test-archived-{os.getpid()}",
        "fetch": {"folder": str(tmp_path / "down"), "licences": {"cc": "https://cc"}, "accept": ["cc"]},
        "data": {"dataset": "mine.archived", "draw": None, "test": {"count": 3}},
        "tables": {"table1": ["real", "sd14"], "table2": None, "difficulty": None},
    }
    source = {"urls": ["https://somewhere/x.zip"], "size": 1, "sha256": "0" * 64, "licence": "cc"}
    config["data"]["files"] = {"photos.zip": source, "annotations.zip": source}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    env = environment() | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command("-n", "--configfile", str(tmp_path / "config.yaml")),
        cwd=checkout(),
        env=env,
        capture_output=True,
        text=True,
    )
    jobs = jobs_by_rule(done.stdout + done.stderr)
    assert (jobs["fetch_file"], jobs["unpack_annotations"]) == (2, 1)
    assert f"{tmp_path}/down/mine.archived/test.jsonl" in done.stdout


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
    draw = [sys.executable, "-m", "workflow.miniature.draw", "--out", str(tmp_path / "drawn")]
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
            "files": {
                path.name: entry_of(shelf, path) for path in (drawn / "train2014.zip", drawn / "val2014.zip", archive)
            },
        },
        "models": {"gligen": {"hub": "some/gligen", "revision": COMMIT, "licence": LICENCE}},
        "extractors": {"frechet": {"path": None, "source": features}},
        "alignment": {"train": {"batch": 32}, "calibrate": {"count": 8}},
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
        assert re.search(r"error: .*val2014.zip: md5 is", refused.stdout + refused.stderr), refused.stderr[-2000:]
        assert not [path.name for path in (downloads / "coco").iterdir() if path.name.startswith("val2014.zip")]
        shelf.pages["/val2014.zip"] = photos
        shelf.requests.clear()
        done = fetched()
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        assert (downloads / "coco/val2014.zip").read_bytes() == (drawn / "val2014.zip").read_bytes()
        assert shelf.asked("/val2014.zip") == ["bytes=0-0", None, f"bytes={len(photos.content) // 2}-"]
        record = json.loads((downloads / "coco/val2014.zip.source.json").read_text())
        assert record["sha256"] == sha256(drawn / "val2014.zip")
        assert json.loads((results / "methods/gligen_sd.json").read_text())["model"] == str(downloads / "gligen")
        assert verify_folder(downloads / "gligen")
        assert is_nothing_to_do(fetched())
        shelf.requests.clear()
        kept = {path: path.stat().st_mtime_ns for path in downloads.rglob("*.zip")}
        config["fetch"] |= {"offline": True, "hub": "http://nowhere"}
        for entry in config["data"]["files"].values():
            entry |= {"urls": ["http://nowhere/x.zip", *entry["urls"]], "licence": LICENCE}
        again = fetched("--printshellcmds")
        assert again.returncode == 0, again.stderr[-3000:]
        assert is_nothing_to_do(again)
        assert {path: path.stat().st_mtime_ns for path in downloads.rglob("*.zip")} == kept
        config["data"]["files"]["val2014.zip"] |= {"size": 7}
        assert jobs_by_rule(fetched("-n").stdout)["fetch_file"] == 1
        assert not shelf.requests
    finally:
        shutil.rmtree(results, ignore_errors=True)
