"""Formats the evaluation as a few aligned lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from marigold_rec.training.evaluation import Evaluation


def metric_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yields one block per set of metrics and one line per task, then why metrics are undefined."""
    by_task: dict[str, dict[str, str]] = {}
    for name, value in evaluation.scalars.items():
        _, metric, task = name.split("/")
        text = "-" if value is None else f"{value:,.0f}" if metric == "rows" else f"{value:.5g}"
        by_task.setdefault(task, {})[metric] = text
    heading: list[str] = []
    for task, metrics in by_task.items():
        if heading != list(metrics):
            heading = list(metrics)
            yield f"{'evaluation':<16}" + "".join(f"{metric:>13}" for metric in heading)
        yield f"{task:<16}" + "".join(f"{text:>13}" for text in metrics.values())
    for name, reason in evaluation.reasons.items():
        yield f"{name} is undefined: {reason}"
