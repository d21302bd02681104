"""Unpack COCO's captions and instances from the zip of annotations; every other member stays in it.

python -m workflow.scripts.fetch.annotations --archive downloads/coco/annotations_trainval2014.zip --out downloads/coco
"""

import argparse
import shutil
import zipfile
import zlib
from pathlib import Path

from formats.cli import run
from formats.files import InputError, replacing
from workflow.scripts.fetch.transfer import check_room

MEMBERS = [f"annotations/{kind}_{split}2014.json" for kind in ("instances", "captions") for split in ("train", "val")]
LIMIT = 4 << 30  # bytes of a member; COCO's largest has a tenth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    unpack(arguments.archive, arguments.out)


def unpack(archive: Path, out: Path) -> None:
    """Write the four files below `out`; raises InputError. Names come from here, so no member can leave the folder."""
    try:
        with zipfile.ZipFile(archive) as members:
            for name in MEMBERS:
                _write(members, members.getinfo(name), out / name)
    except KeyError:
        raise InputError(f"{archive}: has no {name}; expected COCO 2014's annotations") from None
    # zipfile calls a compression that it does not know not implemented.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{archive}: not a readable zip ({error}); remove it and run again") from None


def _write(members: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > LIMIT:
        raise InputError(
            f"{members.filename}: {member.filename} would have {member.file_size:,} bytes, expected under {LIMIT:,}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path.parent, member.file_size, member.filename)
    with members.open(member) as packed, replacing(path) as beside, open(beside, "wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)


if __name__ == "__main__":
    run(main)
