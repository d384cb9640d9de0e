"""What a night does: decided once at its beginning, and kept, so that every rerun does the same."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from marigold_rec.config.due import days_for_due
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.config.tasks import Task
from marigold_rec.errors import ConfigError, DataError

Day = datetime.date
Days = tuple[Day, Day]
"""First and last, both included."""

ONE_DAY = datetime.timedelta(days=1)


class Reads(BaseModel):
    """What a run reads for some days: where labels mature, earlier days too, for those due now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dates: Days
    due: tuple[datetime.datetime, datetime.datetime] | None
    """[since, until): as SplitConfig.due; None: no task's labels mature later."""


class Model(BaseModel):
    """An earlier night's model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    night: Day
    trained_until: Day
    origin: Day
    """The oldest day that it, or a model before it, has learned."""
    checkpoint: str
    """Its step folder, relative to the nightly's folder."""
    manifest_sha256: str
    """Another model under the same name is noticed."""


class Served(BaseModel):
    """An earlier night's published model, and days new to it whose labels are all final by now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model
    days: Days


class NightPlan(BaseModel):
    """plan.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    night: Day
    train: Days
    """The new days."""
    train_reads: Reads
    evaluation: Days
    evaluation_reads: Reads
    origin: Day
    """The oldest day that the night's model, or one before it, has learned."""
    holdout: Days | None
    base: Model | None
    """The published model: the training goes on from it, and it is the one to beat."""
    yesterday: Model | None
    """The last night's model, where that is another one (it was refused)."""
    served: Served | None = None
    """None: no task's labels mature later, or none have since the last night."""
    config_hash: str
    """Of all settings but those of the nightly itself."""


def plan_night(
    night: Day,
    config: NightlyConfig,
    tasks: Sequence[Task],
    *,
    config_hash: str,
    there: Sequence[Day],
    base: Model | None,
    yesterday: Model | None,
    served: Served | None = None,
) -> NightPlan:
    """`there`: the complete days, of which a first night takes those before its own.

    Raises ConfigError when there is nothing to learn, or a hold-out day would be learned; DataError
    when a first night has no day at all.
    """
    last = night - config.eval_days * ONE_DAY
    first = _first_day(last, config, there, base)
    if first > last:
        assert base is not None or config.train_from is not None
        why = (
            f"nightly.train_from is {config.train_from}"
            if base is None or config.train_from == first
            else f"the published model ({base.night}) has learned the days until "
            f"{base.trained_until}"
        )
        raise ConfigError(
            f"night {night}: nothing to learn: it learns the days until {last} (the newest "
            f"{config.eval_days} judge), and {why}; choose a later --date"
        )
    holdout = config.holdout
    if holdout is not None and holdout[0] <= last and holdout[1] >= first:
        raise ConfigError(
            f"nightly.holdout ({holdout[0]} to {holdout[1]}) would be learned by night {night}, "
            f"which takes {first} to {last}; choose days before nightly.train_from or the first "
            "night"
        )
    origin = first if base is None else base.origin
    train, evaluation = (first, last), (last + ONE_DAY, night)
    return NightPlan(
        night=night,
        train=train,
        train_reads=_reads(train, tasks, origin),
        evaluation=evaluation,
        evaluation_reads=_reads(evaluation, tasks, origin),
        origin=origin,
        holdout=holdout,
        base=base,
        yesterday=yesterday,
        served=served,
        config_hash=config_hash,
    )


def days_of(plan: NightPlan) -> list[Day]:
    """Every day that the night reads."""
    spans = [plan.train_reads.dates, plan.evaluation_reads.dates]
    spans += [plan.holdout] if plan.holdout else []
    spans += [plan.served.days] if plan.served else []
    return sorted({day for span in spans for day in days_between(*span)})


def days_between(first: Day, last: Day) -> list[Day]:
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


def _reads(days: Days, tasks: Sequence[Task], origin: Day) -> Reads:
    """The rows of `days`, and of the days before with a label that is due on `days`.

    Labels of days before `origin` are nobody's: the first night began there.
    """
    if all(task.matures_h == 0 for task in tasks):
        return Reads(dates=days, due=None)
    due = _midnight(days[0]), _midnight(days[1] + ONE_DAY)
    first, last = days_for_due(tasks, *due)
    return Reads(dates=(max(first, origin), last), due=due)


def _midnight(day: Day) -> datetime.datetime:
    """The first moment of the day, UTC."""
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)


def _first_day(last: Day, config: NightlyConfig, there: Sequence[Day], base: Model | None) -> Day:
    earliest = config.train_from or Day.min
    if base is not None:
        return max(base.trained_until + ONE_DAY, earliest)
    if earliest > last:
        return earliest
    # As far back as days follow each other: a gap would be a day that is missing.
    first, known = last, set(there)
    while first - ONE_DAY in known and (last - first).days + 1 < config.first_days:
        first -= ONE_DAY
    if not any(day <= last for day in there):
        raise DataError(
            f"the first night learns the days until {last}, and there is none; the oldest complete "
            f"day is {min(there, default='not there')}"
        )
    return max(first, earliest)
