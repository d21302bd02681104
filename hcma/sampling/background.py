"""Work off the critical path: calls in a thread of their own while the caller goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def in_background() -> Iterator[Callable[..., None]]:
    """Give a function `call(work, *arguments)` that makes calls in order, one at a time, in a second thread.

    Handing over a call waits for the one before it, so that at most one is on its way, and raises its error. The block
    ends when all calls are done, also where it ends by an error.
    """
    pending: list[Future[Any]] = []

    def settle() -> None:
        while pending:
            pending.pop().result()

    with ThreadPoolExecutor(max_workers=1) as thread:

        def call(work: Callable[..., Any], *arguments: Any) -> None:
            settle()
            pending.append(thread.submit(work, *arguments))

        yield call
        settle()
