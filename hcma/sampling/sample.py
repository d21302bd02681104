"""Sample the images of a slice of layouts with one method: METHOD.json + LAYOUTS.jsonl -> IMAGES.zip.

Finished batches are kept in the work folder, so that a killed run goes on where it stopped; the zip appears at once
when all images are done, and then the work folder goes.
"""

import argparse
import glob
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from formats.cli import options, quick_imports, run
from formats.files import InputError
from formats.layouts import Layout, as_row, read_layouts
from hcma.sampling.spec import Spec, as_json, read_spec

AUTO = "auto"

# Heavy imports stand inside the functions: `--help` and a misspelt key should answer at once.
if TYPE_CHECKING:
    from hcma.sampling.loading import Method
    from hcma.sampling.shard_checkpoint import ShardCheckpoint


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    sample(
        read_spec(args.spec),
        read_layouts(args.layouts),
        args.out,
        args.work,
        model=args.model,
        batch_size=args.batch_size,
        compile_unet=args.compile,
        channels_last=args.channels_last,
        device=args.device,
    )


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="methods/{method}.json")
    parser.add_argument("--model", help="where its model is now, which must be the same; default: where it was")
    parser.add_argument("--layouts", type=Path, required=True, help="layouts, one JSON object a line")
    parser.add_argument("--out", type=Path, required=True, help="zip of {id}.png and meta.json to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished batches of an unfinished shard")
    parser.add_argument("--batch-size", type=_batch_size, default=8, help="images at a time, or `auto`")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the U-Net")
    parser.add_argument("--channels-last", action="store_true", help="memory layout of the convolutions")
    parser.add_argument("--device", default="cpu", help="cpu, cuda (the first GPU no other job holds) or cuda:N")
    return parser


def _batch_size(text: str) -> int | str:
    if text == AUTO:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer or {AUTO}, found {text!r}")
    return int(text)


def sample(
    spec: Spec,
    layouts: Sequence[Layout],
    out: Path,
    work: Path,
    *,
    model: str | None,
    batch_size: int | str,
    compile_unet: bool,
    channels_last: bool,
    device: str,
) -> None:
    """Write the zip `out`, finished batches kept in the folder `work` until then; raises InputError and OSError.

    `model` is where the specification's model is now, None where it was; `batch_size` may be AUTO.
    """
    with quick_imports():
        from formats.device import device_name, system
        from formats.records import SAMPLING, commit, versions
        from hcma.sampling.batch_size import Choice, choose_batch_size
        from hcma.sampling.diffusion import speed_up
        from hcma.sampling.fallback import LISTED
        from hcma.sampling.loading import load_method
        from hcma.sampling.shard_checkpoint import open_checkpoint

        method = load_method(replace(spec, model=model or spec.model), device)
    made_with = {"spec": as_json(spec), "weights_sha256": method.weights, "versions": versions(SAMPLING)}
    rows = [as_row(layout) for layout in layouts]
    identity = made_with | {"layouts": rows, "device": method.sd.device.type}
    checkpoint = open_checkpoint(work, identity, {"commit": commit(), "device": device_name(method.sd.device)})
    batch = choose_batch_size(method, layouts) if isinstance(batch_size, str) else Choice(batch_size)
    speed_up(method.sd, compile_unet, channels_last)
    out_of_memory = sample_rest(method, layouts, checkpoint, batch.size)
    seconds, work_by_image = checkpoint.totals()
    counts: Counter[str] = Counter()
    for image in work_by_image.values():
        counts.update(image)
    # The commit and the device of every batch; the rest, from "system" to "speed", is this run's, which may be a later one.
    meta = made_with | {
        **checkpoint.makers(),
        "system": system(method.sd.device),
        "batch_size": min([batch.size, *(size // 2 for size in out_of_memory)]),
        "out_of_memory": out_of_memory,
        "batch_probe": batch.probe,
        "batches": Counter(str(len(ids)) for ids in checkpoint.batches.values()),
        "speed": {
            "compile": bool(method.sd.compiled and method.sd.compiled.works),
            "channels_last": channels_last,
        },
        "seconds": round(seconds, 3),
        "images": len(layouts),
        "counts": counts,
        "counts_per_image": {name: count / len(layouts) for name, count in counts.items()},
        "work": {str(layout.id): work_by_image[str(layout.id)] for layout in layouts},
    }
    for name in LISTED:
        meta[name] = [layout.id for layout in layouts if work_by_image[str(layout.id)].get(name)]
    for leftover in out.parent.glob(f"{glob.escape(out.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)
    checkpoint.assemble(out, [layout.id for layout in layouts], meta)
    checkpoint.remove()


def sample_rest(
    method: "Method", layouts: Sequence[Layout], checkpoint: "ShardCheckpoint", batch_size: int
) -> list[int]:
    """Sample the layouts that `checkpoint` does not hold yet, in order; a batch is kept in it while the next one is made.

    Where memory runs out the batch is halved for the rest; the sizes that were too large are returned.
    """
    import torch
    from tqdm import tqdm

    from hcma.sampling.background import in_background
    from hcma.sampling.fallback import generate_with_fallback

    done, too_large = checkpoint.finished, list[int]()
    rest = [layout for layout in layouts if layout.id not in done]
    bar = tqdm(total=len(layouts), initial=len(done), unit="image", file=sys.stderr, mininterval=1)
    with bar, in_background() as call:
        began = time.perf_counter()
        while rest:
            batch, made = rest[:batch_size], None
            # Made smaller only after this block: inside it the error holds the tensors that filled the memory.
            with suppress(torch.OutOfMemoryError):
                made = generate_with_fallback(method, batch)
            if made is None:
                batch_size = _halved(batch)
                too_large.append(len(batch))
                continue
            now = time.perf_counter()
            call(checkpoint.add, [layout.id for layout in batch], made[0], now - began, made[1])
            rest, began = rest[len(batch) :], now
            bar.update(len(batch))
    return too_large


def _halved(batch: Sequence[Layout]) -> int:
    import torch

    size = len(batch)
    if size == 1:
        raise InputError(f"layout {batch[0].id}: out of memory with a single image; it needs a device with more")
    print(f"out of memory with a batch of {size} images: going on with {size // 2}", file=sys.stderr)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size // 2


if __name__ == "__main__":
    run(main)
