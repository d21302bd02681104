"""A pipeline folder, or that of one network, from the model hub at one commit, through huggingface_hub: verified, and sealed
when it is whole.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from formats.checksums import SUMS, write_sums
from formats.files import InputError, read_json, write_json
from workflow.fetch.download import Expected, Network, alone, verify
from workflow.inputs import WEIGHTS as NETWORK_WEIGHTS
from workflow.settings import HubNetwork, Model

RECORD = "SOURCE.json"
COMMIT = re.compile(r"[0-9a-f]{40}")
PLAIN = re.compile(r"model_index\.json|scheduler/scheduler_config\.json|tokenizer/\w[\w.-]*\.(?:json|txt|model)")
# Of a repository of one network, which has all at its top.
NETWORK = re.compile(
    r"(?:config|preprocessor_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json"
    r"|vocab\.txt|merges\.txt"
)
COMPONENTS = ("unet", "vae", "vqvae", "text_encoder", "bert")
# The first that is there: tensors alone before pickles, and never half precision.
WEIGHTS = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
NEEDED = (("unet",), ("vae", "vqvae"), ("text_encoder", "bert"))


def fetch_model(model: Model, folder: Path, network: Network) -> None:
    """Fill the folder, its SHA256SUMS last; raises InputError.

    huggingface_hub leaves whole files alone that are there and unchanged; those of another commit that this one lacks are
    removed. SOURCE.json names repository, commit, licence, and every file's size and SHA-256.
    """
    with alone(folder):
        info, needed = listed(model, folder, network)
        for left in folder.glob(".cache/huggingface/**/*.incomplete"):  # by a killed program; no other is at work here
            left.unlink()
        for stale in set(_record(folder).get("files", ())) - set(needed):
            (folder / stale).unlink(missing_ok=True)
        _snapshot(model, folder, network, needed)
        digests = {name: _verified(folder / name, expected) for name, expected in needed.items()}
        files = {name: {"size": (folder / name).stat().st_size, "sha256": digests[name]} for name in digests}
        record = model.model_dump(include={"hub", "revision", "licence"}) | {
            "licence_tag": _licence_tag(info),
            "files": files,
        }
        write_json(folder / RECORD, record)
        write_sums(folder, digests)


def model_still_to_come(model: Model, folder: Path, network: Network) -> int:
    """Bytes that `fetch_model` would load; raises InputError when the repository is not as it has to be, or is gated."""
    record = _record(folder)
    if (folder / SUMS).exists() and (record.get("hub"), record.get("revision")) == (model.hub, model.revision):
        return 0
    _, needed = listed(model, folder, network)
    answers = _snapshot(model, folder, network, needed, dry_run=True)
    return sum(answer.file_size or 0 for answer in answers if answer.will_download)


def _record(folder: Path) -> dict[str, Any]:
    """What SOURCE.json says of the folder's files; empty where there is none."""
    return read_json(folder / RECORD) if (folder / RECORD).exists() else {}


def _repository(model: Model) -> tuple[str, str]:
    """Repository and commit; raises InputError for a folder of the user's own, which has none."""
    if model.hub is None or model.revision is None:
        raise InputError(f"{model.path}: a folder, not a repository: nothing of it is fetched")
    return model.hub, model.revision


def _snapshot(model: Model, folder: Path, network: Network, needed: Iterable[str], dry_run: bool = False) -> Any:
    hub, revision = _repository(model)
    with _one_line(model, network):
        return snapshot_download(
            hub,
            revision=revision,
            allow_patterns=list(needed),
            local_dir=folder,
            endpoint=network.hub,
            token=network.token,
            dry_run=dry_run,
        )


