"""report.html: one file that loads nothing, for a phone, a desktop and paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from marigold_rec.analysis.report import Model, Report, Slice, TaskReport
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.metrics import in_order, main_metrics, metric_of
from marigold_rec.reporting.canvas import series_name
from marigold_rec.reporting.page import environment
from marigold_rec.reporting.task_pictures import Picture, task_pictures
from marigold_rec.reporting.training_pictures import training_pictures
from marigold_rec.reporting.verdicts import (
    Word,
    figure_word,
    slice_word,
    slices_sentence,
    slices_title,
    verdicts,
)
from marigold_rec.reporting.whiskers import Whisker, whisker, whisker_scales

# The rest is in report.json, and the page says so: a phone should still open it.
_MOST_SLICES = 600
_VISIBLE_SLICES = 20


@dataclass(frozen=True)
class SliceRow:
    slice: Slice
    word: Word
    whisker: Whisker | None


@dataclass(frozen=True)
class TaskView:
    task: TaskReport
    words: Mapping[str, Word]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class TaskTable:
    """Tasks of one kind, and the figures that have a column."""

    title: str
    views: Sequence[TaskView]
    metrics: Sequence[str]


def report_html(report: Report) -> str:
    rows = _slice_rows(report)
    # Pictures' ids by number: a task's name is text of a config, and no part of an id.
    views = [_view(task, f"t{i}", report.confidence) for i, task in enumerate(report.tasks)]
    return environment().get_template("report.html.j2").render(
        report=report,
        verdicts=verdicts(report),
        slices_sentence=slices_sentence(report),
        slices_title=slices_title(report),
        views=views,
        tables=_tables(views),
        versions=_versions(report),
        training=training_pictures(report.training),
        series=_series(report),
        slices=rows[:_VISIBLE_SLICES],
        more_slices=rows[_VISIBLE_SLICES:_MOST_SLICES],
        num_left_out=max(0, len(rows) - _MOST_SLICES),
        glossary=_glossary(report),
    )  # fmt: skip


def _view(task: TaskReport, key: str, confidence: float) -> TaskView:
    words: dict[str, Word] = {
        name: figure_word(of, name, 1 - confidence) for name, of in task.figures.items()
    }
    return TaskView(task, words, task_pictures(task, key))


def _tables(views: Sequence[TaskView]) -> list[TaskTable]:
    tables = []
    for kind, of_kind in LABEL_KINDS.items():
        if own := [view for view in views if view.task.kind == kind]:
            metrics = main_metrics(name for view in own for name in view.task.figures)
            tables.append(TaskTable(of_kind.title, own, metrics))
    return tables


def _series(report: Report) -> list[tuple[str, str]]:
    """(task, CSS variable) of the lines of the weights' picture."""
    training = report.training
    if training is None:
        return []
    return [(task, series_name(i)) for i, task in enumerate(training.weights)]


def _slice_rows(report: Report) -> list[SliceRow]:
    scales = whisker_scales(report.slices)
    alpha = 1 - report.confidence
    return [SliceRow(of, slice_word(of, alpha), whisker(of, scales)) for of in report.slices]


@dataclass(frozen=True)
class VersionRow:
    package: str
    versions: tuple[str | None, ...]
    is_same: bool


def _versions(report: Report) -> list[VersionRow]:
    models: list[Model] = [report.model] + ([report.baseline] if report.baseline else [])
    columns = [model.versions for model in models] + [report.versions]
    rows = []
    for package in dict.fromkeys(name for column in columns for name in column):
        found = tuple(column.get(package) for column in columns)
        rows.append(VersionRow(package, found, len(set(found)) == 1))
    return rows


@cache
def _explained() -> list[tuple[str, str]]:
    return [
        ("interval", "Where the true value lies, at the report's confidence. Rows of one user are "
         "taken together, where a user column is given."),
        ("p", "Chance of a difference this large if there were none; paired, on the same rows."),
        ("q", "p after correction for the number of slices: of those called different at q < .05, "
         "one in twenty is so by chance."),
    ]  # fmt: skip


def _glossary(report: Report) -> list[tuple[str, str]]:
    names: list[Any] = [name for task in report.tasks for name in task.figures]
    names += [of.metric for of in report.slices]
    found = [(metric_of(name).label, metric_of(name).meaning) for name in in_order(names)]
    return [(label, meaning) for label, meaning in found if meaning] + _explained()
