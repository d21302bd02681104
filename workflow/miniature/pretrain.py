"""Train the miniature's weights from nothing, stage by stage; every stage resumes from its checkpoint.

    python -m workflow.miniature.pretrain base --work results/pretrain [--steps 20000] [--device cuda]
    python -m workflow.miniature.pretrain ship --work results/pretrain --out weights/miniature

Stages, in order: judge, vae, text, collection, base, located, grounding, features, scorer, detector, and for the second
stack ldm_text, ldm_base, ldm_grounding; `ship` writes what was trained as diffusers folders in float16, with SHA256SUMS,
measures it and writes the card weights.json.
"""

from dataclasses import replace
from pathlib import Path

import torch

from formats.cli import options, run
from workflow.miniature import ldm
from workflow.miniature.autoencoder import train_vae
from workflow.miniature.checkpoints import SCENES, base, collection, material, sd14
from workflow.miniature.detector import train_detector
from workflow.miniature.diffusion import train_base
from workflow.miniature.grounded import gated, train_grounding
from workflow.miniature.shape_classifier import train_judge
from workflow.miniature.spatial_losses import train_located
from workflow.miniature.text import blank_text_encoder, train_text
from workflow.miniature.tokens import write_tokenizer
from workflow.miniature.training import Run

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
SD14_SHARE = 0.8  # sd14 is the base after this share of the last stage's steps, sd15 the base at the end
CLIP_CONFIG = Path("weights/miniature/clip/config.json")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("stage", choices=[*STAGES, "collection", "ship"])
    parser.add_argument("--work", type=Path, default=Path("results/pretrain"), help="checkpoints; kept between runs")
    parser.add_argument("--out", type=Path, default=Path("weights/miniature"), help="where `ship` writes")
    parser.add_argument("--steps", type=int, help="length of the training; default: the stage's own")
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many `collection` draws, a multiple of 250")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="for the U-Nets and the autoencoder; the rest mostly draw")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.stage == "ship":
        from workflow.miniature.ship import ship

        ship(arguments.work, arguments.out, list(STAGES), CLIP_CONFIG)
    elif arguments.stage == "collection":
        collection(arguments.work, arguments.scenes)
    else:
        stage = make_run(arguments.stage, arguments.work, arguments.steps, arguments.threads)
        run_stage(replace(stage, device=arguments.device) if arguments.stage in ON_DEVICE else stage)


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
        from workflow.miniature.scoring import train_features, train_scorer

        train_features(run) if run.name == "features" else train_scorer(run, CLIP_CONFIG)


if __name__ == "__main__":
    run(main)
