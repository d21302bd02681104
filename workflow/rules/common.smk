# Names and numbers that every rule shares, and the checks that come before the first job.
import fcntl
import json
import math
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir)))
from evaluation.files import write_json
from workflow.fetch import ask
from workflow.fetch.sources import Downloads
from workflow.scripts.check_config import faults
from workflow.scripts.places import folder_of, place, settle, stated, unstated, unusable
from workflow.scripts.room import Need, lacking, need_of_run


def stop(*lines):
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def wants_conda():
    # Snakemake's own message is "conda: command not found"; its settings object is internal, so it may be elsewhere.
    try:
        wanted = workflow.deployment_settings.deployment_method
    except AttributeError:
        return False
    return any(str(kind).rsplit(".", 1)[-1].lower() == "conda" for kind in wanted)


def drop_stale_locks():
    # Snakemake's own lock outlives a `kill -9`. This one, which the system holds for the life of the process, does not:
    # all that live share it, so whoever gets it alone finds only what the dead have left.
    folder = Path(".snakemake")
    try:
        folder.mkdir(exist_ok=True)
        handle = open(folder / "alive", "w")
    except OSError as error:
        stop(
            f"{folder.absolute()}: cannot be written ({error.strerror}); start Snakemake in a folder that can"
        )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for stale in (folder / "locks").glob("*.lock"):
            stale.unlink()
    except BlockingIOError:
        pass
    except OSError:
        return None  # a filesystem without such locks; Snakemake's own still holds
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


# Kept open until the process ends.
ALIVE = drop_stale_locks() if workflow.is_main_process else None


def configured_by():
    # The Snakefile's files, those of the command line, and its single values: Snakemake lists the first two in one, the first
    # last, but merges them in this order. Its settings are internal; without them all files are taken in the order listed.
    try:
        settings = workflow.config_settings
        over, given = list(settings.configfiles), dict(settings.config)
        own = [path for path in workflow.configfiles if path not in over]
        return [] if settings.replace_workflow_config else own, over, given
    except AttributeError:
        return workflow.configfiles, [], {}


def lost_on_the_way():
    # Values of --config that a cluster's jobs would not get as they are: Snakemake (9.27) quotes them as Python does, and a shell
    # reads that. Which executor it is, is known when the run starts, not before.
    try:
        words = list(workflow.config_settings.config_args or []) * workflow.non_local_exec
    except AttributeError:
        return []
    lost = [word for word in words if repr(word) != f"'{word}'"]
    return [
        f"the command line: {word}: Snakemake cannot hand apostrophes, backslashes and control characters on to a cluster's jobs;"
        " write the value into a file and give that with --configfile"
        for word in lost
    ]


if found := faults(config, *configured_by()):
    stop(*found)
if wants_conda() and not shutil.which("conda"):
    stop(
        "--use-conda needs conda, and there is none on PATH: install Miniforge, or run `make .venv` and leave the flag out"
    )

if found := unusable(config, made="results/"):
    stop(*found)

R = f"results/{config['run']}"


def check_writable(folder):
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        stop(
            f"{there}: cannot be written, but the results of `run: {config['run']}` go to {folder};"
            " make `results` a folder, or a link to one, that can"
        )


if workflow.is_main_process:
    check_writable(Path(R).absolute())
DOWNLOADS = folder_of(config)
SOURCES = Downloads.of(config)
GIVEN = dict(config)
# From here on every model, extractor and data root is a local place; SOURCES says what has to be brought there.
settled, _ = settle(config)
config.update(settled)
DRAWN = config["data"]["draw"] is not None
ROOT = f"{R}/coco" if DRAWN else config["data"]["root"]
PHOTOS = {"train": "train2014", "heldout": "train2014", "test": "val2014"}
# The reference set may be larger than the test sample (A33).
WIDE = config["evaluation"]["reference"] == "full_val"
if "val" in config["data"]:
    PHOTOS["val"] = "val2014"
