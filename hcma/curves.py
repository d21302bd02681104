"""The record of a training as CSV and as a plot."""

import os
from pathlib import Path

import matplotlib

from hcma.sampling.atomic import replacing

matplotlib.use("agg")
from matplotlib import pyplot


def write_curves(curve: list[dict[str, float]], path: Path) -> None:
    """Write the curve as CSV and, beside it, as PNG."""
    names = list(curve[0])
    lines = [",".join(names)] + [",".join(f"{row[name]:.6g}" for name in names) for row in curve]
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + os.linesep, encoding="utf-8")
    figure, (losses, retrieval) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    steps = [row["step"] for row in curve]
    for name in ("train_global", "heldout_global", "train_local", "heldout_local", "baseline_global", "baseline_local"):
        losses.plot(steps, [row[name] for row in curve], "--" if "baseline" in name else "-", label=name)
    for name in (name for name in names if name.startswith(("recall_", "label_accuracy_"))):
        retrieval.plot(steps, [row[name] for row in curve], label=name)
    losses.set(xlabel="step", ylabel="1 - cos", title="losses (6) and (7)")
    retrieval.set(xlabel="step", title="held out: caption recall@1, label accuracy at t")
    for axis in (losses, retrieval):
        axis.legend(fontsize=6)
    figure.tight_layout()
    with replacing(path.with_suffix(".png")) as beside:
        figure.savefig(beside, format="png", dpi=120)
    pyplot.close(figure)
