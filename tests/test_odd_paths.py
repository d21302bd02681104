"""Paths with any characters, through make, YAML, the rules' shell commands, Snakemake's own patterns and a cluster's jobs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.dag import ROOT, checkout, environment, is_nothing_to_do, jobs_by_rule, snakemake
from tests.test_config import CONFIG, faults, merged
from workflow import overlays
from workflow.inputs import LINKS, linked, place, resolve, unlinked
from workflow.miniature.draw import write_split
from workflow.preflight import lost_on_the_way
from workflow.settings import read

ODD = 'it\'s {odd} $HOME "x" folder'
ODDER = "-a\\b <results> {split} ünï 画像 ;&|`id`*?[]~#%!\tend "
MODELS = ("sd14", "sd15", "gligen", "gligen_ldm")


def furnished(folder: Path, run: str) -> Path:
    """A configuration file beside a folder of photos, models, networks and words, all of whose paths go through `folder`."""
    folder.mkdir(parents=True)
    write_split(folder / "coco", "train2014", list(range(1, 41)), seed=1)
    write_split(folder / "coco", "val2014", list(range(200, 220)), seed=1)
    for name in (*MODELS, "features", "clip", "detector"):
        (folder / name).symlink_to(ROOT / "weights/miniature" / name)
    shutil.copy(ROOT / "workflow/config/words/miniature.yaml", folder / "{words}.yaml")
    content = {
        "run": run,
        "caveat": "see {this} and 'that' $HOME",
        "reference": f"{folder}/reference.json",
        "data": {
            "root": f"{folder}/coco",
            "draw": None,
            "words": f"{folder}/{{words}}.yaml",
            "train": {"count": 16},
            "heldout": {"count": 4},
            "test": {"count": 4},
            "shard_size": 8,
        },
        "models": {name: f"{folder}/{name}/" for name in MODELS},
        "architectures": {"gligen": {"kind": "gligen"}},
        "extractors": {
            "frechet": {"path": f"{folder}/features/model.safetensors"},
            "clip": {"path": f"{folder}/clip/open_clip.safetensors", "model": f"{folder}/clip/config.json"},
            "detector": {"path": f"{folder}/detector/model.safetensors"},
        },
        "regions": {"label_template": "- {label}'s"},
        "alignment": {
            "text": {"model": "sd14"},
            "model": {"label_template": "- {label}'s"},
            "train": {"batch": 16},
            "calibrate": {"count": 2, "multiples": [1.0]},
        },
        "pretrain": {"out": f"{folder}/out"},
        "fetch": {
            "folder": "downloads",
            "hub": "https://hub",
            "offline": False,
            "licences": {"a{b}": ""},
            "accept": ["a{b}"],
        },
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return folder / "own.yaml"


@pytest.fixture(scope="module", params=[ODD, ODDER], ids=["odd", "odder"])
def own(request, tmp_path_factory):
    run = f"test-paths-{request.param_index}-{os.getpid()}"
    yield furnished(tmp_path_factory.mktemp("paths") / request.param, run)
    shutil.rmtree(ROOT / "results" / run, ignore_errors=True)


def run_of(own: Path) -> str:
    return yaml.safe_load(own.read_text())["run"]


def option(printed: str, program: str, name: str) -> str:
    """An option's value, as the shell reads the first command of a program that Snakemake prints."""
    line = next(line for line in printed.splitlines() if f"python -m {program} " in line)
    words = shlex.split(line.removeprefix("Shell command: "))
    return words[words.index(name) + 1]


def test_every_rule_can_be_planned_and_its_command_has_the_path(own) -> None:
    planned = snakemake("all", "regress", "reproduce", "pretrain", "estimate", "-n", "-p", "--configfile", str(own))
    assert planned.returncode == 0, planned.stdout[-2000:] + planned.stderr[-2000:]
    folder = own.parent
    asked = {
        ("evaluation.datasets", "--root"): folder / "coco",
        ("evaluation.datasets.real", "--root"): folder / "coco",
        ("hcma.cache", "--model"): folder / "gligen",
        ("hcma.cache", "--text"): folder / "sd14",
        ("workflow.random_weights.count", "--model"): folder / "gligen",
        ("evaluation.regression", "--reference"): folder / "reference.json",
    }
    for (program, name), path in asked.items():
        assert option(planned.stdout, program, name) == str(path)
    ship = next(line for line in planned.stdout.splitlines() if "pretrain ship" in line)
    assert shlex.split(ship)[shlex.split(ship).index("--out") + 1] == str(folder / "out")


