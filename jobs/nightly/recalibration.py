"""Measures the bias of past published models on matured labels, and corrects the new model by it.

The bias on delayed labels is known late: each nightly run evaluates the model that was published
`matures_h` ago on its evaluation days of that time, which were new to it, and whose labels are
final only now. The difference between the logits of the mean label and of the mean prediction, over
the newest few such measurements, shifts the new model's predictions (tasks[].logit_offset): this
corrects a steady bias, whatever its cause. Tasks without `matures_h` are not changed.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from jobs.nightly.folder import NightlyFolder, nightly_folders
from jobs.nightly.plan import ONE_DAY, Day, Days, NightlyPlan
from marigold_rec.analysis.report import Report
from marigold_rec.atomic_io import read_json, write_atomically
from marigold_rec.config.nightly import RecalibrationConfig
from marigold_rec.config.tasks import Task, logit_offset_of
from marigold_rec.record import Record


class BiasMeasurement(Record):
    """The predictions of one published model on days new to it, against their final labels."""

    task: str
    night: Day
    """The model's nightly run."""
    days: Days
    rows: int
    positives: int
    calibration: float
    """Sum of the predictions over the sum of the labels."""
    offset: float
    """The offset that the model added to its logits: by its config and by recalibration."""

    @property
    def needed(self) -> float:
        """Returns the offset with which the mean prediction would equal the mean label."""
        actual = self.positives / self.rows
        return self.offset + _logit(actual) - _logit(actual * self.calibration)


class Recalibration(Record):
    """The content of recalibration.json."""

    format: Literal[2] = 2
    measurements: tuple[BiasMeasurement, ...]
    """Made by this run."""
    offsets: dict[str, float]
    """Task -> offset that the new model adds to its logits: the config's, and the correction."""
    sentences: dict[str, str]
    """Task -> explanation."""


def delayed_tasks(tasks: Sequence[Task]) -> dict[str, float]:
    """Maps each task with delayed labels whose logits can be shifted to its own logit_offset."""
    offsets = {task.name: logit_offset_of(task) for task in tasks if task.matures_h > 0}
    return {name: offset for name, offset in offsets.items() if offset is not None}


def days_to_mature(tasks: Sequence[Task]) -> int:
    """Counts the days from a row's day to the one at whose end all its labels are final."""
    return max((math.ceil(task.matures_h / 24) for task in tasks), default=0)


def has_matured(plan: NightlyPlan, night: Day, tasks: Sequence[Task]) -> bool:
    """Returns True if the run `night` can measure the bias of the model of `plan`.

    That model, or one before it, was trained on delayed labels, and the labels of its evaluation
    days are final at the end of the day `night`.
    """
    mature = days_to_mature(tasks) * ONE_DAY
    return plan.origin + mature <= plan.train[1] and plan.evaluation[1] + mature <= night


def is_needed_later(night: Day, tonight: Day, tasks: Sequence[Task]) -> bool:
    """Returns True if the model of `night` will be evaluated on final labels after `tonight`."""
    return bool(delayed_tasks(tasks)) and night + days_to_mature(tasks) * ONE_DAY > tonight


def recalibrate(
    rules: RecalibrationConfig, tasks: Sequence[Task], plan: NightlyPlan, folder: NightlyFolder
) -> Recalibration:
    """Computes the offsets from the matured evaluation's report and earlier runs' measurements.

    Writes recalibration.json.
    """
    delayed = delayed_tasks(tasks)
    before = [
        measurement
        for night, each in nightly_folders(folder.root)
        if night < plan.night and (earlier := read_recalibration(each)) is not None
        for measurement in earlier.measurements
    ]
    new = _measure(plan, folder, delayed)
    offsets: dict[str, float] = {}
    sentences: dict[str, str] = {}
    for task, own_offset in delayed.items():
        own = [each for each in [*before, *new] if each.task == task]
        offsets[task], sentences[task] = offset_of(rules, own, own_offset)
    made = Recalibration(measurements=tuple(new), offsets=offsets, sentences=sentences)
    write_atomically(folder.recalibration_file, made.json_text())
    return made


def read_recalibration(folder: NightlyFolder) -> Recalibration | None:
    """Reads recalibration.json; None if the run has not got so far."""
    remedy = "restore it from a backup, or remove it: its measurements are then ignored"
    return read_json(folder.recalibration_file, Recalibration, remedy)


def _measure(
    plan: NightlyPlan, folder: NightlyFolder, delayed: Mapping[str, float]
) -> list[BiasMeasurement]:
    file = folder.matured_evaluation / "report.json"
    report = read_json(file, Report, "evaluate it again with --from matured_evaluation")
    if plan.matured_evaluation is None or report is None:
        return []
    model, days = plan.matured_evaluation.model, plan.matured_evaluation.days
    of_model = read_recalibration(NightlyFolder(folder.root, model.night))
    if of_model is None:  # the offset that it added is unknown
        return []
    found: list[BiasMeasurement] = []
    for task, own_offset in delayed.items():
        for part in report.tasks:
            if part.name != task or part.space != "observed" or not part.positives:
                continue
            calibration = part.figures["calibration"].value
            if not calibration or part.positives >= part.rows:
                continue
            found.append(
                BiasMeasurement(
                    task=task,
                    night=model.night,
                    days=days,
                    rows=part.rows,
                    positives=part.positives,
                    calibration=calibration,
                    offset=of_model.offsets.get(task, own_offset),
                )
            )
    return found


def offset_of(
    rules: RecalibrationConfig, measurements: Sequence[BiasMeasurement], own: float = 0.0
) -> tuple[float, str]:
    """Returns (offset of the logits, explanation). `measurements`: of one task, the newest last.

    The newest `rules.nights` count, weighted by their positives. `own`: the config's offset, from
    which the result differs by at most `rules.max_offset`.
    """
    if not measurements:
        return own, "no published model's evaluation days have final labels yet"
    if not rules.nights:
        measured = _describe(measurements[-1:])
        return own, f"{measured}; no correction (nightly.recalibration.nights: 0)"
    newest = measurements[-rules.nights :]
    positives = sum(each.positives for each in newest)
    if positives < rules.min_positives:
        return own, (
            f"{_describe(newest)}; no correction: fewer positives than "
            f"nightly.recalibration.min_positives ({rules.min_positives})"
        )
    wanted = sum(each.positives * each.needed for each in newest) / positives
    offset = round(min(max(wanted, own - rules.max_offset), own + rules.max_offset), 6)
    sentence = f"{_describe(newest)}; logit offset {offset:+.3f} now, {newest[-1].offset:+.3f} then"
    if offset != round(wanted, 6):
        sentence += f"; needed {wanted:+.3f}, but nightly.recalibration.max_offset is less"
    return offset, sentence


def _describe(measurements: Sequence[BiasMeasurement]) -> str:
    positives = sum(each.positives for each in measurements)
    calibration = sum(each.positives * each.calibration for each in measurements) / positives
    days = _span(measurements[0].days[0], measurements[-1].days[1])
    return (
        f"predicted {calibration:.3f} times the {positives:,} positives of {days}, then new to it"
    )


def _span(first: datetime.date, last: datetime.date) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _logit(p: float) -> float:
    # Rounding and unequal weights can make a mean prediction above 1.
    p = min(max(p, 1e-9), 1.0 - 1e-9)
    return math.log(p / (1.0 - p))
