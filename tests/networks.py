"""Small networks of the published classes with random weights, as folders of the hub, for tests."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
)
from transformers.utils import logging

from formats.checksums import digests, write_sums
from workflow.random_weights.vocabulary import write_tokenizer

CLIP_WORDS = 49408
GROUNDING = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 20,
    "d_model": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1],
        "window_size": 4,
        "image_size": 64,
        "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
OWL = {
    "projection_dim": 32,
    "text_config": TOWER | {"vocab_size": CLIP_WORDS, "max_position_embeddings": 16},
    "vision_config": TOWER | {"image_size": 96, "patch_size": 16},
}
CLIP = {
    "projection_dim": 16,
    "text_config": TOWER | {"vocab_size": CLIP_WORDS, "bos_token_id": 49406, "eos_token_id": 49407},
    "vision_config": TOWER | {"image_size": 32, "patch_size": 8},
}


def shaken(model: Any) -> Any:
    """A model whose weights are larger than those it begins with, so that it tells pictures and texts apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "box" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    """The weights of a model in a folder of the hub's kind, sealed."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    write_sums(folder, digests(folder))
    return folder / "model.safetensors"


def grounding_dino(folder: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = shaken(GroundingDinoForObjectDetection(GroundingDinoConfig(**GROUNDING)))
    write_tokenizer(folder, {"tokenizer_class": "BertTokenizer"})
    return model, saved(model, folder)


def owlv2(folder: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = shaken(Owlv2ForObjectDetection(Owlv2Config(**OWL)))
    with torch.no_grad():  # as it begins, every box is the whole image and every score 0 or 1
        for head, share in ((model.box_head, 0.02), (model.class_head, 0.02)):
            for parameter in head.parameters():
                parameter.mul_(share)
    return model, saved(model, folder)


def pick_score(folder: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = shaken(CLIPModel(CLIPConfig(**CLIP)))
    return model, saved(model, folder)
