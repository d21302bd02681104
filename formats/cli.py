"""What all programs have in common: how they read options, import what is large, and end."""

import argparse
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from formats.files import InputError

INTERRUPTED = 130  # the status of a process that Ctrl-C ended, as shells have it


def is_one_word(text: str) -> bool:
    """Whether a shell reads a text that nobody has quoted as itself."""
    return re.fullmatch(r"[\w./+@%:,=-]+", text) is not None


class Parser(argparse.ArgumentParser):
    """argparse's parser with the description as it stands, no abbreviated options, its subcommands' likewise, and `--option=--`
    refused: argparse itself takes that for an empty list, unread."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        ours: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*arguments, **ours | settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in sys.argv[1:] if args is None else args:
            name, _, value = word.partition("=")
            if name.startswith("--") and value == "--":
                self.error(f"argument {name}: expected a value, found '--'")
        return super().parse_known_args(args, namespace)


def options(doc: str | None, program: str | None = None) -> Parser:
    """A parser of options, none yet, whose help is a module's docstring, as it stands there; options cannot be abbreviated."""
    return Parser(program, description=doc)


def integer_from(least: int) -> Callable[[str], int]:
    """An option's type: integers from `least` on, of nine digits at most; argparse names any other value."""

    def integer(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected an integer from {least} on, found {text!r}")
        return int(text)

    return integer


def run(main: Callable[[], None]) -> None:
    """Call `main`; InputError and OSError become one line `error: ...` and status 1, Ctrl-C one line and status 130."""
    try:
        main()
    except InputError as error:
        _end(f"error: {error}", 1)
    except OSError as error:
        _end(f"error: {error.filename or 'writing'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)
    finally:
        # The interpreter's last collection would look at every object of torch once more: seconds for nothing.
        gc.freeze()


def _end(line: str, status: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(status)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and what needs it without garbage collections, which free nothing there and take a third of the time.

    Programs import what is large inside a function and this block, so that `--help` and a misspelt option answer at once.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
