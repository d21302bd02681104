r"""What is taken from a bundle: the summary of a row, and the files that two runs are compared by.

    python -m evaluation.bundles --bundle run.zip --row hcma --layouts layouts/test/*.jsonl --like summaries/real/test.npz \
        --made-by "row hcma of the run x" --out summaries/theirs/test.npz

writes the summary of a row whose images the bundle need not have. It can be measured and paired like any other row's only if
it is of the same layouts, by the same networks and protocol: --like is the summary of a row of this run, and each difference
is an error's line.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.layouts import judged, read_layout_rows, told
from evaluation.metrics.summary import Summaries
from evaluation.protocol import CROPS
from evaluation.regression import LAYOUTS, flat
from formats import listed, shown
from formats.bundles import Bundle
from formats.cli import options, run
from formats.files import InputError, replacing


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--row", required=True, help="of the bundle")
    parser.add_argument("--made-by", required=True, help="what the summary says of who made the row's images")
    parser.add_argument("--crops", choices=CROPS, default=CROPS[0], help="where its regions have to have been cut")
    parser.add_argument("--layouts", type=Path, nargs="+", required=True, help="of this run, in order")
    parser.add_argument("--like", type=Path, nargs="*", default=[], help="summary of a row of this run")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [row for path in arguments.layouts for row in read_layout_rows(path)]
    take_summary(
        arguments.bundle, arguments.row, arguments.made_by, rows, arguments.like, arguments.out, arguments.crops
    )


def take_summary(
    path: Path,
    row: str,
    made_by: str,
    layouts: Sequence[Mapping[str, Any]],
    like: Sequence[Path],
    out: Path,
    crops: str = CROPS[0],
) -> None:
    """Write a row's summary; raises InputError where its layouts, networks or protocol are others than here."""
    name = f"summaries/{row}/test.npz"
    with Bundle(path) as bundle:
        bundle.row(row)
        there = bundled_layouts(bundle)
        faults = other_layouts(there, layouts, judged)
        if [one["id"] for one in there] != [one["id"] for one in layouts]:
            faults.append(
                f"{len(there)} layouts there and {len(layouts)} here, or not in this order; only all can be taken"
            )
        with tempfile.TemporaryDirectory() as folder:
            bundle.unpack([name], Path(folder))
            theirs = Summaries(Path(folder) / name)
            faults += _differences({"crops": theirs.source.get("crops", CROPS[0])}, {"crops": crops})
            for ours in map(Summaries, like):
                faults += _differences(flat(theirs.about), flat(ours.about))
            if faults:
                advice = "get a bundle with its images, to measure them here"
                raise InputError(f"{path}, {row}: cannot be compared by its summary: {'; '.join(faults)}; {advice}")
            _copy(theirs, made_by, out)


def _copy(summary: Summaries, made_by: str, out: Path) -> None:
    """Write a summary that says who made the images; its arrays, of gigabytes, are copied as they are."""
    spec = (summary.source.get("spec") or {}) | {"made_by": made_by}
    stated = {"about": summary.about, "source": summary.source | {"spec": spec}, "content": summary.content}
    with replacing(out) as beside, zipfile.ZipFile(summary.path) as theirs, zipfile.ZipFile(beside, "w") as ours:
        for info in theirs.infolist():
            with ours.open(info.filename, "w", force_zip64=True) as to:
                if info.filename == "stated.npy":
                    np.lib.format.write_array(to, np.array(json.dumps(stated)), allow_pickle=False)
                else:
                    with theirs.open(info) as array:
                        shutil.copyfileobj(array, to, 1 << 20)


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return [f"{key} is {shown(theirs.get(key))} there, {shown(ours.get(key))} here" for key in keys]


def bundled_layouts(bundle: Bundle) -> list[dict[str, Any]]:
    """The test layouts of a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        bundle.unpack([LAYOUTS], Path(folder))
        return read_layout_rows(Path(folder) / LAYOUTS)


def other_layouts(
    bundled: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    compared: Callable[[Mapping[str, Any]], Mapping[str, Any]] = told,
) -> list[str]:
    """A line where layouts of a bundle are not those of the same ids here, in what is `compared` of them."""
    there = {row["id"]: row for row in bundled}
    odd = [
        f"layout {row['id']} has the {key} {shown(theirs[key])} there, {shown(ours)} here"
        for row in rows
        if row["id"] in there
        for theirs in [compared(there[row["id"]])]
        for key, ours in compared(row).items()
        if ours != theirs[key]
    ]
    return [f"{len(odd)} of other layouts than those here: {listed(odd)}"] if odd else []


@contextmanager
def run_folder(path: Path) -> Iterator[Path]:
    """The folder of a run, or one with what a bundle says of its run's numbers, each file as it was; raises InputError."""
    if path.is_dir():
        yield path
        return
    with Bundle(path) as bundle, tempfile.TemporaryDirectory() as folder:
        parts = ("metrics/", "scores/", "tables/", "meta/")
        bundle.unpack(["config.json", LAYOUTS, *(name for part in parts for name in bundle.names(part))], Path(folder))
        yield Path(folder)


if __name__ == "__main__":
    run(main)
