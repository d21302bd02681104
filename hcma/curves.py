"""The record of a training as CSV and as a plot."""

import math
import os
from pathlib import Path

import matplotlib

from formats.files import replacing

matplotlib.use("agg")
from matplotlib import pyplot

COSINES = ("train_global", "heldout_global", "train_local", "heldout_local", "baseline_global", "baseline_local")
NOISE = ("train_noise", "heldout_noise", "baseline_noise")


def write_curves(curve: list[dict[str, float]], kept: int, path: Path) -> None:
    """Write the curve as CSV and, beside it, as PNG; `kept` is 1 at the step whose weights were kept.

    The row of the untrained weights, step 0, has no training losses: its cells of them are empty.
    """
    names = list(curve[-1])
    lines = [",".join([*names, "kept"])]
    for row in curve:
        cells = [f"{row[name]:.6g}" if name in row else "" for name in names]
        lines.append(",".join([*cells, str(int(row["step"] == kept))]))
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + os.linesep, encoding="utf-8")
    figure, (losses, retrieval) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    steps = [row["step"] for row in curve]
    for name in (name for name in COSINES + NOISE if name in names):
        losses.plot(steps, [row.get(name, math.nan) for row in curve], "--" if "baseline" in name else "-", label=name)
    losses.axvline(
        kept, color="0.6", linestyle=":", label=f"kept: {f'step {kept}' if kept else 'the untrained weights'}"
    )
    for name in (name for name in names if name.startswith(("recall_", "label_accuracy_"))):
        retrieval.plot(steps, [row[name] for row in curve], label=name)
    shown = {"losses (6) and (7)": COSINES[0] in names, "noise loss": NOISE[0] in names}
    losses.set(
        xlabel="step",
        ylabel="1 - cos" if shown["losses (6) and (7)"] else "squared error",
        title=", ".join(title for title, there in shown.items() if there),
    )
    retrieval.set(xlabel="step", title="held out: caption recall@1, label accuracy at t")
    for axis in (losses, retrieval):
        if axis.lines:
            axis.legend(fontsize=6)
    figure.tight_layout()
    with replacing(path.with_suffix(".png")) as beside:
        figure.savefig(beside, format="png", dpi=120)
    pyplot.close(figure)
