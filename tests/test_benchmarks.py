"""When a measured ratio is to be trusted: decisions by closed forms; no test here says how long anything takes."""

import json
import os
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from formats.files import read_json, write_json
from formats.layouts import Layout, Object, write_layouts
from tests.dag import ROOT
from tests.test_plan import planned
from workflow.benchmarks import device, peers, precision, rounds
from workflow.benchmarks.rounds import (
    Clock,
    Turn,
    doubts,
    others,
    processor,
    quickest,
    read_clock,
    spread,
    stated,
    told,
)

CPUINFO = """processor\t: 0
model name\t: Some CPU
flags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_bf16 amx_bf16 hypervisor

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16 crc32\n"


def turns(*seconds: float, taken: float | None = 0.0) -> list[Turn]:
    return [Turn(one, f"after {one}", 1.0, taken) for one in seconds]


def test_quiet_rounds_of_equal_length_are_trusted() -> None:
    assert doubts({"ours": turns(1.0, 1.0999, 1.05), "peer": turns(2.0, 2.0, 2.1, taken=0.5)}) == []


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (turns(1.0, 1.11), ["ours: rounds differ by 11%, more than 10%"]),
        (turns(1.11, 1.0), ["ours: rounds differ by 11%, more than 10%"]),
        (turns(1.0), ["ours: one round, so that its spread is not known"]),
        (turns(1.0, 1.0, taken=0.51), ["other processes took up to 0.5 cores, more than 0.5"]),
        (turns(1.0, 1.0) + turns(1.0, taken=1.96), ["other processes took up to 2.0 cores, more than 0.5"]),
        (turns(1.0, 1.0, taken=None), ["what other processes took is not known on this system"]),
        (
            turns(1.0, 2.0, taken=0.9),
            ["other processes took up to 0.9 cores, more than 0.5", "ours: rounds differ by 100%, more than 10%"],
        ),
    ],
)
def test_what_makes_a_figure_doubtful_is_named(ours, expected) -> None:
    assert doubts({"ours": ours, "peer": turns(3.0, 3.0)}) == expected
    assert doubts({"peer": turns(3.0, 3.0), "ours": ours}) == expected


def test_of_a_side_the_quickest_round_counts() -> None:
    assert quickest(turns(3.0, 1.5, 2.0)) == 1.5
    assert spread(turns(3.0, 1.5, 2.0)) == pytest.approx(1.0)
    assert spread(turns(3.0)) == 0


def test_sides_take_turns(monkeypatch) -> None:
    order = []
    clocks = iter(Clock(wall=float(i), own=0.0, everybody=1.5 * i) for i in range(100))
    loads = iter(range(100))
    monkeypatch.setattr(rounds, "read_clock", lambda: next(clocks))
    monkeypatch.setattr(os, "getloadavg", lambda: (float(next(loads)), 0.0, 0.0))
    side = lambda name, spent: lambda: (spent, order.append(name))  # noqa: E731
    found = rounds.take_turns({"ours": side("ours", 1.0), "peer": side("peer", 7.0)}, 3)
    assert order == ["ours", "peer"] * 3
    assert [turn.seconds for turn in found["peer"]] == [7.0] * 3
    assert [turn.load for turn in found["ours"]] == [0, 2, 4]
    assert [turn.others for turn in found["ours"]] == [1.5] * 3
    said = stated(found)
    assert said["load_average_before"] == {"ours": [0, 2, 4], "peer": [1, 3, 5]}
    assert said["doubts"] == ["other processes took up to 1.5 cores, more than 0.5"]


def test_what_others_took_is_everybodys_time_less_ones_own() -> None:
    assert others(Clock(10, 4, 100), Clock(14, 11, 113)) == pytest.approx((13 - 7) / 4)
    assert others(Clock(10, 4, 100), Clock(14, 11, 107)) == 0
    # The system counts in hundredths of a second: less than nothing is nothing.
    assert others(Clock(10, 4, 100), Clock(14, 11, 106.99)) == 0
    assert others(Clock(10, 4, None), Clock(14, 11, None)) is None


def test_the_systems_clock_counts_work_alone(tmp_path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    numbers = [
        1,
        2,
        4,
        5000,
        6000,
        8,
        16,
        32,
        7000,
        8000,
    ]  # user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text(f"cpu  {' '.join(str(ticks * n) for n in numbers)}\ncpu0 1 1 1\n")
    clock = read_clock(tmp_path / "stat")
    assert clock.everybody == 1 + 2 + 4 + 8 + 16 + 32
    assert clock.own <= sum(os.times()[:4])
    assert read_clock(tmp_path / "none").everybody is None


def test_own_work_and_that_of_ended_children_is_ones_own() -> None:
    before = read_clock()
    pid = os.fork()
    if not pid:
        while sum(os.times()[:2]) < 0.2:
            pass
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_clock().own - before.own >= 0.15


def test_the_processor_is_named_with_its_instruction_sets(tmp_path) -> None:
    (tmp_path / "x86").write_text(CPUINFO)
    found = processor(tmp_path / "x86")
    assert found["name"] == "Some CPU"
    assert found["instructions"] == ["sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"]
    assert found["cpus"] >= 1
    (tmp_path / "arm").write_text(ARM)
    assert processor(tmp_path / "arm")["instructions"] == ["asimd", "sve", "bf16"]
    assert processor(tmp_path / "none")["instructions"] == []


MACHINE = {"name": "Some CPU", "instructions": ["avx2", "fma"], "cpus": 2, "threads": 1, "kernels": "AVX2"}


def test_a_figure_says_how_it_was_made_and_when_not_to_trust_it() -> None:
    sides = {"ours": turns(1.0, 1.05), "peer": turns(4.0, 5.0, taken=0.75)}
    text = told("a_over_b", {"ratio": 4.0, "difference": 1e-6} | stated(sides), MACHINE)
    assert text.splitlines() == [
        "a_over_b: 4.00 by the quickest of 2 rounds of either side",
        "    NOT TO BE TRUSTED: other processes took up to 0.8 cores, more than 0.5",
        "    NOT TO BE TRUSTED: peer: rounds differ by 25%, more than 10%",
        "    slowest round over quickest, less 1: ours 5.0%, peer 25.0%",
        "    load average before each call: ours 1.00 1.00; peer 1.00 1.00; other processes: at most 0.75 cores meanwhile",
        "    on Some CPU (avx2, fma), processors 2; torch: threads 1, AVX2",
        "    difference 1e-06",
    ]
    quiet = {"ours": turns(1.0, 1.0), "peer": turns(2.0, 2.0)}
    assert "NOT TO BE TRUSTED" not in told("a", {"ratio": 2.0} | stated(quiet), MACHINE)
    assert told("equality", {"largest": 0.0}, MACHINE) == "equality:\n    largest 0"


def test_the_frechet_step_is_compared_with_the_textbooks() -> None:
    found = peers.frechet(peers.Size(rounds=2, dimensions=24))
    assert found["relative_difference"] < 1e-6
    assert {name: len(side) for name, side in found["rounds"].items()} == {"ours": 2, "sqrtm": 2}
    assert found["ratio"] == min(found["rounds"]["sqrtm"]) / min(found["rounds"]["ours"])


def test_an_accelerators_rows_are_the_configurations(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = planned().settings
    write_json(tmp_path / "config.json", settings.model_dump(mode="json"))
    rows = {row.name: row for row in device.read_rows(tmp_path / "config.json", tmp_path)}
    shown = {name for table in settings.tables.values() for name in table.rows or ()} - {"real"}
    assert set(rows) == shown
    assert rows["hcma"].model == str(tmp_path / "gligen")
    assert rows["hcma"].sampling["steps"] == settings.sampling.steps
    cells = device.plan(list(rows.values()))
    assert {cell.row.name for cell in cells} == {
        "sd14",
        "gligen_sd",
        "hcma",
        "attend_and_excite",
        "boxdiff",
        "layout_guidance",
    }
    assert len([cell for cell in cells if "peer" in cell.label]) == 4
    labels = [json.dumps(cell.label) for cell in cells]
    assert len(set(labels)) == len(labels) and all(set(cell.label) <= set(device.LABELS) for cell in cells)


def test_cells_of_an_earlier_call_are_kept_where_commit_and_card_are_the_same(tmp_path) -> None:
    made = {"command": "c", "commit": "a" * 40, "device": "some card", "versions": {"torch": "2"}}
    label = {"row": "sd14", "precision": "bfloat16", "batch": 32}
    cells = [label | {"seconds": 7.5}, {"row": "sd14", "flops_of": "one image", "failed": "x"}]
    write_json(tmp_path / "device.json", made | {"cells": cells})
    assert device.measured_before(tmp_path / "device.json", made) == {json.dumps(label): {"seconds": 7.5}}
    assert device.measured_before(tmp_path / "device.json", made | {"commit": "b" * 40}) == {}
    assert device.measured_before(tmp_path / "none.json", made) == {}


def test_what_half_precision_does_is_measured_in_floors_and_standard_errors() -> None:
    rng = np.random.default_rng(0)
    exact = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    frechet = SimpleNamespace(features=lambda images: np.stack([image.mean((0, 1)) for image in images]) / 255)
    clip = SimpleNamespace(features=frechet.features, texts=lambda texts: np.ones((len(texts), 3)))
    same = precision.compare(exact, exact, ["a"] * 12, frechet, clip)
    assert same["fd_over_floor"] == pytest.approx(0, abs=1e-9) and same["clip_change"] == 0
    other = precision.compare(exact, np.clip(exact, 0, 200), ["a"] * 12, frechet, clip)
    means = exact.mean((1, 2)).sum(1) / 255
    assert other["clip"] == pytest.approx(means.mean())
    error = means.std(ddof=1) / 12**0.5
    assert other["clip_change"] < 0 and other["clip_change_over_se"] == pytest.approx(other["clip_change"] / error)
    assert other["fd_over_floor"] == pytest.approx(other["image_fd"] / other["floor"]) and other["image_fd"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_moves_the_miniatures_images_by_less_than_a_table_can_tell(tmp_path, monkeypatch, half) -> None:
    monkeypatch.chdir(ROOT)
    settings = planned().settings
    write_json(tmp_path / "config.json", settings.model_dump(mode="json"))
    boxes = ((0.1, 0.2, 0.5, 0.6), (0.5, 0.4, 0.9, 0.9))
    layouts = [
        Layout(number, number, f"a {first} and a {second}", (Object(first, boxes[0]), Object(second, boxes[1])))
        for number, (first, second) in enumerate(permutations(("circle", "square", "star"), 2))
    ]
    write_layouts(tmp_path / "layouts.jsonl", layouts)
    for row, base in (("sd14", "sd14"), ("gligen_sd", "gligen")):
        module = settings.methods[row].module
        sampling = settings.sampling.model_dump() | {"steps": 20}
        spec = {
            "method": row,
            "module": module,
            "model": f"weights/miniature/{base}",
            "sampling": sampling,
            "params": {},
        }
        write_json(tmp_path / f"{row}.json", spec)
    out, rows = tmp_path / "precision.json", ["sd14", "gligen_sd"]
    precision.main(tmp_path / "config.json", tmp_path, tmp_path / "layouts.jsonl", rows, [half], "cpu", 6, None, out)
    for row in rows:
        found = read_json(out)["rows"][row][half]
        assert found["mean_pixel_difference"] > 0 and found["redone_in_float32"] == 0
        assert found["fd_over_floor"] < precision.SHARE and abs(found["clip_change_over_se"]) < 1
