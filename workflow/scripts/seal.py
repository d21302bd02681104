"""Seal a model folder: write its SHA256SUMS, by which every later use tells whether a file was changed.

    python -m workflow.scripts.seal /data/stable-diffusion-v1-4

Do it once, when you know where the files are from: it records what is there, whatever that is.
"""

from pathlib import Path

from formats.checksums import SUMS, digests, write_sums
from formats.cli import options, run
from formats.files import InputError


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    seal(folder)
    print(f"{folder / SUMS}: written")


def seal(folder: Path) -> None:
    """Write SHA256SUMS of all files but hidden ones; raises InputError for a folder that is sealed or holds no model."""
    if (folder / SUMS).exists():
        raise InputError(f"{folder / SUMS}: is there already; remove it to seal the folder again")
    if not any((folder / part / "config.json").is_file() for part in ("unet", "text_encoder")):
        raise InputError(f"{folder}: not a pipeline folder: it has no unet/config.json and no text_encoder/config.json")
    write_sums(folder, digests(folder))


if __name__ == "__main__":
    run(main)
