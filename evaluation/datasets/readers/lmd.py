"""LMD: JSON {prompt: [answer, ...]}, an answer a literal of (phrase, [x, y, width, height]), pixels of 512, and two lines."""

import re

from evaluation.datasets.opening import literal, open_json
from evaluation.datasets.reading import RowError, Source, checked_list, checked_text
from formats import shown

TAKES = ("canvas",)
SIDE = 512
BACKGROUND, NEGATIVE = "Background prompt:", "Negative prompt:"


def read(source: Source) -> None:
    """A layout an answer, whose own id is the prompt's place and its own, "4#0"; what it must not show is a tag."""
    files = source.files("*.json")
    for path in files:
        above = f"{path.stem} " if len(files) > 1 else ""
        content = open_json(path)
        if not isinstance(content, dict):
            source.fault(path, "", f"is {shown(content)}, expected prompts with answers")
            continue
        for place, (prompt, answers) in enumerate(content.items()):
            with source.record(path, f"key {place + 1}, {shown(prompt)}"):
                if not checked_list(answers, "answers"):
                    source.report.drop("no answer", prompt)
            for number, answer in enumerate(answers if isinstance(answers, list) else ()):
                with source.row(path, f"key {place + 1}, {shown(prompt)}, answer {number}") as row:
                    boxes, background, negative = _parsed(checked_text(answer, "answer"))
                    layout = row.layout(
                        prompt, f"{above}{place}#{number}", tags={"background": background, "negative_prompt": negative}
                    )
                    if background is None:
                        layout.note("no background prompt")
                    for thing, pair in enumerate(boxes):
                        phrase, box = checked_list(pair, f"answer's entry {thing}", 2)
                        canvas = source.options.canvas or (SIDE, SIDE)
                        layout.add(phrase, box, f"answer's entry {thing}", canvas, "xywh")


def _parsed(answer: str) -> tuple[list[object], str | None, str | None]:
    """The boxes, and what stands behind Background prompt: and Negative prompt:, where they are there."""
    said, *behind = re.split(f"({BACKGROUND}|{NEGATIVE})", answer)
    texts = dict(zip(behind[::2], (text.strip() for text in behind[1::2]), strict=False))
    try:
        boxes = literal(said)
    except ValueError as error:
        raise RowError("answer", f"{shown(said)} has no boxes: {error}") from None
    return checked_list(boxes, "answer"), texts.get(BACKGROUND), texts.get(NEGATIVE)
