"""Folders and zips of images as people have them: right pixels, or one line that names the file before all else."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formats import archives
from formats import images as reader
from formats.files import InputError
from formats.images import (
    check_images,
    png_name,
    read_files,
    read_image,
    read_images,
    read_meta,
    write_files,
    write_images,
)

IDS = [7, 30]
NAMES = ["000000000007.png", "000000000030.png"]
PIXELS = np.random.default_rng(0).integers(1, 256, (6, 9, 3), np.uint8)  # 9 wide, 6 high


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


PICTURE = encoded(Image.fromarray(PIXELS))
WHOLE = dict.fromkeys(NAMES, PICTURE)


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        place = path / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return path


def seen(path: Path) -> dict[int, np.ndarray]:
    assert set(check_images(path, IDS)) == set(IDS)
    return dict(read_images(path, IDS))


every_kind = pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])


@every_kind
@pytest.mark.parametrize(
    "litter",
    [
        {".DS_Store": b"x", "._000000000007.png": b"x", "Thumbs.db": b"x", "desktop.ini": b"x"},
        {"__MACOSX/._000000000007.png": b"x", "__MACOSX/deep/file": b"x", "empty/": b""},
        {"meta.json": b'{"spec": 1}', "ehthumbs.db": b"x", "@eaDir/a.png": b"x"},
    ],
)
def test_what_file_managers_leave_behind_is_passed_over(tmp_path, write, litter) -> None:
    path = write(tmp_path / "images", WHOLE | litter)
    assert all(np.array_equal(pixels, PIXELS) for pixels in seen(path).values())
    assert read_meta(path) == ({"spec": 1} if "meta.json" in litter else {})


@every_kind
@pytest.mark.parametrize("top", ["images/", "my images/", "sub\\"])
def test_all_images_may_lie_in_one_folder(tmp_path, write, top) -> None:
    if write is write_folder:
        top = top.replace("\\", "/")  # only a zip may have been written elsewhere
    inside = {f"{top}{name}": content for name, content in WHOLE.items()}
    path = write(tmp_path / "images", inside | {".DS_Store": b"x", "__MACOSX/._a": b"x"})
    assert set(seen(path)) == set(IDS)
    strayed = write(tmp_path / "strayed", inside | {"000000000007.png": PICTURE})
    with pytest.raises(
        InputError, match=r"3 files for 2 layouts; 1 \(000000000030\.png\) is missing and 2 \(.*\) are not exp"
    ):
        check_images(strayed, IDS)


@every_kind
def test_what_is_missing_and_what_is_not_expected_are_listed_apart(tmp_path, write) -> None:
    names = [f"{number:012d}.png" for number in range(6)]
    path = write(tmp_path / "images", dict.fromkeys([names[0], "a.txt", "SHA256SUMS", "a/b/c.png", "7.png"], PICTURE))
    with pytest.raises(InputError) as refused:
        check_images(path, range(6))
    (line,) = str(refused.value).splitlines()
    assert f"5 files for 6 layouts; 5 ({names[1]}, {names[2]}, {names[3]}, ...) are missing" in line
    assert "and 4 (7.png, SHA256SUMS, a.txt, ...) are not expected" in line


def turned(pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), exif=exif)


OPAQUE = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
GREY = PIXELS[..., 0]
FEW = Image.fromarray(PIXELS).quantize(16)


@every_kind
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PICTURE, PIXELS),
        (encoded(Image.fromarray(OPAQUE)), PIXELS),
        (encoded(Image.fromarray(GREY)), np.dstack([GREY] * 3)),
        (encoded(Image.fromarray(OPAQUE[..., [0, 3]].copy(), "LA")), np.dstack([GREY] * 3)),
        (encoded(FEW), np.asarray(FEW.convert("RGB"))),
        (encoded(Image.fromarray(GREY > 99)), np.dstack([(GREY > 99) * np.uint8(255)] * 3)),
        (encoded(Image.fromarray(PIXELS), "BMP"), PIXELS),
        (encoded(Image.fromarray(PIXELS), "WEBP", lossless=True), PIXELS),
        (turned(PIXELS, 6), np.rot90(PIXELS, -1)),
        (turned(PIXELS, 3), np.rot90(PIXELS, 2)),
    ],
    ids=["RGB", "opaque", "grey", "grey opaque", "palette", "one bit", "BMP", "WebP", "turned", "upside down"],
)
def test_any_picture_of_eight_bits_is_read_as_rgb(tmp_path, write, content, expected) -> None:
    path = write(tmp_path / "images", WHOLE | {NAMES[1]: content})
    assert check_images(path, IDS)[30] == expected.shape[1::-1]
    found = dict(read_images(path, IDS))
    assert np.array_equal(found[30], expected)
    assert np.array_equal(found[7], PIXELS)


def test_a_jpeg_that_is_named_png_is_read(tmp_path) -> None:
    jpeg = encoded(Image.fromarray(PIXELS), "JPEG", quality=90)
    path = write_zip(tmp_path / "images.zip", WHOLE | {NAMES[1]: jpeg})
    assert np.array_equal(seen(path)[30], np.asarray(Image.open(io.BytesIO(jpeg))))


CLEAR = OPAQUE.copy()
CLEAR[0, 0, 3] = 0
LARGE = np.zeros((70, 70, 3), np.uint8)
DEEP = GREY.astype(np.uint16) * 257


def deep_rgb() -> bytes:
    """A PNG of 3 x 2 pixels with 16 bits a channel, which PIL reads as 8."""
    chunks = b""
    rows = b"".join(b"\0" + bytes(range(18)) for _ in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


@every_kind
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b"no picture", "is damaged or none of PNG, JPEG, WEBP, BMP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 6\n", "is damaged or none of"),
        (encoded(Image.fromarray(PIXELS), "TIFF"), "is damaged or none of"),
        (PICTURE[:-60], "is damaged"),
        (PICTURE[:30], "is damaged"),
        (PICTURE.replace(b"IDAT", b"IDXT", 1), "is damaged"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:-40], "is damaged"),
        (encoded(Image.fromarray(DEEP)), "has mode I;16, expected RGB of 8 bits"),
        (deep_rgb(), "has 16 bits a channel, expected RGB of 8 bits"),
        (encoded(Image.fromarray(OPAQUE, "CMYK"), "JPEG"), "has mode CMYK, expected RGB of 8 bits"),
        (encoded(Image.fromarray(CLEAR)), "has pixels of opacity 0 of 255"),
        (encoded(FEW, transparency=int(np.asarray(FEW)[0, 0])), "has pixels of opacity 0 of 255"),
        (encoded(Image.fromarray(LARGE)), "has 70 x 70 pixels, more than 4,096"),
    ],
)
def test_what_is_no_whole_opaque_picture_is_named_before_anything_is_decoded(
    tmp_path, monkeypatch, write, content, named
) -> None:
    monkeypatch.setattr(reader, "PIXELS", 4096)
    path = write(tmp_path / "images", WHOLE | {NAMES[1]: content})
    for read in (check_images, lambda *arguments: list(read_images(*arguments))):
        with pytest.raises(InputError) as refused:
            read(path, IDS)
        (line,) = str(refused.value).splitlines()
        assert line.startswith(f"{path}: {NAMES[1]} {named}")
        assert line.endswith("; replace it by a whole picture")
    (path / NAMES[1]).unlink() if path.is_dir() else path.unlink()
    write(path, WHOLE | {NAMES[1]: content, "meta.json": b"{}"})
    with pytest.raises(InputError, match=r"; delete the zip and run again$"):
        check_images(path, IDS)


@every_kind
def test_a_checksum_is_checked_even_where_all_pixels_are_there(tmp_path, write) -> None:
    path = write(tmp_path / "images", WHOLE | {NAMES[1]: PICTURE[:-12]})
    assert np.array_equal(dict(read_images(path, IDS))[30], PIXELS)
    with pytest.raises(InputError, match=rf"{NAMES[1]} is damaged"):
        check_images(path, IDS)


def test_all_faulty_images_are_counted(tmp_path) -> None:
    path = write_folder(tmp_path / "images", {f"{number:012d}.png": b"x" * number for number in range(5)})
    with pytest.raises(
        InputError, match=r"000000000000.png is empty; .*1.png is damaged.*; .*2.png.*; and 2 more, 5 in all; repl"
    ):
        check_images(path, range(5))


def double(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(NAMES[0], PICTURE)


def encrypted(path: Path) -> None:
    content = path.read_bytes().replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00")
    path.write_bytes(content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAMES[0], PICTURE)
        archive.writestr(NAMES[1], b"\0" * 2**20)


def lying(path: Path) -> None:
    """A member that inflates to more than it declares."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAMES[0], PICTURE)
        archive.writestr(NAMES[1], b"\0" * 2**20)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24
    assert content[place : place + 4] == (2**20).to_bytes(4, "little")
    content[place : place + 4] = (99).to_bytes(4, "little")
    path.write_bytes(content)


