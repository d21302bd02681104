"""The configuration's sources (`data.source`, `data.train.source`, `data.test.source`): which set a split is read from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.datasets import Prepared


def prepare_with_sources(dataset: Any, root: Path, settings: Mapping[str, Any]) -> Prepared:
    """The splits of a data set, those that have a source of their own read from it."""
    prepared: Prepared = dataset.prepare(root, settings)
    return prepared
