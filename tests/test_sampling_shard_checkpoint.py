"""Finished batches of an unfinished shard: kept, found by the next run, and owned by one job."""

import pytest
import torch

from formats.files import InputError
from formats.images import read_files, read_images
from hcma.sampling.counters import Counters
from hcma.sampling.shard_checkpoint import open_checkpoint

IDS = [42, 7, 581929]
MADE_BY = {"commit": "a", "device": "cpu"}
PIXELS = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def forwards(*numbers):
    work = Counters()
    for row, number in enumerate(numbers):
        work.add("unet_forwards", [row], number)
    return work


def test_finished_batches_are_found_again(tmp_path):
    partial = open_checkpoint(tmp_path / "work", {"spec": 1}, MADE_BY)
    partial.add(IDS[:2], PIXELS[:2], 2.0, forwards(4, 5))
    again = open_checkpoint(tmp_path / "work", {"spec": 1}, MADE_BY | {"device": "one GPU"})
    assert again.finished == set(IDS[:2])
    again.add(IDS[2:], PIXELS[2:], 1.0, forwards(2))
    assert again.totals() == (3.0, {str(id): {"unet_forwards": n} for id, n in zip(IDS, (4, 5, 2), strict=True)})
    assert again.makers() == {"commit": "a", "device": "cpu and one GPU"}
    order = [581929, 42, 7]
    again.assemble(tmp_path / "0000.zip", order, {})
    assert [id for id, _ in read_files(tmp_path / "0000.zip")] == order
    assert [int(image.sum()) for _, image in read_images(tmp_path / "0000.zip", IDS)] == PIXELS.sum((1, 2, 3)).tolist()
    again.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["0000.zip"]


def test_batches_of_another_identity_are_removed_and_nothing_else(tmp_path):
    stale = open_checkpoint(tmp_path, {"spec": 1}, MADE_BY)
    stale.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    (tmp_path / "mine").mkdir()
    partial = open_checkpoint(tmp_path, {"spec": 2}, MADE_BY)
    assert not partial.finished
    assert {path.name for path in tmp_path.iterdir()} == {"mine", partial.folder.name}


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: data[:200] + b"?" + data[201:]])
def test_a_damaged_batch_is_sampled_again(tmp_path, damage):
    partial = open_checkpoint(tmp_path, {}, MADE_BY)
    partial.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    partial.add(IDS[1:], PIXELS[1:], 1.0, forwards(1))
    path = partial.folder / "000000000042.zip"
    path.write_bytes(damage(path.read_bytes()))
    (partial.folder / "000000000099.zip.123.tmp").write_bytes(b"cut")
    assert open_checkpoint(tmp_path, {}, MADE_BY).finished == set(IDS[1:])
    assert {path.name for path in partial.folder.iterdir()} == {"000000000007.zip", "owner"}


def test_of_two_writers_the_later_goes_on_and_the_earlier_ends(tmp_path):
    first = open_checkpoint(tmp_path / "work", {}, MADE_BY)
    first.add(IDS[:1], PIXELS[:1], 1.0, forwards(1))
    second = open_checkpoint(tmp_path / "work", {}, MADE_BY)
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
