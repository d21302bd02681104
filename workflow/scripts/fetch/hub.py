"""What a repository of the model hub holds at one commit, and which of its files a pipeline folder needs."""

import json
import re
from functools import partial
from typing import Any

from formats.files import InputError
from workflow.scripts.fetch.request import Access, open_url
from workflow.scripts.fetch.sources import Source
from workflow.scripts.fetch.transfer import retrying

LIMIT = 64 << 20  # bytes of an answer that is JSON
COMMIT = re.compile(r"[0-9a-f]{40}")
PLAIN = re.compile(r"model_index\.json|scheduler/scheduler_config\.json|tokenizer/\w[\w.-]*\.(?:json|txt|model)")
COMPONENTS = ("unet", "vae", "vqvae", "text_encoder", "bert")
# The first that is there: tensors alone before pickles.
WEIGHTS = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
NEEDED = (("unet",), ("vae", "vqvae"), ("text_encoder", "bert"))


def list_repository(repo: str, revision: str, access: Access) -> dict[str, Any]:
    """The hub's description of `repo` at a full commit hash; raises InputError, which for a short hash names the full one."""
    if not COMMIT.fullmatch(revision):
        raise InputError(f"{repo}: revision {revision!r} is no full commit hash{_full(repo, revision, access)}")
    described = _read_json(f"{access.hub}/api/models/{repo}/revision/{revision}?blobs=true", access)
    if not isinstance(described, dict) or not isinstance(described.get("siblings"), list):
        raise InputError(f"{access.hub}: no list of the files of {repo} in its answer; is this a model hub?")
    if described.get("sha") != revision:
        raise InputError(f"{repo}: the hub answered for commit {described.get('sha')}, expected {revision}")
    return described


def _full(repo: str, revision: str, access: Access) -> str:
    commits = _read_json(f"{access.hub}/api/models/{repo}/commits/main", access)
    ids = [str(row.get("id")) for row in commits if isinstance(row, dict)] if isinstance(commits, list) else []
    found = ids[:1] if revision == "main" else [id for id in ids if id.startswith(revision)]
    return (
        f"; the hub has {found[0]}, put that into the config" if found else ", and the hub knows no such commit on main"
    )


def _read_json(url: str, access: Access) -> Any:
    content = retrying(partial(_read, url, access), lambda: 0, access)
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{url}: not JSON, but {content[:40]!r}; is fetch.hub a model hub?") from None


def _read(url: str, access: Access) -> bytes:
    with open_url(url, {}, access) as answer:
        return answer.read(LIMIT)


def sources_of(repo: str, described: dict[str, Any], access: Access) -> list[Source]:
    """The files that a pipeline is loaded from: configurations, tokenizer, and of each network the weights once."""
    rows = {str(row.get("rfilename")): row for row in described["siblings"] if isinstance(row, dict)}
    names = [name for name in rows if PLAIN.fullmatch(name)]
    for component in COMPONENTS:
        weights = [f"{component}/{name}" for name in WEIGHTS if f"{component}/{name}" in rows]
        if weights and f"{component}/config.json" in rows:
            names += [f"{component}/config.json", weights[0]]
    for alternatives in NEEDED:
        if not any(name.partition("/")[0] in alternatives for name in names):
            raise InputError(
                f"{repo}: no {' or '.join(alternatives)}/config.json with one of {', '.join(WEIGHTS)} beside it"
            )
    base = f"{access.hub}/{repo}/resolve/{described['sha']}"
    return [_source(f"{base}/{name}", rows[name]) for name in sorted(names)]


def _source(url: str, row: dict[str, Any]) -> Source:
    """Large files are known by their SHA-256, small ones by the id that git gives their contents."""
    large, name = row.get("lfs") or {}, str(row["rfilename"])
    if large:
        return Source(name, (url,), large.get("size") or row.get("size"), sha256=large.get("sha256"))
    return Source(name, (url,), row.get("size"), git=row.get("blobId"))
