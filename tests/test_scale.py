"""The paper's DAG at the paper's scale: few jobs, and few files on a filesystem that many share."""

import pytest

from tests import scale


@pytest.fixture
def paper(tmp_path):
    scale.lay_out(tmp_path, 30000, scale.PAPER["data"]["shard_size"])
    return tmp_path


def test_all_methods_are_hundreds_of_jobs_not_thousands(paper) -> None:
    assert len(scale.METHODS) == 19
    found = scale.plan(paper)
    # Six shards a row; held out, one of each of five candidates for eta and of the row that they are judged against.
    assert found["sample_jobs"] == 19 * 6 + 6
    assert found["jobs"] < 1000


@pytest.mark.slow
def test_a_run_leaves_few_files(paper) -> None:
    found = scale.perform(paper, scale.plan(paper)["jobs"])
    assert sum(found["files"].values()) < 5000
