"""What Snakemake reruns when something changes: each line of the table in docs/running.md.

The run is one whose files are all there, touched; `--summary` says of each what would be made again.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.dag import command, environment, link_checkout

# Two models from the hub, of which nothing is asked in a dry run.
TINY = {
    "run": "tiny",
    "data": {
        "draw": {"train": 20, "val": 10, "seed": 7},
        "train": {"count": 8},
        "heldout": {"count": 4},
        "test": {"count": 4},
        "shard_size": 4,
    },
    "models": {
        "sd14": {"hub": "one/sd", "revision": "a" * 40, "licence": "free"},
        "gligen": "gligen",
    },
    "fetch": {"licences": {"free": ""}, "accept": ["free"]},
    "alignment": {
        "train": {"epochs": 1, "batch": 4, "micro_batch": 4},
        "calibrate": {"count": 4, "multiples": [1.0]},
    },
    "tables": {"table1": ["real", "sd14", "layout_guidance", "gligen_sd", "hcma"], "table2": ["gligen_sd", "hcma"]},
}
# Jobs that only look at what rows have; they rerun with any of them.
SUMMARIES = {
    *("compare_rows", "tabulate", "draw", "cut_strips", "write_page", "record_provenance", "swap_images"),
    *("measure_by_size", "all"),
}
ROWS = {"sample", "extract_features", "summarize", "measure"}
TRAINING = {"cache_latents", "train_alignment", "calibrate_eta", "choose_eta"}


class Folder:
    """A folder with a checkout's code, a configuration, and a finished run of it, or none yet."""

    def __init__(self, path: Path, made: bool = True) -> None:
        self.path = path
        link_checkout(path, "results")
        (path / "gligen").mkdir()
        (path / "gligen/SHA256SUMS").write_text("first\n")
        (path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        if made:
            self.touch()

    def touch(self) -> None:
        """Make every file of the run, so that nothing is to be done."""
        named = [line.split("\t")[0] for line in self.snakemake("--summary").stdout.splitlines()]
        for name in [name for name in named if name.startswith(("results/", "downloads/"))]:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(name)
        done = self.snakemake("--touch", "--forceall", "--no-hooks")
        assert done.returncode == 0, done.stderr[-2000:]

    def snakemake(self, *arguments: str, over: dict | None = None) -> subprocess.CompletedProcess[str]:
        (self.path / "over.yaml").write_text(yaml.safe_dump(over or {}))
        return subprocess.run(
            command(*arguments, "--configfile", "tiny.yaml", "over.yaml"),
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def reruns(self, over: dict | None = None) -> dict[str, str]:
        """{file: rule} of all that Snakemake would make again."""
        listed = self.snakemake("--summary", over=over)
        assert listed.returncode == 0, listed.stderr[-2000:]
        lines = [line.split("\t") for line in listed.stdout.splitlines() if line.endswith("\tupdate pending")]
        return {line[0]: line[2] for line in lines}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("reruns"))


def rows(found: dict[str, str]) -> set[str]:
    """The rows of which something is sampled or measured again."""
    return {name.split("/")[3] for name, rule in found.items() if rule in ROWS and name.count("/") > 3}


def sampled(found: dict[str, str]) -> set[str]:
    return {name.split("/")[3] for name, rule in found.items() if rule == "sample"}


def test_a_finished_run_has_nothing_to_do(folder) -> None:
    assert folder.reruns() == {}


def test_a_revision_reruns_what_the_model_makes(folder) -> None:
    found = folder.reruns({"models": {"sd14": {"revision": "b" * 40}}})
    assert found["downloads/sd14/SHA256SUMS"] == "fetch_model"
    assert sampled(found) == rows(found) == {"sd14", "layout_guidance"}
    assert not {*found.values()} & (TRAINING | {"prepare_layouts"})


def test_another_folder_of_a_model_is_what_its_sums_say(folder) -> None:
    sums = folder.path / "gligen/SHA256SUMS"
    os.utime(sums)
    assert folder.reruns() == {}
    sums.write_text("second\n")
    found = folder.reruns()
    sums.write_text("first\n")
    assert sampled(found) == {"gligen_sd", "hcma", "hcma_eta_0"}
    assert {*found.values()} >= TRAINING


def test_a_model_folder_that_moved_reruns_nothing(folder) -> None:
    shutil.copytree(folder.path / "gligen", folder.path / "moved")
    assert folder.reruns({"models": {"gligen": "moved"}}) == {}


@pytest.mark.parametrize(
    ("over", "first", "again"),
    [
        (
            {"sampling": {"guidance_scale": 7.0}},
            "write_method",
            {"sd14", "layout_guidance", "gligen_sd", "hcma", "hcma_eta_0"},
        ),
        ({"methods": {"sd14": {"version": 9}}}, "write_method", {"sd14"}),
        ({"regions": {"min_side": 9}}, "tabulate_regions", {"hcma"}),
        ({"alignment": {"train": {"lr": 0.5}}}, "train_alignment", {"hcma", "hcma_eta_0"}),
        ({"resources": {"encode_shards": 1}}, "cache_latents", {"hcma", "hcma_eta_0"}),
    ],
    ids=["sampling", "version", "regions", "training", "latents"],
)
def test_a_key_reruns_what_it_decides(folder, over, first, again) -> None:
    found = folder.reruns(over)
    assert first in found.values()
    assert sampled(found) == again
    assert not {*found.values()} & {"prepare_layouts", "fetch_model"}


@pytest.mark.parametrize(
    "over",
    [{"data": {"test": {"count": 3}}}, {"alignment": {"calibrate": {"images": 2}}}],
    ids=["test", "candidates"],
)
def test_another_sample_of_the_data_reruns_all(folder, over) -> None:
    found = folder.reruns(over)
    assert {*found.values()} >= TRAINING | ROWS | {"prepare_layouts"}
    assert "fetch_model" not in found.values()


@pytest.mark.parametrize(
    "over",
    [
        {"resources": {"batch_size": 3, "compile": True, "channels_last": True, "threads": 2}},
        {"resources": {"device": "cuda", "gpu": 1, "train_gpu": 4}},
        {"resources": {"evaluation_device": "cuda", "evaluation_threads": 3}},
        {"resources": {"mem_mb": 5000, "runtime": 7, "rules": {"sample": {"mem_mb": 9000}}}},
        {"alignment": {"train": {"micro_batch": 2}}},
        {"fetch": {"hub": "https://mirror.example", "offline": True}},
    ],
    ids=["speed", "device", "evaluation", "cluster", "micro_batch", "mirror"],
)
def test_speed_memory_and_mirrors_rerun_nothing(folder, over) -> None:
    assert folder.reruns(over) == {}


@pytest.mark.parametrize(
    "over",
    [
        {"caveat": "another"},
        {"compare_with": ["sd14"]},
        {"methods": {"sd14": {"label": "Plain"}}},
        {"methods": {"sd14": {"source": "mine"}}},
    ],
    ids=["caveat", "compare_with", "label", "source"],
)
def test_a_caveat_or_label_reruns_what_shows_it(folder, over) -> None:
    found = folder.reruns(over)
    assert {"tabulate", "write_page"} <= {*found.values()} <= SUMMARIES


def test_an_added_row_runs_alone(folder) -> None:
    found = folder.reruns({"tables": {"table2": ["gligen_sd", "hcma", "multidiffusion"]}})
    assert sampled(found) == rows(found) == {"multidiffusion"}
    assert {*found.values()} <= {"write_method", *ROWS} | SUMMARIES


def test_without_the_last_aligned_row_the_others_are_as_they_were(folder) -> None:
    found = folder.reruns({"tables": {"table1": ["real", "sd14"], "table2": ["layout_guidance", "sd14"]}})
    assert {*found.values()} <= SUMMARIES


def test_a_row_that_is_cropped_otherwise_reruns_nothing_of_the_row_it_is_like(folder) -> None:
    like = {"methods": {"sd14_detected": {"like": "sd14", "crops": "detected"}}}
    found = folder.reruns(like | {"tables": {"table2": ["gligen_sd", "hcma", "sd14_detected"]}})
    assert sampled(found) == rows(found) == {"sd14_detected"}
    assert {*found.values()} <= {"write_method", "detect_regions", *ROWS} | SUMMARIES
    assert "detect_regions" in found.values()


def test_an_added_seed_runs_alone(folder) -> None:
    found = folder.reruns({"seeds": [0, 3]})
    added = {f"{row}_seed_3" for row in ("sd14", "layout_guidance", "gligen_sd", "hcma")}
    assert sampled(found) == rows(found) == added
    assert {*found.values()} - {"write_method", *ROWS} <= {"tabulate", "write_page", "record_provenance"}
    assert {name for name, rule in found.items() if rule == "tabulate"} == {
        f"results/tiny/tables/seeds.{kind}" for kind in ("json", "csv", "md", "tex")
    }


@pytest.mark.slow
def test_no_command_of_forty_rows_and_thirty_seeds_is_too_long(tmp_path) -> None:
    """The shell gets a command as one word, and Linux takes none of 131,072 bytes."""
    names = [f"copy_of_stable_diffusion_{number}" for number in range(38)]
    over = {
        "methods": {name: {"like": "sd14"} for name in names},
        "tables": {"table1": ["real", *names], "table2": ["gligen_sd", "hcma"]},
        "seeds": list(range(30)),
    }
    large = Folder(tmp_path, made=False)
    planned = large.snakemake("-n", "-p", over=over)
    assert planned.returncode == 0, planned.stderr[-2000:]
    commands = [line for line in planned.stdout.splitlines() if " -m " in line]
    assert len(commands) > 40 * 30 * 3
    assert max(map(len, commands)) < 100_000
