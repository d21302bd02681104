r"""Train the alignment module on cached latents, the diffusion model untouched: losses (6) and (7), Adam.

    python -m hcma.train --train train/latents/train/*.safetensors --heldout train/latents/heldout/*.safetensors \
        --config config.json --work work/train --out train/alignment.safetensors --curves train/curves.csv

The checkpoint with the lowest held-out loss is written. A killed run goes on from the work folder and ends with the same
bytes as an uninterrupted one, on one device, thread count and number of processes. Several GPUs share every batch's parts of
`micro_batch` images when `accelerate launch --num_processes 4 -m hcma.train ...` starts the program, one process a GPU.
"""

from collections.abc import Sequence
from pathlib import Path

from formats.cli import options, quick_imports, run
from formats.files import read_object
from formats.params import from_keys
from hcma.train_keys import NOISE


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="cache files of the training images")
    parser.add_argument("--heldout", type=Path, nargs="+", required=True)
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json: its section `alignment`")
    parser.add_argument("--micro-batch", type=int, help="images at a time, for memory only; before the configuration's")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint of an unfinished run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--curves", type=Path, required=True, help="CSV")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    alignment = read_object(args.config, "a run's config.json", "alignment")["alignment"]
    # Heavy imports stand here: `--help` should answer at once.
    with quick_imports():
        from hcma.alignment import save_alignment
        from hcma.cache import read_cache
        from hcma.trainer import Trainer, Training

    train = {key: value for key, value in alignment["train"].items() if key not in NOISE}
    train |= {"micro_batch": args.micro_batch} if args.micro_batch else {}
    settings = from_keys(Training, train, "alignment.train")
    run = Trainer(
        alignment["model"], settings, read_cache(args.train), read_cache(args.heldout), args.work, args.device
    )
    module = run.train()
    run.processes.end()
    if not run.processes.main:
        return
    run.progress.write_curves(args.curves)
    save_alignment(module, args.out)
    run.checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
