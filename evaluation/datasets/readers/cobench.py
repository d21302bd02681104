"""C-Bench and O-Bench: 7Bench's columns, O-Bench's with `original_id`, the photo in Flickr30k Entities."""

from evaluation.datasets.opening import open_csv
from evaluation.datasets.readers import seven_bench
from evaluation.datasets.reading import Source

TAKES = seven_bench.TAKES


def read(source: Source) -> None:
    """A layout a row, as 7Bench's; `original_id` becomes a tag."""
    for path in source.files("*_bench.csv", "*.csv"):
        _, header = next(open_csv(path), (0, []))
        source.paths = [path]
        seven_bench.read(source, *(["original_id"] if "original_id" in header else []))
