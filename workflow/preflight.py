"""What has to hold before the first job: checked when Snakemake reads the rules and when it starts, or alone.

    python -m workflow.preflight --configfile workflow/config/paper.yaml

Reading the rules, `begin` refuses a configuration with faults, weights and folders that are not there, and a folder that cannot
be written. `start` comes before the first job, never in a dry run: it writes config.json and then checks what takes seconds,
as far as the planned jobs need it: the parameters of every method and metric, room on the disk, every source of a download, and
the device where this machine is the one that works. All faults are printed at once, a line each. Nothing is kept of a check
that passed.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from evaluation.layouts import read_layout_rows
from formats.cli import is_one_word, options, quick_imports
from formats.files import InputError, write_json
from workflow.consistency import own_metric_faults, parameter_faults
from workflow.inputs import linked, unusable
from workflow.overlays import merged
from workflow.plan import Plan, read_plan, run_of
from workflow.products import STUDY, clashes
from workflow.settings import SettingsError, read

# Rules before whose jobs each check is made.
BEFORE = {
    "methods": {"fetch_file", "fetch_model", "prepare_layouts", "write_method", "pilot"},
    "metrics": {"fetch_file", "fetch_model", "prepare_layouts", "write_method", "extract_features", "measure"},
    "disk": {
        "fetch_file",
        "fetch_model",
        "prepare_layouts",
        "sample_real",
        "cache_latents",
        "sample",
        "extract_features",
    },
    "sources": {"fetch_file", "fetch_model"},
    "images": {"import_images"},
    "image_files": {"import_images"},
}
DEVICE = "device"
# Kept open until the process ends.
_alive: list[TextIO] = []


def begin(workflow: Any, config: dict[str, Any]) -> Plan:
    """The plan of Snakemake's configuration; ends the process with one line for each of its faults."""
    if workflow.is_main_process:
        drop_stale_locks()
    try:
        settings = read(config, *configured_by(workflow))
    except SettingsError as error:
        stop(error.faults)
    if wants_conda(workflow) and not shutil.which("conda"):
        stop(
            [
                "--use-conda needs conda, and there is none on PATH: install Miniforge, or run `make .venv` and leave it out"
            ]
        )
    plan = Plan(settings)
    if found := clashes(plan) + unusable(settings, made="results/"):
        stop(found)
    if workflow.is_main_process and (found := outside(plan)):
        stop(found)
    if workflow.is_main_process and (found := unwritable(Path(plan.path.folder).absolute(), settings.run)):
        stop(found)
    return plan


def start(workflow: Any, plan: Plan) -> None:
    """What comes before the first job; ends the process with one line for each fault."""
    from workflow.provenance import lineage_of

    if found := lost_on_the_way(workflow):
        stop(found)
    plan.write_config()
    write_json(Path(plan.path.lineage), lineage_of(workflow.dag.jobs, plan.path.folder))
    planned = list(workflow.dag.needrun_jobs())
    rules = {job.rule.name for job in planned}
    checks = [check for check, before in BEFORE.items() if rules & before]
    # Layouts that are yet to be made, or to be made anew, are none to hold names against.
    checks = [check for check in checks if check != ("images" if "prepare_layouts" in rules else "image_files")]
    # On a cluster, the rule check_device asks where the work will run.
    if not workflow.non_local_exec and any(job.resources.get("gpu") for job in planned):
        checks.append(DEVICE)
    if checks:
        command = [sys.executable, "-m", "workflow.preflight", "--config", plan.path.config, "--check", *checks]
        if subprocess.run(command, check=False).returncode:
            sys.exit(1)


def metrics_of_runs(*runs: str | None) -> list[str]:
    """What finished runs have measured, each its metrics files or its bundle; ends the process where there is none."""
    found = []
    for run in runs:
        if not run:
            stop(["compare needs two runs: --config first=RUN second=RUN, folders of results/ or bundles"])
        path = run_of(run)
        if run.endswith(".zip"):
            found.append(linked(path) if Path(path).is_file() else stop([f"{path}: no such file, expected a bundle"]))
            continue
        files = sorted(map(str, Path(path).glob("metrics/*/test.json")))
        found += files or stop([f"{path}: no metrics/*/test.json; finish that run first"])
    return found


def study_of(plan: Plan) -> str:
    """The table that `snakemake study` prints; ends the process where the configuration has no study."""
    if not plan.readings:
        stop(["study needs the section `study`: --configfile FILE with one (docs/study.md)"])
    return plan.path.table(STUDY, "md")


def main() -> None:
    parser = options(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--configfile", type=Path, nargs="+", default=[], help="as Snakemake's")
    which.add_argument("--config", type=Path, help="a run's config.json instead")
    parser.add_argument("--check", nargs="+", choices=list(CHECKS), default=list(CHECKS), help="all of them by default")
    arguments = parser.parse_args()
    try:
        own = Plan(read(merged(arguments.configfile), [], arguments.configfile)) if not arguments.config else None
    except SettingsError as error:
        stop(error.faults)
    plan = own or read_plan(arguments.config)
    # The sources' check is one of the disk, too: of downloads and run together.
    checks = [check for check in arguments.check if check != "disk" or "sources" not in arguments.check]
    if found := list(dict.fromkeys(fault for check in checks for fault in CHECKS[check](plan))):
        stop(found)


def disk(plan: Plan) -> list[str]:
    """One line for each disk without room for the run."""
    from workflow.disk_space import lacking, need_of_run

    return lacking([need_of_run(plan)])


def sources(plan: Plan) -> list[str]:
    """One line for each licence not accepted, else for each download that cannot be had and each disk without room for all."""
    from workflow import fetch
    from workflow.disk_space import Need, lacking, need_of_run

    settings = plan.settings.fetch
    if not settings or not plan.downloads.files | plan.downloads.models:
        return disk(plan)
    if found := fetch.refused(plan.downloads, settings):
        return found
    sizes, faults = fetch.ask(plan.downloads, settings)
    needs = [Need(name, Path(plan.downloads.folder), size) for name, size in sizes.items() if size]
    return faults + lacking([*needs, need_of_run(plan)])


def outside(plan: Plan) -> list[str]:
    """One line where a row made elsewhere or a layout set cannot be taken, or where no row has images to be looked at."""
    try:
        plan.layouts_key, plan.import_keys  # noqa: B018
        return [] if plan.pictured or not plan.rows else ["tables: no row with images; take a bundle with images"]
    except InputError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]


