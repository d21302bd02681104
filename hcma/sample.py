"""Sample the images of a slice of layouts with one method: METHOD.json + LAYOUTS.jsonl -> IMAGES.zip.

Finished batches are kept in the work folder, so that a killed run goes on where it stopped; the zip appears at once
when all images are done, and then the work folder goes.
"""

import argparse
import glob
import importlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcma.program import quick_imports, status
from hcma.sampling import InputError
from hcma.sampling.layout import Layout, as_row, read_layouts
from hcma.sampling.spec import Spec, SpecError, as_json, from_keys, read_spec

# Heavy imports stand inside the functions: `--help` and a misspelt key should answer at once.
if TYPE_CHECKING:
    import torch

    from hcma.sampling.diffusion import Diffusion
    from hcma.sampling.partial import PartialShard


@dataclass(frozen=True)
class Method:
    """A method ready to run: its module, its Params, the model it runs on, and the hashes of the weights in it."""

    module: Any
    params: Any
    sd: "Diffusion"
    weights: dict[str, str | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; bad input is one line on stderr and status 1."""
    args = _parser().parse_args(argv)
    return status(lambda: sample(read_spec(args.spec), read_layouts(args.layouts), args), "sampling")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hcma.sample", description=__doc__, allow_abbrev=False)
    parser.add_argument("--spec", type=Path, required=True, help="methods/{method}.json")
    parser.add_argument("--layouts", type=Path, required=True, help="layouts, one JSON object a line")
    parser.add_argument("--out", type=Path, required=True, help="zip of {id}.png and meta.json to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished batches of an unfinished shard")
    parser.add_argument("--batch-size", type=_positive, default=8, help="images at a time: speed and memory only")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, found {text!r}")
    return int(text)


def sample(spec: Spec, layouts: Sequence[Layout], args: argparse.Namespace) -> None:
    """Write `args.out`; see the module's docstring. Raises InputError and OSError."""
    with quick_imports():
        from hcma.sampling.partial import open_partial
        from hcma.sampling.provenance import commit, device_name, versions

        method = load_method(spec, args.device)
    made_with = {"spec": as_json(spec), "weights_sha256": method.weights, "versions": versions()}
    rows = [as_row(layout) for layout in layouts]
    partial = open_partial(args.work, made_with | {"layouts": rows, "device": method.sd.device.type})
    sample_rest(method, layouts, partial, args.batch_size)
    seconds, work = partial.totals()
    counts: Counter[str] = Counter()
    for image in work.values():
        counts.update(image)
    meta = made_with | {
        "commit": commit(),
        "device": device_name(method.sd.device),
        "batch_size": args.batch_size,
        "seconds": round(seconds, 3),
        "images": len(layouts),
        "counts": counts,
        "counts_per_image": {name: count / len(layouts) for name, count in counts.items()},
        "work": {str(layout.id): work[str(layout.id)] for layout in layouts},
    }
    for leftover in args.out.parent.glob(f"{glob.escape(args.out.name)}.*.tmp"):
        leftover.unlink()
    partial.assemble(args.out, [layout.id for layout in layouts], meta)
    partial.remove()


def load_method(spec: Spec, device: str) -> Method:
    """Import a method's module, check its parameters, then verify and load what it runs on."""
    from hcma.sampling.diffusion import Sampling, load_diffusion
    from hcma.sampling.weights import file_sha256, folder_sha256

    module = _import(spec)
    params = from_keys(module.Params, spec.params, f"method {spec.method}, params")
    sampling = from_keys(Sampling, spec.sampling, f"method {spec.method}, sampling")
    weights: dict[str, str | None] = {"model": folder_sha256(spec.model), "alignment": None}
    _expect(spec, f"{spec.model}/SHA256SUMS", weights["model"], spec.weights_sha256)
    if spec.alignment is not None:
        weights["alignment"] = file_sha256(spec.alignment)
        _expect(spec, spec.alignment, weights["alignment"], spec.alignment_sha256)
    if spec.text is not None:
        weights["text"] = folder_sha256(spec.text)
        _expect(spec, f"{spec.text}/SHA256SUMS", weights["text"], spec.text_sha256)
    quiet_loading()
    sd = load_diffusion(spec.model, sampling, _device(device))
    if spec.text is not None:
        from hcma.sampling.text import load_text_features

        sd.target_encoder = load_text_features(spec.text, spec.text_feature, sd.device)
    if spec.alignment is not None:
        from hcma.alignment import load_alignment

        sd.alignment = load_alignment(spec.alignment).to(sd.device)
    return Method(module, params, sd, weights)


def _expect(spec: Spec, path: str, found: str | None, expected: str | None) -> None:
    from hcma.sampling.weights import WeightsError

    if expected not in (None, found):
        raise WeightsError(f"{path}: sha256 is {found}, but method {spec.method} was specified with {expected}")


def _import(spec: Spec) -> Any:
    try:
        module = importlib.import_module(spec.module)
    except ModuleNotFoundError as error:
        if not f"{spec.module}.".startswith(f"{error.name}."):
            raise
        raise SpecError(f"method {spec.method}: no module {spec.module!r}") from None
    for name in ("Params", "generate"):
        if not hasattr(module, name):
            raise SpecError(f"method {spec.method}: module {spec.module!r} has no {name}")
    return module


def sample_rest(method: Method, layouts: Sequence[Layout], partial: "PartialShard", batch_size: int) -> None:
    """Sample the layouts that `partial` does not hold yet, in order, and keep each batch in it as it is done."""
    from tqdm import tqdm

    done = partial.finished
    rest = [layout for layout in layouts if layout.id not in done]
    with tqdm(total=len(layouts), initial=len(done), unit="image", file=sys.stderr, mininterval=1) as bar:
        for start in range(0, len(rest), batch_size):
            batch = rest[start : start + batch_size]
            method.sd.work.clear()
            began = time.perf_counter()
            pixels = generate(method, batch)
            partial.add([layout.id for layout in batch], pixels, time.perf_counter() - began, method.sd.work)
            bar.update(len(batch))


def generate(method: Method, batch: Sequence[Layout]) -> "torch.Tensor":
    """uint8 pixels [B, 3, H, W] of a batch; raises InputError naming the layouts whose latents are not finite."""
    import torch

    from hcma.sampling.diffusion import NonFiniteLatents, count_truncated, initial_noise

    sd = method.sd
    for row, layout in enumerate(batch):
        sd.work.add("truncated_captions", [row], count_truncated(sd, [layout.caption]))
    noise_BCHW = initial_noise(batch, sd.sampling.seed, sd.latent_shape_CHW)
    try:
        pixels = method.module.generate(sd, batch, noise_BCHW, method.params)
    except NonFiniteLatents as error:
        ids = ", ".join(str(batch[row].id) for row in error.rows)
        raise InputError(f"layouts {ids}: latents are not finite; check the method's parameters and weights") from None
    except torch.OutOfMemoryError:
        raise InputError(f"out of memory with a batch of {len(batch)} images; lower --batch-size") from None
    if pixels.dtype != torch.uint8 or pixels.shape != (len(batch), 3, sd.size, sd.size):
        found = f"{pixels.dtype} {tuple(pixels.shape)}"
        raise TypeError(f"{method.module.__name__}.generate gave {found} for {len(batch)} layouts of {sd.size} px")
    return pixels


def _device(name: str) -> "torch.device":
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: cannot be used here ({str(error).splitlines()[0]})") from None


def quiet_loading() -> None:
    """Leave stderr to this program's own progress bar."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
