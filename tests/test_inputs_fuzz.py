"""Annotation records spoilt at random: a report that accounts for every image and box, or one line, and nothing else.

The cases are the same each time: 400 in the tests, 5,000 with `-m slow`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.datasets.canvas import canvas
from evaluation.datasets.coco import open_photos
from formats.files import InputError
from tests.coco_sets import CATEGORIES, DATA, IDS, change, path_of, write_set
from tests.test_inputs import HUGE, prepared, second_box

# What a field may hold instead of what it should.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 130),
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**400, -(2**63), "@huge", "-@huge"]),
    st.sampled_from([0.0, -0.0, 1.5, 101.0, 1e308, -1e308, 1e-320, 2.0**60, float("nan"), float("inf")]),
    st.sampled_from(["", " ", "18", "101", " 102.0 ", "1e2", "１８", "img_1", "\ud83d", "a\0b", "../a", "NaN", "dog"]),
    st.integers(1, 900).map("x".__mul__),
    st.text(max_size=8),
    st.lists(st.integers(-50, 50) | st.floats() | st.none(), max_size=5),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2) | st.fixed_dictionaries({"id": inner})),
)
# And one of a box's four numbers.
EDGE = st.floats() | st.integers(-50, 50) | st.sampled_from([1e-7, 1e308, 10**400, "7", "7.5", "nan", None, True])
PARTS = {"instances": ["images", "annotations", "categories"], "captions": ["images", "annotations"]}
FIELDS = {
    "images": ["id", "width", "height", "file_name"],
    "categories": ["id", "name"],
    "annotations": ["id", "image_id", "category_id", "bbox", "iscrowd", "caption"],
}


# The commoner the more often it stands here.
PLACES = [("instances", "annotations")] * 3 + [(kind, part) for kind, parts in PARTS.items() for part in parts]
DEEDS = ["set"] * 3 + ["twice", "alter", "number"] * 2 + ["delete", "drop", "record", "part"]


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, str, str, str, int, str, Any]:
    """One edit of one annotation file: what is done, where, and with which value."""
    (kind, part), split = draw(st.sampled_from(PLACES)), draw(st.sampled_from(sorted(IDS)))
    do, place, key = draw(st.sampled_from(DEEDS)), draw(st.integers(0, 7)), draw(st.sampled_from(FIELDS[part]))
    value = draw(EDGE if do == "number" else ODD)
    return kind, split, part, do, place, key, value


def apply(content: Any, part: str, do: str, place: int, key: str, value: Any) -> None:
    rows = content.get(part)
    if do == "part":
        content[part] = value
    if not isinstance(rows, list) or not rows:
        return
    place %= len(rows)
    row = rows[place]
    if do == "drop":
        del rows[place]
    elif do == "record":
        rows[place] = value
    elif not isinstance(row, dict):
        return
    elif do == "set":
        row[key] = value
    elif do == "delete":
        row.pop(key, None)
    elif do == "number":
        row["bbox"] = [value if k == place % 4 else 3.0 for k in range(4)]
    elif do == "twice":
        rows.append(dict(row))
    elif do == "alter":
        rows.append(row | {key: value})


def outcome(changes: list[tuple[str, str, str, str, int, str, Any]], caption: str, folder: Path) -> bool:
    """Whether the spoilt set is read; anything but one line or a report that accounts for all of it fails."""
    files = {(kind, split): json.loads(path_of(folder, kind, split).read_text()) for kind in PARTS for split in IDS}
    for kind, split, *edit in changes:
        apply(files[kind, split], *edit)
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name) / "set", Path(name) / "out"
        (root / "annotations").mkdir(parents=True)
        for split in IDS:
            (root / split).symlink_to(folder / split)
        for (kind, split), content in files.items():
            text = json.dumps(content).replace('"@huge"', HUGE).replace('"-@huge"', f"-{HUGE}")
            path_of(root, kind, split).write_text(text)
        # The whole table would be most of a case's time.
        words = Path(name) / "words.yaml"
        words.write_text("".join(f"{row['name']}: {{forms: [{row['name']}], synonyms: []}}\n" for row in CATEGORIES))
        boxes = {"min_area_frac": 0.0, "max": 2, "drop_crowd": True}
        counts = {"train": {"count": 5}, "heldout": {"count": 1}, "test": DATA["test"] | {"count": 3}}
        try:
            rows, report = prepared(root, out, caption=caption, boxes=boxes, words=str(words), **counts)
        except InputError as error:
            assert "\n" not in str(error)
            assert 0 < len(str(error)) < 2000
            assert "Traceback" not in str(error)
            assert not out.exists()
            return False
        assert [len(rows[split]) for split in rows] == [5, 1, 3]
        accounts_for_all(files, rows, report)
        for split in ("train", "test"):
            seen = open_photos(root, split)
            for row in rows[split]:
                assert canvas(seen.read(row["image_id"], row.get("photo")), 32).shape == (32, 32, 3)
    return True


def accounts_for_all(files: dict, rows: dict[str, list[dict]], report: dict) -> None:
    """Every record of the files is in a layout, ignored, or in one of the report's counts."""
    for split, parts in (("train2014", ("train", "heldout")), ("val2014", ("test",))):
        content, account = files["instances", split], report["accounts"][split]
        lost = {reason: found["count"] for reason, found in report["annotations"][split].items()}
        file = f"instances_{split}.json"
        images = account["images"]
        assert len(content["images"]) == images["listed"] + lost.get(f"image listed twice in {file}", 0)
        assert images["listed"] == sum(images[name] for name in ("used", "not asked for", "without a caption"))
        assert images["used"] == sum(len(rows[part]) for part in parts)
        boxes = account["boxes"]
        unread = [lost.get(f"annotation {why} in {file}", 0) for why in ("of an unlisted image", "listed twice")]
        assert len(content["annotations"]) == boxes["listed"] + sum(unread)
        assert boxes["listed"] == sum(boxes[name] for name in ("used", "not asked for", "without a caption"))
        for part in parts:
            found = report["splits"][part]
            regions = [region["box"] for row in rows[part] for region in row.get("ignored", [])]
            assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in regions)
            assert found["boxes"] == sum(len(row["objects"]) for row in rows[part])
            assert found["boxes_read"] == found["boxes"] + sum(reason["count"] for reason in found["dropped"].values())
        assert boxes["used"] == sum(report["splits"][part]["boxes_read"] for part in parts)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    root = write_set(tmp_path_factory.mktemp("sound") / "set")
    change(root, "instances", second_box)
    return root


def fuzz(sound: Path, cases: int) -> None:
    read = []

    @settings(
        max_examples=cases, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(edits(), min_size=1, max_size=3), st.sampled_from(["first", "random"]))
    def run(changes: list, caption: str) -> None:
        read.append(outcome(changes, caption, sound))

    run()
    # Both outcomes are met often, or it would show little.
    assert len(read) >= cases
    assert 0.1 < np.mean(read) < 0.9


def test_spoilt_records_end_in_a_report_that_accounts_for_all_or_in_one_line(sound) -> None:
    fuzz(sound, 400)


@pytest.mark.slow
def test_many_spoilt_records_end_in_a_report_or_in_one_line(sound) -> None:
    fuzz(sound, 5000)
