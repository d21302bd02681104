r"""Turn a relative step into eta: the eta at which update (8) moves held-out latents by that share of their norm.

    python -m hcma.calibrate --alignment train/alignment.safetensors --latents train/latents/heldout/*.safetensors \
        --config config.json --method hcma --relative-step 0.01 --count 64 --out train/eta.json [--multiples 0.3 1 3]

The paper does not publish eta. The median relative step is taken over noised held-out latents with t uniform. The candidates to
choose from on held-out metrics, multiples of that eta, are written beside OUT, in the folder of its name: eta/0.json and so on.
With --chosen, the eta.json and the calibration.json of the same training with another seed, OUT has the multiple that was
chosen there, of the eta that is calibrated here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats.cli import options, run
from formats.files import InputError, read_object, write_json
from formats.params import from_keys, is_number

if TYPE_CHECKING:
    from hcma.alignment import Alignment
    from hcma.cache import Cache
    from hcma.method import Params


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--alignment", type=Path, required=True)
    parser.add_argument("--latents", type=Path, nargs="+", required=True, help="cache files of held-out images")
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json: its section `methods`")
    parser.add_argument("--method", required=True, help="whose params")
    parser.add_argument("--relative-step", type=float, required=True, help="|eta gradient| / |Z|, such as 0.01")
    parser.add_argument("--count", type=int, required=True, help="number of held-out latents")
    parser.add_argument(
        "--multiples", type=float, nargs="*", default=[], help="of the calibrated eta, a candidate each"
    )
    parser.add_argument(
        "--chosen", type=Path, nargs=2, help="an eta as calibrated, and as chosen, whose multiple is taken over"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    from hcma.alignment import load_alignment
    from hcma.cache import read_cache
    from hcma.method import Params

    stated = json.loads(args.config.read_text(encoding="utf-8"))["methods"][args.method]["params"]
    params = from_keys(Params, stated, "the aligned method's params")
    row = calibrate(load_alignment(args.alignment), read_cache(args.latents), params, args.relative_step, args.count)
    if args.chosen:
        multiple = multiple_of(*args.chosen)
        row |= {"eta": row["eta"] * multiple, "multiple": multiple}
    write_json(args.out, row)
    for number, multiple in enumerate(args.multiples):
        candidate = {"eta": row["eta"] * multiple, "multiple": multiple}
        write_json(args.out.with_suffix("") / f"{number}.json", candidate)


def multiple_of(calibrated: Path, chosen: Path) -> float:
    """The multiple of a calibrated eta that was chosen; raises InputError for files that hold no eta above 0."""
    etas = [read_object(path, "a calibration of eta", "eta")["eta"] for path in (calibrated, chosen)]
    for path, eta in zip((calibrated, chosen), etas, strict=True):
        if not (is_number(eta) and eta > 0):
            raise InputError(f"{path}: eta: expected a number above 0, found {eta!r}")
    return float(etas[1] / etas[0])


def calibrate(module: "Alignment", data: "Cache", params: "Params", relative_step: float, count: int) -> dict[str, Any]:
    """{"eta", "relative_step", "median_ratio_at_eta_1", "by_t"}; raises InputError when nothing would move."""
    import torch

    from hcma.batches import PART, draw
    from hcma.method import Targets, align_step, schedule_at
    from hcma.sampling.seeds import seeded

    if len(data.latents_NCHW) < count:
        raise InputError(
            f"alignment.calibrate.count: {count}, but only {len(data.latents_NCHW)} held-out images are there"
        )
    batch = draw(data, torch.arange(count), seeded(0, 3), any_caption=False)
    alphas = data.alphas_cumprod_T.tolist()
    steps = [
        align_step(module, latents, t_B, Targets(*rest), params, 1.0, timesteps=len(alphas))
        for latents, t_B, *rest in batch.split(PART)
    ]
    factors = [schedule_at(params, alphas, t) for t in batch.t_B.tolist()]
    ratios = torch.cat(steps).flatten(1).norm(dim=1) / batch.latents_BCHW.flatten(1).norm(dim=1) * torch.tensor(factors)
    median = float(ratios.median())
    if not median > 0:
        raise InputError("the alignment's gradient is zero on held-out latents: it has learnt nothing; train it longer")
    by_t = sorted(zip(batch.t_B.tolist(), ratios.tolist(), strict=True))
    return {
        "eta": relative_step / median,
        "relative_step": relative_step,
        "median_ratio_at_eta_1": median,
        "by_t": [{"t": t, "ratio": ratio} for t, ratio in by_t],
    }


if __name__ == "__main__":
    run(main)
