"""The text encoders a model folder may hold: CLIP, or the BERT-like encoder of the 2022 latent diffusion model."""

from pathlib import Path
from typing import TypeAlias

import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer

from hcma.sampling.weights import load_frozen

TextEncoder: TypeAlias = CLIPTextModel | LDMBertModel
Tokenizer: TypeAlias = CLIPTokenizer | BertTokenizer


def load_text_encoder(folder: str | Path) -> tuple[Tokenizer, TextEncoder]:
    """The tokenizer and the frozen encoder of a pipeline folder: `bert`, as latent diffusion names it, or CLIP's."""
    tokenizer = Path(folder) / "tokenizer"
    if (Path(folder) / "bert").is_dir():
        bert = load_frozen(LDMBertModel, folder, "bert")
        return BertTokenizer.from_pretrained(tokenizer, local_files_only=True), bert
    clip = load_frozen(CLIPTextModel, folder, "text_encoder")
    return CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True), clip


def read_tokens(encoder: TextEncoder, tokens_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states_BTD after the final norm and pooled_BD, one state a text.

    CLIP pools at the end-of-text token, before any projection. The latent diffusion encoder has no pooling of its own:
    BERT's is taken, the state at the first token; which one GLIGEN used there was never published.
    """
    encoded = encoder(tokens_BT)
    states_BTD = encoded.last_hidden_state
    return states_BTD, encoded.pooler_output if isinstance(encoder, CLIPTextModel) else states_BTD[:, 0]
