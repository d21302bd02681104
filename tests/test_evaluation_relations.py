"""Relations, counts and other averages of overlaps, from hand-made boxes: every branch has a value worked out by hand."""

import numpy as np
import pytest

from evaluation.metrics import counts, ious, relations
from evaluation.metrics.adherence import asked, by_label
from evaluation.metrics.found import found
from evaluation.metrics.relations import Pair, Params, by_centres, by_edges, pairs_of
from formats.files import InputError
from tests.own_metrics import layout, measured, values

# Boxes about centres; WIDE has the centre of MIDDLE.
WEST, EAST, NORTH, SOUTH = [0.0, 0.4, 0.2, 0.6], [0.8, 0.4, 1.0, 0.6], [0.4, 0.0, 0.6, 0.2], [0.4, 0.8, 0.6, 1.0]
MIDDLE, WIDE = [0.4, 0.4, 0.6, 0.6], [0.1, 0.1, 0.9, 0.9]


def boxes(*of: list[float]) -> np.ndarray:
    return np.array(of, float).reshape(-1, 4)


@pytest.mark.parametrize(
    ("tags", "pair"),
    [
        ({"relation": "to the left of", "object_1": "dog", "object_2": "cat"}, [Pair("left", "dog", "cat")]),
        ({"relation": " On Top Of ", "object_1": "dog", "object_2": "cat"}, [Pair("above", "dog", "cat")]),
        ({"relation": "under"}, [Pair("below", "star", "ring")]),  # of the only two objects
        ({"relation": "right"}, [Pair("right", "star", "ring")]),
        ({"relation": "next to"}, []),
        ({"relation": 3}, []),
        ({"relation": "left", "object_1": "dog"}, []),
        ({"relation": "left", "object_1": "dog", "object_2": 7}, []),
        ({"relation": "left", "object_1": "dog", "object_2": "dog"}, []),
    ],
)
def test_a_stated_relation_is_taken_and_nothing_else(tags, pair) -> None:
    row = layout(1, ("star", WEST), ("ring", EAST), tags=tags)
    assert pairs_of(row, 0.1) == pair
    assert pairs_of(layout(1, ("star", WEST), tags={"relation": "left"}), 0.1) == []


def test_else_relations_follow_from_boxes_whose_names_occur_once() -> None:
    row = layout(1, ("star", WEST), ("ring", EAST), ("dot", NORTH))
    # The star is as far left of the dot as it is below it: then it is left.
    assert pairs_of(row, 0.1) == [
        Pair("left", "star", "ring"),
        Pair("left", "star", "dot"),
        Pair("right", "ring", "dot"),
    ]
    assert pairs_of(layout(1, ("star", NORTH), ("ring", MIDDLE)), 0.1) == [Pair("above", "star", "ring")]
    assert pairs_of(layout(1, ("star", SOUTH), ("ring", MIDDLE)), 0.1) == [Pair("below", "star", "ring")]
    assert pairs_of(layout(1, ("star", SOUTH), ("ring", MIDDLE)), 0.4) == []  # apart by the margin, not by more
    assert pairs_of(layout(1, ("star", WIDE), ("ring", MIDDLE)), 0.0) == []
    assert pairs_of(layout(1, ("star", WEST), ("star", EAST), ("ring", MIDDLE)), 0.1) == []
    named = layout(1, ("a big star", WEST), ("ring", EAST))
    named["objects"][0]["category"] = "star"
    assert pairs_of(by_label(named), 0.1) == [Pair("left", "star", "ring")]


@pytest.mark.parametrize(
    ("relation", "a", "b"),
    [("left", WEST, EAST), ("right", EAST, WEST), ("above", NORTH, SOUTH), ("below", SOUTH, NORTH)],
)
def test_by_either_rule_what_stands_so_does_and_its_reverse_does_not(relation, a, b) -> None:
    for rule in (by_centres, by_edges):
        assert rule(relation, boxes(a), boxes(b))
        assert not rule(relation, boxes(b), boxes(a))
        assert not rule(relation, boxes(a), boxes(a))


def test_centres_of_any_two_boxes_decide_strictly() -> None:
    assert by_centres("left", boxes(EAST, WEST), boxes(MIDDLE))
    assert by_centres("left", boxes(MIDDLE), boxes(WEST, EAST))
    assert not by_centres("left", boxes(MIDDLE), boxes(WIDE, WEST))


