"""The candidate's scores against the published model's on the same rows."""

from __future__ import annotations

from collections.abc import Iterator

from marigold_rec.analysis.report import Report, TaskReport
from marigold_rec.config.gate import DriftLimits
from marigold_rec.config.label_kinds import has_classes
from marigold_rec.gating.figure_checks import ON
from marigold_rec.gating.psi import histogram_psi
from marigold_rec.gating.verdict import Check, Where, limited
from marigold_rec.reporting.wording import shown

_LOOK_AT = "look at the two histograms in the report, and at the new days' labels"


def score_checks(limits: DriftLimits, report: Report, on: Where) -> Iterator[Check]:
    """Of yes/no tasks that both models have. Nothing without a baseline."""
    for task in report.tasks:
        if not has_classes(task.kind) or task.space != "observed" or report.baseline is None:
            continue
        yield from _mean_check(limits, task, on)
        yield from _shape_check(limits, task, on, limits.min_values)


def _mean_check(limits: DriftLimits, task: TaskReport, on: Where) -> Iterator[Check]:
    """On the same labels the ratio of the calibrations is that of the mean scores."""
    figure = task.figures.get("calibration")
    if limits.max_score_ratio is None or figure is None or not figure.value or not figure.baseline:
        return
    ratio = figure.value / figure.baseline
    most, least = limits.max_score_ratio, 1 / limits.max_score_ratio
    yield limited(
        "drift.max_score_ratio", on, task.name, ratio,
        f"{shown(task.name)}: the mean score is {ratio:.3f} times the published model's on "
        f"{ON[on]}; {least:.3f} to {most:.3f} is allowed",
        _LOOK_AT, low=least, high=most,
    )  # fmt: skip


def _shape_check(
    limits: DriftLimits, task: TaskReport, on: Where, min_values: int
) -> Iterator[Check]:
    new, old = task.curves.histogram, None
    if task.baseline_curves is not None:
        old = task.baseline_curves.histogram
    if limits.max_score_psi is None or new is None or old is None or task.rows < min_values:
        return
    found = histogram_psi(new, old)
    if found is None:
        return
    yield limited(
        "drift.max_score_psi", on, task.name, found,
        f"{shown(task.name)}: the scores' distribution differs by PSI {found:.3f} from the "
        f"published model's on {ON[on]}; {limits.max_score_psi:.3f} is allowed",
        _LOOK_AT, high=limits.max_score_psi,
    )  # fmt: skip