REFERENCE = {split: "val" if WIDE and split == "test" else split for split in PHOTOS}
METHODS = config["methods"]
DEVICE = config["resources"]["device"]
ALIGNMENT = config["alignment"]
# Whose features the alignment module is trained on and pulls to: the backbone's own, or another encoder's.
TEXT = {"model": "backbone", "feature": "pooled"} | ALIGNMENT.get("text", {})
TEXT_FOLDER = config["models"][ALIGNMENT["base"] if TEXT["model"] == "backbone" else TEXT["model"]]
OWN_TEXT = TEXT == {"model": "backbone", "feature": "pooled"}
# With the noise loss, the aligned rows run on a denoiser (and a module) that is trained further: denoiser.smk.
NOISE = ALIGNMENT["train"].get("objective") == "align+noise"
TRAINED = f"{R}/train/noise" if NOISE else f"{R}/train"
# Candidates for eta: the aligned method with a multiple of the calibrated step, sampled on held-out layouts only.
CANDIDATES = {
    f"{ALIGNMENT['method']}_eta_{number}": multiple
    for number, multiple in enumerate(ALIGNMENT["calibrate"]["multiples"])
}


def runnable(rows):
    # A method whose model is null has no weights: its row shows the published values.
    return [row for row in rows if row == "real" or config["models"][METHODS[row]["base"]]]


ORDERED = list(dict.fromkeys(runnable([*config["tables"]["table1"], *config["tables"]["table2"]])))
ROWS = sorted(ORDERED)
RIVALS = [row for row in ROWS if row != "real"]
# significance.csv is every row against these.
AGAINST = [row for row in (ALIGNMENT["method"], ALIGNMENT["reference"]) if row in ROWS]
# The rows once more for every sampling seed after the first, which the tables are of: a row and its seed.
REPEATS = {
    f"{row}_seed_{seed}": (row, seed)
    for row in ORDERED
    for seed in config.get("seeds", [])[1:]
    if row != "real"
}
ALIGNED = {name for name, stanza in METHODS.items() if stanza.get("aligned")} | set(CANDIDATES)
ALIGNED |= {name for name, (row, _) in REPEATS.items() if row in ALIGNED}


# What people look at, in the order of the report.
TABLES = ["table1", "table2", "best", "significance", "adherence", "distances", "cost"]
FIGURES = ["panel", "metrics", "sizes", "categories", "training", "calibration"]
SHOWN = [
    *expand(f"{R}/tables/{{name}}.csv", name=TABLES + (["seeds"] if REPEATS else [])),
    *expand(f"{R}/figures/{{name}}.{{kind}}", name=FIGURES, kind=["png", "svg"]),
]


wildcard_constraints:
    method="|".join(["real", *METHODS, *CANDIDATES, *REPEATS]),
    split="|".join(PHOTOS),
    shard="[0-9]{4}",
    table="1|2",


def numbered(images):
    return [f"{number:04d}" for number in range(math.ceil(images / config["data"]["shard_size"]))]


def shards(split):
    return numbered(config["data"][split]["count"])


def sampled_shards(split):
    # Training sees all that is held out; eta's candidates are sampled on the first of it.
    if split == "heldout":
        return numbered(ALIGNMENT["calibrate"].get("images", config["data"]["heldout"]["count"]))
    return shards(split)


# Shards of layouts that one job encodes into one file.
ENCODED_TOGETHER = config["resources"].get("encode_shards", 20)


def encoded_shards(wildcards):
    first = int(wildcards.part) * ENCODED_TOGETHER
    return shards(wildcards.split)[first : first + ENCODED_TOGETHER]


def latents(split):
    parts = range(0, len(shards(split)), ENCODED_TOGETHER)
    return [f"{R}/train/latents/{split}/{number:04d}.safetensors" for number in range(len(parts))]


def stanza(method):
    if method in REPEATS:
        row, seed = REPEATS[method]
        return METHODS[row] | {"sampling": METHODS[row].get("sampling", {}) | {"seed": seed}}
    return METHODS[ALIGNMENT["method"] if method in CANDIDATES else method]


def archive_of(photos):
    # A folder of the user's own may hold photos instead of zips: what it has is told when they are read.
    return f"{ROOT}/{photos}.zip" if DRAWN or f"coco/{photos}.zip" in SOURCES.files else []