def test_edges_of_the_last_boxes_decide_and_one_of_two_edges_is_enough_above_and_below() -> None:
    assert not by_edges("left", boxes(WEST, EAST), boxes(MIDDLE))
    assert by_edges("left", boxes(EAST, WEST), boxes(MIDDLE))
    # By edges the wide box is left of, right of, above and below what stands in its middle.
    assert all(by_edges(relation, boxes(WIDE), boxes(MIDDLE)) for relation in relations.RELATIONS)
    assert by_edges("above", boxes(MIDDLE), boxes(WIDE)) and by_edges("below", boxes(MIDDLE), boxes(WIDE))
    assert not by_edges("left", boxes(MIDDLE), boxes(WIDE)) and not by_edges("right", boxes(MIDDLE), boxes(WIDE))


LAYOUTS = [
    layout(1, ("star", WEST), ("ring", EAST), ("dot", NORTH)),  # star left of ring, star left of dot, ring right of dot
    layout(2, tags={"relation": "above", "object_1": "star", "object_2": "ring"}),
    layout(3, ("star", WEST)),  # no pair
]
FOUND = [
    (1, "star", WEST, 0.9),
    (1, "ring", MIDDLE, 0.9),
    (1, "dot", NORTH, 0.4),  # not sure
    (2, "star", SOUTH, 0.6),
    (2, "ring", NORTH, 0.7),
]


def test_shares_of_pairs_of_layouts_and_of_relations() -> None:
    of = measured(LAYOUTS, *FOUND)
    made = list(relations.metrics("stands", Params()))
    assert values(made, of) == pytest.approx(
        {
            "image_stands": (1 / 3 + 0) / 2,
            "image_stands_found": (1 / 3 + 1) / 2,
            "image_stands_of_found": 1 / 2,
            "image_stands_left": 1 / 2,
            "image_stands_right": 0,
            "image_stands_above": 0,
            "image_stands_below": None,
        }
    )
    table = of.once(made[0].scored)
    assert table["id"].tolist() == [1, 2] and table["object"].tolist() == [-1, -1]
    assert table["stands"].tolist() == pytest.approx([1 / 3, 0])
    assert made[0].scored is made[1].scored, "one table for both columns"
    nothing = values(made, measured(LAYOUTS))
    assert nothing["image_stands"] == 0 and nothing["image_stands_of_found"] is None
    assert set(values(made, measured([layout(3, ("star", WEST))])).values()) == {None}


def test_the_rule_decides_which_boxes() -> None:
    rows = [layout(1, tags={"relation": "left", "object_1": "star", "object_2": "ring"})]
    seen = [(1, "star", WEST, 0.9), (1, "star", EAST, 0.6), (1, "ring", MIDDLE, 0.8)]
    shares = {
        rule: values(relations.metrics("r", Params(rule)), measured(rows, *seen))["image_r"] for rule in relations.RULES
    }
    assert shares == {"centres": 1, "edges": 0}


def test_a_detector_of_any_phrase_is_asked_for_what_a_relation_names_and_known_by_what_it_was_asked() -> None:
    stated = layout(1, tags={"relation": "left", "object_1": "star", "object_2": "ring"})
    assert asked(stated, {"ask": "phrase"}) == ["star", "ring"]
    boxed = layout(2, ("red star", WEST), ("ring", EAST))
    boxed["objects"][0]["category"] = "star"
    assert (asked(boxed, {"ask": "phrase"}), asked(boxed, {})) == (["red star", "ring"], ["star", "ring"])
    of = measured([boxed], (2, "red star", WEST, 0.9), (2, "ring", EAST, 0.9))
    of.row.about["detector"]["params"] = {"ask": "phrase"}
    assert values(relations.metrics("r", Params()), of)["image_r"] == 1
    assert values(ious.metrics("o", ious.Params()), of)["image_o_miou"] == pytest.approx(1)


def test_an_object_that_the_detector_has_no_word_for_is_refused() -> None:
    relations.check(Params(), LAYOUTS, None)
    relations.check(Params(), LAYOUTS, ["star", "ring", "dot"])
    with pytest.raises(InputError, match="layout 1: object 'dot' of its relation is no label of the detector"):
        relations.check(Params(), LAYOUTS, ["star", "ring"])


@pytest.mark.parametrize("wrong", [{"rule": "hrs"}, {"margin": 1}, {"margin": True}, {"margin": "0.1"}])
def test_other_parameters_are_refused(wrong) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected"):
        Params(**wrong)


def test_what_is_found_comes_best_first_and_by_image() -> None:
    rows = [(2, "b", EAST, 0.6), (1, "a", WEST, 0.5), (2, "a", NORTH, 0.9), (2, "b", SOUTH, 0.6), (1, "a", EAST, 0.4)]
    seen = found(measured([], *rows))
    assert {number: one.labels_N.tolist() for number, one in seen.items()} == {1: ["a"], 2: ["a", "b", "b"]}
    assert seen[2].of("b") == pytest.approx(boxes(EAST, SOUTH)) and seen[2].of("c").shape == (0, 4)
    assert found(measured([])) == {}


