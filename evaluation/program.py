"""How every program of the evaluation ends on bad input: one line on stderr, exit status 1; and how it reads numbers."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evaluation.files import InputError


def run(main: Callable[[], None]) -> None:
    """Call `main`; InputError and OSError become one line `error: ...` and status 1."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    finally:
        # The interpreter's last collection would look at every object of torch once more: seconds for nothing.
        gc.freeze()


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and what stands on it without garbage collections, which free nothing there and take a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def integer_from(least: int) -> Callable[[str], int]:
    """An option's type: integers from `least` on, of nine digits at most; argparse names any other value."""

    def integer(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected an integer from {least} on, found {text!r}")
        return int(text)

    return integer
