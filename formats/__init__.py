"""What the stages hand to one another, and how each part is checked when it is read."""


class InputError(ValueError):
    """A file or setting handed in cannot be used: the message names the item, what was found and what was expected.

    Programs print it as one line, without a traceback.
    """


SHOWN = 3


def listed(faults: list[str]) -> str:
    """The first few faults in one line, and how many more there are."""
    more = len(faults) - SHOWN
    return "; ".join(faults[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def shown(value: object) -> str:
    """A value found, as a message prints it: one line and not a long one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"