def test_counts_are_of_sums_over_labels_and_images() -> None:
    rows = [layout(1, ("star", WEST), ("star", EAST), ("ring", NORTH)), layout(2, ("ring", SOUTH))]
    seen = [
        *[(1, "star", WEST, 0.9)] * 3,  # one too many
        *[(2, "ring", SOUTH, 0.9), (2, "ring", NORTH, 0.4)],  # the second is not sure
        (1, "dot", MIDDLE, 0.9),  # nobody asked for it
    ]
    found_values = values(counts.metrics("n", counts.Params()), measured(rows, *seen))
    assert found_values == pytest.approx({"n_precision": 3 / 4, "n_recall": 3 / 4, "n_f1": 3 / 4})
    rows[0]["ignored"] = [{"phrase": "star", "box": WEST, "why": "crowd"}]
    seen += [(2, "ring", WEST, 0.8)]
    found_values = values(counts.metrics("n", counts.Params()), measured(rows, *seen))
    # Two of the stars on the ignored region serve no box; with one left a star is missing, and a ring is one too many.
    assert found_values == pytest.approx({"n_precision": 2 / 3, "n_recall": 2 / 4, "n_f1": 2 * 2 / (3 + 4)})
    empty = values(counts.metrics("n", counts.Params()), measured(rows))
    assert empty == {"n_precision": None, "n_recall": 0, "n_f1": 0}
    assert set(values(counts.metrics("n", counts.Params()), measured([layout(1)])).values()) == {None}


HALF = [0.0, 0.4, 0.1, 0.6]  # of WEST: an intersection over union of a half


def test_overlaps_one_to_one() -> None:
    # The best detection of both goes to the box that it fits better; the other box is left with the half.
    rows = [layout(1, ("star", WEST), ("star", WEST), ("ring", EAST))]
    found_values = values(
        ious.metrics("o", ious.Params()), measured(rows, (1, "star", WEST, 0.6), (1, "star", HALF, 0.9))
    )
    assert found_values["image_o_miou"] == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-6)
    assert found_values["image_o_auc"] == pytest.approx((1 + 1 + 0.05) / 3), "one detection may serve both"
    nothing = values(ious.metrics("o", ious.Params()), measured(rows, (1, "dot", WEST, 0.9)))
    assert nothing == {"image_o_miou": 0, "image_o_o_miou": 0, "image_o_auc": 0}
    assert values(ious.metrics("o", ious.Params()), measured([layout(1)])) == dict.fromkeys(nothing)


def test_the_overlap_of_two_boxes_is_held_against_that_of_their_detections() -> None:
    a, b = [0.0, 0.0, 0.4, 0.4], [0.2, 0.0, 0.6, 0.4]  # they share [0.2, 0, 0.4, 0.4]
    rows = [layout(1, ("star", a), ("ring", b)), layout(2, ("star", WEST), ("ring", EAST))]
    shifted = [0.1, 0.0, 0.5, 0.4]  # with a it shares [0.1, 0, 0.4, 0.4]: two thirds of the one are the other

    def of(*seen: tuple) -> float | None:
        return values(ious.metrics("o", ious.Params()), measured(rows, *seen))["image_o_o_miou"]

    assert of((1, "star", a, 0.9), (1, "ring", b, 0.9)) == pytest.approx(1, abs=1e-6)
    assert of((1, "star", a, 0.9), (1, "ring", shifted, 0.9)) == pytest.approx(2 / 3, abs=1e-6)
    assert of((1, "star", a, 0.9)) == 0
    assert of((1, "star", [0.0, 0.0, 0.2, 0.4], 0.9), (1, "ring", [0.3, 0.0, 0.6, 0.4], 0.9)) == 0
    assert values(ious.metrics("o", ious.Params()), measured(rows[1:]))["image_o_o_miou"] is None


def test_areas_are_the_closed_form_and_the_trapezoids() -> None:
    overlaps = np.array([0, 0.04, 0.1, 0.25, 0.5, 0.7, 0.999, 1])
    assert ious.areas_under(overlaps) == pytest.approx(np.where(overlaps == 1, 1, np.floor(10 * overlaps) / 10 + 0.05))
    # A detection's float32 box may miss what it meets exactly.
    assert ious.areas_under(np.array([1 - 1e-7, 0.3 - 1e-8])) == pytest.approx([1, 0.35])


def test_boxes_side_by_side_share_nothing() -> None:
    """Their edges meet but for rounding."""
    left, right = np.array([0, 0, 0.1 + 0.2, 1]), np.array([0.3, 0, 1, 1])
    assert left[2] > right[0]
    assert np.isnan(ious.overlap_iou(np.array([left, right]), {}))
