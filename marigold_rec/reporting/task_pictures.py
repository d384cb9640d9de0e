"""The pictures of one task: ROC, precision and recall, reliability, scores, seconds by decile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from marigold_rec.analysis.report import Bin, Curves, TaskReport
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.reporting.canvas import (
    colour,
    log_scale,
    new_figure,
    plain,
    short_number,
    to_svg,
)
from marigold_rec.reporting.wording import count

Points = Sequence[tuple[float, float]]

# Beyond this ratio the small values of a linear axis lie on one another.
_LOG_RATIO = 20.0


@dataclass(frozen=True)
class Picture:
    title: str
    svg: Markup
    note: str = ""
    shows_baseline: bool = False


def task_pictures(task: TaskReport, key: str) -> list[Picture]:
    """`key`: begins the ids of the pictures. Empty when the task has no curves."""
    return list(_pictures(task, key))


def _pictures(task: TaskReport, key: str) -> Iterator[Picture]:
    curves, other = task.curves, task.baseline_curves
    if curves.roc:
        yield _roc(task, key, curves.roc, other.roc if other else ())
    if curves.pr:
        yield _precision_recall(task, key, curves.pr, other.pr if other else ())
    if curves.bins:
        draw = _reliability if LABEL_KINDS[task.kind].has_classes else _deciles
        yield draw(task, key, curves.bins, other.bins if other else ())
    if curves.histogram is not None and len(curves.histogram.edges) > 1:
        yield _scores(task, key, curves)


def _roc(task: TaskReport, key: str, points: Points, baseline: Points) -> Picture:
    figure = new_figure()
    axes = figure.add_subplot()
    plain(axes, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=colour("muted"), lw=0.8, ls=(0, (1, 2)))
    _both(axes, points, baseline)
    _unit(axes.set_xlim)
    _unit(axes.set_ylim)
    svg = to_svg(figure, f"{key}-roc", f"ROC curve of {task.name}")
    return Picture("ROC", svg, "Dotted: guessing.", bool(baseline))


def _precision_recall(task: TaskReport, key: str, points: Points, baseline: Points) -> Picture:
    figure = new_figure()
    axes = figure.add_subplot()
    plain(axes, "recall", "precision")
    base_rate = points[-1][1]
    axes.axhline(base_rate, color=colour("muted"), lw=0.8, ls=(0, (1, 2)))
    _both(axes, points, baseline)
    _unit(axes.set_xlim)
    # The first few rows can be all positive; they must not flatten a rate of one in a thousand.
    top = max([y for x, y in points if x >= 0.02] + [base_rate])
    axes.set_ylim(0, min(1.02, max(1.15 * top, 1e-9)))
    svg = to_svg(figure, f"{key}-pr", f"Precision over recall of {task.name}")
    return Picture("Precision and recall", svg, f"Dotted: base rate, {base_rate:.3g}.",
                   bool(baseline))  # fmt: skip


def _reliability(
    task: TaskReport, key: str, bins: Sequence[Bin], baseline: Sequence[Bin]
) -> Picture:
    figure = new_figure(height_pt=222)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    plain(axes, "", "actual rate")
    plain(below, "predicted rate", "rows")
    every = [*bins, *baseline]
    values = [v for b in every for v in (b.predicted, b.actual)]
    is_log = min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    ends = [min(values), max(values)]
    axes.plot(ends, ends, color=colour("muted"), lw=0.8, ls=(0, (1, 2)))
    if baseline:
        _bins(axes, baseline, "baseline")
    _bins(axes, bins, "model")
    below.vlines([b.predicted for b in bins], 0, [b.rows for b in bins],
                 color=colour("model"), lw=3)  # fmt: skip
    if is_log:
        log_scale(axes, "x")
        log_scale(axes, "y")
        axes.set_ylim(bottom=0.5 * min(values))  # an interval that reaches 0 has no end here
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelbottom=False)
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    below.yaxis.set_major_formatter(FuncFormatter(short_number))
    figure.align_ylabels()
    least, most = min(b.rows for b in bins), max(b.rows for b in bins)
    rows = count(most) if least == most else f"{count(least)} to {count(most)}"
    svg = to_svg(figure, f"{key}-bins", f"Reliability of {task.name}: actual over predicted rate")
    note = f"{len(bins)} bins of {rows} rows. Dotted: perfect." + (" Log scales." if is_log else "")
    return Picture("Reliability", svg, note, bool(baseline))


def _deciles(task: TaskReport, key: str, bins: Sequence[Bin], baseline: Sequence[Bin]) -> Picture:
    figure = new_figure(height_pt=222)
    axes = figure.add_subplot()
    plain(axes, "bins of rising prediction", f"mean {LABEL_KINDS[task.kind].unit}")
    place = np.arange(1, len(bins) + 1)
    axes.bar(place, [b.actual for b in bins], width=0.62, color=colour("model"), alpha=0.3, lw=0)
    _whiskers(axes, place, bins, "model")
    if baseline:
        axes.plot(np.arange(1, len(baseline) + 1), [b.predicted for b in baseline],
                  color=colour("baseline"), ls="--", lw=1.1, marker="s", ms=3)  # fmt: skip
    axes.plot(place, [b.predicted for b in bins], color=colour("model"), lw=1.5, marker="o", ms=4)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(False, axis="x")
    svg = to_svg(figure, f"{key}-bins", f"Predicted and actual mean of {task.name} by decile")
    return Picture("Predicted against actual", svg, "Bars: actual. Lines: predicted.",
                   bool(baseline))  # fmt: skip


def _scores(task: TaskReport, key: str, curves: Curves) -> Picture:
    histogram = curves.histogram
    assert histogram is not None
    figure = new_figure()
    axes = figure.add_subplot()
    plain(axes, "prediction", "share of the class")
    edges = np.asarray(histogram.edges)
    for name, weights in (("negative", histogram.negatives), ("positive", histogram.positives)):
        total = sum(weights)
        if total > 0:
            shares = np.asarray(weights) / total
            style = "-" if name == "positive" else (0, (4, 2))
            axes.stairs(shares, edges, fill=True, color=colour(name), alpha=0.18, lw=0)
            axes.stairs(shares, edges, color=colour(name), lw=1.3, ls=style)
    widths = np.diff(edges)
    if edges[0] > 0 and widths[-1] > _LOG_RATIO * widths[0]:
        log_scale(axes, "x")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    svg = to_svg(figure, f"{key}-scores", f"Predictions of {task.name} for positives and negatives")
    return Picture("Predictions by class", svg)


def _both(axes: Axes, points: Points, baseline: Points) -> None:
    if baseline:
        axes.plot(*zip(*baseline, strict=True), color=colour("baseline"), lw=1.2, ls="--")
    axes.plot(*zip(*points, strict=True), color=colour("model"), lw=1.6)


def _bins(axes: Axes, bins: Sequence[Bin], name: str) -> None:
    x = np.array([b.predicted for b in bins])
    is_model = name == "model"
    axes.plot(x, [b.actual for b in bins], color=colour(name), lw=0.8, ls="-" if is_model else "--",
              marker="o" if is_model else "s", ms=4 if is_model else 3)  # fmt: skip
    if is_model:
        _whiskers(axes, x, bins, name)


def _whiskers(axes: Axes, x: np.ndarray, bins: Sequence[Bin], name: str) -> None:
    for at, b in zip(x, bins, strict=True):
        if b.low is not None and b.high is not None:
            axes.plot([at, at], [b.low, b.high], color=colour(name), lw=1.1)


def _unit(set_limits: Callable[[float, float], object]) -> None:
    set_limits(-0.01, 1.01)
