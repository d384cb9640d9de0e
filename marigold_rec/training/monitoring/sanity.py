"""Figures that no sound training shows: told once per run, with what to look at.

A figure is told only where chance can't explain it: thresholds are on rows, or on the standard
error of an AUC. What every young model shows (no ranking yet, first probabilities of 0.5) counts
only once the model has got over its first values, or at the end of a run: what it has become by
then is what is published, however few its steps were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from marigold_rec.config.label_kinds import LABEL_KINDS, Kind
from marigold_rec.metrics import METRICS
from marigold_rec.training.monitoring.run_log import LOGGER

_MANY = 100
"""Rows of a class that make its figures steady enough to judge."""
_ROWS_WITHOUT_0, _ROWS_WITHOUT_1 = 1_000, 10_000
"""A class is missing by chance in one such window of 20,000 where 1 label of 100 is of it (0), or
1 of 1,000 (1): positives are the rare ones."""
_CHANCE, _STANDARD_ERRORS = 0.52, 3.0
_LARGEST_STANDARD_ERROR = 0.01
"""Above it (fewer than about 830 positives) an AUC says too little to call it chance."""
_LEAK = 0.999
_CALIBRATED = (0.2, 5.0)
_LARGEST_NE = 1.2
_LARGEST_NE_AT_THE_END = 1.0
_NORMAL_95 = 1.96
_MOST_SATURATED = 0.001
"""Share of scores without an order that changes no figure's third digit."""
_INPUTS_FIRST = "look at the inputs first (--dry-run shows each dense column)"
_FIRST_STEPS, _YOUNG_STEPS = 200, 5_000


@dataclass(frozen=True)
class TaskMetrics:
    """What is known of a task over a window of training rows, or over an evaluation's."""

    task: str
    rows: float
    """Observed rows; of rows with unequal weights the number of equal ones that say as much."""
    positives: float | None = None
    """Of them, with label 1; None: not a yes/no task."""
    auc: float | None = None
    ne: float | None = None
    calibration: float | None = None
    is_constant: bool = False
    """All predictions are the same number."""
    auc_high: float | None = None
    """The upper end of the AUC's interval, where one was computed."""
    r2_log: float | None = None
    saturated: int = 0
    """Rows whose score is exactly 0 or 1."""
    twin: str | None = None
    """Another task whose label is the same in every row, and observed in the same rows."""

    @classmethod
    def of(
        cls,
        task: str,
        rows: float,
        positives: float | None,
        values: Mapping[str, float | None],
        *,
        auc_high: float | None = None,
        saturated: int = 0,
    ) -> TaskMetrics:
        """`values`: the task's metrics by name; those that the guard looks at are kept."""
        known = {field.name for field in fields(cls)} & METRICS.keys()
        kept: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        return cls(task, rows, positives, auc_high=auc_high, saturated=saturated, **kept)

    @property
    def negatives(self) -> float:
        return self.rows - (self.positives or 0.0)


