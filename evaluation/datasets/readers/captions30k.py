"""Lists of captions, such as those of 30,000 images: CSV with `image_id` and `text`, or a caption a line; no boxes."""

from evaluation.datasets.opening import open_lines
from evaluation.datasets.reading import RowError, Source
from formats.fields import whole


def read(source: Source) -> None:
    """A layout a caption. Numbers are given by place, so that an image may have several captions; how many do is counted."""
    seen: set[str] = set()
    for path in source.files("*.csv", "*.txt"):
        if path.suffix.lower() == ".csv":
            for number, cells in source.table(path, "image_id", "text"):
                with source.row(path, f"row {number}", cells) as row:
                    image = whole(cells["image_id"].strip())
                    if image is None:
                        raise RowError("`image_id`", f"is {cells['image_id']!r}, expected a whole number")
                    again = str(image) in seen
                    own = f"{image}#{row.place}" if again else image
                    layout = row.layout(row.text("text", filled=False), own, image)
                    seen.add(str(image))
                    if again:
                        layout.note("image with a caption of an earlier row")
            continue
        for number, line in open_lines(path):
            with source.row(path, f"line {number}") as row:
                if line is None:
                    raise RowError("", "is not UTF-8; save the file as UTF-8")
                row.layout(line, f"{path.stem} {number}")