def images(plan: Plan) -> list[str]:
    """One line for each kind of fault that names of images made elsewhere, against the layouts, and headers show."""
    if not plan.layouts_are_made:
        return []
    return import_faults(plan, [row for path in plan.layout_shards("test") for row in read_layout_rows(Path(path))])


def image_files(plan: Plan) -> list[str]:
    """The same without layouts: whether there are as many files of such names, and their headers."""
    return import_faults(plan, [])


def import_faults(plan: Plan, layouts: list[dict[str, Any]]) -> list[str]:
    from evaluation.datasets.outside import faults_of

    return [line for row in plan.imported for line in faults_of(plan.outside_row(row), layouts, plan.count("test"))]


def device(plan: Plan) -> list[str]:
    """One line for each configured device that is not on this machine."""
    with quick_imports():
        from formats.device import take_device

    found = []
    for wanted in dict.fromkeys([plan.settings.resources.device, plan.evaluation_device]):
        try:
            # The first GPU, held or not: this must not wait for a job's.
            take_device("cuda:0" if wanted == "cuda" else wanted)
        except InputError as error:
            found.append(str(error))
    return found


CHECKS: dict[str, Callable[[Plan], list[str]]] = {
    "methods": lambda plan: parameter_faults(plan.settings),
    "metrics": lambda plan: own_metric_faults(plan.settings),
    "disk": disk,
    "sources": sources,
    "images": images,
    "image_files": image_files,
    DEVICE: device,
}


def stop(lines: Iterable[str]) -> NoReturn:
    """End the process with one line for each fault."""
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def wants_conda(workflow: Any) -> bool:
    # Snakemake's own message is "conda: command not found"; its settings object is internal, so it may be elsewhere.
    try:
        wanted = workflow.deployment_settings.deployment_method
    except AttributeError:
        return False
    return any(str(kind).rsplit(".", 1)[-1].lower() == "conda" for kind in wanted)


def drop_stale_locks() -> None:
    """Remove Snakemake's locks of processes that were killed: its own outlive a `kill -9`.

    The lock taken here, which the system holds for the life of the process, does not: all that live share it, so whoever gets
    it alone finds only what the dead have left.
    """
    folder = Path(".snakemake")
    try:
        folder.mkdir(exist_ok=True)
        handle = open(folder / "alive", "w")  # noqa: SIM115
    except OSError as error:
        stop([f"{folder.absolute()}: cannot be written ({error.strerror}); start Snakemake in a folder that can"])
    _alive.append(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for stale in (folder / "locks").glob("*.lock"):
            stale.unlink()
    except BlockingIOError:
        pass
    except OSError:
        return  # a filesystem without such locks; Snakemake's own still holds
    fcntl.flock(handle, fcntl.LOCK_SH)


def configured_by(workflow: Any) -> tuple[list[Path], list[Path], dict[str, Any]]:
    """The Snakefile's configuration files, those of the command line, and its single values.

    Snakemake lists the first two in one, the first last, but merges them in this order. Its settings are internal; without them
    all files are taken in the order listed.
    """
    try:
        settings = workflow.config_settings
        over, given = list(settings.configfiles), dict(settings.config)
        own = [path for path in workflow.configfiles if path not in over]
        return [] if settings.replace_workflow_config else own, over, given
    except AttributeError:
        return workflow.configfiles, [], {}


def lost_on_the_way(workflow: Any) -> list[str]:
    """Values of --config, and a Python, that a cluster's jobs would not get as they are.

    Snakemake (9.27) quotes the former as Python does, and the latter not at all, and a shell reads that. Which executor it is,
    is known when the run starts, not before.
    """
    try:
        elsewhere, words = workflow.non_local_exec, list(workflow.config_settings.config_args or [])
    except AttributeError:
        return []
    if not elsewhere:
        return []
    lost = [word for word in words if repr(word) != f"'{word}'"]
    split = [sys.executable] * (not is_one_word(sys.executable))
    return [
        f"{python}: Snakemake does not quote the path of its Python for a cluster's jobs, whose shell would read it otherwise;"
        " install into a folder whose path holds letters, digits and _ . / - alone"
        for python in split
    ] + [
        f"the command line: {word}: Snakemake cannot hand apostrophes, backslashes and control characters on to a"
        " cluster's jobs; write the value into a file and give that with --configfile"
        for word in lost
    ]


def unwritable(folder: Path, run: str) -> list[str]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return []
    text = f"{there}: cannot be written, but the results of `run: {run}` go to {folder}"
    return [f"{text}; make `results` a folder, or a link to one, that can"]


if __name__ == "__main__":
    main()