class SanityGuard:
    """Looks at figures as they come. A start after a resume tells everything once more."""

    def __init__(self, total_steps: int) -> None:
        self._grown_up = max(_FIRST_STEPS, min(_YOUNG_STEPS, total_steps // 2))
        self.warnings: list[str] = []
        """Everything told so far."""
        self._told: set[tuple[str, str]] = set()

    def look(self, step: int, figures: Iterable[TaskMetrics]) -> list[str]:
        """Logs and returns the warnings that are new. `step`: steps taken."""
        is_young = step < self._grown_up
        return self._tell(
            step,
            (
                (of.task, kind, text)
                for of in figures
                for kind, text in (*_of_data(of), *(() if is_young else _of_model(of)))
            ),
        )

    def look_at_the_end(self, step: int, figures: Iterable[TaskMetrics]) -> list[str]:
        """As `look`, of the final evaluation: whatever the number of steps, and more strictly."""
        return self._tell(
            step,
            (
                (of.task, kind, f"evaluation: {text}")
                for of in figures
                for kind, text in (
                    *_of_data(of),
                    *((f"final {kind}", text) for kind, text in _of_model(of, is_end=True)),
                )
            ),
        )

    def look_at_losses(
        self, step: int, losses: Mapping[str, tuple[Kind, float]], inputs: Callable[[], str]
    ) -> list[str]:
        """`losses`: kind and loss, by task. `inputs`: says what the step's were."""
        return self._tell(
            step,
            (
                (
                    task,
                    "loss",
                    f"loss {loss:,.6g} is beyond reason (expected below {_largest_loss(kind):g}): "
                    f"{inputs()}; then look at optimizer.*.lr and optimizer.dense.clip_norm",
                )
                for task, (kind, loss) in losses.items()
                if loss > _largest_loss(kind)
            ),
        )

    def _tell(self, step: int, found: Iterable[tuple[str, str, str]]) -> list[str]:
        new = []
        for task, kind, text in found:
            if (kind, task) not in self._told:
                self._told.add((kind, task))
                new.append(f"step {step}: {task}: {text}")
        for warning in new:
            LOGGER.warning("%s", warning)
        self.warnings += new
        return new


def _largest_loss(kind: Kind) -> float:
    return LABEL_KINDS[kind].largest_loss


def _of_data(of: TaskMetrics) -> Iterator[tuple[str, str]]:
    """What is wrong from the first step on: (kind, text)."""
    if of.positives is None:
        return
    if of.positives == 0 and of.rows >= _ROWS_WITHOUT_1:
        yield (
            "no positive",
            f"all labels of {of.rows:,.0f} observed rows are 0; expected both classes: look at the "
            "label's column and at observed_if, and whether its events have arrived by these days",
        )
    if of.negatives == 0 and of.rows >= _ROWS_WITHOUT_0:
        yield (
            "no negative",
            f"all labels of {of.rows:,.0f} observed rows are 1; expected both classes: is the "
            "label null, or observed_if 0, where it should be 0?",
        )
    if not _has_many_of_both(of):
        return
    if of.auc is not None and of.auc >= _LEAK:
        yield (
            "leak",
            f"AUC {of.auc:.5f} over {_classes(of)}; expected below {_LEAK}: look for a feature "
            "that knows the label (made after the event, or from it); in later epochs also for "
            "rows learned by heart",
        )
    if of.twin is not None:
        yield (
            "twin",
            f"its labels and those of {of.twin} are the same in every one of {of.rows:,.0f} rows; "
            "expected two labels: has one column been written from the other?",
        )


def _of_model(of: TaskMetrics, *, is_end: bool = False) -> Iterator[tuple[str, str]]:
    """What is wrong unless the model has only begun to learn: (kind, text)."""
    if of.is_constant and of.rows >= _ROWS_WITHOUT_0:
        yield (
            "constant",
            f"all predictions of {of.rows:,.0f} rows are one number; expected a spread: look for "
            "features without values, a learning rate so high that the units died, or a task "
            "weight of 0",
        )
    elif is_end and of.auc is not None and _highest_auc(of, of.auc) < 0.5:
        yield (
            "below chance",
            f"AUC {of.auc:.4f} over {_classes(of)} is worse than chance (its interval ends at "
            f"{_highest_auc(of, of.auc):.4f}); expected above 0.5: {_INPUTS_FIRST}, then at "
            "whether label and features are of the same rows",
        )
    elif of.auc is not None and _is_chance(of, of.auc):
        yield (
            "chance",
            f"AUC {of.auc:.4f} over {_classes(of)} is no better than chance; expected above "
            f"{_CHANCE}: look at the task's weight and loss, and whether label and features are "
            "of the same rows",
        )
    if of.calibration is not None and _is_far_off(of, of.calibration):
        low, high = _CALIBRATED
        yield (
            "calibration",
            f"predicts {of.calibration:.3g} times the positives of {_classes(of)}; expected "
            f"{low:g} to {high:g}: look at row weights, at days whose labels are not complete, "
            "at the inputs, and at the learning rate",
        )
    largest_ne = _LARGEST_NE_AT_THE_END if is_end else _LARGEST_NE
    if of.ne is not None and of.ne > largest_ne and _has_many_of_both(of):
        yield (
            "ne",
            f"NE {of.ne:.4f} over {_classes(of)} is worse than always predicting the mean (1); "
            f"expected below {largest_ne:g}: {_INPUTS_FIRST}, then at its calibration and at the "
            "learning rates",
        )
    if is_end and of.saturated > _MOST_SATURATED * of.rows:
        yield (
            "saturated",
            f"{of.saturated:,} of {of.rows:,.0f} scores are exactly 0 or 1 in float32: they can't "
            "be ranked among each other, so AUC and its kin are too low or say nothing; look at "
            "the inputs (--dry-run), the learning rates and logit_offset",
        )
    if is_end and of.r2_log is not None and of.r2_log < 0 and of.rows >= _MANY:
        yield (
            "r2",
            f"R2 {of.r2_log:.4f} over {of.rows:,.0f} rows is worse than always predicting the mean "
            f"(0); expected above 0: {_INPUTS_FIRST}, then at the learning rates",
        )


def _has_many_of_both(of: TaskMetrics) -> bool:
    return of.positives is not None and min(of.positives, of.negatives) >= _MANY


def _is_chance(of: TaskMetrics, auc: float) -> bool:
    error = _standard_error(of)
    return error <= _LARGEST_STANDARD_ERROR and auc + _STANDARD_ERRORS * error < _CHANCE


def _is_far_off(of: TaskMetrics, calibration: float) -> bool:
    # The larger of predicted and found: 5 found where 100 were predicted is no chance either.
    positives = of.positives or 0.0
    low, high = _CALIBRATED
    return not low <= calibration <= high and positives * max(1.0, calibration) >= _MANY


def _highest_auc(of: TaskMetrics, auc: float) -> float:
    """The upper end of its interval."""
    return auc + _NORMAL_95 * _standard_error(of) if of.auc_high is None else of.auc_high


def _standard_error(of: TaskMetrics) -> float:
    """Of the AUC of a model that knows nothing (Hanley and McNeil 1982, at AUC 0.5)."""
    pairs = (of.positives or 0.0) * of.negatives
    return math.sqrt((of.rows + 1) / (12 * pairs)) if pairs > 0 else math.inf


def _classes(of: TaskMetrics) -> str:
    return f"{of.positives or 0:,.0f} positives and {of.negatives:,.0f} negatives"
