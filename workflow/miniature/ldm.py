"""The second small stack, after the latent diffusion model of 2022 that GLIGEN (LDM) stands on.

It shares the autoencoder with the first one, as latent diffusion's is the ancestor of Stable Diffusion's, and has a
tokenizer, a text encoder, a width and a training of its own. Its base learns what stage `located` teaches from the start.
"""

from pathlib import Path

from diffusers import UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import nn
from transformers import BertTokenizer

from workflow.miniature.checkpoints import autoencoder, collection, load_average
from workflow.miniature.collection import collect
from workflow.miniature.diffusion import Material, latent_scale, shape_features
from workflow.miniature.grounded import Grounded, gated, train_grounding
from workflow.miniature.sizes import LDM_TEXT, LDM_UNET
from workflow.miniature.spatial_losses import Located, train_located
from workflow.miniature.text import Pair, train_text
from workflow.miniature.tokens import write_wordpieces
from workflow.miniature.training import Run, State

STAGES = ("ldm_text", "ldm_base", "ldm_grounding")


def run_stage(run: Run) -> tuple[nn.Module, State]:
    """Train one of STAGES from what the earlier ones left in the folder of the work."""
    if run.name == "ldm_text":
        return train_text(run, write_wordpieces(run.work / "wordpieces"), blank_text_encoder(run.work))
    if run.name == "ldm_base":
        return train_located(run, material(run.work), UNet2DConditionModel(**LDM_UNET))
    return train_grounding(run, material(run.work), gated(base(run.work), LDM_UNET))


def tokenizer(work: Path) -> BertTokenizer:
    return BertTokenizer.from_pretrained(work / "wordpieces")


def blank_text_encoder(work: Path) -> LDMBertModel:
    return LDMBertModel(LDMBertConfig(vocab_size=len(tokenizer(work)), **LDM_TEXT))


def text_encoder(work: Path) -> LDMBertModel:
    return load_average(work / "ldm_text.pt", Pair(blank_text_encoder(work))).text.requires_grad_(False)


def material(work: Path) -> Material:
    first = collection(work)
    count = len(first.latents_NCHW)
    scenes = collect(autoencoder(work), tokenizer(work), work / "ldm_collection.safetensors", seed=17, count=count)
    # The scale that the shared autoencoder is shipped with is that of the first collection.
    return Material(scenes, latent_scale(first), tokenizer(work), text_encoder(work))


def base(work: Path) -> UNet2DConditionModel:
    return load_average(work / "ldm_base.pt", Located(UNet2DConditionModel(**LDM_UNET))).unet


def gligen(work: Path) -> UNet2DConditionModel:
    """The gated U-Net as trained."""
    grounded = Grounded(gated(base(work), LDM_UNET), shape_features(material(work)))
    return load_average(work / "ldm_grounding.pt", grounded).unet
