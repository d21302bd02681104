"""How eta was chosen: what each candidate gained over the reference on held-out images, metric by metric, and the mean.

Bars at the mean are the standard errors of its distance from the best one; what makes the choice doubtful is said below.
"""

from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from evaluation.figures.drawing import COLOURS, HIGHER, MARKERS, save, save_sentence
from evaluation.metrics import metric_of


def draw(chosen: dict[str, Any], out: Path) -> None:
    """Gains against eta; of a single candidate, which has no score, a sentence."""
    title = f"Choice of eta on {chosen['n_images']} held-out images"
    if len(chosen["curve"]) == 1:
        save_sentence(title, f"eta {chosen['eta']:.3g}: the only candidate, so it was taken without a score", out)
        return
    figure, axis = pyplot.subplots(figsize=(6.5, 3.6), layout="constrained")
    _curves(axis, chosen)
    axis.set_title(f"{title}\n", loc="left", fontweight="bold")
    notes = "\n".join(fill(f"Warning: {text}.", 110) for text in chosen["warnings"])
    axis.annotate(
        notes, (0, -0.25), xycoords="axes fraction", fontsize=7, color="#D55E00", va="top", annotation_clip=False
    )
    save(figure, out)


def _curves(axis: Axes, chosen: dict[str, Any]) -> None:
    curve = chosen["curve"]
    values, scores = [point["eta"] for point in curve], [point["score"] for point in curve]
    for metric, colour, marker in zip(curve[0]["gains"], COLOURS, MARKERS, strict=False):
        gains = [point["gains"][metric] for point in curve]
        axis.plot(values, gains, color=colour, marker=marker, markersize=4, linewidth=1, label=metric_of(metric).title)
    errors = [point["behind_se"] for point in curve]
    label = "mean, the score\n± error of its distance from the best"
    axis.errorbar(values, scores, errors, color="black", marker="s", linewidth=2, elinewidth=1, capsize=3, label=label)
    axis.axhline(max(scores), color="0.4", linestyle=":", label="the best score")
    axis.axvline(chosen["eta"], color="0.4", linestyle="--", label=f"chosen: {chosen['eta']:.3g}")
    axis.set_xscale("log")
    axis.margins(x=0.1)
    axis.set_xticks(values, [f"{value:.3g}" for value in values])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set(xlabel="eta, logarithmic", ylabel="gain over the reference,\nin its standard errors")
    axis.text(0, 1.03, HIGHER, transform=axis.transAxes, fontsize=7, color="0.35")
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=7)
