"""Containers of weights, told apart by content: TorchScript archives, pickles of both kinds and safetensors.

A suffix says nothing: OpenAI's CLIP is a TorchScript archive named .pt, torchvision's detector a zip of a pickle named .pth,
and the FID Inception, of the same suffix, a pickle from before those zips.
"""

import re
import zipfile
from pathlib import Path

TORCHSCRIPT, ZIP_PICKLE, LEGACY_PICKLE, SAFETENSORS = (
    "TorchScript archive",
    "zip pickle",
    "legacy pickle",
    "safetensors",
)
CONTAINERS = (TORCHSCRIPT, ZIP_PICKLE, LEGACY_PICKLE, SAFETENSORS)
# torch.save's number 0x1950a86a20f9469cfc6c, as the first pickle of its format from before zips.
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


def container(path: Path) -> str:
    """One of CONTAINERS, or what the file is instead, such as "an HTML page"."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.startswith(LEGACY_MAGIC):
        return LEGACY_PICKLE
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return SAFETENSORS
    if not head:
        return "an empty file"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "an HTML page"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file itself"
    return f"no file of weights (it begins with {head[:8]!r})"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            # Every name begins with a folder of the archive's own name.
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "a zip archive that is cut off or damaged"
    if "data.pkl" not in names:
        return "a zip archive of other files"
    scripted = "constants.pkl" in names and any(name.startswith("code/") for name in names)
    return TORCHSCRIPT if scripted else ZIP_PICKLE
