"""How every program of this package ends: status 0, or one line on stderr and status 1."""

import sys
from collections.abc import Callable

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
    return 1