def test_the_first_jobs_run_and_are_not_run_again(own) -> None:
    run = run_of(own)
    wanted = [f"results/{run}/samples/real/test/0000.zip"]
    done = snakemake(*wanted, "--configfile", str(own))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len([name for name in zipfile.ZipFile(ROOT / wanted[0]).namelist() if name.endswith(".png")]) == 4
    config = json.loads((ROOT / f"results/{run}/config.json").read_text())
    assert config["data"]["root"] == str(own.parent / "coco")
    assert config["models"]["gligen"]["path"] == str(own.parent / "gligen")
    lineage = json.loads((ROOT / f"results/{run}/work/lineage.json").read_text())
    assert str(own.parent / "coco/annotations/captions_val2014.json") in lineage["layouts/test.jsonl"]["inputs"]
    again = snakemake("-n", *wanted, "--configfile", str(own))
    assert is_nothing_to_do(again)


@pytest.mark.slow
def test_models_and_networks_of_such_folders_are_loaded(own) -> None:
    run = run_of(own)
    wanted = ["features/real/test/0000.npz", "methods/gligen_sd.json", "train/latents/heldout/0000.safetensors"]
    done = snakemake(*(f"results/{run}/{name}" for name in wanted), "--configfile", str(own))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    spec = json.loads((ROOT / f"results/{run}/methods/gligen_sd.json").read_text())
    assert spec["model"] == str(own.parent / "gligen")


def cluster(folder: Path) -> list[str]:
    """Options of cluster-generic with a scheduler that runs a job at once, in a shell of its own."""
    submit = folder / "submit"
    submit.write_text('#!/bin/bash\nbash "$1" >> "$(dirname "$0")/log" 2>&1\necho 1\n')
    submit.chmod(0o755)
    return ["--executor", "cluster-generic", "--jobs", "1", "--cluster-generic-submit-cmd", str(submit)]


@pytest.mark.slow
def test_a_clusters_jobs_get_the_paths(own, tmp_path) -> None:
    run = run_of(own)
    shutil.rmtree(ROOT / "results" / run, ignore_errors=True)
    wanted = f"results/{run}/samples/real/test/0000.zip"
    done = snakemake(wanted, *cluster(tmp_path), "--configfile", str(own))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (ROOT / wanted).exists()
    assert "Cropping photos of test" in (tmp_path / "log").read_text()


