"""Draws the task weights over the steps, one small panel per balancer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from jobs.studies.drawing import INK, TEXT_SIZE, line_style, new_figure, save, style_axes
from jobs.studies.results import TrialResult
from jobs.studies.study_results import StudyResults

_COLUMNS = 3
# A balancer may set a weight to exactly 0, which a log axis can't show.
_MIN_SHARE = 1e-4


def draw_weights(study: StudyResults, out: Path) -> str | None:
    """Writes weights.svg and weights.png; None when no run has logged weights."""
    tasks = [column.task for column in study.plan.columns]
    of_name = {
        row.name: curves
        for row in study.rows
        if (curves := share_curves([r for r in study.results if r.name == row.name], tasks))
    }
    if not of_name:
        return None
    num_rows = math.ceil(len(of_name) / _COLUMNS)
    figure = new_figure(height_in=0.7 + 2.1 * num_rows)
    grid = figure.subplots(
        num_rows, min(_COLUMNS, len(of_name)), sharex=True, sharey=True, squeeze=False
    )
    for axes, (name, (steps, curves)) in zip(grid.flat, of_name.items(), strict=False):
        _panel(axes, name, steps, curves, tasks)
    for i, axes in enumerate(grid.flat):
        axes.set_visible(i < len(of_name))
        # The last panel of its column, which need not be in the last row.
        axes.tick_params(labelbottom=i + grid.shape[1] >= len(of_name))
    handles = [
        Line2D([], [], color=line_style(i)[0], ls=line_style(i)[1], lw=2, label=task)
        for i, task in enumerate(tasks)
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=6, frameon=False, fontsize=TEXT_SIZE
    )
    figure.supxlabel(
        "step (line: mean over seeds; band: lowest to highest)", size=TEXT_SIZE, color=INK
    )
    figure.supylabel("share of the sum of weights", size=TEXT_SIZE, color=INK)
    return save(figure, out, "weights")


def share_curves(
    results: Sequence[TrialResult], tasks: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Returns (steps, shares [seeds, tasks, steps]) at the steps that all seeds have logged."""
    runs = []
    for result in results:
        if all(task in result.weights for task in tasks):
            runs.append({task: dict(result.weights[task]) for task in tasks})
    if not runs:
        return None
    common = set.intersection(*(set(run[task]) for run in runs for task in tasks))
    if not common:
        return None
    steps = sorted(common)
    weights = np.array([[[run[task][s] for s in steps] for task in tasks] for run in runs])
    total = weights.sum(axis=1, keepdims=True)
    return np.array(steps), weights / np.where(total > 0, total, 1.0)


def _panel(
    axes: Axes,
    name: str,
    steps: NDArray[np.int64],
    shares: NDArray[np.float64],
    tasks: Sequence[str],
) -> None:
    style_axes(axes)
    shares = np.maximum(shares, _MIN_SHARE)
    for i, _task in enumerate(tasks):
        colour, dashes = line_style(i)
        of_task = shares[:, i]
        width = max(1.2, 3.0 - 0.6 * i)  # equal shares lie on each other, and must all be seen
        axes.plot(steps, of_task.mean(axis=0), color=colour, ls=dashes, lw=width)
        low, high = of_task.min(axis=0), of_task.max(axis=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(name, size=TEXT_SIZE, color=INK, loc="left")
