"""Bundles: whole, as they were made, of the same layouts and networks; or one line that names the file."""

import io
import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.bundles import bundled_layouts, other_layouts, run_folder, take_summary
from evaluation.datasets import outside
from evaluation.datasets.naming import OutsideRow
from evaluation.layouts import write_layouts
from evaluation.metrics.summary import Summaries
from formats import bundles
from formats.bundles import ABOUT, Bundle, BundledRow, write_bundle
from formats.checksums import SUMS
from formats.files import InputError
from formats.images import png_name, write_images

DOG = {"phrase": "dog", "box": [0.1, 0.1, 0.5, 0.5]}
ROWS = [
    {
        "id": number,
        "image_id": number,
        "caption": f"a dog {number}",
        "objects": [{"phrase": "dog", "box": [0.1, 0.1, 0.5, 0.5]}],
    }
    for number in (3, 4, 9)
]
PIXELS = {row["id"]: np.random.default_rng(row["id"]).integers(1, 256, (8, 8, 3), np.uint8) for row in ROWS}
ABOUT_NETWORKS = {"clip": {"name": "small", "sha256": "a" * 64}, "min_side": 6, "torch": "2"}


def summary(path: Path, about: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = json.dumps({"about": about, "source": {"spec": {"method": "hcma"}}, "content": "c"})
    np.savez(path, image_ids=np.array([3, 4, 9]), stated=np.array(stated), allow_pickle=False)
    return path


@pytest.fixture
def packed(tmp_path) -> Path:
    """A bundle of one row with its images and another without."""
    run = tmp_path / "run"
    write_layouts(run / "layouts/test.jsonl", ROWS)
    for shard, rows in (("0000", ROWS[:2]), ("0001", ROWS[2:])):
        images = ((png_name(row["id"]), PIXELS[row["id"]]) for row in rows)
        write_images(run / f"samples/hcma/test/{shard}.zip", images, {"spec": {"method": "hcma"}})
    summary(run / "summaries/hcma/test.npz", ABOUT_NETWORKS)
    (run / "metrics").mkdir()
    (run / "metrics/x.json").write_text("{}" * 5000)
    (run / "config.json").write_text('{"run": "theirs"}')
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    rows = {"hcma": BundledRow(None, True), "bare": BundledRow("somebody", False)}
    write_bundle(tmp_path / "run.zip", "theirs", "abc", rows, files)
    return tmp_path / "run.zip"


def changed(path: Path, to: Path, change=None, leave_out: str = "", add: tuple[str, bytes] | None = None) -> Path:
    """A copy of a bundle whose members went through `change(name, content)`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename != leave_out:
                new.writestr(info, change(info.filename, content) if change else content)
        if add:
            new.writestr(*add)
    return to


def test_what_is_packed_comes_out_as_it_was(packed, tmp_path) -> None:
    with Bundle(packed) as bundle:
        assert (bundle.run, bundle.commit) == ("theirs", "abc")
        assert bundle.rows == {"hcma": BundledRow(None, True), "bare": BundledRow("somebody", False)}
        bundle.unpack(bundle.names(), tmp_path / "out")
    for path in (tmp_path / "run").rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "run")).read_bytes() == path.read_bytes()


def test_a_bundle_is_the_same_whenever_it_is_packed(packed, tmp_path) -> None:
    run = tmp_path / "run"
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    with Bundle(packed) as bundle:
        write_bundle(tmp_path / "again.zip", bundle.run, bundle.commit, bundle.rows, files)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_sha256sum_takes_the_list(packed, tmp_path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "plain")
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "plain", check=True)


def test_a_changed_member_is_refused_by_name(packed, tmp_path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"{}{}", b"{} {}", 1) if name == "metrics/x.json" else content

    with Bundle(changed(packed, tmp_path / "b.zip", change)) as bundle:
        assert bundle.read("config.json")
        for use in (bundle.read, lambda name: bundle.unpack([name], tmp_path / "out")):
            with pytest.raises(InputError, match=r"b.zip: metrics/x.json was changed after the bundle was made"):
                use("metrics/x.json")
    assert not (tmp_path / "out/metrics/x.json").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"leave_out": "config.json"}, "1 (config.json) is missing"),
        ({"add": ("tables/more.csv", b"x")}, "1 (tables/more.csv) is not listed in SHA256SUMS"),
        ({"add": ("../../evil", b"x")}, "1 (../../evil) is outside the zip by name"),
        ({"add": ("config.json", b"x")}, "1 (config.json) is there more than once"),
        ({"leave_out": SUMS}, "no SHA256SUMS in it, so not a bundle of a run"),
        ({"leave_out": ABOUT}, "no bundle.json in it, so not a bundle of a run"),
        ({"change": lambda n, c: b"nonsense" if n == SUMS else c}, "SHA256SUMS, line 1: expected `<sha256>"),
        ({"change": lambda n, c: b"{}" if n == ABOUT else c}, "bundle.json was changed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_not_the_bundle_that_was_made_is_refused(packed, tmp_path, options, line) -> None:
    with pytest.raises(InputError) as raised:
        Bundle(changed(packed, tmp_path / "b.zip", **options))
    assert line in str(raised.value) and str(raised.value).startswith(f"{tmp_path}/b.zip")


def test_links_bombs_and_files_that_are_cut_off_are_refused(packed, tmp_path, monkeypatch) -> None:
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-100])
    (tmp_path / "text.zip").write_text("hello")
    for name, line in (("cut.zip", "not a whole one"), ("text.zip", "not a zip"), ("none.zip", "no such file")):
        with pytest.raises(InputError, match=line):
            Bundle(tmp_path / name)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b"0" * (8 << 20))
    with pytest.raises(InputError, match=r"1 \(bomb.json\) is more than 200 times as large as in the zip"):
        Bundle(packed)
    monkeypatch.setattr(bundles, "LARGEST", 1 << 20)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        Bundle(packed)


def test_a_bundle_of_another_format_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "FORMAT", 2)
    write_bundle(tmp_path / "b.zip", "x", None, {}, {})
    monkeypatch.setattr(bundles, "FORMAT", 1)
    with pytest.raises(InputError, match=r"bundle.json is of format 2, this reads 1"):
        Bundle(tmp_path / "b.zip")


def taken(packed: Path, row: str = "hcma") -> OutsideRow:
    return OutsideRow("theirs", "row hcma", bundle=str(packed), bundle_row=row)


def test_images_of_a_bundle_are_taken_for_the_layouts_that_they_are_of(packed, tmp_path, monkeypatch) -> None:
    """Also where these are fewer, and in another order."""
    rows = [ROWS[2], ROWS[0]]
    assert outside.faults_of(taken(packed), rows) == []
    write_layouts(tmp_path / "here.jsonl", rows)
    paths = ["--layouts", str(tmp_path / "here.jsonl"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["outside", *taken(packed).options(), *paths])
    outside.main()
    with zipfile.ZipFile(tmp_path / "out/here.zip") as archive:
        for row in rows:
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(png_name(row["id"])))))
            assert np.array_equal(pixels, PIXELS[row["id"]])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"caption": "a cat"},
            "1 of other layouts than those here: layout 3 has the caption 'a dog 3' there, 'a cat' here",
        ),
        ({"objects": []}, "layout 3 has the objects [('dog', (0.1, 0.1, 0.5, 0.5), None)] there, [] here"),
        ({"id": 5}, "1 layouts that it has not (5)"),
    ],
)
def test_images_of_other_layouts_are_not_taken(packed, change, line) -> None:
    found = outside.faults_of(taken(packed), [ROWS[0] | change, *ROWS[1:]])
    assert len(found) == 1 and line in found[0]


def test_rows_that_are_not_there_or_have_no_images_are_one_line(packed) -> None:
    (line,) = outside.faults_of(taken(packed, "nobody"), ROWS)
    assert line == f"{packed}: no row 'nobody' in it; it has hcma, bare"
    (line,) = outside.faults_of(taken(packed, "bare"), ROWS)
    assert line == f"theirs: {packed}: made without images of this row; get one with bundle_images: true"


def test_a_summary_is_taken_where_layouts_and_networks_are_the_same(packed, tmp_path) -> None:
    ours = summary(tmp_path / "ours.npz", ABOUT_NETWORKS)
    take_summary(packed, "hcma", "row hcma of theirs", ROWS, [ours], tmp_path / "out/test.npz")
    found = Summaries(tmp_path / "out/test.npz")
    assert found.read("image_ids").tolist() == [3, 4, 9] and found.content == "c"
    assert found.source["spec"] == {"method": "hcma", "made_by": "row hcma of theirs"}


def test_a_summary_is_not_taken_where_metrics_may_have_asked_for_something_else(packed, tmp_path) -> None:
    """The images are of these layouts all the same."""
    ours = summary(tmp_path / "ours.npz", ABOUT_NETWORKS)
    rows = [ROWS[0] | {"objects": [DOG | {"attributes": {"color": "red"}}]}, ROWS[1] | {"tags": {"level": 2}}, ROWS[2]]
    assert outside.faults_of(taken(packed), rows) == []
    with pytest.raises(InputError, match="2 of other layouts than those here: layout 3 has the attributes"):
        take_summary(packed, "hcma", "x", rows, [ours], tmp_path / "out/test.npz")


def test_every_difference_that_forbids_a_summary_is_named(packed, tmp_path) -> None:
    other = {"clip": {"name": "large", "sha256": "a" * 64}, "min_side": 32, "torch": "2"}
    ours = summary(tmp_path / "ours.npz", other)
    rows = [ROWS[0] | {"caption": "x"}, ROWS[1]]
    with pytest.raises(InputError) as raised:
        take_summary(packed, "hcma", "x", rows, [ours], tmp_path / "out/test.npz")
    for part in (
        "clip.name is 'small' there, 'large' here",
        "min_side is 6 there, 32 here",
        "3 layouts there and 2 here",
    ):
        assert part in str(raised.value)
    assert "layout 3 has the caption" in str(raised.value) and not (tmp_path / "out/test.npz").exists()


def test_a_summary_of_other_crops_is_not_taken(packed, tmp_path) -> None:
    ours = summary(tmp_path / "ours.npz", ABOUT_NETWORKS)
    with pytest.raises(InputError, match="crops is 'layout' there, 'detected' here"):
        take_summary(packed, "hcma", "x", ROWS, [ours], tmp_path / "out/test.npz", "detected")


def test_layouts_are_compared_by_what_a_method_is_told(packed) -> None:
    same = [row | {"image_id": 77, "captions": ["other"]} for row in ROWS]
    with Bundle(packed) as bundle:
        assert other_layouts(bundled_layouts(bundle), same) == []


def test_a_run_is_a_folder_or_a_bundle(packed, tmp_path) -> None:
    with run_folder(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
    with run_folder(packed) as folder:
        assert (folder / "metrics/x.json").is_file() and not (folder / "summaries").exists()
    assert not folder.exists()
