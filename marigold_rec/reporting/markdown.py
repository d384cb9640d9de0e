"""report.md: the headline, the tasks, the ten worst slices and the warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from marigold_rec.analysis.report import Report, TaskReport
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.metrics import main_metrics, metric_of
from marigold_rec.reporting.verdicts import slices_sentence, slices_title, verdicts
from marigold_rec.reporting.wording import (
    NOTHING,
    count,
    interval,
    number,
    p_equals,
    probability,
    shown,
    signed,
    signed_interval,
)

_NUM_SLICES = 10


def report_markdown(report: Report) -> str:
    data, baseline = report.data, report.baseline
    lines = [
        f"- data: {escaped(data.path)}, {_dates(data.dates)}{count(data.rows)} rows",
        f"- model: {escaped(report.model.checkpoint)}, step {count(report.model.step)}",
    ]
    if baseline is not None:
        lines.append(f"- baseline: {escaped(baseline.name)}, {escaped(baseline.checkpoint)}")
    lines.append(f"- intervals: {100 * report.confidence:g} %, {_clusters(report)}")
    lines.append(f"- made {escaped(report.created)}")
    parts = [
        f"# Evaluation of {escaped(report.model.name)}",
        "\n".join(f"- {escaped(verdict.sentence)}" for verdict in verdicts(report)),
        *([escaped(slices_sentence(report))] if report.slices else []),
        *_warnings(report),
        "\n".join(lines),
    ]
    for kind, of_kind in LABEL_KINDS.items():
        if tasks := [task for task in report.tasks if task.kind == kind]:
            parts += [f"## {of_kind.title}", _tasks_table(tasks)]
    if report.slices:
        parts += [f"## {slices_title(report)}", _slices_table(report)]
    parts.append("Curves, all slices and all figures: report.html; the same as data: report.json.")
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a line, a list or a table's cell."""
    one_line = shown(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = re.sub(r"([\\|*`\[\]#~$!])", r"\\\1", one_line)
    marked = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", marked)  # watch_time needs none
    marked = re.sub(r"^(\d+)([.)])", r"\1\\\2", marked)
    return re.sub(r"^([-+=:])", r"\\\1", marked)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right. Cells come escaped."""
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _dates(dates: tuple[str, str] | None) -> str:
    if dates is None:
        return ""
    first, last = map(escaped, dates)
    return f"{first}, " if first == last else f"{first} to {last}, "


def _clusters(report: Report) -> str:
    if report.user is None:
        return "each row on its own: no user column (evaluation.user)"
    return f"rows of one {escaped(report.user)} taken together"


def _warnings(report: Report) -> list[str]:
    if not report.warnings:
        return []
    return ["## Warnings", "\n".join(f"- {escaped(text)}" for text in report.warnings)]


def _tasks_table(tasks: Sequence[TaskReport]) -> str:
    metrics = main_metrics(name for task in tasks for name in task.figures)
    rows = [
        [escaped(task.name), count(task.rows), *(_cell(task, metric) for metric in metrics)]
        for task in tasks
    ]
    return markdown_table(["task", "rows", *(escaped(metric_of(m).label) for m in metrics)], rows)


def _cell(task: TaskReport, metric: str) -> str:
    figure = task.figures.get(metric)
    if figure is None:
        return NOTHING
    if figure.value is None:
        return f"{NOTHING} ({escaped(figure.reason or 'no reason given')})"
    text = number(figure.value, metric)
    if between := interval(figure.low, figure.high, metric):
        text += f" ({between})"
    if figure.delta is not None:
        tested = escaped(p_equals(figure.p_value)) if figure.p_value is not None else ""
        text += f", {signed(figure.delta, metric)}" + (f" ({tested})" if tested else "")
    return text


def _slices_table(report: Report) -> str:
    rows = [
        [
            f"{escaped(of.name)} = {escaped(of.value)}",
            escaped(of.task),
            count(of.rows),
            escaped(metric_of(of.metric).label),
            signed(of.difference, of.metric),
            signed_interval(of.difference_low, of.difference_high, of.metric) or NOTHING,
            escaped(probability(of.q_value)),
        ]
        for of in report.slices[:_NUM_SLICES]
    ]
    return markdown_table(["slice", "task", "rows", "figure", "difference", "interval", "q"], rows)
