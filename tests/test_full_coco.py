"""Preparation of annotations whose files and counts are COCO's: see tests/full_coco.py for the run at full size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.layouts import read_layout_rows
from tests.full_coco import SPLITS, WORDS, write
from workflow import overlays

ROOT = Path(__file__).parents[1]


def prepared(tmp_path: Path, share: float) -> tuple[dict, int]:
    """The report of the paper's preparation on a share of COCO, and the peak memory of its process in bytes."""
    write(tmp_path / "coco", share)
    data = overlays.merged(given={"scale": "paper"})["data"]
    train = int(SPLITS["train2014"][0] * share)
    counts = {
        "train": int(train * 0.8),
        "heldout": train - int(train * 0.8),
        "test": int(data["test"]["count"] * share),
    }
    data |= {"words": str(WORDS)} | {name: data[name] | {"count": count} for name, count in counts.items()}
    (tmp_path / "data.json").write_text(json.dumps(data))
    flags = {"--root": "coco", "--config": "data.json", "--out": "layouts"}
    arguments = [text for flag, name in flags.items() for text in (flag, str(tmp_path / name))]
    child = subprocess.Popen([sys.executable, "-m", "evaluation.datasets", "coco", *arguments], cwd=ROOT)
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0
    report = json.loads((tmp_path / "layouts/report.json").read_text())
    assert {name: split["images"] for name, split in report["splits"].items()} == counts
    return report, used.ru_maxrss * 1024


def test_a_hundredth_of_coco_is_split_four_to_one_and_nothing_is_lost(tmp_path) -> None:
    report, _ = prepared(tmp_path, 0.01)
    splits = report["splits"]
    assert splits["train"]["boxes_read"] + splits["heldout"]["boxes_read"] == int(SPLITS["train2014"][1] * 0.01)
    assert splits["train"]["images_without_boxes"] > 0
    assert {"crowd", "smaller than min_area_frac"} <= set(splits["test"]["dropped"])
    rows = read_layout_rows(tmp_path / "layouts/train.jsonl")
    assert all(len(row["captions"]) == 5 for row in rows)
    assert read_layout_rows(tmp_path / "layouts/train.jsonl", 100, 120) == rows[100:120]


@pytest.mark.slow
def test_a_tenth_of_coco_takes_a_tenth_of_two_gigabytes(tmp_path) -> None:
    assert prepared(tmp_path, 0.1)[1] < 60e6 + 0.1 * 2e9
