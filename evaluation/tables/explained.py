"""What the columns of a table are: a sentence for every way of measuring among its metrics, filled from the protocol."""

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import Metric
from evaluation.networks import limits_of


def explained(metrics: Sequence[Metric], protocol: dict[str, Any]) -> list[str]:
    """The metrics' definitions, those that share one together; protocol: of a metrics file. Nothing of networks it lacks."""
    heads: dict[tuple[str, str], dict[str, None]] = {}
    for metric in metrics:
        if metric.extractor in protocol:
            heads.setdefault((metric.extractor, metric.definition), {})[_name(metric)] = None
    said = {name: protocol[name] for name in ("label_template", "torch", "batch")}
    said["resolution"] = _resolution(protocol["resolution"])
    return [
        f"{', '.join(names)}: {definition.format(**_network(protocol[extractor]), **said)}"
        for (extractor, definition), names in heads.items()
    ]


def _name(metric: Metric) -> str:
    """Levels share a definition: their columns are told apart by the level alone."""
    return metric.title if metric.level == "box" else metric.head


def _network(about: dict[str, Any]) -> dict[str, Any]:
    """What stands in a definition for a network, and for what counts as found by it."""
    seen = f"{about['resize']}; " if "resize" in about else ""
    limits = limits_of(about)
    network = f"{about['name']} ({seen}sha256 {about['sha256'][:12]})"
    return {"network": network, "sure": limits.sure, "overlap": limits.overlap}


def _resolution(resolution: int | None) -> str:
    return "at their own resolution" if resolution is None else f"at {resolution} px, by bicubic interpolation"
