"""How tests read printed tables: without the blanks that align their columns."""

import re


def grid(markdown: str) -> str:
    """Markdown whose cells have one blank on either side; the lines between head and body are left out."""
    lines = [line for line in markdown.splitlines() if not re.fullmatch(r"\|[-:|]+\|", line)]
    spaced = [re.sub(r" *\| *", " | ", line).strip() if line.startswith("|") else line for line in lines]
    return "\n".join(spaced).replace("|  |", "| |") + "\n"
