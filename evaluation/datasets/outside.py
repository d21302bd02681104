r"""A row whose images other code made: checked against the layouts, and then shards of images like any row's.

    python -m evaluation.datasets.outside --row migc --images migc_out --pattern "{index:03d}_*/0.png" \
        --made-by "MIGC at commit 1a2b3c, seed 7" --layouts layouts/test/0000.jsonl ... --out samples/migc/test
    python -m evaluation.datasets.outside --row theirs --bundle run.zip --bundle-row hcma --layouts ... --out ...

--images is a folder or zip; which file is which layout's is said by --pattern or --table (evaluation.datasets.naming). Writes
{name of a layouts file}.zip of {id:012d}.png and meta.json for each file of layouts, all or none. Of every picture its own
pixels are kept, at its own size: regions are cut by the image's own two sides. Refused, a line a kind, are layouts without a
file or with several, files of no layout (unless --surplus says to pass them over), pictures of another size than the
others or than --size, pictures that are damaged, black all over or not to be read as RGB of 8 bits, and one file under two ids
whose captions differ. With --check only names and headers are looked at, and nothing is written.

From a bundle (formats.bundles) images are taken whose layouts there are the layouts here, word by word and box by box.
"""

import hashlib
import io
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from evaluation.bundles import bundled_layouts, other_layouts
from evaluation.datasets.naming import MIXED, PATTERN, Assigned, OutsideRow, Size
from evaluation.layouts import read_layout_rows
from formats import listed
from formats.archives import Archive, Members, is_litter, members, open_archive
from formats.bundles import Bundle
from formats.cli import Parser, options, run
from formats.files import InputError
from formats.images import DAMAGED, META, decoded, opened, png, png_name, reason, upright_size, write_files
from formats.records import commit

NO_IMAGES = "made without images of this row; get one with bundle_images: true"
HEAD = 2**16  # bytes within which a picture's header usually lies


class Files:
    """The files of a folder or zip, or of zips in a folder, by name; raises InputError for what cannot be read as these.

    zips: the pattern of zips in the folder; without one, files down to `depth` folders.
    """

    def __init__(self, path: Path, depth: int, zips: str = "") -> None:
        self.path = path
        self._open = ExitStack()
        self._where: dict[str, tuple[Archive, zipfile.ZipInfo]] = {}
        try:
            if zips:
                self._add_zips(zips)
            else:
                archive = self._opened(path, depth)
                self._where = {name: (archive, info) for name, info in _inside(members(path, archive), depth).items()}
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> list[str]:
        """Of all files but a record of what made them."""
        return [name for name in self._where if name.rpartition("/")[2] != META]

    def read(self, name: str) -> bytes:
        """A file's content; raises one of DAMAGED."""
        archive, info = self._where[name]
        return archive.read(info)

    def head(self, name: str) -> bytes:
        """What a file begins with."""
        archive, info = self._where[name]
        with archive.open(info) as file:
            return file.read(HEAD)

    def close(self) -> None:
        self._open.close()

    def _opened(self, path: Path, depth: int = 1) -> Archive:
        archive = open_archive(path, depth)
        self._open.callback(archive.close)
        return archive

    def _add_zips(self, zips: str) -> None:
        if not self.path.is_dir():
            raise InputError(f"{self.path}: expected a folder of zips, as the pattern {zips}/... says")
        found = sorted(path for path in self.path.iterdir() if not is_litter(path.name))
        chosen = [path for path in found if fnmatchcase(path.name, zips)]
        for path in chosen:
            archive = self._opened(path)
            self._where |= {f"{path.name}/{name}": (archive, info) for name, info in members(path, archive).items()}
        plain = open_archive(self.path, 0)
        self._where |= {path.name: (plain, zipfile.ZipInfo(path.name)) for path in found if path not in chosen}


def _inside(found: Mapping[str, zipfile.ZipInfo], depth: int) -> dict[str, zipfile.ZipInfo]:
    """Files without the one folder that all lie in above the `depth` folders that are expected."""
    tops = {name.partition("/")[0] for name in found}
    if len(tops) == 1 and all(name.count("/") > depth for name in found):
        return {name.partition("/")[2]: info for name, info in found.items()}
    return dict(found)


