"""Losses and weights of the tasks over the training steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from marigold_rec.analysis.report import Training
from marigold_rec.reporting.canvas import (
    colour,
    log_scale,
    new_figure,
    plain,
    series_name,
    short_number,
    to_svg,
)
from marigold_rec.reporting.task_pictures import Picture

_MOST_POINTS = 240
_SMOOTHED_SHARE = 0.08
_LOG_RATIO = 30.0
LINE_STYLES = ("-", "--", "-.", ":")


def training_pictures(training: Training | None) -> list[Picture]:
    """One of each task's loss, and one of all weights; empty without logged steps."""
    return [] if training is None else list(_pictures(training))


def _pictures(training: Training) -> Iterator[Picture]:
    if training.weights and training.steps:
        yield _weights(training)
    for i, (task, losses) in enumerate(training.losses.items()):
        if any(value is not None for value in losses):
            yield _loss(training.steps, losses, i, task)


def _loss(steps: Sequence[int], losses: Sequence[float | None], index: int, task: str) -> Picture:
    figure = new_figure(height_pt=140)
    axes = figure.add_subplot()
    plain(axes, "step", "loss")
    x, y, num_joined = thinned(steps, losses)
    name = series_name(index)
    axes.plot(x, y, color=colour(name), lw=0.8, alpha=0.35)
    axes.plot(x, smoothed(y), color=colour(name), lw=1.6)
    seen = y[len(y) // 50 :]  # the first losses are far off, and must not flatten the rest
    finite = seen[np.isfinite(seen)]
    if len(finite):
        margin = 0.08 * (finite.max() - finite.min()) or 0.1 * abs(finite.max()) or 1.0
        axes.set_ylim(finite.min() - margin, finite.max() + margin)
    _step_axis(axes)
    thin = f" Thin: means of {num_joined} logged steps." if num_joined > 1 else ""
    note = f"Thick: running mean.{thin}"
    return Picture(f"Loss of {task}", to_svg(figure, f"loss-{index}", f"Loss of {task}"), note)


def _weights(training: Training) -> Picture:
    figure = new_figure(height_pt=140)
    axes = figure.add_subplot()
    plain(axes, "step", "weight")
    values = []
    for i, weights in enumerate(training.weights.values()):
        x, y, _ = thinned(training.steps, weights)
        style = LINE_STYLES[i // 6 % len(LINE_STYLES)]
        # Equal weights lie on each other, and must all be seen.
        axes.plot(x, y, color=colour(series_name(i)), lw=max(1.2, 3.2 - 0.6 * i), ls=style)
        values += [v for v in y if np.isfinite(v)]
    is_log = bool(values) and min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    if is_log:
        log_scale(axes, "y")
    elif values and min(values) >= 0:
        axes.set_ylim(0, 1.1 * max(values) or 1.0)
    _step_axis(axes)
    svg = to_svg(figure, "weights", "Weight of each task over training")
    return Picture("Weights of the tasks", svg, "Log scale." if is_log else "")


def thinned(
    steps: Sequence[int], values: Sequence[float | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """(steps, means, values per mean): neighbours joined, a gap where all of them are null."""
    x = np.asarray(steps, np.float64)
    y = np.array([np.nan if value is None else value for value in values], np.float64)
    num_joined = max(1, -(-len(x) // _MOST_POINTS))
    starts = np.arange(0, len(x), num_joined)
    if num_joined == 1 or len(x) == 0:
        return x, y, 1
    counts = np.add.reduceat(np.isfinite(y).astype(np.float64), starts)
    sums = np.add.reduceat(np.nan_to_num(y), starts)
    return x[starts], np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), num_joined


def smoothed(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window around each point; what is no number does not count."""
    half = max(1, round(_SMOOTHED_SHARE * len(y) / 2))
    is_number = np.isfinite(y)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_number, y, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_number)])
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    count = counts[high] - counts[low]
    return np.where(is_number, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)


def _step_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.yaxis.set_major_locator(MaxNLocator(4)) if axes.get_yscale() == "linear" else None
