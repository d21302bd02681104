"""The order in which the tests are handed to the workers, and the server from which they fetch."""

from collections.abc import Iterator

import pytest

from tests.served import Shelf, serving

LONGEST = ("test_workflow.py", "test_fetch.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run the whole DAG first: handed out last, they would keep one worker busy and the other idle."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def shelf(monkeypatch) -> Iterator[Shelf]:
    """A server on this machine, whatever the environment says of hubs, tokens and proxies."""
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with serving() as shelf:
        yield shelf
