"""Runs nights: plan, stages, ending. One process at a time; every rerun goes on."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from launch.data_root import data_root
from launch.nights.arguments import NightlyArguments
from launch.nights.day_profiles import DayProfiles
from launch.nights.folder import NightFolder, night_folders
from launch.nights.judging import read_verdict
from launch.nights.page import status_lines
from launch.nights.partitions import Partitions, newest
from launch.nights.plan import ONE_DAY, Model, NightPlan, Served, days_of, plan_night
from launch.nights.publishing import Published
from launch.nights.recalibration import is_telling, slow_tasks
from launch.nights.rows import read_facts
from launch.nights.stages import STAGES, Night, is_refused, newest_checkpoint
from launch.run_folder import locked, run_folder
from launch.signals import noted_signals
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
    with locked(root), noted_signals() as signals:
        published.settle()
        if arguments.roll_back:
            LOGGER.info("rolled back: in use is the model of %s", published.roll_back())
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
        if again_from is not None:
            self._undo(folder, day, again_from)
        if (ending := folder.ending) is not None:
            LOGGER.info("night %s is done: %s", day, ending["sentence"])
            return int(ending["exit_code"])
        plan = self._plan(folder, day)
        self._wait_for_days(plan)
        if folder.plan is None:  # not before its days are there: what is published may change
            folder.begin(plan)
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

    def _undo(self, folder: NightFolder, day: datetime.date, stage: str) -> None:
        if self._published.current == day:
            raise ConfigError(
                f"--from: the model of {day} is in use; --rollback first, so that nobody loads "
                "what is being made anew"
            )
        verdict = read_verdict(folder)
        is_of_data = verdict is not None and verdict.stage == "data"
        if is_of_data and stage not in ("data", "report", "retention"):
            raise ConfigError(
                f"--from {stage}: night {day} was refused for its data, before it was trained; "
                "judge the data again with --from data"
            )
        names = [each.name for each in STAGES]
        again = STAGES[names.index(stage) :]
        folder.unmark([each.name for each in again])
        for each in reversed(again):  # the plan last: what was made by it is gone by then
            each.undo(folder)

    def _plan(self, folder: NightFolder, day: datetime.date) -> NightPlan:
        digest = _hash_of(self._config)
        if (plan := folder.plan) is not None:
            if plan.config_hash != digest:
                raise ConfigError(
                    f"night {day} was begun under another config ({plan.config_hash}, now "
                    f"{digest}); go on with the old one, or begin anew with --from data"
                )
            for model in (plan.base, plan.yesterday):
                if model is not None:
                    _require_same(self._root, model)
            LOGGER.info("night %s goes on", day)
            return plan
        current = self._published.current
        before = [night for night, _ in night_folders(self._root) if night < day]
        plan = plan_night(
            day,
            self._config.nightly,
            self._config.tasks,
            config_hash=digest,
            there=self._partitions.complete(),
            base=None if current is None else _model_of(self._root, current),
            yesterday=(
                _model_or_none(self._root, before[-1]) if before and before[-1] != current else None
            ),
            served=self._served(day),
        )
        LOGGER.info(
            "night %s: learns %s to %s from %s, judged on %s to %s",
            day,
            *plan.train,
            "its initial values" if plan.base is None else f"the model of {plan.base.night}",
            *plan.evaluation,
        )
        return plan

    def _served(self, night: datetime.date) -> Served | None:
        """The newest published model whose own days have final labels, if no night has asked."""
        tasks = self._config.tasks
        if not slow_tasks(tasks):
            return None
        for each in reversed(self._published.in_use()):
            plan = NightFolder(self._root, each).plan
            if each < night and plan is not None and is_telling(plan, night, tasks):
                model = _model_or_none(self._root, each)
                if model is None or each in self._asked(night):
                    return None
                return Served(model=model, days=plan.evaluation)
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
            sentence = "NOT published: " + "; ".join(verdict.reasons)
        night.folder.end(
            {
                "night": str(night.plan.night),
                "status": "published" if verdict.publish else "refused",
                "exit_code": code,
                "sentence": sentence,
                "seconds": night.folder.seconds,
                "rows": read_facts(night.folder),
            }
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


def _model_of(root: Path, night: datetime.date) -> Model:
    folder = NightFolder(root, night)
    if folder.plan is None:
        raise CheckpointError(f"{folder.path}: has no plan.json; it is the published model's")
    checkpoint = newest_checkpoint(folder)
    return Model(
        night=night,
        trained_until=folder.plan.train[1],
        origin=folder.plan.origin,
        checkpoint=str(checkpoint.relative_to(root)),
        manifest_sha256=_manifest_digest(checkpoint),
    )


def _model_or_none(root: Path, night: datetime.date) -> Model | None:
    """None where the night ended before its model was there, or lost it since."""
    try:
        return _model_of(root, night)
    except CheckpointError:
        return None


def _require_same(root: Path, model: Model) -> None:
    if _manifest_digest(root / model.checkpoint) != model.manifest_sha256:
        raise CheckpointError(
            f"{root / model.checkpoint}: is not the model that this night was planned with; begin "
            "anew with --from data"
        )


def _manifest_digest(checkpoint: Path) -> str:
    try:
        return hashlib.sha256((checkpoint / "manifest.json").read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: its manifest can't be read ({error})") from error
