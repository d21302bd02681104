# Names and numbers that every rule shares, and the checks that come before the first job.
import fcntl
import json
import math
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir)))
from workflow.scripts.check_config import faults
from workflow.scripts.places import folder_of, settle, unusable


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
    folder.mkdir(exist_ok=True)
    handle = open(folder / "alive", "w")
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

if found := faults(config, workflow.configfiles):
    stop(*found)
if wants_conda() and not shutil.which("conda"):
    stop(
        "--use-conda needs conda, and there is none on PATH: install Miniforge, or run `make .venv` and leave the flag out"
    )

if found := unusable(config, made="results/"):
    stop(*found)

R = f"results/{config['run']}"
DOWNLOADS = folder_of(config)
FETCH = config.get("fetch", {"hub": "", "offline": False, "licences": {}, "accept": []})
# From here on every model, extractor and data root is a local place; FETCHED says what has to be brought there.
settled, FETCHED = settle(config)
config.update(settled)
DRAWN = config["data"]["draw"] is not None
ROOT = f"{R}/coco" if DRAWN else config["data"]["root"]
PHOTOS = {"train": "train2014", "heldout": "train2014", "test": "val2014"}
METHODS = config["methods"]
ALIGNMENT = config["alignment"]
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
ALIGNED = {name for name, stanza in METHODS.items() if stanza.get("aligned")} | set(CANDIDATES)


wildcard_constraints:
    method="|".join(["real", *METHODS, *CANDIDATES]),
    split="train|heldout|test",
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


def stanza(method):
    return METHODS[ALIGNMENT["method"] if method in CANDIDATES else method]


def archive_of(photos):
    # A folder of the user's own may hold photos instead of zips: what it has is told when they are read.
    return f"{ROOT}/{photos}.zip" if DRAWN or f"coco/{photos}.zip" in FETCHED.files else []


def as_json(content):
    return json.dumps(content, sort_keys=True)


def model(method):
    return config["models"][stanza(method)["base"]]


def weights_of(extractor):
    # Without a hash of its own, a file is what the SHA256SUMS beside it say.
    path = extractor["path"]
    return path if "sha256" in extractor else str(Path(path).parent / "SHA256SUMS")


def eta_of(method):
    if method not in ALIGNED:
        return []
    return f"{R}/train/eta.json" if method in CANDIDATES else f"{R}/train/calibration.json"


def alignment_of(method):
    return f"{R}/train/alignment.safetensors" if method in ALIGNED else []


def measured(wildcards, input):
    if wildcards.method not in ALIGNED:
        return ""
    multiple = CANDIDATES.get(wildcards.method, 1.0)
    return f"--alignment {input.alignment} --eta {input.eta} --multiple {multiple}"


def needs(rule):
    # What a job of this rule asks a cluster for; both grow when a profile tries it again.
    own = config["resources"] | config["resources"].get("rules", {}).get(rule, {})
    return {
        "mem_mb": lambda wildcards, attempt: own["mem_mb"] * attempt,
        "runtime": lambda wildcards, attempt: own["runtime"] * attempt,
    }


def feature_shards(method, split):
    return expand(f"{R}/features/{method}/{split}/{{shard}}.npz", shard=sampled_shards(split))
