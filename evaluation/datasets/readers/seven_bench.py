"""7Bench: CSV `id, category, prompt, obj1, bbox1, ...`, a box "x0,y0,x1,y1" in pixels of 512; `category` is the scenario."""

from collections.abc import Sequence

from evaluation.datasets.reading import RowError, Source, numbers

TAKES = ("canvas",)
SIDE = 512


def read(source: Source, more_tags: Sequence[str] = ()) -> None:
    """A layout a row; its tags are the scenario, as level how many objects it asks for, and the columns `more_tags`."""
    for path in source.files("*_bench.csv", "*.csv"):
        for number, cells in source.table(path, "id", "category", "prompt", "obj1", "bbox1"):
            with source.row(path, f"row {number} (id {cells['id']})", cells) as row:
                pairs = [key.removeprefix("obj") for key in cells if key.startswith("obj") and cells[key].strip()]
                boxed = [key for key in cells if key.startswith("bbox") and cells[key].strip()]
                tags = {"scenario": row.text("category"), "level": len(pairs)}
                tags |= {name: row.text(name, filled=False) for name in more_tags if name in cells}
                layout = row.layout(row.text("prompt", filled=False), row.text("id"), tags=tags)
                for bare in (key for key in boxed if key.removeprefix("bbox") not in pairs):
                    raise RowError(f"`{bare}`", f"without `obj{bare.removeprefix('bbox')}`")
                for place in pairs:
                    if f"bbox{place}" not in boxed:
                        raise RowError(f"`obj{place}`", f"without `bbox{place}`")
                    box = numbers(cells[f"bbox{place}"], f"`bbox{place}`")
                    layout.add(cells[f"obj{place}"], box, f"`bbox{place}`", source.options.canvas or (SIDE, SIDE))
