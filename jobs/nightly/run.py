"""Runs nights: plan, stages, ending. One process at a time; every rerun goes on."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.assembly.data_root import data_root
from jobs.entrypoint.run_folder import lock_folder, run_folder
from jobs.nightly.arguments import NightlyArguments
from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.folder import Ending, NightFolder, night_folders
from jobs.nightly.judging import read_verdict
from jobs.nightly.models import candidate_or_none, require_same
from jobs.nightly.page import one_line, status_lines
from jobs.nightly.partitions import Partitions, newest
from jobs.nightly.plan import ONE_DAY, Model, NightPlan, Served, days_of, plan_night
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import is_telling, slow_tasks
from jobs.nightly.rows import read_facts
from jobs.nightly.stages import STAGE_NAMES, STAGES, Night, is_about_the_model, is_refused
from jobs.processes.signals import catch_stop_signals
from marigold_rec.config import Config
from marigold_rec.errors import (
    EXIT_DONE,
    EXIT_NOT_PUBLISHED,
    CheckpointError,
    ConfigError,
    StoppedError,
)

LOGGER = logging.getLogger("marigold_rec")

At = Callable[[str], None]


def run_nightly(config: Config, arguments: NightlyArguments, at: At = lambda point: None) -> int:
    """Returns the exit code. Writes below run.dir/run.name only. `at`: see Night."""
    root = run_folder(config).absolute()
    published = Published(root)
    if arguments.status:
        for line in status_lines(root, published):
            print(line)
        return EXIT_DONE
    with lock_folder(root), catch_stop_signals() as signals:
        published.check()
        published.settle()
        if arguments.roll_back:
            night, passed = published.roll_back(at)
            for why in passed:
                LOGGER.warning("passed over: %s", why)
            LOGGER.info("rolled back: in use is the model of %s", night)
            return EXIT_DONE
        nights = _Nights(config, root, published, lambda: bool(signals), at)
        return nights.run(arguments)


class _Nights:
    def __init__(
        self,
        config: Config,
        root: Path,
        published: Published,
        is_stopped: Callable[[], bool],
        at: At,
    ) -> None:
        self._config = config
        self._root = root
        self._published = published
        self._is_stopped = is_stopped
        self._at = at
        self._data_root = data_root(config, LOGGER.info)
        self._partitions = Partitions(self._data_root, config.nightly.complete_marker)

    def run(self, arguments: NightlyArguments) -> int:
        """All the nights that were asked for, in order. A refused one does not end them."""
        night = arguments.date or self._newest()
        last = arguments.until or night
        code = EXIT_DONE
        while night <= last:
            code = max(code, self._run_night(night, arguments.again_from))
            night += ONE_DAY
        return code

    def _newest(self) -> datetime.date:
        today = datetime.datetime.now(datetime.UTC).date()
        day, stray = newest(self._partitions.complete(), today)
        for other in stray:
            LOGGER.warning("passed over: %s is after tomorrow; remove it, or name it", other)
        if day is None:
            raise ConfigError(
                f"--date auto: {self._data_root} has no complete day (dt=YYYY-MM-DD) until "
                "tomorrow; name the day"
            )
        LOGGER.info("the newest complete day is %s", day)
        return day

    def _run_night(self, day: datetime.date, again_from: str | None) -> int:
        folder = NightFolder(self._root, day)
        again = self._again(folder, day, again_from)
        if not again and (ending := folder.ending) is not None:
            LOGGER.info("night %s is done: %s", day, ending.sentence)
            return ending.exit_code
        plan = None if STAGE_NAMES[0] in again else folder.plan
        if is_new := plan is None:
            plan = self._new_plan(day)
        else:
            self._require_valid(plan, folder, again)
        self._wait_for_days(plan)
        # All that can be refused is refused by now: the first change comes after every check.
        if again:
            folder.begin_redo(again[0], again)
            self._at("redo:begun")
            for stage in reversed(STAGES):
                if stage.name in again:
                    stage.undo(folder)
            self._at("redo:cleared")
        if is_new:  # not before its days are there: what is published may change
            folder.begin(plan)
        folder.end_redo()
        night = Night(
            config=self._config,
            plan=plan,
            folder=folder,
            published=self._published,
            data_root=self._data_root,
            profiles=DayProfiles(self._root, self._config, self._data_root, self._partitions),
            is_stopped=self._is_stopped,
            say=LOGGER.info,
            at=self._at,
        )
        for stage in STAGES:
            if stage.name in folder.seconds or (is_refused(night) and not stage.of_refused):
                continue
            if self._is_stopped():
                raise StoppedError("stopped by a signal; run the night again to go on")
            LOGGER.info("night %s: %s", day, stage.name)
            self._at(f"{stage.name}:begin")
            started = time.monotonic()
            stage.work(night)
            self._at(f"{stage.name}:end")
            folder.mark(stage.name, time.monotonic() - started)
        return self._end(night)

    def _again(
        self, folder: NightFolder, day: datetime.date, again_from: str | None
    ) -> tuple[str, ...]:
        """The stages that are to be done again though they were done: of --from, now or before a
        kill. Raises ConfigError; changes nothing.
        """
        wanted = [stage for stage in (again_from, folder.redo) if stage is not None]
        if not wanted:
            return ()
        if unknown := set(wanted) - set(STAGE_NAMES):
            raise CheckpointError(
                f"{folder.path / 'redo.json'}: names no stage ({unknown}); remove it and ask again "
                "with --from"
            )
        first = min(wanted, key=STAGE_NAMES.index)
        if is_about_the_model(first) and day in self._published.in_use():
            raise ConfigError(
                f"--from {first}: the model of {day} is published, and in use or what a rollback "
                "leads to: it stays as it was published; --rollback past it first"
            )
        of_data = first != STAGE_NAMES[0] and read_verdict(folder)
        if of_data and of_data.stage == "data" and is_about_the_model(first):
            raise ConfigError(
                f"--from {first}: night {day} was refused for its data, before it was trained; "
                "judge the data again with --from data"
            )
        return STAGE_NAMES[STAGE_NAMES.index(first) :]

    def _require_valid(self, plan: NightPlan, folder: NightFolder, again: tuple[str, ...]) -> None:
        """Raises ConfigError or CheckpointError where the night can't go on by its plan."""
        day = plan.night
        if plan.config_hash != (digest := _hash_of(self._config)):
            raise ConfigError(
                f"night {day} was begun under another config ({plan.config_hash}, now "
                f"{digest}); go on with the old one, or begin anew with --from data"
            )
        for model in (plan.base, plan.yesterday):
            if model is not None:
                require_same(
                    self._root, model, "this night was planned with; begin anew with --from data"
                )
        verdict = read_verdict(folder)
        is_over = verdict is not None and not verdict.publish and "gate" not in again
        is_over |= "publish" in folder.seconds and "publish" not in again
        if not is_over and day != self._published.current:
            # The gate compares with the plan's base: passing it says nothing against another.
            base = self._published.base()
            if base != plan.base:
                raise ConfigError(
                    f"night {day} was begun from {_named(plan.base)}, and in use by now is "
                    f"{_named(base)}; begin anew with --from data"
                )
        LOGGER.info("night %s goes on", day)

    def _new_plan(self, day: datetime.date) -> NightPlan:
        base = self._published.base()
        before = [night for night, _ in night_folders(self._root) if night < day]
        is_other = before and (base is None or before[-1] != base.night)
        plan = plan_night(
            day,
            self._config.nightly,
            self._config.tasks,
            config_hash=_hash_of(self._config),
            there=self._partitions.complete(),
            base=base,
            yesterday=(
                candidate_or_none(NightFolder(self._root, before[-1])) if is_other else None
            ),
            served=self._served(day),
        )
        LOGGER.info(
            "night %s: learns %s to %s from %s, judged on %s to %s",
            day,
            *plan.train,
            _named(plan.base),
            *plan.evaluation,
        )
        return plan

    def _served(self, night: datetime.date) -> Served | None:
        """The newest published model whose own days have final labels, if no night has asked."""
        tasks = self._config.tasks
        if not slow_tasks(tasks):
            return None
        for change in reversed(self._published.reachable()):
            plan = NightFolder(self._root, change.night).plan
            if change.night < night and plan is not None and is_telling(plan, night, tasks):
                model = candidate_or_none(NightFolder(self._root, change.night))
                if model != change.model or change.night in self._asked(night):
                    return None
                return Served(model=change.model, days=plan.evaluation)
        return None

    def _asked(self, night: datetime.date) -> set[datetime.date]:
        """The nights whose models the nights before this one have judged on final labels."""
        plans = (folder.plan for each, folder in night_folders(self._root) if each < night)
        return {plan.served.model.night for plan in plans if plan and plan.served}

    def _wait_for_days(self, plan: NightPlan) -> None:
        self._partitions.wait_for(
            days_of(plan),
            wait_s=self._config.nightly.wait_s,
            poll_s=self._config.nightly.poll_s,
            is_stopped=self._is_stopped,
            say=LOGGER.info,
        )
        if self._is_stopped():
            raise StoppedError("stopped by a signal; run the night again to go on")

    def _end(self, night: Night) -> int:
        verdict = read_verdict(night.folder)
        assert verdict is not None, "the gate has judged"
        code = EXIT_DONE if verdict.publish else EXIT_NOT_PUBLISHED
        if verdict.publish:
            sentence = "its model is published"
        else:
            sentence = _refusal(verdict.reasons)
            for reason in verdict.reasons:
                LOGGER.error("night %s: refused: %s", night.plan.night, reason)
        night.folder.end(
            Ending(
                night=night.plan.night,
                status="published" if verdict.publish else "refused",
                exit_code=code,
                sentence=sentence,
                seconds=night.folder.seconds,
                rows=read_facts(night.folder),
            )
        )
        LOGGER.log(
            logging.INFO if verdict.publish else logging.ERROR,
            "night %s: %s; see %s",
            night.plan.night,
            sentence,
            night.folder.path / "night.html",
        )
        return code


def _hash_of(config: Config) -> str:
    """Of what decides a model; rules of the gate and waiting times may change within a night."""
    tree = config.model_dump(mode="json", exclude={"nightly"})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _named(model: Model | None) -> str:
    return "its initial values" if model is None else f"the model of {model.night}"


def _refusal(reasons: Sequence[str]) -> str:
    """One line: what the whole reasons are about. They stand in verdict.json and in the log."""
    count = "" if len(reasons) == 1 else f"{len(reasons)} reasons, first: "
    return one_line(f"NOT published: {count}{reasons[0]}")
