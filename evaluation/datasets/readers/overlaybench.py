"""OverLayBench: parquet with `annotation`, a Python literal {caption, annotations: {name: {category, bbox, local_prompts}}}.

Boxes are xyxy in pixels of 1024; photos are passed over, and wanted as a folder of IMAGE_ID.png or .jpg.
"""

from evaluation.datasets.opening import literal, open_parquet
from evaluation.datasets.reading import RowError, Source, checked_text
from formats import shown

TAKES = ("canvas",)
SIDE = 1024


def read(source: Source) -> None:
    """A layout a row; the tag `split`, its difficulty, is what the file's name begins with; `relations` what it asks for."""
    for path in source.files("data/*.parquet", "*.parquet"):
        for number, cells in open_parquet(path, "annotation", "image_id"):
            with source.row(path, f"row {number} (image_id {shown(cells['image_id'])})", cells) as row:
                try:
                    said = literal(row.text("annotation"))
                except ValueError as error:
                    raise RowError("`annotation`", str(error)) from None
                whole = source.record(path, "", said)
                things, relations = whole.field("annotations"), said.get("relations") or {}
                if not isinstance(things, dict) or not isinstance(relations, dict):
                    raise RowError("`annotations`", f"is {shown(things)}, expected instances by name")
                tags = {"split": path.stem.split("-")[0]} | {"relations": _listed(relations)}
                layout = row.layout(whole.text("caption", filled=False), row.own_id("image_id"), tags=tags)
                for name, thing in things.items():
                    of = source.record(path, "", thing)
                    box, category = of.field("bbox", f"that of {name}"), of.text("category")
                    phrase = of.text("local_prompts") if of.has("local_prompts") else category
                    canvas = source.options.canvas or (SIDE, SIDE)
                    layout.add(phrase, box, f"`bbox` of {checked_text(name, 'name')}", canvas, category=category)


def _listed(relations: dict[object, object]) -> str:
    return "; ".join(f"{pair}: {relation}" for pair, relation in relations.items())
