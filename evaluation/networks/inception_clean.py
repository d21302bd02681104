"""Inception V3 features after clean-fid's `clean` mode."""

from typing import Any

import torch

from evaluation.extractors import Extractor
from evaluation.networks import Stanza
from evaluation.networks.inception import of_mode


def extractor(stanza: Stanza, params: Any, device: torch.device) -> Extractor:
    """As `of_mode`."""
    return of_mode("clean", stanza, device)
