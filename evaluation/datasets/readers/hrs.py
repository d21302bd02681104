"""HRS and DrawBench with boxes, in both forms that are passed around.

Attention-Refocusing: a pickle {prompt: [[phrase, ...], [(x0, y0, x1, y1), ...]]} in pixels of 512. ToLo and R&B: JSON with the
parallel lists `sets` (a phrase as a list of words), `prompts` and `boxes` (a list of boxes a phrase), xyxy of the unit square.
"""

from pathlib import Path
from typing import Any

from evaluation.datasets.opening import open_json, open_pickle
from evaluation.datasets.reading import UNIT, Canvas, Draft, RowError, Source, checked_list, checked_text
from formats import shown

TAKES = ("canvas",)
SIDE = 512
LISTS = ("sets", "prompts", "boxes")


def read(source: Source) -> None:
    """A layout a prompt, its tag `split` the file's name without its ending; `_` in a phrase is read as a blank."""
    files = source.files("*.p", "*.json")
    for path in files:
        # A prompt's own id is its place; of several files, with the file's name.
        above = f"{path.stem} " if len(files) > 1 else ""
        (_of_json if path.suffix.lower() == ".json" else _of_pickle)(source, path, above)


def _of_pickle(source: Source, path: Path, above: str) -> None:
    content = open_pickle(path)
    if not isinstance(content, dict):
        source.fault(path, "", f"is {shown(content)}, expected prompts with phrases and boxes")
        return
    for place, (prompt, pair) in enumerate(content.items()):
        with source.row(path, f"key {place + 1}, {shown(prompt)}") as row:
            phrases, boxes = (checked_list(one, "phrases and boxes") for one in checked_list(pair, "value", 2))
            layout = row.layout(
                checked_text(prompt, "prompt", filled=False), f"{above}{place}", tags={"split": path.stem}
            )
            _add(layout, phrases, boxes, source.options.canvas or (SIDE, SIDE))


def _of_json(source: Source, path: Path, above: str) -> None:
    content = open_json(path)
    lists = [content.get(name) if isinstance(content, dict) else None for name in LISTS]
    if not all(isinstance(one, list) for one in lists):
        source.fault(path, "", f"is {shown(content)}, expected the lists {', '.join(LISTS)}")
        return
    sets, prompts, boxes = ([] if one is None else one for one in lists)
    if not len(sets) == len(prompts) == len(boxes):
        said = ", ".join(f"{name} {len(one)}" for name, one in zip(LISTS, (sets, prompts, boxes), strict=True))
        source.fault(path, "", f"its lists differ in length: {said}")
        return
    for place, prompt in enumerate(prompts):
        with source.row(path, f"row {place}") as row:
            words = [checked_list(phrase, "sets") for phrase in checked_list(sets[place], "sets")]
            phrases = [" ".join(checked_text(word, "sets") for word in phrase) for phrase in words]
            of = [checked_list(one, "boxes") for one in checked_list(boxes[place], "boxes")]
            if len(phrases) != len(of):
                raise RowError("sets and boxes", f"differ in number: {len(phrases)} and {len(of)}")
            layout = row.layout(
                checked_text(prompt, "prompts", filled=False), f"{above}{place}", tags={"split": path.stem}
            )
            each = [(phrase, box) for phrase, some in zip(phrases, of, strict=True) for box in some]
            _add(layout, [phrase for phrase, _ in each], [box for _, box in each], source.options.canvas or UNIT)


def _add(layout: Draft, phrases: list[Any], boxes: list[Any], canvas: Canvas) -> None:
    if len(phrases) != len(boxes):
        raise RowError("phrases and boxes", f"differ in number: {len(phrases)} and {len(boxes)}")
    for place, (phrase, box) in enumerate(zip(phrases, boxes, strict=True)):
        if isinstance(box, list | tuple) and len(box) != 4:
            layout.drop("box that is not four numbers")
            continue
        text = checked_text(phrase, f"phrase {place}", filled=True)
        plain = text.replace("_", " ").rstrip(",").strip()
        if plain != text:
            layout.note("`_` or a comma at the end of a phrase, left out")
        layout.add(plain, box, f"box {place}", canvas)