def test_what_a_clusters_jobs_would_get_otherwise_is_refused_before_the_first(own, tmp_path) -> None:
    given = f"data={json.dumps({'root': str(own.parent / 'coco')})}"
    run = f"test-lost-{os.getpid()}"
    done = snakemake(
        f"results/{run}/layouts/test.jsonl",
        *cluster(tmp_path),
        "--configfile",
        str(own),
        "--config",
        given,
        f"run={run}",
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: the command line: ")]
    assert line.startswith(f"error: the command line: {given}: Snakemake cannot hand apostrophes, backslashes")
    assert not (ROOT / "results" / run).exists()
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_python_whose_path_a_clusters_shell_would_split_is_refused(elsewhere, monkeypatch) -> None:
    workflow = SimpleNamespace(non_local_exec=elsewhere, config_settings=SimpleNamespace(config_args=["run=a"]))
    monkeypatch.setattr(sys, "executable", "/a b/.venv/bin/python")
    found = lost_on_the_way(workflow)
    assert [line.partition(":")[0] for line in found] == ["/a b/.venv/bin/python"] * elsewhere
    monkeypatch.setattr(sys, "executable", "/home/andré/画/.venv-3.11/bin/python")
    assert not lost_on_the_way(workflow)


def make(target: str, coco: str, cores: str = "1 -n -p") -> subprocess.CompletedProcess[str]:
    """make with this Python's environment instead of its own; `cores` may add options to Snakemake's command line."""
    beside = [f"BIN={Path(sys.executable).parent}", "-o", ".venv/installed", f"CORES={cores}"]
    return subprocess.run(
        ["make", target, *beside, f"COCO={coco}"],
        cwd=checkout(),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", ["demo-coco", "rehearsal"])
def test_make_hands_the_folder_on_as_it_is(own, target) -> None:
    planned = make(target, str(own.parent / "coco"))
    assert jobs_by_rule(planned.stdout)["prepare_layouts"] == 1, planned.stderr[-2000:]
    assert option(planned.stdout, "evaluation.datasets", "--root") == str(own.parent / "coco")


def test_make_takes_a_folder_relative_to_where_it_runs_and_names_one_that_is_not_there(own) -> None:
    relative = os.path.relpath(own.parent / "coco", checkout())
    assert option(make("demo-coco", relative).stdout, "evaluation.datasets", "--root") == str(own.parent / "coco")
    for wrong in ("-none", "$(shell touch ran)", "a $$b"):
        refused = make("demo-coco", wrong)
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: data.root: {checkout()}/{wrong} has no annotations/")
    assert not (checkout() / "ran").exists()
    assert "error: give the folder in COCO 2014's layout" in make("demo-coco", "").stderr


@pytest.mark.parametrize("target", ["demo-coco", "rehearsal"])
def test_a_line_break_in_the_folder_is_one_line(tmp_path, target) -> None:
    refused = make(target, f"{tmp_path}/a\nb")
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith(
        f"data.root: '{tmp_path}/a\\nb' holds '\\n', which cannot be taken there; rename the folder, or give a link to it"
    )
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"data": {"root": "/a\nb", "draw": None}}, "data.root: '/a\\nb' holds '\\n'"),
        ({"models": {"sd14": "/a\rb"}}, "models.sd14: '/a\\rb' holds '\\r'"),
        ({"extractors": {"clip": {"model": "/a\0b.json"}}}, "extractors.clip.model: '/a\\x00b.json' holds '\\x00'"),
        ({"extractors": {"clip": {"path": "a\n"}}}, "extractors.clip.path: 'a\\n' holds '\\n'"),
        ({"data": {"words": "a\n.yaml"}}, "data.words: 'a\\n.yaml' holds"),
        ({"pretrain": {"work": "a/{stage}"}}, "pretrain.work: 'a/{stage}' holds '{'"),
        ({"reference": "a\nb"}, "reference: 'a\\nb' holds"),
        ({"run": "mine\n"}, "run: expected a name of letters, digits, _ and -, found 'mine\\n'"),
        ({"models": {"a/b": "/sd"}}, "models.a/b: not a name of letters, digits, _, . and -"),
        ({"models": {"sd14": ""}}, "models.sd14: expected text, not empty, or null, found ''"),
    ],
)
def test_what_no_path_can_hold_is_one_line(change, line, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    file = Path("workflow/config/miniature.yaml")
    (fault,) = faults(merged(CONFIG, change), [file])
    assert fault.startswith(f"{file}: {line}")
    assert "\n" not in fault


def test_a_folder_of_downloads_in_which_snakemake_would_see_wildcards_is_refused(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    paper = overlays.merged(given={"scale": "paper"})
    for folder, sign in (("/data/{x}", "{"), ("/data/<results>", "<")):
        (fault,) = faults(merged(paper, {"fetch": {"folder": folder}}), [Path("workflow/config/paper.yaml")])
        assert f"fetch.folder: '{folder}' holds '{sign}', which cannot be taken there" in fault


def test_a_path_is_stated_through_a_link_only_where_it_has_to_be(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = "/a b/it's $HOME/x.json"
    assert linked(plain) == unlinked(plain) == plain
    assert not LINKS.exists()
    folder = tmp_path / "one {x}/two <y>/three"
    folder.mkdir(parents=True)
    (folder / "file.json").write_text("here")
    for path in (f"{folder}/file.json", "one {x}/two <y>/three/file.json"):
        through = linked(path)
        assert not set(through) & set("{}<>")
        assert Path(through).read_text() == "here"
        assert unlinked(through) == f"{folder}/file.json"
        assert linked(path) == through
    assert len(list(LINKS.iterdir())) == 1
    assert Path(linked(f"{folder}/{{w}}.yaml")).readlink() == folder / "{w}.yaml"


def test_a_leading_dash_and_needless_slashes_are_settled(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("-coco") == f"{tmp_path}/-coco"
    assert place("a//b/") == "a/b"
    config = merged(CONFIG, {"data": {"root": "-coco", "draw": None}, "models": {"sd14": "-sd/"}})
    resolved, _ = resolve(read(config, []))
    assert (resolved.data.root, resolved.models["sd14"].path) == (f"{tmp_path}/-coco", f"{tmp_path}/-sd")
