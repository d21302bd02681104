import resource
import zipfile

import numpy as np
import pytest
import torch

from hcma.sampling import InputError
from hcma.sampling.atomic import replacing
from hcma.sampling.images import ShardError, member_ids, png_name, read_images, read_meta, write_images
from hcma.sampling.partial import open_partial
from hcma.sampling.work import Work

IDS = [42, 7, 581929]
MADE_BY = {"commit": "a", "device": "cpu"}
PIXELS = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shard(tmp_path):
    write_images(tmp_path / "0000.zip", IDS, PIXELS, {"seconds": 1.5})
    return tmp_path / "0000.zip"


def test_images_survive_the_round_trip_in_any_asked_order(shard):
    for ids in (IDS, IDS[::-1]):
        for id, image in read_images(shard, ids):
            assert image.dtype == np.uint8
            assert np.array_equal(image, PIXELS[IDS.index(id)].permute(1, 2, 0).numpy())
    assert (read_meta(shard), member_ids(shard)) == ({"seconds": 1.5}, IDS)
    with zipfile.ZipFile(shard) as archive:
        assert archive.namelist() == ["000000000042.png", "000000000007.png", "000000581929.png", "meta.json"]


def test_the_same_images_are_the_same_bytes(shard):
    write_images(shard.with_name("again.zip"), IDS, iter(PIXELS.numpy()), {"seconds": 1.5})
    assert shard.with_name("again.zip").read_bytes() == shard.read_bytes()


@pytest.mark.parametrize(
    ("ids", "message"),
    [([42, 7], "3 images, expected 2; not expected 000000581929"), ([*IDS, 9], "expected 4; missing 000000000009.png")],
)
def test_other_images_than_expected_are_named(shard, ids, message):
    with pytest.raises(ShardError, match=rf"0000.zip: .*{message}"):
        list(read_images(shard, ids))


def test_a_damaged_image_is_named(shard):
    data = bytearray(shard.read_bytes())
    data[data.index(b"000000000007.png") + 60] ^= 255
    shard.write_bytes(data)
    with pytest.raises(ShardError, match=r"0000\.zip: 000000000007\.png is damaged"):
        list(read_images(shard, IDS))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut"])
def test_a_cut_zip_is_named(tmp_path, data):
    (tmp_path / "0000.zip").write_bytes(data)
    with pytest.raises(ShardError, match=r"0000\.zip: not a complete zip"):
        list(read_images(tmp_path / "0000.zip", IDS))


def test_a_member_that_is_no_png_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "0000.zip", "w") as archive:
        archive.writestr(png_name(7), b"GIF89a")
    with pytest.raises(ShardError, match=r"000000000007\.png is not a readable PNG"):
        list(read_images(tmp_path / "0000.zip", [7]))


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_images(tmp_path / "0000.zip", IDS, PIXELS[:2], {})
    with pytest.raises(TypeError, match="uint8"):
        write_images(tmp_path / "0000.zip", IDS, PIXELS.float(), {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file_and_leaves_the_old_one(shard):
    before = shard.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as error:
            write_images(shard, IDS, PIXELS, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(shard)
    assert [path.name for path in shard.parent.iterdir()] == ["0000.zip"]
    assert shard.read_bytes() == before


def forwards(*numbers):
    work = Work()
    for row, number in enumerate(numbers):
        work.add("unet_forwards", [row], number)
    return work


def test_finished_batches_are_found_again(tmp_path):
    partial = open_partial(tmp_path / "work", {"spec": 1}, MADE_BY)
    partial.add(IDS[:2], PIXELS[:2], 2.0, forwards(4, 5))
    again = open_partial(tmp_path / "work", {"spec": 1}, MADE_BY | {"device": "one GPU"})
    assert again.finished == set(IDS[:2])
    again.add(IDS[2:], PIXELS[2:], 1.0, forwards(2))
    assert again.totals() == (3.0, {str(id): {"unet_forwards": n} for id, n in zip(IDS, (4, 5, 2), strict=True)})
    assert again.makers() == {"commit": "a", "device": "cpu and one GPU"}
    order = [581929, 42, 7]
    again.assemble(tmp_path / "0000.zip", order, {})
    assert member_ids(tmp_path / "0000.zip") == order
    assert [int(image.sum()) for _, image in read_images(tmp_path / "0000.zip", IDS)] == PIXELS.sum((1, 2, 3)).tolist()
    again.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["0000.zip"]


def test_batches_of_another_identity_are_removed_and_nothing_else(tmp_path):
    stale = open_partial(tmp_path, {"spec": 1}, MADE_BY)
    stale.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    (tmp_path / "mine").mkdir()
    partial = open_partial(tmp_path, {"spec": 2}, MADE_BY)
    assert not partial.finished
    assert {path.name for path in tmp_path.iterdir()} == {"mine", partial.folder.name}


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: data[:200] + b"?" + data[201:]])
def test_a_damaged_batch_is_sampled_again(tmp_path, damage):
    partial = open_partial(tmp_path, {}, MADE_BY)
    partial.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    partial.add(IDS[1:], PIXELS[1:], 1.0, forwards(1))
    path = partial.folder / "000000000042.zip"
    path.write_bytes(damage(path.read_bytes()))
    (partial.folder / "000000000099.zip.123.tmp").write_bytes(b"cut")
    assert open_partial(tmp_path, {}, MADE_BY).finished == set(IDS[1:])
    assert {path.name for path in partial.folder.iterdir()} == {"000000000007.zip", "owner"}


def test_of_two_writers_the_later_goes_on_and_the_earlier_ends(tmp_path):
    first = open_partial(tmp_path / "work", {}, MADE_BY)
    first.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    second = open_partial(tmp_path / "work", {}, MADE_BY)
    assert second.finished == set(IDS[:1])
    for lost in (
        lambda: first.add(IDS[1:], PIXELS[1:], 1.0, forwards(2)),
        lambda: first.assemble(tmp_path / "0000.zip", IDS[:1], {}),
    ):
        with pytest.raises(InputError, match="another job has taken over this shard; this one ends"):
            lost()
    first.remove()
    second.add(IDS[1:], PIXELS[1:], 1.0, forwards(2))
    second.assemble(tmp_path / "0000.zip", IDS, {})
    second.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["0000.zip"]
    with pytest.raises(InputError, match="another job"):
        first.add(IDS[1:], PIXELS[1:], 1.0, forwards(2))


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "one"
