"""The order in which the tests are handed to the workers."""

import pytest

LONGEST = ("test_workflow", "test_fetch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run the whole DAG first: handed out last, they would keep one worker busy and the other idle."""
    items.sort(key=lambda item: not item.nodeid.split("::")[0].endswith(tuple(f"{name}.py" for name in LONGEST)))
