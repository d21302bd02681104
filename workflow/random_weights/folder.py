"""A model folder of random weights in the hub's layout, with its SHA256SUMS."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from formats.checksums import SUMS, digests, write_sums
from formats.files import InputError, write_json
from workflow.random_weights.architecture import CLASSES, Architecture, Network, check_count, read_architecture
from workflow.random_weights.containers import write_tensors
from workflow.random_weights.values import random_value
from workflow.random_weights.vocabulary import write_tokenizer

CARD = "README.md"
TITLE = "# Random weights\n"


def write_folder(name: str, seed: int, out: Path) -> None:
    """Write the whole folder, its SHA256SUMS last: without them no program takes it. Raises InputError."""
    architecture = read_architecture(name)
    _clear(out)
    (out / CARD).write_text(
        f"{TITLE}\nFiles as of {architecture.hub}; values by a rule from seed {seed}: not a trained model.\n"
    )
    for folder, network in architecture.components.items():
        write_network(network, folder, seed, out / folder)
    write_pipeline_files(architecture, out)
    write_sums(out, digests(out))


def write_network(network: Network, name: str, seed: int, folder: Path) -> None:
    """Write a network's configuration and weights after checking its number of parameters."""
    model = network.build()
    check_count(name, model, network.parameters)
    if network.by == "transformers":
        write_pretrained(network, name, seed, folder)
        return
    state = {key: torch.tensor(number) for key, number in network.beside.items()}
    for key, like in network.stored(model).items():
        state[network.published_name(key)] = random_value(f"{name}.{key}", like, seed).to(like.dtype)
    folder.mkdir(parents=True, exist_ok=True)
    if network.config:
        write_json(folder / "config.json", network.config)
    write_tensors(state, network.container, folder / network.file)


def write_pretrained(network: Network, name: str, seed: int, folder: Path) -> None:
    """Write a network of transformers as its class does: its configuration, and the weights by their published names."""
    model: Any = CLASSES[network.kind](network.config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():  # of those that are one, the first
            parameter.copy_(random_value(f"{name}.{key}", parameter, seed))
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        logging.enable_progress_bar()


def write_pipeline_files(architecture: Architecture, out: Path) -> None:
    """model_index.json, the scheduler and the tokenizer, for an architecture that has them."""
    if architecture.model_index:
        write_json(out / "model_index.json", architecture.model_index)
    if architecture.scheduler:
        write_json(out / "scheduler" / "scheduler_config.json", architecture.scheduler)
    if architecture.tokenizer:
        write_tokenizer(out / "tokenizer" if architecture.model_index else out, architecture.tokenizer)


def _clear(out: Path) -> None:
    """An empty folder; whatever this program did not write stays, and is refused."""
    out.mkdir(parents=True, exist_ok=True)
    if not any(out.iterdir()):
        return
    card = out / CARD
    if not card.is_file() or not card.read_text().startswith(TITLE):
        raise InputError(f"{out}: not empty, and not written by this program; remove it or give another --out")
    (out / SUMS).unlink(missing_ok=True)  # first: what is left of a folder is no folder
    for path in out.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != card:
            path.unlink()
