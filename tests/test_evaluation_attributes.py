"""Attributes by CLIP: the rule on hand-made features, and the drawn world, where every colour is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from evaluation.feature_files import FeatureShards
from evaluation.features import Networks, load_networks, write_features
from evaluation.metrics import attributes
from evaluation.metrics.attributes import Params, carry
from evaluation.metrics.measure import measure
from evaluation.metrics.own import Shard, load
from evaluation.metrics.summary import Summaries, write_summaries
from evaluation.protocol import Protocol
from evaluation.regions import regions
from evaluation.tables.adherence import adherence_table
from formats.files import InputError
from formats.images import write_images
from tests.dag import ROOT
from tests.own_metrics import layout, measured, values
from workflow.miniature.world import COLOURS, SIDE, draw, scene

BOX, OTHER = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]
RGB = {"a red object": [1, 0, 0], "a green object": [0, 1, 0], "a blue object": [0, 0, 1]}
COLOURED = Params(["red", "green", "blue"])


def coloured(number: int, *colours) -> dict:
    row = layout(number, *(("star", BOX) for _ in colours))
    for thing, colour in zip(row["objects"], colours, strict=True):
        thing["attributes"] = {"size": "large"} | ({} if colour is None else {"color": colour})
    return row


def shard(rows: list[dict], features, texts=RGB.__getitem__) -> Shard:
    def encoded(strings):
        return np.array([texts(text) for text in strings], np.float32)

    return Shard(rows, regions(rows, 64, 1), {"region_clip": np.array(features, np.float32)}, encoded)


def test_right_is_what_is_nearest_to_its_own_text() -> None:
    rows = [coloured(1, "red", None, " RED"), coloured(2, "blue", "pink")]
    found = carry(COLOURED, shard(rows, [[3, 1, 0], [0, 1, 0], [1, 2, 0], [0, 0, 9], [1, 0, 0]]))
    assert found["ids"].tolist() == [1, 1, 2] and found["objects"].tolist() == [0, 2, 0]
    assert found["image_ids"].tolist() == [10, 10, 20]
    assert found["cosines"] == pytest.approx(np.array([[3, 1, 0], [1, 2, 0], [0, 0, 9]]) / np.sqrt([[10], [5], [81]]))
    assert found["wanted"].tolist() == [0, 0, 2] and found["others"].tolist() == [1]
    of = measured(rows, (1, "star", BOX, 0.9), **{f"hue {key}": array for key, array in found.items()})
    hue, in_place = attributes.metrics("hue", COLOURED)
    result = hue.compute(of, hue)
    assert result["value"] == pytest.approx(2 / 3) and result["n"] == 3
    assert result["remark"] == "1 regions of objects of another color than red, green, blue are left out."
    # Of the two that are right, the first is found and the one of layout 2 is not.
    assert values([in_place], of) == {"region_hue_in_place": pytest.approx(1 / 3)}
    assert of.once(in_place.scored)["region_hue_in_place"].tolist() == [1, 0, 0]


def test_a_template_may_name_the_object() -> None:
    rows = [coloured(1, "red", "green")]
    rows[0]["objects"][1]["category"] = "sun"
    asked: list[str] = []

    def texts(text: str) -> list[float]:
        asked.append(text)
        return [1, len(text)]

    carry(Params(["red", "green"], template="a {value} {label}"), shard(rows, [[1, 0], [0, 1]], texts))
    assert asked == ["a red star", "a green star", "a red sun", "a green sun"]


def test_layouts_without_the_attribute_have_nothing() -> None:
    rows = [coloured(1, None), layout(2)]
    found = carry(COLOURED, shard(rows, [[1, 0, 0]], texts=lambda text: pytest.fail("encoded")))
    assert found["cosines"].shape == (0, 3) and found["others"].tolist() == [0]
    of = measured(rows, **{f"hue {key}": array for key, array in found.items()})
    assert set(values(attributes.metrics("hue", COLOURED), of).values()) == {None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": "red"},
        {"values": ["red"]},
        {"values": ["red", "Red "]},
        {"values": ["red", 3]},
        {"attribute": ""},
        {"template": "an object"},
        {"template": "a {value} {x}"},
        {"template": "a {value!r} object"},
        {"template": "a {value"},
        {"template": None},
    ],
)
def test_other_parameters_are_refused(wrong) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}: expected"):
        Params(**({"values": ["red", "green"]} | wrong))


@pytest.fixture(scope="module")
def networks():
    stanzas = yaml.safe_load((ROOT / "workflow/config/miniature.yaml").read_text())["extractors"]
    for stanza in stanzas.values():
        stanza |= {key: str(ROOT / stanza[key]) for key in ("path", "model") if key in stanza}
    return load_networks(stanzas)


def test_in_the_drawn_world_colours_are_right_and_after_an_exchange_wrong(tmp_path, networks) -> None:
    names = list(COLOURS)
    own = load(yaml.safe_load((ROOT / "workflow/config/miniature.yaml").read_text())["metrics"])
    drawn = [scene(np.random.default_rng([1, number]), square=True) for number in range(24)]
    # The shapes as they are, their colours one further in the list.
    turned = [
        replace(one, things=tuple(replace(t, colour=names[names.index(t.colour) - 1]) for t in one.things))
        for one in drawn
    ]
    rows = [
        layout(number, *((thing.shape, [edge / SIDE for edge in thing.box]) for thing in one.things))
        for number, one in enumerate(drawn)
    ]
    for row, one in zip(rows, drawn, strict=True):
        for thing, shown in zip(row["objects"], one.things, strict=True):
            thing["attributes"] = {"color": shown.colour}
    table = regions(rows, SIDE, 6)
    kept = table[table["kept"]].reset_index(drop=True)
    found: dict[str, dict] = {}
    for name, pictures in (("real", drawn), ("turned", turned)):
        images = [(f"{row['id']:012d}.png", draw(one)) for row, one in zip(rows, pictures, strict=True)]
        write_images(tmp_path / f"{name}.zip", images, {})
        out = tmp_path / f"{name}.npz"
        write_features(tmp_path / f"{name}.zip", rows, kept, networks, Protocol(), out, own=own)
        write_summaries(FeatureShards([out]), tmp_path / f"{name}-sums.npz")
        content, scores = measure(Summaries(tmp_path / f"{name}-sums.npz"), None, rows, own=own)
        found[name] = content | {"method": name}
    right, wrong = (found[name]["metrics"]["region_colour"] for name in ("real", "turned"))
    assert right["value"] > 0.95 and wrong["value"] < 0.05 and right["n"] == len(kept)
    by_box = scores.loc[scores["object"] >= 0, "region_colour"]
    assert by_box.mean() == pytest.approx(wrong["value"]) and set(by_box.dropna()) <= {0.0, 1.0}
    # The detector knows no colours: all else is about the same.
    assert found["turned"]["metrics"]["image_relations"]["value"] > 0.8
    lines = adherence_table(list(found.values())).frame().set_index("method")
    assert lines.loc["real", "region_colour"] == right["value"]


def test_features_of_other_texts_are_refused(tmp_path, networks) -> None:
    rows = [coloured(number, "red") for number in (1, 2)]
    write_images(tmp_path / "a.zip", [(f"{n:012d}.png", np.full((64, 64, 3), 9 * n, np.uint8)) for n in (1, 2)], {})
    stanza = {"module": "evaluation.metrics.attributes", "params": {"values": ["red", "green"]}}
    own, other = (load({"hue": stanza | {"version": version}}) for version in (1, 2))
    table, clip = regions(rows, 64, 1), Networks({name: networks.extractors[name] for name in ("frechet", "clip")})
    for name, given in (("with", own), ("without", [])):
        write_features(tmp_path / "a.zip", rows, table, clip, Protocol(), tmp_path / f"{name}.npz", own=given)
        write_summaries(FeatureShards([tmp_path / f"{name}.npz"]), tmp_path / f"{name}-sums.npz")
    row, bare = (Summaries(tmp_path / f"{name}-sums.npz") for name in ("with", "without"))
    content, scores = measure(row, None, rows, own=own)
    assert set(content["metrics"]) >= {"region_hue"} and "region_hue_in_place" not in content["metrics"]
    assert content["protocol"]["metrics"]["hue"]["params"]["template"] == "a {value} object"
    assert isinstance(scores, pd.DataFrame) and "region_hue" in scores
    for of, asked, said in ((row, other, "features were made with"), (bare, own, "features were made without it")):
        with pytest.raises(InputError, match=said):
            measure(of, None, rows, own=asked)
    with pytest.raises(InputError, match="other networks"):
        row.check(bare)


def test_texts_that_are_cut_alike_make_nothing_right() -> None:
    """A label longer than CLIP's context leaves the same text of every value."""
    rows = [coloured(1, "red"), coloured(2, "blue")]
    found = carry(COLOURED, shard(rows, [[1, 0, 0], [0, 0, 1]], lambda text: [1, 1, 1]))
    of = measured(rows, **{f"hue {key}": array for key, array in found.items()})
    hue, _ = attributes.metrics("hue", COLOURED)
    assert hue.compute(of, hue)["value"] == 0
