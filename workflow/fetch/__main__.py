"""Fetch one file or model that a configuration names; unpack a data set's annotations; seal a model folder of your own.

    python -m workflow.fetch file coco/val2014.zip --config results/paper/config.json
    python -m workflow.fetch model sd14 --config results/paper/config.json
    python -m workflow.fetch unpack downloads/coco/annotations_trainval2014.zip --out downloads/coco
    python -m workflow.fetch seal /data/stable-diffusion-v1-4

An interrupted download goes on with the same command. Beside a file comes FILE.source.json, into a model folder SOURCE.json.

`seal` writes SHA256SUMS of what is in the folder, whatever that is: do it once, when you know where the files are from.
"""

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from evaluation.datasets import find_dataset
from formats import listed
from formats.checksums import SUMS, digests, write_sums
from formats.cli import options, run
from formats.files import InputError, replacing, write_json
from workflow.fetch import refused
from workflow.inputs import WEIGHTS
from workflow.plan import Plan, read_plan

LIMIT = 4 << 30  # bytes of a member; COCO's largest has a tenth


def main() -> None:
    parser = options(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("file", "model"):
        one = actions.add_parser(action)
        one.add_argument("name", help="as the configuration's downloads are named")
        one.add_argument("--config", type=Path, required=True, help="a run's config.json")
    archive = actions.add_parser("unpack")
    archive.add_argument("archive", type=Path)
    archive.add_argument("--out", type=Path, required=True)
    archive.add_argument(
        "--dataset", default="coco", help="whose annotations they are: a module of evaluation/datasets"
    )
    actions.add_parser("seal").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "seal":
        seal(arguments.folder)
    elif arguments.action == "unpack":
        unpack(arguments.archive, arguments.out, find_dataset(arguments.dataset).ANNOTATIONS)
    else:
        fetch(arguments.name, read_plan(arguments.config))


def fetch(name: str, plan: Plan) -> None:
    """Fetch one of a plan's downloads, if all their licences are accepted; raises InputError."""
    from workflow.fetch.download import fetch_file, network_of
    from workflow.fetch.hub import fetch_model

    downloads, settings = plan.downloads, plan.settings.fetch
    if settings is None or name not in downloads.files | downloads.models:
        names = ", ".join([*downloads.files, *downloads.models])
        raise InputError(f"{name}: the configuration fetches no such file or model, only: {names or 'none'}")
    if found := refused(downloads, settings):
        raise InputError("; ".join(found))
    out, network = Path(downloads.folder, name), network_of(settings)
    if model := downloads.models.get(name):
        return fetch_model(model, out, network)
    source = downloads.files[name]
    digest = fetch_file(source, out, network)
    record = source.model_dump() | {"size": out.stat().st_size, "sha256": digest}
    return write_json(out.with_name(f"{out.name}.source.json"), record)


def unpack(archive: Path, out: Path, names: Sequence[str]) -> None:
    """Write the members of those names below `out`; raises InputError. The names are a data set's, not the zip's."""
    try:
        with zipfile.ZipFile(archive) as members:
            for name in names:
                _write(members, members.getinfo(name), out / name)
    except KeyError:
        raise InputError(f"{archive}: has no {name}; expected {listed(names)}") from None
    # zipfile calls a compression that it does not know not implemented.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{archive}: not a readable zip ({error}); remove it and run again") from None


def _write(members: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.file_size > LIMIT:
        raise InputError(
            f"{members.filename}: {member.filename} would have {member.file_size:,} bytes, expected under {LIMIT:,}"
        )
    with members.open(member) as packed, replacing(path) as beside, open(beside, "wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)


def seal(folder: Path) -> None:
    """Write SHA256SUMS of all files but hidden ones; raises InputError for a folder that is sealed or holds no model."""
    if (folder / SUMS).exists():
        raise InputError(f"{folder / SUMS}: is there already; remove it to seal the folder again")
    network = all((folder / name).is_file() for name in ("config.json", WEIGHTS))
    if not network and not any((folder / part / "config.json").is_file() for part in ("unet", "text_encoder")):
        raise InputError(
            f"{folder}: not a pipeline folder: it has no unet/config.json and no text_encoder/config.json; nor one of a network"
            f" of the hub, with config.json and {WEIGHTS}"
        )
    write_sums(folder, digests(folder))
    print(f"{folder / SUMS}: written")


if __name__ == "__main__":
    run(main)
