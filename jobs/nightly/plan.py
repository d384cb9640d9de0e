"""Plans a nightly run: decided once at its start, and stored, so that every rerun does the same."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Literal

from marigold_rec.config.due import days_for_due
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.config.tasks import Task
from marigold_rec.errors import ConfigError, DataError
from marigold_rec.record import Record

Day = datetime.date
Days = tuple[Day, Day]
"""First and last, both included."""

ONE_DAY = datetime.timedelta(days=1)


class DataWindow(Record):
    """The days and labels that a run reads; with delayed labels also earlier days, whose labels
    fall into the label window."""

    dates: Days
    due: tuple[datetime.datetime, datetime.datetime] | None
    """[since, until): as SplitConfig.due; None: no task has delayed labels."""


class Model(Record):
    """The model of an earlier nightly run."""

    night: Day
    trained_until: Day
    origin: Day
    """The oldest day that it, or a model before it, has trained on."""
    checkpoint: str
    """Its step folder, relative to the nightly job's folder."""
    manifest_sha256: str
    """Detects another model under the same name."""


class MaturedEvaluation(Record):
    """An earlier published model, and days that were new to it, whose labels are all final now."""

    model: Model
    days: Days


class NightlyPlan(Record):
    """The content of plan.json."""

    format: Literal[2] = 2
    night: Day
    train: Days
    """The new days, to train on."""
    train_window: DataWindow
    evaluation: Days
    evaluation_window: DataWindow
    origin: Day
    """The oldest day that the run's model, or one before it, has trained on."""
    holdout: Days | None
    base: Model | None
    """The published model: the training starts from it, and the gate compares with it."""
    previous_candidate: Model | None
    """The previous run's model, if that is another one (it was refused)."""
    matured_evaluation: MaturedEvaluation | None = None
    """None: no task has delayed labels, or no model's labels have matured since the last run."""
    config_hash: str
    """Hash of all settings except those of the nightly job itself."""


def plan_night(
    night: Day,
    config: NightlyConfig,
    tasks: Sequence[Task],
    *,
    config_hash: str,
    complete: Sequence[Day],
    base: Model | None,
    previous_candidate: Model | None,
    matured_evaluation: MaturedEvaluation | None = None,
) -> NightlyPlan:
    """Plans a run. `complete`: the complete days, of which a first run trains on those before its
    own.

    Raises ConfigError when there is nothing to train on, or a hold-out day would be trained on;
    DataError when a first run has no day at all.
    """
    last = night - config.eval_days * ONE_DAY
    first = _first_day(last, config, complete, base)
    if first > last:
        assert base is not None or config.train_from is not None
        why = (
            f"nightly.train_from is {config.train_from}"
            if base is None or config.train_from == first
            else f"the published model ({base.night}) is trained on the days up to "
            f"{base.trained_until}"
        )
        raise ConfigError(
            f"nightly run {night}: nothing to train on: it trains on the days up to {last} (the "
            f"newest {config.eval_days} evaluate), and {why}; choose a later --date"
        )
    holdout = config.holdout
    if holdout is not None and holdout[0] <= last and holdout[1] >= first:
        raise ConfigError(
            f"nightly.holdout ({holdout[0]} to {holdout[1]}) would be trained on by nightly run "
            f"{night}, which takes {first} to {last}; choose days before nightly.train_from or the "
            "first nightly run"
        )
    origin = first if base is None else base.origin
    train, evaluation = (first, last), (last + ONE_DAY, night)
    return NightlyPlan(
        night=night,
        train=train,
        train_window=_data_window(train, tasks, origin),
        evaluation=evaluation,
        evaluation_window=_data_window(evaluation, tasks, origin),
        origin=origin,
        holdout=holdout,
        base=base,
        previous_candidate=previous_candidate,
        matured_evaluation=matured_evaluation,
        config_hash=config_hash,
    )


def days_of(plan: NightlyPlan) -> list[Day]:
    """Returns every day that the run reads."""
    spans = [plan.train_window.dates, plan.evaluation_window.dates]
    spans += [plan.holdout] if plan.holdout else []
    spans += [plan.matured_evaluation.days] if plan.matured_evaluation else []
    return sorted({day for span in spans for day in days_between(*span)})


def days_between(first: Day, last: Day) -> list[Day]:
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


def _data_window(days: Days, tasks: Sequence[Task], origin: Day) -> DataWindow:
    """Returns `days`, and the days before with a label that is due on `days`.

    Days before `origin` are left out: the first nightly run started there.
    """
    if all(task.matures_h == 0 for task in tasks):
        return DataWindow(dates=days, due=None)
    due = _midnight(days[0]), _midnight(days[1] + ONE_DAY)
    first, last = days_for_due(tasks, *due)
    return DataWindow(dates=(max(first, origin), last), due=due)


def _midnight(day: Day) -> datetime.datetime:
    """Returns the first moment of the day, UTC."""
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)


def _first_day(
    last: Day, config: NightlyConfig, complete: Sequence[Day], base: Model | None
) -> Day:
    earliest = config.train_from or Day.min
    if base is not None:
        return max(base.trained_until + ONE_DAY, earliest)
    if earliest > last:
        return earliest
    # As far back as days follow each other: a gap is a missing day.
    first, known = last, set(complete)
    while first - ONE_DAY in known and (last - first).days + 1 < config.first_days:
        first -= ONE_DAY
    if not any(day <= last for day in complete):
        raise DataError(
            f"the first nightly run trains on the days up to {last}, and there is none; the oldest "
            f"complete day is {min(complete, default='missing')}"
        )
    return max(first, earliest)
