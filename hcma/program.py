"""How every program of this package ends: status 0, or one line on stderr and status 1."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hcma.sampling import InputError


def status(work: Callable[[], None], name: str) -> int:
    """Call `work`; InputError and OSError become one line, which says `name` where the system names no file."""
    try:
        work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or name}: {error.strerror or error}", file=sys.stderr)
    else:
        return 0
    finally:
        # The interpreter's last collection would look at every object of torch once more: seconds for nothing.
        gc.freeze()
    return 1


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and what stands on it without garbage collections, which free nothing there and take a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
