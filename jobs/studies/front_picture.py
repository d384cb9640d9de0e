"""Draws two tasks against each other: every balancer's mean and spread, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adjustText import adjust_text
from matplotlib.axes import Axes

from jobs.studies.drawing import COLOURS, GREY, INK, TEXT_SIZE, new_figure, save, style_axes
from jobs.studies.plan import Column
from jobs.studies.study_results import StudyResults
from jobs.studies.table import Row

_FRONT, _SINGLE = COLOURS[0], COLOURS[1]

Point = tuple[float, float]


def draw_front(study: StudyResults, out: Path) -> str | None:
    """Writes front.svg and front.png; None when no balancer has metrics of both tasks."""
    chosen = front_columns(study)
    if chosen is None:
        return None
    x, y = chosen
    rows = [row for row in study.rows if {x.task, y.task} <= row.metrics.keys()]
    means = {r.name: (r.metrics[x.task].mean, r.metrics[y.task].mean) for r in rows}
    front = non_dominated(means, (x.higher_is_better, y.higher_is_better))
    figure = new_figure(height_in=6.4)
    axes = figure.add_subplot()
    style_axes(axes)
    for row in rows:
        _cross(axes, row, x, y, is_in_front=row.name in front)
    on_line = sorted(means[name] for name in front)
    axes.plot(*zip(*on_line, strict=True), color=_FRONT, lw=1.2, alpha=0.6, zorder=1)
    _single_task_lines(axes, study, x, y)
    for axis, column in ((axes.xaxis, x), (axes.yaxis, y)):
        better = "higher" if column.higher_is_better else "lower"
        axis.set_label_text(
            f"{column.task}: {column.metric} ({better} is better)", size=TEXT_SIZE, color=INK
        )
    axes.margins(0.12)
    for column, turn in ((x, axes.invert_xaxis), (y, axes.invert_yaxis)):
        if not column.higher_is_better:
            turn()  # better is to the right and up, whatever the metric
    axes.set_title(
        "Mean ± standard deviation over seeds. Blue: not dominated. Hollow: tuned by hand. "
        "Dashed: one model per task.",
        size=TEXT_SIZE - 1, color=INK, loc="left",
    )  # fmt: skip
    texts = [
        axes.text(
            *means[row.name],
            row.name,
            size=TEXT_SIZE,
            color=_FRONT if row.name in front else INK,
            weight="bold" if row.name in front else "normal",
        )
        for row in rows
    ]
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels are placed on the layout as it is now
    adjust_text(
        texts,
        [x for x, _ in means.values()],
        [y for _, y in means.values()],
        ax=axes,
        arrowprops={"arrowstyle": "-", "lw": 0.5},
    )
    return save(figure, out, "front")


def front_columns(study: StudyResults) -> tuple[Column, Column] | None:
    """Returns the study's choice, or the two tasks whose means differ most (relatively) between
    balancers, in the study's order."""
    columns = study.plan.columns
    wanted = study.plan.file.front
    if wanted is not None:
        first, second = ([c for c in columns if c.task == task] for task in wanted)
        return first[0], second[0]
    differing = sorted(columns, key=lambda c: -_relative_spread(study.rows, c))[:2]
    x, y = (column for column in columns if column in differing)
    is_known = any({x.task, y.task} <= row.metrics.keys() for row in study.rows)
    return (x, y) if is_known else None


def _relative_spread(rows: list[Row], column: Column) -> float:
    means = [row.metrics[column.task].mean for row in rows if column.task in row.metrics]
    if not means:
        return -1.0
    return (max(means) - min(means)) / (max(map(abs, means)) or 1.0)


def non_dominated(points: Mapping[str, Point], higher_is_better: tuple[bool, bool]) -> list[str]:
    """Returns the names of the points that no other point beats in one metric without losing in
    the other."""
    signs = [1 if higher else -1 for higher in higher_is_better]
    signed = {name: (signs[0] * x, signs[1] * y) for name, (x, y) in points.items()}
    return [
        name
        for name, (x, y) in signed.items()
        if not any(x2 >= x and y2 >= y and (x2 > x or y2 > y) for x2, y2 in signed.values())
    ]


def _cross(axes: Axes, row: Row, x: Column, y: Column, *, is_in_front: bool) -> None:
    at_x, at_y = row.metrics[x.task], row.metrics[y.task]
    colour = _FRONT if is_in_front else GREY
    axes.errorbar(
        at_x.mean, at_y.mean, xerr=at_x.sd, yerr=at_y.sd, fmt="o" if row.is_automatic else "D",
        ms=5.5, mfc=colour if row.is_automatic else "white", color=colour, lw=0.9,
        alpha=0.8, zorder=3,
    )  # fmt: skip


def _single_task_lines(axes: Axes, study: StudyResults, x: Column, y: Column) -> None:
    for column, line in ((x, axes.axvline), (y, axes.axhline)):
        if (found := study.single_task.get(column.task)) is not None:
            line(found.mean, color=_SINGLE, lw=1.1, ls=(0, (5, 3)), zorder=0)
