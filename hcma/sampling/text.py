"""The text encoders a model folder may hold: CLIP, or the BERT-like encoder of the 2022 latent diffusion model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from transformers import BertTokenizer, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from formats.checksums import verify_folder
from formats.files import InputError, read_json
from hcma.sampling.weights import load_frozen, load_pretrained

TextEncoder: TypeAlias = CLIPTextModel | LDMBertModel
Tokenizer: TypeAlias = CLIPTokenizer | BertTokenizer
FEATURES = ("pooled", "projected")


@dataclass(frozen=True)
class TextFeatures:
    """Texts to one feature each: a projecting encoder's text_embeds, any other's pooled states."""

    tokenizer: Tokenizer
    encoder: TextEncoder | CLIPTextModelWithProjection

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """features_BD on the encoder's device."""
        tokens_BT = tokenize(self.tokenizer, texts, self.encoder.config.max_position_embeddings).to(self.encoder.device)
        if isinstance(self.encoder, CLIPTextModelWithProjection):
            return self.encoder(tokens_BT).text_embeds
        return read_tokens(self.encoder, tokens_BT)[1]


def load_text_features(folder: str | Path, feature: str, device: str | torch.device = "cpu") -> TextFeatures:
    """The encoder in `text_encoder/` (or `bert/`) of a folder, checked against its SHA256SUMS; `feature` is one of FEATURES.

    Raises InputError, also for `projected` where the encoder has no projection, as Stable Diffusion's has none.
    """
    verify_folder(folder)
    if not _projects(Path(folder)):
        if feature == "projected":
            raise InputError(
                f"{folder}: feature `projected` needs a CLIPTextModelWithProjection in text_encoder/, which is not there;"
                " take another encoder, or `pooled`"
            )
        tokenizer, encoder = load_text_encoder(folder)
        return TextFeatures(tokenizer, encoder.to(device))
    whole = load_frozen(CLIPTextModelWithProjection, folder, "text_encoder").to(device)
    clip = load_pretrained(CLIPTokenizer, Path(folder) / "tokenizer")
    return TextFeatures(clip, whole if feature == "projected" else whole.text_model)


def _projects(folder: Path) -> bool:
    if (folder / "bert").is_dir():
        return False
    return "CLIPTextModelWithProjection" in read_json(folder / "text_encoder/config.json").get("architectures", ())


def load_text_encoder(folder: str | Path) -> tuple[Tokenizer, TextEncoder]:
    """The tokenizer and the frozen encoder of a pipeline folder: `bert`, as latent diffusion names it, or CLIP's."""
    tokenizer = Path(folder) / "tokenizer"
    if (Path(folder) / "bert").is_dir():
        bert = load_frozen(LDMBertModel, folder, "bert")
        return load_pretrained(BertTokenizer, tokenizer), bert
    clip = load_frozen(CLIPTextModel, folder, "text_encoder")
    return load_pretrained(CLIPTokenizer, tokenizer), clip


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> torch.Tensor:
    """tokens_BT, padded and truncated to `limit`, start and end included."""
    options = {"padding": "max_length", "max_length": limit, "truncation": True, "return_tensors": "pt"}
    return tokenizer(list(texts), **options).input_ids


def read_tokens(encoder: TextEncoder, tokens_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states_BTD after the final norm and pooled_BD, one state a text.

    CLIP pools at the end-of-text token, before any projection. The latent diffusion encoder has no pooling of its own:
    BERT's is taken, the state at the first token; which one GLIGEN used there was never published.
    """
    encoded = encoder(tokens_BT)
    states_BTD = encoded.last_hidden_state
    return states_BTD, encoded.pooler_output if isinstance(encoder, CLIPTextModel) else states_BTD[:, 0]