def unknown_method(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[8:10] = content[place + 10 : place + 12] = (99).to_bytes(2, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (double, r"1 \(000000000007.png\) is there more than once"),
        (encrypted, r"2 \(000000000007.png, 000000000030.png\) are encrypted; expected a zip without a password"),
        (bomb, r"1 \(000000000030.png\) is larger than 0 MiB"),
        (lying, r"000000000030.png is damaged"),
        (unknown_method, r"000000000007.png is damaged"),
        (lambda path: path.write_bytes(b""), "damaged or cut off, or not a zip"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "damaged or cut off, or not a zip"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(PICTURE, PICTURE[:-9] + b"123456789", 1)),
            "is damaged",
        ),
        (lambda path: path.unlink(), "no such file or folder"),
    ],
)
def test_a_zip_is_not_trusted(tmp_path, monkeypatch, spoil: Callable[[Path], None], named: str) -> None:
    monkeypatch.setattr(archives, "BYTES", 2**19)
    path = write_zip(tmp_path / "images.zip", WHOLE)
    spoil(path)
    with pytest.raises(InputError, match=named) as refused:
        check_images(path, IDS)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("meta", [b"[]", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000])
def test_a_meta_json_that_is_no_object_is_named(tmp_path, meta) -> None:
    path = write_zip(tmp_path / "images.zip", WHOLE | {"meta.json": meta})
    with pytest.raises(InputError, match=r"images\.zip: .*meta\.json") as refused:
        read_meta(path)
    assert len(str(refused.value).splitlines()) == 1


