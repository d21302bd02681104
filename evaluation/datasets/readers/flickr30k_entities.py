"""Flickr30k Entities: Sentences/ID.txt, a caption a line with its phrases marked, and Annotations/ID.xml with the boxes.

A phrase is [/EN#chain/type words]; a box belongs to one chain or more, in pixels of the photo counted from 1, ends included.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from evaluation.datasets.opening import open_lines, open_xml
from evaluation.datasets.readers.voc import edges_of, size_of
from evaluation.datasets.reading import Draft, RowError, Source
from formats.files import InputError

PHRASE = re.compile(r"\[/EN#([^/\]\s]+)((?:/[^/\s\]]+)*) ([^\[\]]*)\]")
CAPTIONS = 10  # a photo's number times this, and the line, is a layout's


@dataclass(frozen=True)
class Phrase:
    """A marked phrase: its chain, its types, and its characters in the caption."""

    chain: str
    types: str
    start: int
    stop: int


@dataclass(frozen=True)
class PhotoBoxes:
    """What a photo's XML says: its size (pixels), each chain's boxes with their places in the file, and the chains without."""

    size: tuple[float, float]
    of_chain: dict[str, list[tuple[str, list[float]]]]
    unboxed: set[str]


def read(source: Source) -> None:
    """A layout a caption line, with the spans that are marked; its number is the photo's times ten and the line's place."""
    paths = source.files("Sentences/*.txt")
    captioned = {path.stem for path in paths}
    for path in (
        one for folder in {path.parent.parent for path in paths} for one in sorted(folder.glob("Annotations/*.xml"))
    ):
        if path.stem not in captioned and any(given.is_dir() for given in source.paths):
            source.report.drop("photo without sentences", path.stem)
            _boxes(source, path)
    for path in paths:
        boxes = _boxes(source, path.parent.parent / "Annotations" / f"{path.stem}.xml")
        for place, line in open_lines(path):
            with source.row(path, f"line {place}") as row:
                if line is None:
                    raise RowError("", "is not UTF-8; save the file as UTF-8")
                photo = (
                    int(path.stem) if path.stem.isdecimal() and path.stem.isascii() and len(path.stem) < 17 else None
                )
                if photo is None or place > CAPTIONS:
                    raise RowError("", f"expected a file named by a photo's number, with at most {CAPTIONS} lines")
                caption, phrases = _marked(line)
                layout = row.layout(caption, f"{path.stem}#{place - 1}", photo, f"{path.stem}.jpg")
                layout.number = photo * CAPTIONS + place - 1
                if boxes is not None:
                    _add(layout, caption, phrases, boxes)


def _marked(line: str) -> tuple[str, list[Phrase]]:
    """The caption without marks, and its phrases."""
    caption, phrases, read = "", [], 0
    for match in PHRASE.finditer(line):
        caption += line[read : match.start()]
        phrases.append(Phrase(match[1], match[2].strip("/"), len(caption), len(caption) + len(match[3])))
        caption, read = caption + match[3], match.end()
    caption += line[read:]
    if re.search(r"\[/EN#|[\[\]]", caption):
        raise RowError("", "unbalanced bracket, expected [/EN#chain/type words]")
    return caption, phrases


def _add(layout: Draft, caption: str, phrases: list[Phrase], boxes: PhotoBoxes) -> None:
    for phrase in phrases:
        words, chain = caption[phrase.start : phrase.stop], phrase.chain
        if chain not in boxes.of_chain:
            said = (
                "phrase of a scene, or without a box in the photo"
                if chain in boxes.unboxed or chain == "0"
                else "phrase without box"
            )
            layout.drop(said, f"{chain}: {words}")
        for field, edges in boxes.of_chain.get(chain, ()):
            layout.add(
                words,
                edges,
                field,
                boxes.size,
                cut=True,
                span=(phrase.start, phrase.stop),
                attributes={"type": phrase.types, "chain": chain},
            )


def _boxes(source: Source, path: Path) -> PhotoBoxes | None:
    """None where they cannot be read, which is a fault."""
    if not path.is_file():
        source.fault(path, "", "no such file, which has the boxes of the sentences")
        return None
    with source.record(path, ""):
        try:
            root = open_xml(path)
        except InputError as error:
            raise RowError("", str(error).removeprefix(f"{path}: ")) from None
        size, boxes, unboxed = size_of(root), defaultdict(list), set()
        for place, thing in enumerate(root.findall("object"), 1):
            chains, box = [(name.text or "").strip() for name in thing.findall("name")], thing.find("bndbox")
            if not chains or not all(chains):
                raise RowError(f"object {place}", "no `name`, the number of its chain")
            if box is None:
                unboxed.update(chains)
                continue
            edges = edges_of(box, f"object {place}", 1)
            for chain in chains:
                boxes[chain].append((f"{path.name}, object {place}", edges))
        return PhotoBoxes(size, dict(boxes), unboxed)
    return None
