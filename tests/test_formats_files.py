"""Files appear whole or not at all, and what goes wrong names the file."""

import json
import resource
from pathlib import Path

import pytest

from formats.files import InputError, read_json, read_object, replacing, sha256, write_json, write_text


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path) -> None:
    write_text(tmp_path / "new/file", "old")
    with pytest.raises(ValueError, match="spoilt"), replacing(tmp_path / "new/file") as beside:
        beside.write_text("half")
        raise ValueError("spoilt")
    assert [path.read_text() for path in (tmp_path / "new").iterdir()] == ["old"]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path) -> None:
    write_text(tmp_path / "file", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as error:
            write_text(tmp_path / "file", "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(tmp_path / "file")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("place", ["file/out", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as error:
        write_text(tmp_path / place, "")
    assert str(error.value.filename).startswith(str(tmp_path / place.partition("/")[0]))
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_error_about_another_file_keeps_its_name(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as error, replacing(tmp_path / "file"):
        Path(tmp_path / "source").read_text()
    assert error.value.filename == str(tmp_path / "source")


def test_two_writers_of_one_file_do_not_meet(tmp_path) -> None:
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "one"


def test_json_survives_the_round_trip_and_nan_is_refused(tmp_path) -> None:
    content = {"text": "naïve \U0001f600", "numbers": [1, 0.5, None, True]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    (tmp_path / "b.json").write_bytes(json.dumps(content).encode("utf-16"))
    assert read_json(tmp_path / "b.json") == content
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "c.json", {"a": float("nan")})
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00\xff", b"[" * 100_000, None])
def test_what_is_no_json_is_one_line_that_names_the_file(tmp_path, content) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: (no such file|not JSON)") as refused:
        read_json(tmp_path / "a.json")
    assert len(str(refused.value).splitlines()) == 1


def test_an_object_without_its_keys_is_named_as_what_it_should_be(tmp_path) -> None:
    write_json(tmp_path / "a.json", {"methods": []})
    assert read_object(tmp_path / "a.json", "an index", "methods") == {"methods": []}
    with pytest.raises(InputError, match=r"a\.json: not an index \(no `bytes`\); delete it and run again"):
        read_object(tmp_path / "a.json", "an index", "methods", "bytes")


def test_a_hash_is_of_the_bytes(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
