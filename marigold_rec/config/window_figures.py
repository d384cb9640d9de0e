"""The figures of the newest training rows: their names, and which of two values is the better."""

from __future__ import annotations

from marigold_rec.metrics import metric_of, metrics_of


def window_metrics(kind: str) -> list[str]:
    """The metrics of a kind of label that are computed of the newest training rows."""
    return [name for name, metric in metrics_of(kind).items() if metric.window is not None]


def window_figure(metric: str, task: str) -> str:
    """window_auc/ctr; after train/ in the log."""
    return f"window_{metric}/{task}"


def badness(figure: str, value: float) -> float:
    """The smaller, the better."""
    return metric_of(figure.removeprefix("window_").partition("/")[0]).loss(value)