def annotations_of(root):
    kinds = [(kind, split) for kind in ("instances", "captions") for split in ("train", "val")]
    return [stated(f"{root}/annotations/{kind}_{split}2014.json") for kind, split in kinds]


def as_json(content):
    return json.dumps(content, sort_keys=True)


def sums_of(folder):
    # Of a model, or of the folder of a file without a hash of its own.
    return stated(f"{folder}/SHA256SUMS")


def base(method):
    return config["models"][stanza(method)["base"]]


def noise_trains():
    train = ALIGNMENT["train"]
    parts = {
        train.get("train_denoiser", "none"): True,
        "alignment": train.get("second_order", False),
    }
    return [part for part, trained in parts.items() if trained and part != "none"]


def retrained(method):
    return NOISE and method in ALIGNED and stanza(method)["base"] == ALIGNMENT["base"]


def model(method):
    return f"{TRAINED}/model" if retrained(method) else base(method)


def weights_of(extractor):
    # Without a hash of its own, a file is what the SHA256SUMS beside it say.
    path = extractor["path"]
    return stated(path) if "sha256" in extractor else sums_of(Path(path).parent)


def eta_of(method):
    if method not in ALIGNED:
        return []
    return f"{R}/train/eta.json" if method in CANDIDATES else f"{R}/train/calibration.json"


def alignment_of(method):
    return f"{TRAINED}/alignment.safetensors" if method in ALIGNED else []


def text_of(method):
    return [] if OWN_TEXT or method not in ALIGNED else sums_of(TEXT_FOLDER)


def measured(wildcards, input):
    if wildcards.method not in ALIGNED:
        return ""
    multiple = CANDIDATES.get(wildcards.method, 1.0)
    text = "" if OWN_TEXT else f"--text {shlex.quote(TEXT_FOLDER)} --text-feature {TEXT['feature']}"
    trained = f"--trained {' '.join(noise_trains())}" if retrained(wildcards.method) else ""
    return f"--alignment {input.alignment} --eta {input.eta} --multiple {multiple} {text} {trained}".rstrip()


def protocol():
    # The options of evaluation.protocol.
    regions, resolution = config["regions"], config["evaluation"]["resolution"]
    words = [f"--label-template={regions['label_template']}", "--min-side", regions["min_side"]]
    words += ["--region-resize", regions["resize"], "--region-pad", regions["pad"]]
    if regions["max_per_image"]:
        words += ["--max-per-image", regions["max_per_image"]]
    if resolution:
        words += ["--resolution", resolution]
    return shlex.join(map(str, words))


def reference_set(split):
    return config["evaluation"]["reference"] if split == "test" else "same_ids"


def needs(rule):
    # What a job of this rule asks a cluster for; both grow when a profile tries it again.
    own = config["resources"] | config["resources"].get("rules", {}).get(rule, {})
    return {
        "mem_mb": lambda wildcards, attempt: own["mem_mb"] * attempt,
        "runtime": lambda wildcards, attempt: own["runtime"] * attempt,
    }


def feature_shards(method, split):
    return expand(f"{R}/features/{method}/{split}/{{shard}}.npz", shard=sampled_shards(split))


def metrics_of_run(run):
    if not run:
        stop("compare needs two runs: --config first=RUN second=RUN, folders of results/")
    found = sorted(map(str, Path("results").glob(f"{run}/metrics/*/test.json")))
    return found or stop(f"results/{run}: no metrics/*/test.json; finish that run first")


def partners(method):
    # Later rows that some table compares it with: those that share a table with it, and all where one is compared with.
    tables = [set(rows) for rows in config["tables"].values()]
    later = RIVALS[RIVALS.index(method) + 1 :]
    return [
        row
        for row in later
        if {method, row} & set(AGAINST) or any({method, row} <= rows for rows in tables)
    ]


def swaps():
    return [f"{R}/swaps/{row}.json" for row in RIVALS if partners(row)]


def passed_at():
    # When they were passed, once there was something to make anew; None before that.
    passed = Path(f"{R}/checks/passed")
    return passed.stat().st_mtime_ns if passed.exists() and Path(f"{R}/layouts").exists() else None


PASSED_AT = passed_at()


def checks_are_new():
    return PASSED_AT not in (None, passed_at())
