r"""Train the denoiser on the noise loss of Algorithm 1, behind update (8) by a trained alignment module.

    python -m hcma.train_denoiser --model weights/miniature/gligen --alignment train/alignment.safetensors \
        --eta train/noise/eta.json --config config.json --train train/latents/train/*.safetensors \
        --heldout train/latents/heldout/*.safetensors --train-layouts layouts/train/*.jsonl \
        --heldout-layouts layouts/heldout/*.jsonl --work work/noise --out train/noise

Writes OUT/model, a model folder with its SHA256SUMS, OUT/alignment.safetensors, the module to sample with it, and
OUT/curves.csv. A killed run goes on from the work folder and ends with the same bytes as an uninterrupted one.
"""

from collections.abc import Sequence
from pathlib import Path

from formats.cli import options, quick_imports, run
from formats.files import read_object
from formats.layouts import Layout, read_layouts
from formats.params import from_keys
from hcma.train_keys import NOISE


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="diffusers folder with a gated U-Net")
    parser.add_argument("--alignment", type=Path, required=True)
    parser.add_argument("--eta", type=Path, required=True, help="JSON with the key `eta`")
    parser.add_argument(
        "--config", type=Path, required=True, help="the run's config.json: its sections `alignment` and `methods`"
    )
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="cache files of the training images")
    parser.add_argument("--heldout", type=Path, nargs="+", required=True)
    parser.add_argument("--train-layouts", type=Path, nargs="+", required=True, help="those that --train was made from")
    parser.add_argument("--heldout-layouts", type=Path, nargs="+", required=True)
    parser.add_argument("--micro-batch", type=int, help="images at a time, for memory only; before the configuration's")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint of an unfinished run")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    with quick_imports():
        from formats.checksums import folder_sha256
        from hcma.alignment import load_alignment, save_alignment
        from hcma.cache import read_cache
        from hcma.denoiser import DenoiserTrainer, Denoising, Split
        from hcma.method import Params, State
        from hcma.processes import Processes
        from hcma.sampling.diffusion import Sampling, load_diffusion
        from hcma.sampling.loading import quiet_loading
        from hcma.sampling.weights import write_model
        from hcma.trainer import Training

    config = read_object(args.config, "a run's config.json", "alignment", "methods")
    alignment, stated = config["alignment"], config["alignment"]["train"]
    denoiser = stated["denoiser"] | {key: stated[key] for key in ("train_denoiser", "second_order")}
    denoiser |= {"micro_batch": args.micro_batch} if args.micro_batch else {}
    aligning = {key: value for key, value in stated.items() if key not in NOISE}
    eta = read_object(args.eta, "a calibration", "eta")["eta"]
    quiet_loading()
    sd = load_diffusion(args.model, Sampling(), Processes(args.device).device)
    run = DenoiserTrainer(
        sd,
        State(load_alignment(args.alignment).to(sd.device), eta),
        from_keys(Params, config["methods"][alignment["method"]]["params"], "the aligned method's params"),
        from_keys(Training, aligning, "alignment.train"),
        from_keys(Denoising, denoiser, "alignment.train.denoiser"),
        Split(read_cache(args.train), _layouts(args.train_layouts)),
        Split(read_cache(args.heldout), _layouts(args.heldout_layouts)),
        args.work,
        folder_sha256(args.model),
    )
    run.train()
    run.processes.end()
    if not run.processes.main:
        return
    run.progress.write_curves(args.out / "curves.csv")
    save_alignment(run.module, args.out / "alignment.safetensors")
    write_model(args.model, run.sd.unet, args.out / "model")
    run.checkpoint.unlink(missing_ok=True)


def _layouts(paths: Sequence[Path]) -> list[Layout]:
    return [layout for path in paths for layout in read_layouts(path)]


if __name__ == "__main__":
    run(main)
