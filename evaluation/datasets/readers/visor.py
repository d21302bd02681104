"""VISOR (SR2D): JSON, a list of captions of one or two objects and a relation; layouts without boxes."""

from evaluation.datasets.opening import open_json
from evaluation.datasets.reading import RowError, Source, checked_list, checked_text

RELATIONS = ("to the left of", "to the right of", "above", "below")
ALONE = ("single", "and", "none")  # what stands where there is no relation to hold


def read(source: Source) -> None:
    """A layout a caption; relation and objects are tags. There are no boxes, and none are made up."""
    for path in source.files("text_spatial_rel_phrases.json", "*.json"):
        for where, fields in source.entries(path, open_json(path)):
            with source.row(path, where, fields) as row:
                relation, pairs = row.text("rel_type"), row.whole("num_objects") > 1
                if relation not in RELATIONS and (pairs or relation not in ALONE):
                    raise RowError("`rel_type`", f"unknown relation {relation!r}, expected {', '.join(RELATIONS)}")
                things = [checked_list(row.field(key), f"`{key}`") for key in ("obj_1_attributes", "obj_2_attributes")]
                named = [checked_text(one[-1], "attributes") for one in things if one and one[-1] is not None]
                tags = {"relation": relation} | {f"object_{place}": name for place, name in enumerate(named, 1)}
                row.layout(row.text("text", filled=False), row.whole("unique_id"), tags=tags)
