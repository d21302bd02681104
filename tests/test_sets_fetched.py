"""Layout sets that are fetched by their names: pinned, under a licence that is accepted, and read from where they were put."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.datasets.readers import read_set
from evaluation.datasets.source import options_of
from formats.files import InputError, read_json
from tests.dag import ROOT, jobs_by_rule, snakemake
from tests.test_workflow_inputs import settings
from workflow.fetch import refused
from workflow.fetch.__main__ import fetch
from workflow.fetch.download import Network, fetch_file
from workflow.inputs import unusable
from workflow.plan import Plan
from workflow.preflight import merged
from workflow.settings import SettingsError, Source, read

SETS = sorted((ROOT / "workflow/config/sets").glob("*.yaml"))
COMMIT, LATER = "ab" * 20, "cd" * 20
SET = 'id,category,prompt,obj1,bbox1\n000,object_binding,A rose,rose,"175,108,347,430"\n'
OTHER = SET.replace("A rose,rose", "A cat,cat")


def changes(url: str, folder: Path, *accept: str, **own: Any) -> dict[str, Any]:
    entry = {"urls": [url], "licence": "theirs"} | own
    return {
        "fetch": {"folder": str(folder), "licences": {"theirs": "https://theirs"}, "accept": list(accept)},
        "data": {"source": {"reader": "seven_bench", "files": {"7bench.csv": entry}}, "test": {"count": 1}},
        "extractors": {"detector": None},
    }


@pytest.mark.parametrize("scale", ["miniature", "paper"])
@pytest.mark.parametrize("path", SETS, ids=[path.stem for path in SETS])
def test_every_named_set_is_pinned_and_lies_on_any_scale(scale, path) -> None:
    files = [ROOT / f"workflow/config/{scale}.yaml", path]
    plan = Plan(read(merged(files), [], files))
    source = plan.source("test")
    assert source is not None
    assert [Path(path).name for path in source["path"]] == list(source["files"])
    assert set(source["path"]) <= set(plan.annotations)
    for path, entry in zip(source["path"], source["files"].values(), strict=True):
        (url,) = entry["urls"]
        assert Source(**entry).identity
        assert url.endswith(f"/{Path(path).name}")
        assert plan.downloads.files[path.removeprefix("downloads/")] == Source(**entry)
    assert plan.settings.data.test.count > 200
    assert Plan(plan.settings).annotations == plan.annotations, "what is resolved once more stays as it is"


def test_two_sets_for_one_split_are_refused() -> None:
    hrs, tolo = (ROOT / f"workflow/config/sets/{name}.yaml" for name in ("hrs", "hrs_tolo"))
    with pytest.raises(SettingsError, match=r"hrs_tolo\.yaml: data\.source: .*hrs\.yaml names a layout set too"):
        read(merged([hrs, tolo]), [], [hrs, tolo])


def test_a_set_is_fetched_when_its_licence_is_accepted_and_read_where_it_is(shelf, tmp_path) -> None:
    url = shelf.put(f"/owner/name/{COMMIT}/7bench.csv", SET.encode())
    refusing = Plan(settings("miniature", changes(url, tmp_path)))
    (name,) = refusing.downloads.files
    with pytest.raises(InputError, match=r"not accepted: theirs: 7bench\.csv: https://theirs"):
        fetch(name, refusing)
    assert not shelf.requests
    plan = Plan(settings("miniature", changes(url, tmp_path, "theirs")))
    fetch(name, plan)
    assert read_json(tmp_path / f"{name}.source.json")["urls"] == [url]
    source = plan.source("test")
    (layout,), _ = read_set(source["reader"], [Path(path) for path in source["path"]], options_of(source))
    assert (layout.caption, len(layout.objects)) == ("A rose", 1)


def test_a_mirror_fetches_nothing_again_and_another_commit_or_path_does(tmp_path) -> None:
    def keys(*urls: str, **own: Any) -> tuple[str, str, str]:
        given = changes(urls[0], tmp_path, "theirs", **own)
        given["data"]["source"]["files"]["7bench.csv"]["urls"] = list(urls)
        plan = Plan(settings("miniature", given))
        (name,) = plan.downloads.files
        return plan.data_key, plan.download_key(name), name

    first = keys(f"https://one/{COMMIT}/7bench.csv")
    assert keys(f"https://two/{COMMIT}/7bench.csv") == first
    assert keys(f"https://two/{COMMIT}/7bench.csv?raw=1", f"https://one/{COMMIT}/7bench.csv") == first
    for other in (f"https://one/{LATER}/7bench.csv", f"https://one/{COMMIT}/train/7bench.csv"):
        assert all(new != old for new, old in zip(keys(other), first, strict=True))
    stated = keys(f"https://one/{COMMIT}/7bench.csv", sha256="0" * 64)
    assert keys(f"https://one/{LATER}/7bench.csv", sha256="0" * 64) == stated


def test_of_another_commit_nothing_is_taken_for_this_ones(shelf, tmp_path) -> None:
    """Without a checksum only the address tells."""
    out = tmp_path / "7bench.csv"
    out.write_text(OTHER)
    for left in ("7bench.csv.part", "7bench.csv.fetching"):
        (tmp_path / left).write_text(OTHER[:20])
    dying = shelf.put(f"/dying/{COMMIT}/7bench.csv", OTHER.encode(), cuts=[30] + [0] * 20)
    url = shelf.put(f"/owner/name/{COMMIT}/7bench.csv", SET.encode(), cuts=[30])
    fetch_file(Source(urls=[dying, url], licence="theirs"), out, Network(wait=0.0, timeout=5))
    assert out.read_text() == SET


def test_every_licence_is_asked_for_though_files_share_a_name(tmp_path) -> None:
    given = changes(f"https://one/{COMMIT}/7bench.csv", tmp_path, "theirs")
    given["fetch"]["licences"]["others"] = "https://others"
    other = {"urls": [f"https://one/{LATER}/7bench.csv"], "licence": "others"}
    for accepted, left in (("theirs", "others"), ("others", "theirs")):
        given["fetch"]["accept"] = [accepted]
        given["data"]["test"]["source"] = {"reader": "cobench", "files": {"7bench.csv": other}}
        plan = Plan(settings("miniature", given))
        assert len(plan.downloads.files) == 2
        assert refused(plan.downloads, plan.settings.fetch)[0].startswith(f"not accepted: {left}: 7bench.csv: ")


def test_the_rules_fetch_a_set_before_its_layouts_are_prepared(shelf, tmp_path) -> None:
    url = shelf.put(f"/owner/name/{COMMIT}/7bench.csv", SET.encode())
    given = changes(url, tmp_path / "down loads", "theirs")
    wanted = "results/test-sets/layouts/test.jsonl"
    (tmp_path / "set.json").write_text(json.dumps(given))
    planned = snakemake("-n", wanted, "--configfile", str(tmp_path / "set.json"), "--config", "run=test-sets")
    assert jobs_by_rule(planned.stdout) == {"draw_coco": 1, "fetch_file": 1, "prepare_layouts": 1, "total": 3}, (
        planned.stderr
    )


def test_a_path_of_ones_own_goes_before_what_would_be_fetched(tmp_path) -> None:
    own = tmp_path / "own.csv"
    given = changes(f"https://one/{COMMIT}/7bench.csv", tmp_path)
    given["data"]["source"]["path"] = str(own)
    plan = Plan(settings("miniature", given))
    assert not plan.downloads.files
    assert plan.source("test")["path"] == str(own)
    assert unusable(settings("miniature", given), "results") == [f"data.source.path: no such file or folder: {own}"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda source: source.pop("files"), "data.source.path: give a path, or files to fetch"),
        (
            lambda source: source["files"]["7bench.csv"].update(urls=["https://one/main/7bench.csv"]),
            "data.source.files.7bench.csv: give one of sha256, md5, or addresses that hold",
        ),
        (lambda source: source["files"]["7bench.csv"].update(licence="mine"), "data.source.files.7bench.csv.licence: "),
        (
            lambda source: source["files"].update({"../x.csv": source["files"]["7bench.csv"]}),
            "data.source.files.../x.csv: not a",
        ),
    ],
)
def test_what_cannot_be_fetched_is_a_line_before_any_job(tmp_path, spoil, said) -> None:
    given = changes(f"https://one/{COMMIT}/7bench.csv", tmp_path)
    spoil(given["data"]["source"])
    with pytest.raises(SettingsError) as caught:
        settings("miniature", given)
    assert any(said in fault for fault in caught.value.faults), caught.value.faults
