"""The miniature's architectures, Stable Diffusion's own classes at small sizes, and how long each stage of them trains."""

from pathlib import Path
from typing import Any

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 128),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    # Trained on crops: attention over the whole grid would see another grid when used.
    "mid_block_add_attention": False,
}
CONTEXT = 32
TEXT_WIDTH = 96
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}

# The second stack, after the latent diffusion model of 2022: a text encoder of its own class and another width.
LDM_TEXT: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 3,
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "dropout": 0.0,
}
LDM_UNET: dict[str, Any] = UNET | {
    "block_out_channels": (48, 72),
    "norm_num_groups": 8,
    "cross_attention_dim": LDM_TEXT["d_model"],
}

# stage -> steps, learning rate, seed
STAGES: dict[str, tuple[int, float, int]] = {
    "judge": (800, 2e-3, 5),
    "vae": (4600, 2e-3, 1),
    "text": (2000, 1e-3, 2),
    "base": (20000, 1e-3, 3),
    "located": (4500, 1e-3, 9),
    "grounding": (12500, 1.5e-3, 4),
    "features": (800, 2e-3, 6),
    "scorer": (1200, 1e-3, 8),
    "detector": (4000, 2e-3, 15),
    "ldm_text": (1500, 1e-3, 12),
    "ldm_base": (12000, 1e-3, 13),
    "ldm_grounding": (6000, 1.5e-3, 14),
}
ON_DEVICE = ("vae", "base", "located", "grounding", "ldm_base", "ldm_grounding")
CLIP_CONFIG = Path("weights/miniature/clip/config.json")