def listed(model: Model, folder: Path, network: Network) -> tuple[ModelInfo, dict[str, Expected]]:
    """The hub's description of the commit, and the files that a pipeline is loaded from; raises InputError."""
    if network.offline:
        wanted = f"models.{folder.name} a folder that holds"
        if isinstance(model, HubNetwork):
            wanted = f"extractors.{folder.name} the path of {NETWORK_WEIGHTS} in a folder that holds"
        raise InputError(
            f"offline (HF_HUB_OFFLINE or fetch.offline): give {wanted} {model.hub} at {model.revision}, sealed by"
            " `python -m workflow.fetch seal FOLDER`"
        )
    hub, revision = _repository(model)
    api = HfApi(endpoint=network.hub, token=network.token)
    with _one_line(model, network):
        if not COMMIT.fullmatch(revision):
            full = [id for commit in api.list_repo_commits(hub) if (id := commit.commit_id).startswith(revision)]
            known = f"; the hub has {full[0]}, put that into the config" if full else ", and main has no such commit"
            raise InputError(f"{hub}: revision {revision!r} is no full commit hash{known}")
        info = api.model_info(hub, revision=revision, files_metadata=True)
    if info.sha != revision:
        raise InputError(f"{hub}: the hub answered for commit {info.sha}, expected {revision}")
    if _licence_tag(info) not in (None, model.licence):
        raise InputError(f"{hub}: its licence is {_licence_tag(info)!r}, the config says {model.licence!r}")
    return info, _needed(model, {row.rfilename: row for row in info.siblings or []})


def _needed(model: Model, rows: dict[str, RepoSibling]) -> dict[str, Expected]:
    """Configurations, tokenizer, and of each network the weights once; raises InputError where some are not there."""
    if isinstance(model, HubNetwork):
        names = [name for name in rows if NETWORK.fullmatch(name)]
        if lacking := {"config.json", NETWORK_WEIGHTS} - rows.keys():
            raise InputError(f"{model.hub}: no {' and no '.join(sorted(lacking))} at its top")
        return _expected([*names, NETWORK_WEIGHTS], rows)
    names = [name for name in rows if PLAIN.fullmatch(name)]
    for component in COMPONENTS:
        weights = [f"{component}/{name}" for name in WEIGHTS if f"{component}/{name}" in rows]
        if weights and f"{component}/config.json" in rows:
            names += [f"{component}/config.json", weights[0]]
    for alternatives in NEEDED:
        if not any(name.partition("/")[0] in alternatives for name in names):
            raise InputError(
                f"{model.hub}: no {' or '.join(alternatives)}/config.json with one of {', '.join(WEIGHTS)} beside it"
            )
    return _expected(names, rows)


def _expected(names: Iterable[str], rows: dict[str, RepoSibling]) -> dict[str, Expected]:
    """Large files are known by their SHA-256, small ones by the id that git gives their contents."""
    needed = {}
    for name in sorted(names):
        row = rows[name]
        needed[name] = Expected(row.size, sha256=row.lfs.sha256) if row.lfs else Expected(row.size, git=row.blob_id)
    return needed


def _licence_tag(info: ModelInfo) -> str | None:
    return info.card_data.license if info.card_data else None


def _verified(path: Path, expected: Expected) -> str:
    """Its SHA-256; huggingface_hub checks sizes alone. A file that is wrong is removed, so that the next start fetches it."""
    try:
        return verify(path, expected)
    except FileNotFoundError:
        raise InputError(f"{path}: did not arrive; run again") from None
    except InputError as error:
        path.unlink()
        raise InputError(f"{error}; it was removed, run again to fetch it") from None


@contextmanager
def _one_line(model: Model, network: Network) -> Iterator[None]:
    """Every error of the hub as an InputError of one line that says what to do."""
    try:
        yield
    except InputError:
        raise
    except (HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        cause = error if isinstance(error, HfHubHTTPError) or not error.__cause__ else error.__cause__
        raise InputError(f"{model.hub}: {_meaning(cause, model, network)}") from None


def _meaning(error: BaseException, model: Model, network: Network) -> str:
    page = f"{network.hub}/{model.hub}"
    if isinstance(error, RevisionNotFoundError):
        return f"no commit {model.revision} at {network.hub}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):  # a GatedRepoError is one
        kind = "gated" if isinstance(error, GatedRepoError) else "no such repository, or a gated one"
        if network.token:
            return f"{kind}: the token in HF_TOKEN does not open it: accept its licence on {page} with that account"
        return f"{kind}: accept its licence on {page} and give your access token in HF_TOKEN"
    if isinstance(error, HfHubHTTPError):
        return f"{status} {error.response.reason_phrase}: {error.response.url}"
    if isinstance(error, (ValueError, KeyError, TypeError)):
        return f"{network.hub} does not answer as a hub does ({type(error).__name__}); is fetch.hub a model hub?"
    return f"{network.hub}: {str(error).strip().partition(chr(10))[0] or type(error).__name__}; run again to go on"