class BundledFiles:
    """A row's images in a bundle, by name in their shards; what is read is as it was when the bundle was made."""

    def __init__(self, path: Path, row: str) -> None:
        self.path = path
        self.bundle = Bundle(path)
        self._held: tuple[str, zipfile.ZipFile, Members] | None = None
        try:
            if not self.bundle.row(row).images:
                raise InputError(f"{path}: {NO_IMAGES}")
            shards = self.bundle.names(f"samples/{row}/test/")
            self.names = [f"{shard}/{name}" for shard in shards for name in self._shard(shard)[1] if name != META]
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> bytes:
        """An image's file; raises one of DAMAGED."""
        shard, _, member = name.rpartition("/")
        archive, found = self._shard(shard)
        return archive.read(found[member])

    def head(self, name: str) -> bytes:
        """What it begins with."""
        return self.read(name)[:HEAD]

    def close(self) -> None:
        self.bundle.close()

    def _shard(self, name: str) -> tuple[zipfile.ZipFile, Members]:
        """One at a time is held."""
        if self._held is None or self._held[0] != name:
            try:
                archive = zipfile.ZipFile(io.BytesIO(self.bundle.read(name)))
            except zipfile.BadZipFile as error:
                raise InputError(f"{self.path}: {name} is not a zip ({error})") from None
            self._held = name, archive, members(self.path / name, archive)
        return self._held[1:]


def main() -> None:
    arguments = _parser().parse_args()
    row = OutsideRow(
        row=arguments.row,
        made_by=arguments.made_by,
        images=arguments.images or "",
        bundle=arguments.bundle or "",
        bundle_row=arguments.bundle_row or arguments.row,
        pattern=arguments.pattern,
        table=arguments.table or "",
        size=_size(arguments.size),
        surplus=arguments.surplus == "pass_over",
    )
    if arguments.check:
        _stop(faults_of(row, [one for path in arguments.layouts for one in read_layout_rows(path)], arguments.count))
        return
    if arguments.out is None or not arguments.layouts:
        raise InputError("give --layouts and --out, the folder of the shards, or --check")
    layouts = {path.stem: read_layout_rows(path) for path in arguments.layouts}
    if len(layouts) < len(arguments.layouts):
        raise InputError("--layouts: two files of one name, expected a name a shard")
    print("\n".join(import_images(row, layouts, arguments.out)))


