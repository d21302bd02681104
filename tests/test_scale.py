"""The paper's DAG at the paper's scale: quick to build, and few files on a filesystem that many share."""

import pytest

from tests import scale


@pytest.fixture
def paper(tmp_path):
    scale.lay_out(tmp_path, 30000, scale.PAPER["data"]["shard_size"])
    return tmp_path


def test_the_graph_of_twelve_methods_is_built_within_a_minute(paper) -> None:
    assert len(scale.METHODS) == 12
    found = scale.plan(paper)
    assert found["sample_jobs"] == 180
    assert found["dag_cpu_seconds"] < 60
    assert found["dag_peak_mb"] < 1000


@pytest.mark.slow
def test_a_run_leaves_few_files(paper) -> None:
    found = scale.perform(paper, scale.plan(paper)["jobs"])
    assert sum(found["files"].values()) < 5000
