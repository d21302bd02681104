"""C-Bench and O-Bench: 7Bench's columns, O-Bench's with `original_id`, the photo in Flickr30k Entities."""

from evaluation.datasets.readers import seven_bench
from evaluation.datasets.reading import Source

TAKES = seven_bench.TAKES


def read(source: Source) -> None:
    """A layout a row, as 7Bench's; `original_id` becomes a tag where there is one."""
    seven_bench.read(source, ["original_id"])