PICTURES = {42: PIXELS, 7: PIXELS[::-1], 581929: PIXELS[:, ::-1]}


@pytest.fixture
def shard(tmp_path) -> Path:
    write_images(tmp_path / "0000.zip", [(png_name(id), pixels) for id, pixels in PICTURES.items()], {"seconds": 1.5})
    return tmp_path / "0000.zip"


def test_a_shard_survives_the_round_trip_in_any_asked_order(shard) -> None:
    with zipfile.ZipFile(shard) as archive:
        assert archive.namelist() == ["000000000042.png", "000000000007.png", "000000581929.png", "meta.json"]
    for ids in (list(PICTURES), list(PICTURES)[::-1]):
        found = dict(read_images(shard, ids))
        assert list(found) == ids
        assert all(pixels.dtype == np.uint8 and np.array_equal(pixels, PICTURES[id]) for id, pixels in found.items())
    with zipfile.ZipFile(shard) as archive:
        archive.extractall(shard.with_name("folder"))
    for path in (shard, shard.with_name("folder")):
        assert all(np.array_equal(read_image(path, id), PICTURES[id]) for id in PICTURES)
        assert read_meta(path) == {"seconds": 1.5}


def test_the_same_images_are_the_same_bytes_and_their_files_can_be_passed_on(shard) -> None:
    files = dict(read_files(shard))
    assert list(files) == list(PICTURES)
    write_files(shard.with_name("again.zip"), [(png_name(id), file) for id, file in files.items()], {"seconds": 1.5})
    assert shard.with_name("again.zip").read_bytes() == shard.read_bytes()


def test_one_image_is_read_alone(shard) -> None:
    damage(shard, "000000000007.png")
    assert np.array_equal(read_image(shard, 42), PIXELS)
    with pytest.raises(InputError, match=r"0000\.zip: 000000000007\.png is damaged .*; delete the zip and run again"):
        read_image(shard, 7)
    with pytest.raises(InputError, match=r"0000\.zip: no 000000000008\.png in it"):
        read_image(shard, 8)
    with pytest.raises(InputError, match=r"0000\.zip: 000000000007\.png is damaged"):
        list(read_files(shard))


def damage(path: Path, member: str) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(member.encode()) + 60] ^= 255
    path.write_bytes(data)


def test_a_file_that_no_layout_has_is_not_passed_on(shard) -> None:
    with zipfile.ZipFile(shard, "a") as archive:
        archive.writestr("7.png", PICTURE)
    with pytest.raises(InputError, match=r"0000\.zip: 7\.png is not expected"):
        list(read_files(shard))


def test_a_meta_json_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "BYTES", 2**19)
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", b" " * 2**20)
    with pytest.raises(InputError, match=r"images\.zip: 1 \(meta\.json\) is larger than 0 MiB"):
        read_meta(tmp_path / "images.zip")


@pytest.mark.parametrize("wrong", [PIXELS.astype(float), PIXELS[..., :2], PIXELS[..., 0]])
def test_an_error_while_writing_leaves_nothing(tmp_path, wrong) -> None:
    with pytest.raises(TypeError, match="uint8"):
        write_images(tmp_path / "0000.zip", [(png_name(7), PIXELS), (png_name(8), wrong)], {})
    assert not list(tmp_path.iterdir())