def import_images(row: OutsideRow, layouts: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> list[str]:
    """Write `out`/{name}.zip for the layouts of each name, all or none; returns what is worth telling. Ends at any fault."""
    rows = [one for shard in layouts.values() for one in shard]
    with opened_files(row) as files:
        assigned = row.naming.assign(files.names, rows)
        _stop(_named(row, _with_layouts(row, files, assigned, rows)))
        pictures = look(files, assigned.files, rows)
        _stop(pictures.lines(row.row))
        spec = {"method": row.row, "made_by": row.made_by, "images_sha256": pictures.digest}
        for name, shard in layouts.items():
            meta = {
                "spec": spec,
                "images": len(shard),
                "from": str(files.path),
                "formats": dict(sorted(pictures.formats.items())),
                "imported_at_commit": commit(),
            }
            found = ((one["id"], files.read(assigned.files[one["id"]])) for one in shard)
            images = ((png_name(number), _as_png(pictures.expect(number, content))) for number, content in found)
            write_files(out / f"{name}.zip", images, meta)
    return [f"{row.row}: {len(rows)} images of {files.path}", *pictures.notes]


def _parser() -> Parser:
    parser = options(__doc__)
    parser.add_argument("--row", required=True, help="the row's name")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--images", help="folder or zip")
    where.add_argument("--bundle", help="a bundle of a run instead")
    parser.add_argument("--bundle-row", help="which of its rows")
    naming = parser.add_mutually_exclusive_group()
    naming.add_argument("--pattern", default=PATTERN, help=f"of a file's name ({PATTERN})")
    naming.add_argument("--table", help="CSV of names instead")
    parser.add_argument("--size", nargs="+", help=f"WIDTH HEIGHT expected, or {MIXED}; without: any, but all alike")
    parser.add_argument("--surplus", choices=["refuse", "pass_over"], default="refuse", help="files of no layout")
    parser.add_argument("--made-by", default="", help="the code, its commit, its seed: tables name it")
    parser.add_argument("--layouts", type=Path, nargs="*", default=[], help="in order")
    parser.add_argument("--count", type=int, default=0, help="with --check, where layouts are not there: how many")
    parser.add_argument("--check", action="store_true", help="look at names and headers alone")
    parser.add_argument("--out", type=Path, help="folder of the shards")
    return parser


def _stop(lines: Sequence[str]) -> None:
    if lines:
        print("\n".join(f"error: {line}" for line in lines), file=sys.stderr)
        sys.exit(1)


def opened_files(row: OutsideRow) -> "closing[Files | BundledFiles]":
    """Its files, closed with the block; raises InputError for what cannot be read as such."""
    if row.bundle:
        return closing(BundledFiles(Path(row.bundle), row.bundle_row))
    return closing(Files(Path(row.images), row.naming.depth, row.naming.zips))


def faults_of(row: OutsideRow, layouts: Sequence[Mapping[str, Any]], count: int = 0) -> list[str]:
    """Names against layouts and headers: a line for each kind of fault, or for what cannot be read at all.

    Without layouts, as long as they are not there: whether there are files for `count` of them.
    """
    try:
        if row.bundle:
            return _named(row, _bundle_faults(Path(row.bundle), row.bundle_row, layouts))
        with opened_files(row) as files:
            if layouts:
                found = _with_layouts(row, files, row.naming.assign(files.names, layouts), layouts)
            else:
                found = _without_layouts(row, files, count)
            return _named(row, found)
    except InputError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]


def _named(row: OutsideRow, faults: Sequence[str]) -> list[str]:
    return [f"{row.row}: {row.place}: {fault}" for fault in faults]


def _with_layouts(
    row: OutsideRow, files: Files | BundledFiles, assigned: Assigned, layouts: Sequence[Mapping[str, Any]]
) -> list[str]:
    faults = list(assigned.faults)
    if assigned.others and not row.surplus and not row.bundle:
        text = f"{len(assigned.others)} files ({_first(assigned.others)}) of no layout"
        faults.append(f"{text}; take them away, or say `surplus: pass_over` if they are meant")
    faults += headers(files, assigned.files.values(), row.size)
    return faults + (other_layouts(bundled_layouts(files.bundle), layouts) if isinstance(files, BundledFiles) else [])


def _without_layouts(row: OutsideRow, files: Files | BundledFiles, count: int) -> list[str]:
    naming = row.naming
    fit = [name for name in files.names if naming.fits(name)]
    few = f"{len(fit)} files of such names for {count} layouts; in it are {_first(files.names)}"
    # Where others may be among them, it is not known yet which are looked at.
    return [few] * (len(fit) < count) + headers(files, [] if row.surplus else fit, row.size)


