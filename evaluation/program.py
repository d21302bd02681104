"""How every program of the evaluation ends on bad input: one line on stderr, exit status 1."""

import sys
from collections.abc import Callable

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
