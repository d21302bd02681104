"""Train the miniature's weights from nothing, stage by stage; every stage resumes from its checkpoint.

    python -m workflow.miniature.pretrain base --work results/pretrain [--steps 20000] [--device cuda]
    python -m workflow.miniature.pretrain ship --work results/pretrain --out weights/miniature

Stages, in order: judge, vae, text, collection, base, located, grounding, features, scorer, detector, and for the second
stack ldm_text, ldm_base, ldm_grounding; `ship` writes what was trained as diffusers folders in float16, with SHA256SUMS,
measures it and writes the card weights.json.
"""

from dataclasses import replace
from pathlib import Path

from formats.cli import options, quick_imports, run
from workflow.miniature.sizes import CLIP_CONFIG, ON_DEVICE, STAGES


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("stage", choices=[*STAGES, "collection", "ship"])
    parser.add_argument("--work", type=Path, default=Path("results/pretrain"), help="checkpoints; kept between runs")
    parser.add_argument("--out", type=Path, default=Path("weights/miniature"), help="where `ship` writes")
    parser.add_argument("--steps", type=int, help="length of the training; default: the stage's own")
    parser.add_argument(
        "--scenes", type=int, help="how many `collection` draws, a multiple of 250; default: as shipped"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="for the U-Nets and the autoencoder; the rest mostly draw")
    arguments = parser.parse_args()
    # Heavy imports stand here: `--help` should answer at once.
    with quick_imports():
        import torch

        from workflow.miniature.checkpoints import SCENES, collection
        from workflow.miniature.ship import ship
        from workflow.miniature.stages import make_run, run_stage

    torch.set_num_threads(arguments.threads)
    if arguments.stage == "ship":
        ship(arguments.work, arguments.out, list(STAGES), CLIP_CONFIG)
    elif arguments.stage == "collection":
        collection(arguments.work, SCENES if arguments.scenes is None else arguments.scenes)
    else:
        stage = make_run(arguments.stage, arguments.work, arguments.steps, arguments.threads)
        run_stage(replace(stage, device=arguments.device) if arguments.stage in ON_DEVICE else stage)


if __name__ == "__main__":
    run(main)
