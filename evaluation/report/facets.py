"""How difficult layouts and boxes are, as the page's typed arrays."""

from collections.abc import Sequence
from typing import Any

from evaluation.difficulty import Facet
from evaluation.report.packed import packed


def pack_facets(facets: Sequence[Facet]) -> list[dict[str, Any]]:
    """Of each facet its key, title, bands, whether it is of boxes, and the band of every layout or object, -1 for none."""
    return [
        {
            "key": facet.key,
            "title": facet.title,
            "bands": facet.bands,
            "perBox": facet.per_box,
            "place": packed(facet.place_N, "i2"),
        }
        for facet in facets
    ]
