"""Tiny random Stable and latent diffusion models, plain and gated, saved in the folder format that real weights come in."""

import hashlib
import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from tokenizers import pre_tokenizers
from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 32
CONTEXT = 32


def write_tiny(folder: Path, gated: bool = False, seed: int = 0) -> Path:
    """Write a tiny model folder with its SHA256SUMS; of one seed, plain and gated share all weights that both have.

    64 px canvas, 4x8x8 latents, 32 text tokens of width 32. The gates are open.
    """
    tokenizer = _write_tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    CLIPTextModel(text_config(tokenizer)).save_pretrained(folder / "text_encoder")
    _vae().save_pretrained(folder / "vae")
    plain, grounded = _unet("default"), _unet("gated")
    grounded.load_state_dict(plain.state_dict(), strict=False)
    _open_gates(grounded)
    (grounded if gated else plain).save_pretrained(folder / "unet")
    PNDMScheduler(**_SCHEDULE).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(_INDEX))
    write_sums(folder)
    return folder


def write_tiny_ldm(folder: Path, gated: bool = True) -> Path:
    """A tiny folder of the 2022 latent diffusion model: `bert` and `vqvae`, and a DDIM schedule, as on the hub.

    32 px canvas, half of Stable Diffusion's; 77 text tokens.
    """
    torch.manual_seed(0)
    tokenizer = _write_wordpieces(folder / "tokenizer")
    # The encoder's own init_std is not applied by the class; the defaults of torch tell captions apart.
    LDMBertModel(LDMBertConfig(vocab_size=len(tokenizer), **_BERT)).save_pretrained(folder / "bert")
    _vae().save_pretrained(folder / "vqvae")
    unet = _unet("gated" if gated else "default", sample_size=4)
    _open_gates(unet)
    unet.save_pretrained(folder / "unet")
    DDIMScheduler(**{key: value for key, value in _SCHEDULE.items() if key != "skip_prk_steps"}).save_pretrained(
        folder / "scheduler"
    )
    write_sums(folder)
    return folder


_BERT = {
    "d_model": WIDTH,
    "encoder_layers": 2,
    "encoder_ffn_dim": 2 * WIDTH,
    "encoder_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 77,
}


def _write_wordpieces(folder: Path) -> BertTokenizer:
    """Letters, and the word "cat"; the limit in its file is BERT's own, beyond what the encoder takes, as on the hub."""
    folder.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *string.ascii_lowercase, *("##" + letter for letter in string.ascii_lowercase), "cat", ",", "."]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return BertTokenizer.from_pretrained(folder)


def _open_gates(unet: UNet2DConditionModel) -> None:
    """Make boxes matter: fresh gates are closed, and fresh attention spreads evenly over all tokens."""
    for name, parameter in unet.named_parameters():
        if name.endswith(("alpha_attn", "alpha_dense")):
            torch.nn.init.ones_(parameter)
        elif "null_" in name:
            torch.nn.init.normal_(parameter)
        elif "fuser.attn" in name or "fuser.linear" in name:
            parameter.data.mul_(3)


def write_sums(folder: Path) -> None:
    """(Re)write SHA256SUMS as `sha256sum` would."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def _write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters and a few whole words; no merges beyond what spells "a" and "cat"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["c a", "ca t</w>"]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # The usual 0.02 would make all captions nearly alike.
        initializer_factor=10.0,
    )


def _unet(attention_type: str, sample_size: int = 8) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        attention_type=attention_type,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
