"""The readings of the measurement that the paper leaves open, and what they do to pixels."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.feature_files import FeatureShards
from evaluation.features import Networks, write_features
from evaluation.metrics.summary import Summaries, write_summaries
from evaluation.networks import NO_PARAMS
from evaluation.protocol import Protocol, add_options, at_resolution, chosen, framed
from evaluation.regions import regions
from evaluation.tables.headline import _regions
from formats.files import InputError
from formats.images import write_images

WIDE = np.repeat(np.arange(12, dtype=np.uint8).reshape(1, 12, 1) * 20, 4, 0).repeat(
    3, 2
)  # 4 x 12, brighter to the right


def test_options_are_the_fields() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert chosen(parser.parse_args([])) == Protocol()
    words = "--label-template a+{label} --min-side 6 --max-per-image 8 --region-resize squash --region-pad mean"
    found = chosen(parser.parse_args(f"{words} --resolution 256".split()))
    assert found == Protocol("a+{label}", 6, 8, "squash", "mean", 256)


def test_a_region_is_squashed_cut_to_its_centre_or_padded() -> None:
    assert framed(WIDE, Protocol()) is WIDE
    assert np.array_equal(framed(WIDE, Protocol(resize="short_side_center_crop")), WIDE[:, 4:8])
    tall = WIDE.transpose(1, 0, 2)
    assert np.array_equal(framed(tall, Protocol(resize="short_side_center_crop")), tall[4:8])
    padded = framed(WIDE, Protocol(pad="mean"))
    assert padded.shape == (12, 12, 3)
    assert np.array_equal(padded[4:8], WIDE)
    assert set(padded[:4].ravel()) == set(padded[8:].ravel()) == {110}


def test_whole_images_are_shrunk_by_pils_bicubic_and_never_enlarged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert at_resolution(image, None) is image
    assert at_resolution(image, 32) is image
    expected = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(at_resolution(image, 16), expected)
    with pytest.raises(InputError, match="resolution 64: an image has 32 px"):
        at_resolution(image, 64)


def test_the_largest_regions_of_an_image_are_kept() -> None:
    boxes = [[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 0.25, 0.25], [0.5, 0.5, 1, 1]]
    things = [{"phrase": "star", "box": box} for box in boxes]
    table = regions([{"id": 1, "image_id": 1, "objects": things}], 64, 1, 2)
    assert table["kept"].tolist() == [True, True, False, False]
    assert table["why"].tolist() == ["", "", "not one of the 2 largest", "not one of the 2 largest"]
    assert regions([{"id": 1, "image_id": 1, "objects": things}], 64, 1)["kept"].all()


class Mean:
    """A network that sees the mean colour and the size of what it is handed."""

    name, resize, sha256, context = "mean", "none", "0", 12
    device, precision, params = torch.device("cpu"), "float32", NO_PARAMS

    def prepare(self, image):
        return np.array([image.mean(), *image.shape[:2]], np.float32)

    def encode(self, seen_B3):
        return seen_B3

    def texts(self, strings):
        return np.array([[len(text), 1, 1] for text in strings], np.float32)

    def cut(self, strings):
        return np.array([len(text) > self.context for text in strings], bool)


def seen(tmp_path, name: str, protocol: Protocol, ids=(1, 2), seed=0) -> FeatureShards:
    rng = np.random.default_rng(seed)
    thing = {"phrase": "star", "box": [0, 0, 1, 0.25]}
    layouts = [{"id": i, "image_id": i, "caption": "a star", "objects": [thing]} for i in ids]
    images = [(f"{i:012d}.png", rng.integers(1, 256, (32, 32, 3), np.uint8)) for i in ids]
    write_images(tmp_path / f"{name}.zip", images, {})
    table = regions(layouts, 32, protocol.min_side, protocol.max_per_image)
    networks = Networks({"frechet": Mean(), "clip": Mean()})
    write_features(tmp_path / f"{name}.zip", layouts, table, networks, protocol, tmp_path / f"{name}.npz")
    return FeatureShards([tmp_path / f"{name}.npz"])


def test_networks_see_what_the_protocol_says(tmp_path) -> None:
    plain = seen(tmp_path, "plain", Protocol())
    assert plain.read("image_frechet")[:, 1].tolist() == plain.read("image_clip")[:, 1].tolist() == [32, 32]
    assert plain.read("region_frechet")[0, 1:].tolist() == [8, 32]
    small = seen(tmp_path, "small", Protocol(resolution=16, pad="mean", label_template="the {label}"))
    assert small.read("image_frechet")[:, 1].tolist() == [16, 16]
    assert small.read("image_clip")[:, 1].tolist() == [32, 32]
    assert small.read("region_frechet")[0, 1:].tolist() == [32, 32]
    assert small.read("region_text")[:, 0].tolist() == [8, 8]


@pytest.mark.parametrize("field", [{"min_side": 2}, {"max_per_image": 9}, {"resize": "short_side_center_crop"}])
def test_other_protocols_do_not_mix(tmp_path, field) -> None:
    real, other = (
        summed(tmp_path, name, protocol) for name, protocol in (("real", Protocol()), ("o", Protocol(**field)))
    )
    with pytest.raises(InputError, match=f"{next(iter(field))}"):
        other.check(real)


def summed(tmp_path, name: str, protocol: Protocol, ids=(1, 2), seed=0) -> Summaries:
    write_summaries(seen(tmp_path, name, protocol, ids, seed), tmp_path / f"{name}-summaries.npz")
    return Summaries(tmp_path / f"{name}-summaries.npz")


def test_a_reference_of_more_photos_must_hold_the_rows_own(tmp_path) -> None:
    real, row = summed(tmp_path, "real", Protocol(), ids=(1, 2, 3)), summed(tmp_path, "row", Protocol())
    row.check(real, "full_val")
    with pytest.raises(InputError, match="not the same layouts"):
        row.check(real)
    with pytest.raises(InputError, match="image 4 is none of those"):
        summed(tmp_path, "row", Protocol(), ids=(1, 4)).check(real, "full_val")


def test_the_footer_names_the_rule() -> None:
    rule = Protocol(min_side=32, max_per_image=8, pad="mean").about()["regions"]
    text = _regions(json.loads(json.dumps(rule)))
    assert "at least 32 px a side, the 8 largest of an image," in text
    assert "padded to a square with its mean colour" in text
    assert "the centre square is resized" in _regions(Protocol(resize="short_side_center_crop").about()["regions"])
