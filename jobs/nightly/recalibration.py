"""What served predictions of slow tasks turned out to be off, and tonight's moved by it.

What a model says of late labels is known late: each night asks what the model that was published
`matures_h` ago said of the days that judged it then, which were new to it, and whose labels are
final only now. The difference of the mean label's and the mean prediction's logit, over the newest
few such nights, moves the predictions of tonight's model (tasks[].logit_offset): a steady bias is
taken back, whatever makes it. Tasks without `matures_h` are left alone.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.nightly.durable import read_durable, write_durably
from jobs.nightly.folder import NightFolder, night_folders
from jobs.nightly.plan import ONE_DAY, Day, Days, NightPlan
from marigold_rec.analysis.report import Report
from marigold_rec.config.nightly import RecalibrationConfig
from marigold_rec.config.tasks import Task, logit_offset_of

_Frozen = ConfigDict(extra="forbid", frozen=True)


class Finding(BaseModel):
    """What one published model said of days new to it, held against their final labels."""

    model_config = _Frozen

    task: str
    night: Day
    """Of the model."""
    days: Days
    rows: int
    positives: int
    calibration: float
    """Sum of the predictions over that of the labels."""
    offset: float
    """What that model added to its logits: by its config and by recalibration."""

    @property
    def needed(self) -> float:
        """The offset that would have brought the mean prediction to the mean label."""
        actual = self.positives / self.rows
        return self.offset + _logit(actual) - _logit(actual * self.calibration)


class Recalibration(BaseModel):
    """recalibration.json of a night."""

    model_config = _Frozen

    format: Literal[1] = 1
    found: tuple[Finding, ...]
    """Tonight."""
    offsets: dict[str, float]
    """Logits that tonight's model adds, by task: the config's own and what recalibration moves."""
    sentences: dict[str, str]
    """By task, for people."""


def slow_tasks(tasks: Sequence[Task]) -> dict[str, float]:
    """The tasks whose labels mature and whose logits can be moved -> their own logit_offset."""
    offsets = {task.name: logit_offset_of(task) for task in tasks if task.matures_h > 0}
    return {name: offset for name, offset in offsets.items() if offset is not None}


def days_to_mature(tasks: Sequence[Task]) -> int:
    """Days from a row's own to the one at whose end all its labels are final."""
    return max((math.ceil(task.matures_h / 24) for task in tasks), default=0)


def is_telling(plan: NightPlan, night: Day, tasks: Sequence[Task]) -> bool:
    """Whether a later night can learn from the model of `plan`.

    That model, or one before it, has learned late labels, and those of the days that judged it are
    final at the end of the later night's own day.
    """
    mature = days_to_mature(tasks) * ONE_DAY
    return plan.origin + mature <= plan.train[1] and plan.evaluation[1] + mature <= night


def is_needed_later(night: Day, tonight: Day, tasks: Sequence[Task]) -> bool:
    """Whether the model of `night` will be judged on final labels after tonight."""
    return bool(slow_tasks(tasks)) and night + days_to_mature(tasks) * ONE_DAY > tonight


def recalibrate(
    rules: RecalibrationConfig, tasks: Sequence[Task], plan: NightPlan, folder: NightFolder
) -> Recalibration:
    """From the report of the model served then (folder.served) and what nights before have found.

    Writes recalibration.json.
    """
    slow = slow_tasks(tasks)
    before = [
        finding
        for night, each in night_folders(folder.root)
        if night < plan.night and (earlier := read_recalibration(each)) is not None
        for finding in earlier.found
    ]
    found = _found(plan, folder, slow)
    offsets: dict[str, float] = {}
    sentences: dict[str, str] = {}
    for task, own_offset in slow.items():
        own = [each for each in [*before, *found] if each.task == task]
        offsets[task], sentences[task] = offset_of(rules, own, own_offset)
    made = Recalibration(found=tuple(found), offsets=offsets, sentences=sentences)
    write_durably(folder.recalibration_file, made.model_dump_json(indent=1) + "\n")
    return made


def read_recalibration(folder: NightFolder) -> Recalibration | None:
    """None where the night has not come so far."""
    remedy = "put it back from a backup, or remove it: its findings then don't count"
    return read_durable(folder.recalibration_file, Recalibration, remedy)


def _found(plan: NightPlan, folder: NightFolder, slow: Mapping[str, float]) -> list[Finding]:
    file = folder.served / "report.json"
    report = read_durable(file, Report, "judge it again with --from served")
    if plan.served is None or report is None:
        return []
    of_model = read_recalibration(NightFolder(folder.root, plan.served.model.night))
    if of_model is None:  # of a night before there was recalibration: unknown what it added
        return []
    found: list[Finding] = []
    for task, own_offset in slow.items():
        for part in report.tasks:
            if part.name != task or part.space != "observed" or not part.positives:
                continue
            calibration = part.figures["calibration"].value
            if not calibration or part.positives >= part.rows:
                continue
            found.append(
                Finding(
                    task=task,
                    night=plan.served.model.night,
                    days=plan.served.days,
                    rows=part.rows,
                    positives=part.positives,
                    calibration=calibration,
                    offset=of_model.offsets.get(task, own_offset),
                )
            )
    return found


def offset_of(
    rules: RecalibrationConfig, findings: Sequence[Finding], own: float = 0.0
) -> tuple[float, str]:
    """(logits to add, what was found and why); `findings`: of one task, the newest last.

    The newest `rules.nights` count, by their positives, whose number is their noise. `own`: what
    the config says, from which nothing is moved by more than `rules.max_offset`.
    """
    if not findings:
        return own, "no published model's own days have final labels yet"
    if not rules.nights:
        return own, f"{_served(findings[-1:])}; nothing is moved (nightly.recalibration.nights: 0)"
    newest = findings[-rules.nights :]
    positives = sum(each.positives for each in newest)
    if positives < rules.min_positives:
        return own, f"{_served(newest)}; nothing is moved by less than {rules.min_positives} labels"
    wanted = sum(each.positives * each.needed for each in newest) / positives
    offset = round(min(max(wanted, own - rules.max_offset), own + rules.max_offset), 6)
    sentence = f"{_served(newest)}; logits {offset:+.3f} tonight, {newest[-1].offset:+.3f} then"
    if offset != round(wanted, 6):
        sentence += f"; {wanted:+.3f} would be needed, nightly.recalibration.max_offset is less"
    return offset, sentence


def _served(findings: Sequence[Finding]) -> str:
    positives = sum(each.positives for each in findings)
    calibration = sum(each.positives * each.calibration for each in findings) / positives
    days = _span(findings[0].days[0], findings[-1].days[1])
    return (
        f"predicted {calibration:.3f} times the {positives:,} positives of {days}, then new to it"
    )


def _span(first: datetime.date, last: datetime.date) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _logit(p: float) -> float:
    # A mean prediction above 1 can't be, but for rounding and unequal weights.
    p = min(max(p, 1e-9), 1.0 - 1e-9)
    return math.log(p / (1.0 - p))
