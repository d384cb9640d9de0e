"""The evaluation as a few aligned lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from marigold_rec.training import Evaluation


def figure_lines(evaluation: Evaluation) -> Iterator[str]:
    """One block per set of metrics, one line per task; `-` where there is no figure, and why."""
    by_task: dict[str, dict[str, str]] = {}
    for name, value in evaluation.scalars.items():
        _, metric, task = name.split("/")
        text = "-" if value is None else f"{value:,.0f}" if metric == "rows" else f"{value:.5g}"
        by_task.setdefault(task, {})[metric] = text
    heading: list[str] = []
    for task, figures in by_task.items():
        if heading != list(figures):
            heading = list(figures)
            yield f"{'evaluation':<16}" + "".join(f"{metric:>13}" for metric in heading)
        yield f"{task:<16}" + "".join(f"{text:>13}" for text in figures.values())
    for name, reason in evaluation.reasons.items():
        yield f"{name} has no figure: {reason}"
