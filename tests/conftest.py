"""The order in which the tests are handed to the workers."""

import pytest

LONGEST = ("test_workflow.py", "test_fetch.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run the whole DAG first: handed out last, they would keep one worker busy and the other idle."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
