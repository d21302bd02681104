r"""Sum a row's features up, measure it, and measure what two rows differ by.

    python -m evaluation.metrics summarize --features features/hcma/test/*.npz --out summaries/hcma/test.npz
    python -m evaluation.metrics measure --method hcma --split test --layouts layouts/test/*.jsonl \
        --summary summaries/hcma/test.npz --real summaries/real/test.npz --out metrics/hcma/test.json \
        --scores scores/hcma/test.parquet --across across/hcma/test.npz
    python -m evaluation.metrics swap --row hcma summaries/hcma/test.npz --row sd14 summaries/sd14/test.npz ... \
        --across hcma across/hcma/test.npz --across sd14 across/sd14/test.npz ... \
        --real summaries/real/test.npz --out swaps/hcma.json
    python -m evaluation.metrics sizes --method hcma --summary summaries/hcma/test.npz --real summaries/real/test.npz \
        --out sizes/hcma/test.csv

`summarize` reads features shard by shard, and sums over the pairs of the row's own samples; all else takes what it wrote.
`measure` writes every metric of evaluation.metrics that the row's networks allow, with delete-a-group jackknife errors over
images, and `distances`: those without an error, and of how many samples they, KID and CMMD are. `n_{level}s_text_cut` counts
the captions, or regions' texts, that CLIP's context cuts. The scores file has a row an image and a row a box: CLIP cosine,
and where there is a detector the box's best overlap and whether it succeeded; the file --across the sums over pairs of the
row's samples and those of `real`. --own adds metrics of one's own (evaluation.metrics.own). `swap` writes what each jackknife
group adds to the first row's distance less each of the others', for the permutation test (evaluation.metrics.permutation); what
--across does not give it sums up again. `sizes` measures distances of fewer images (evaluation.metrics.by_sample_count). With
--device cuda, products of samples and eigenvalues are computed there by torch, else by numpy and scipy.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.feature_files import FeatureShards
from evaluation.layouts import read_layout_rows
from evaluation.metrics import own
from evaluation.metrics.arrays import engine
from evaluation.metrics.by_sample_count import distances_by_size
from evaluation.metrics.measure import group_contributions, measure, pairs_across, pairs_within
from evaluation.metrics.summary import NO_PHOTOS, REFERENCE_SETS, Summaries, Summary, write_summaries
from evaluation.printing import write_csv
from formats.cli import options, run
from formats.files import replacing, write_json
from formats.records import made


def main() -> None:
    parser = options(__doc__, "python -m evaluation.metrics")
    commands = parser.add_subparsers(dest="command", required=True)
    summarizing = commands.add_parser("summarize")
    summarizing.add_argument("--features", type=Path, nargs="+", required=True)
    measuring, swapping, sizing = (commands.add_parser(name) for name in ("measure", "swap", "sizes"))
    measuring.add_argument("--split", required=True)
    measuring.add_argument("--layouts", type=Path, nargs="+", required=True, help="of the shards")
    measuring.add_argument("--scores", type=Path, required=True)
    for command in (measuring, swapping):
        own.add_option(command)
    measuring.add_argument("--across", type=Path, help="sums over pairs of the row and `real`, to be written")
    for command in (measuring, sizing):
        command.add_argument("--method", required=True)
        command.add_argument("--summary", type=Path, required=True)
    swapping.add_argument("--row", nargs=2, action="append", required=True, help="a method, its summary")
    swapping.add_argument(
        "--across", nargs=2, action="append", default=[], help="a method, what `measure --across` wrote of it"
    )
    for command in (measuring, swapping, sizing):
        optional = command is measuring
        command.add_argument(
            "--real",
            type=Path,
            required=not optional,
            help="the summary of the photos" + "; without it no distance is measured" * optional,
        )
        command.add_argument(
            "--reference-set", choices=REFERENCE_SETS, default="same_ids", help="which photos those are"
        )
    for command in commands.choices.values():
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--device", default="cpu", help="where large sums are done")
    arguments = parser.parse_args()
    engine(arguments.device)  # said before anything is read
    {"summarize": _summarize, "measure": _measure, "swap": _swap, "sizes": _sizes}[arguments.command](arguments)


def _summarize(arguments: argparse.Namespace) -> None:
    def pairs(network: str, level: str, summary: Summary) -> dict[str, np.ndarray]:
        return pairs_within(network, level, replace(summary, device=arguments.device))

    write_summaries(FeatureShards(arguments.features), arguments.out, pairs)


def _measure(arguments: argparse.Namespace) -> None:
    owns = own.chosen(arguments.own)
    layouts = [row for path in arguments.layouts for row in read_layout_rows(path)]
    row = Summaries(arguments.summary, device=arguments.device)
    real = Summaries(arguments.real, device=arguments.device) if arguments.real else None
    if arguments.across:
        if real is not None:
            row.check(real, arguments.reference_set)
        met = pairs_across(row, real) if real is not None else {}
        of = [row.content, real.content if real is not None else NO_PHOTOS]
        with replacing(arguments.across) as beside, open(beside, "wb") as file:
            np.savez(file, **met, of=of, allow_pickle=False)
        if real is not None:
            row = Summaries(arguments.summary, arguments.across, arguments.device)
    found, scores = measure(row, real, layouts, arguments.reference_set, owns)
    with replacing(arguments.scores) as beside:
        scores.to_parquet(beside, index=False)
    write_json(arguments.out, {"method": arguments.method, "split": arguments.split} | found | {"made": made()})


def _swap(arguments: argparse.Namespace) -> None:
    owns = own.chosen(arguments.own)
    real = Summaries(arguments.real, device=arguments.device)
    across = {method: Path(path) for method, path in arguments.across}
    rows = {method: Summaries(Path(path), across.get(method), arguments.device) for method, path in arguments.row}
    for row in rows.values():
        row.check(real, arguments.reference_set)
    method, *others = rows
    against = group_contributions(rows[method], {name: rows[name] for name in others}, real, owns)
    write_json(arguments.out, {"method": method, "against": against})


def _sizes(arguments: argparse.Namespace) -> None:
    row, real = (Summaries(path, device=arguments.device) for path in (arguments.summary, arguments.real))
    row.check(real, arguments.reference_set)
    write_csv(arguments.out, distances_by_size(arguments.method, row, real))


if __name__ == "__main__":
    run(main)
