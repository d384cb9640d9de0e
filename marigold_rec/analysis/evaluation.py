"""From score files to the tasks and slices of a report. Runs on one process, one task at a time.

Shapes: N rows of the split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.codes import Codes, num_codes
from marigold_rec.analysis.estimate import (
    Estimate,
    detectable_difference,
    standard_error,
)
from marigold_rec.analysis.figures import estimates_and_curves, figures
from marigold_rec.analysis.report import Detectable, Slice, TaskReport
from marigold_rec.analysis.row_arrays import all_rows, rows_where, taken, without_ones
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.slice_reports import TaskRows, slice_reports, worst_first
from marigold_rec.analysis.slicing import Slicing
from marigold_rec.analysis.targets import Target
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.metrics import headline_of


@dataclass(frozen=True)
class Settings:
    """How rows are taken together, and what is told of them."""

    user_N: Codes | None = None
    group_N: Codes | None = None
    slicings: tuple[Slicing, ...] = ()
    ndcg_at: tuple[int, ...] = ()
    confidence: float = 0.95


@dataclass(frozen=True)
class Judged:
    tasks: tuple[TaskReport, ...]
    slices: tuple[Slice, ...]


def judge(
    model: ScoreFiles,
    baseline: ScoreFiles | None,
    targets: Sequence[Target],
    baseline_targets: Sequence[Target],
    settings: Settings,
) -> Judged:
    """Every target's figures, curves and slices. A target is compared if the baseline has one of
    its name and kind. Memory (or files, within `row_arrays.on_disk`): some 60 bytes per row of the
    largest target, whatever their number.
    """
    old_targets = {target.name: target for target in baseline_targets}
    tasks: list[TaskReport] = []
    slices: list[Slice] = []
    weight_N = model.weight()
    for target in targets:
        rows, which = observed_rows(model, target, weight_N, settings)
        old = None
        old_target = old_targets.get(target.name)
        if baseline is not None and old_target is not None and old_target.kind == target.kind:
            old = rows.with_scores(*_scores(baseline, old_target, which))
        task_rows = TaskRows(target.name, target.kind, rows, old, which)
        report, whole = _task_report(target, task_rows, settings)
        tasks.append(report)
        slices += slice_reports(task_rows, whole, settings.slicings, confidence=settings.confidence)
    return Judged(tuple(tasks), worst_first(slices))


def observed_rows(
    files: ScoreFiles,
    target: Target,
    weight_N: NDArray[np.float32] | None,
    settings: Settings,
) -> tuple[Rows, NDArray[np.intp] | slice]:
    """The rows of positive weight whose label is observed, and their places among all."""
    label_N = target.label_of(files)

    def is_judged(part: slice) -> NDArray[np.bool_]:
        is_known_n = ~np.isnan(label_N[part])
        return is_known_n if weight_N is None else is_known_n & (weight_N[part] > 0)

    # Without copies where no row is left out.
    which = slice(None)
    if not all_rows(len(label_N), is_judged):
        which = rows_where(len(label_N), is_judged)
    weight = None if weight_N is None else without_ones(taken(weight_N, which))
    score_n, columns = _scores(files, target, which)
    rows = Rows(
        score_N=score_n,
        columns=columns,
        ndcg_at=settings.ndcg_at,
        label_N=taken(label_N, which),
        weight_N=weight,
        user_N=None if settings.user_N is None else taken(settings.user_N, which),
        group_N=None if settings.group_N is None else taken(settings.group_N, which),
    )
    return rows, which


def _scores(
    files: ScoreFiles, target: Target, which: NDArray[np.intp] | slice
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """A model's predictions of some rows, and its other columns."""
    others = target.columns(files)
    return taken(target.score(files), which), {n: taken(c, which) for n, c in others.items()}


def _task_report(target: Target, rows: TaskRows, settings: Settings) -> tuple[TaskReport, Estimate]:
    """And the headline estimate over all rows."""
    new, curves = estimates_and_curves(target.kind, rows.new, settings.confidence)
    old, old_curves = None, None
    if rows.old is not None:
        old, old_curves = estimates_and_curves(target.kind, rows.old, settings.confidence)
    headline = headline_of(target.kind)
    users = rows.new.user_N
    report = TaskReport(
        name=target.name,
        kind=target.kind,
        space=target.space,
        label=target.label,
        observed_if=target.observed_if,
        rows=len(rows.new),
        users=None if users is None else _num_distinct(users),
        positives=num_positives(target, rows.new),
        figures=figures(new, old, settings.confidence),
        detectable=_detectable(headline, new[headline], None if old is None else old[headline]),
        curves=curves,
        baseline_curves=old_curves,
    )
    return report, new[headline]


def num_positives(target: Target, rows: Rows) -> int | None:
    """None where labels have no classes."""
    return int(np.count_nonzero(rows.label_N)) if LABEL_KINDS[target.kind].has_classes else None


def num_saturated(target: Target, rows: Rows) -> int:
    """Rows whose probability is exactly 0 or 1: what float32 rounds to it has no order any more. 0
    where labels have no classes."""
    if not LABEL_KINDS[target.kind].has_classes:
        return 0
    return int(np.count_nonzero((rows.score_N == 0) | (rows.score_N == 1)))


def _num_distinct(code_N: Codes) -> int:
    is_there = np.zeros(num_codes(code_N), np.bool_)
    is_there[code_N] = True
    return int(np.count_nonzero(is_there))


def _detectable(metric: str, new: Estimate, old: Estimate | None) -> Detectable | None:
    if new.influence_C is None:
        return None
    if old is not None and old.influence_C is not None:
        is_paired, se = True, standard_error(new.influence_C - old.influence_C)
    else:
        # Two evaluations of as many other rows each.
        is_paired, se = False, standard_error(math.sqrt(2.0) * new.influence_C)
    if not se:
        return None
    return Detectable(metric=metric, difference=detectable_difference(se), is_paired=is_paired)
