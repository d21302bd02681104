"""Pack a finished run into a bundle (formats.bundles), for somebody else to hold theirs against or to take rows from.

    python -m workflow.bundle --config results/miniature/config.json --out results/miniature/miniature.zip

Which files these are is said by `Plan.bundled`; of each row's images there is at least the record of what made them.
"""

import json
from pathlib import Path

from formats.bundles import BundledRow, write_bundle
from formats.cli import options, run
from formats.files import sha256
from formats.images import read_meta
from formats.records import commit
from workflow.plan import read_plan


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument("--images", action="store_true", help="with the images of all rows")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    plan = read_plan(arguments.config)
    folder = arguments.config.parent
    files: dict[str, Path | bytes] = {"config.json": arguments.config}
    files |= {name: folder / name for name in plan.bundled(arguments.images)}
    rows = {}
    for row in [*plan.rows, *plan.repeats]:
        has_images = row not in plan.summarized
        rows[row] = BundledRow(plan.made_by(row), arguments.images and has_images)
        if has_images:
            meta = read_meta(Path(plan.path.samples(row, "test", plan.shards("test")[0])))
            files[f"meta/{row}.json"] = json.dumps(meta, indent=2).encode()
    write_bundle(arguments.out, plan.settings.run, commit(), rows, files)
    print(f"{arguments.out}: {len(files)} files of {len(rows)} rows, sha256 {sha256(arguments.out)}")


if __name__ == "__main__":
    run(main)