def _bundle_faults(path: Path, row: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What can be said without reading all of a bundle, whose members are as it lists them or are refused."""
    with Bundle(path) as bundle:
        if not bundle.row(row).images:
            return [NO_IMAGES]
        there = bundled_layouts(bundle)
    missing = sorted({one["id"] for one in rows} - {one["id"] for one in there})
    lacking = f"{len(missing)} layouts that it has not ({_first(list(map(str, missing)))})"
    return [lacking] * bool(missing) + other_layouts(there, rows)


def _size(words: Sequence[str] | None) -> Size | Literal["mixed"] | None:
    if words is None or list(words) == [MIXED]:
        return MIXED if words else None
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        raise InputError(f"--size {' '.join(words)}: expected WIDTH HEIGHT in pixels, or {MIXED}")
    return int(words[0]), int(words[1])


def headers(files: Files | BundledFiles, names: Iterable[str], size: Size | Literal["mixed"] | None) -> list[str]:
    """A line for each kind of fault that the pictures' headers show: what is no picture, its mode, its size."""
    broken: list[str] = []
    sizes: dict[Size, list[str]] = defaultdict(list)
    for name in sorted(names):
        try:
            sizes[_header(files, name)].append(name)
        except DAMAGED as error:
            broken.append(f"{name} {reason(error)}")
    faults = [f"{len(broken)} unreadable: {listed(broken)}"] if broken else []
    if size == MIXED or not sizes:
        return faults
    usual = max(sizes, key=lambda one: len(sizes[one]))
    width, height = usual if size is None else size
    if odd := [f"{name} has {w} x {h}" for (w, h), each in sizes.items() if (w, h) != (width, height) for name in each]:
        others = f", as {len(sizes[usual])} have" if size is None else ""
        text = f"{len(odd)} of another size than {width} x {height}{others}: {listed(odd)}"
        faults.append(f"{text}; `size` says which is meant, `size: {MIXED}` that all are")
    return faults


def _header(files: Files | BundledFiles, name: str) -> Size:
    try:
        return upright_size(opened(files.head(name)))
    except DAMAGED:
        return upright_size(opened(files.read(name)))


@dataclass
class Inspected:
    """What the pictures of a row are: faults by kind, what is worth a note, and the SHA-256 of each file by layout id."""

    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    digests: dict[int, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of all together."""
        lines = (f"{number} {digest}\n" for number, digest in self.digests.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def expect(self, number: int, content: bytes) -> bytes:
        """A file that was looked at; raises InputError where it is another by now."""
        if hashlib.sha256(content).hexdigest() != self.digests[number]:
            raise InputError(f"the file of layout {number} changed while it was imported; run again")
        return content

    def lines(self, row: str) -> list[str]:
        """One line a kind of fault."""
        return [f"{row}: {len(found)} {kind}: {listed(found)}" for kind, found in self.faults.items()]


def look(files: Files | BundledFiles, names: Mapping[int, str], rows: Sequence[Mapping[str, Any]]) -> Inspected:
    """Decode every picture: what is damaged or black, what is the same, and what is no plain RGB."""
    found, same, modes = Inspected(), defaultdict[str, list[int]](list), Counter[str]()
    for row in rows:
        name = names[row["id"]]
        try:
            content = files.read(name)
            picture = opened(content)
            pixels = decoded(content)
        except DAMAGED as error:
            found.faults["unreadable"].append(f"{name} {reason(error)}")
            continue
        if not pixels.any():
            found.faults["black all over, as a failed decoder or a safety checker leaves them"].append(name)
        digest = hashlib.sha256(content).hexdigest()
        same[digest].append(row["id"])
        found.formats[str(picture.format)] += 1
        modes[picture.mode] += 1
        found.digests[row["id"]] = digest
    captions = {row["id"]: row["caption"] for row in rows}
    twice = [ids for ids in same.values() if len(ids) > 1]
    for ids in twice:
        if len({captions[number] for number in ids}) > 1:
            found.faults["times one picture for several captions"].append(
                " = ".join(names[number] for number in ids[:3]) + " ..." * (len(ids) > 3)
            )
    alike = len(twice) - len(found.faults.get("times one picture for several captions", []))
    found.notes += [f"{alike} times one picture for layouts of one caption"] * bool(alike)
    found.notes += [f"{count} of mode {mode}, read as RGB" for mode, count in modes.items() if mode != "RGB"]
    found.notes += [
        f"{count} of {kind}, kept as PNG of its pixels" for kind, count in found.formats.items() if kind != "PNG"
    ]
    return found


def _as_png(content: bytes) -> bytes:
    """The file itself where it is a plain PNG, else one of its pixels."""
    image = opened(content)
    plain = (image.format, image.mode) == ("PNG", "RGB") and not image.info.get("exif")
    return content if plain else png(decoded(content))


def _first(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "") if names else "no files"


if __name__ == "__main__":
    run(main)
