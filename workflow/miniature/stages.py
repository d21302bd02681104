"""What each stage of the miniature's training does (`python -m workflow.miniature.pretrain`)."""

from pathlib import Path

import torch

from workflow.miniature import ldm
from workflow.miniature.autoencoder import train_vae
from workflow.miniature.checkpoints import base, material, sd14
from workflow.miniature.detector import train_detector
from workflow.miniature.diffusion import train_base
from workflow.miniature.grounded import gated, train_grounding
from workflow.miniature.scoring import train_features, train_scorer
from workflow.miniature.shape_classifier import train_judge
from workflow.miniature.sizes import CLIP_CONFIG, STAGES
from workflow.miniature.spatial_losses import train_located
from workflow.miniature.text import blank_text_encoder, train_text
from workflow.miniature.tokens import write_tokenizer
from workflow.miniature.training import Run

SD14_SHARE = 0.8  # sd14 is the base after this share of the last stage's steps, sd15 the base at the end


def make_run(stage: str, work: Path, steps: int | None = None, threads: int = 2) -> Run:
    default, lr, seed = STAGES[stage]
    steps = steps or default
    snapshots = (sd14_step(steps),) if stage == "located" else ()
    return Run(stage, work, steps, lr, seed, threads=threads, snapshots=snapshots)


def sd14_step(steps: int) -> int:
    """The step, a multiple of `save_every`, whose average becomes sd14."""
    return int(steps * SD14_SHARE) // 100 * 100


def run_stage(run: Run) -> None:
    torch.manual_seed(run.seed)
    if run.name == "judge":
        train_judge(run)
    elif run.name == "vae":
        train_vae(run)
    elif run.name == "text":
        tokenizer = write_tokenizer(run.work / "tokenizer")
        train_text(run, tokenizer, blank_text_encoder(tokenizer))
    elif run.name == "base":
        train_base(run, material(run.work))
    elif run.name == "located":
        train_located(run, material(run.work), base(run.work))
    elif run.name == "grounding":
        train_grounding(run, material(run.work), gated(sd14(run.work)))
    elif run.name == "detector":
        train_detector(run)
    elif run.name in ldm.STAGES:
        ldm.run_stage(run)
    else:
        train_features(run) if run.name == "features" else train_scorer(run, CLIP_CONFIG)
