"""Runs the nightly job: plan, stages, ending. One process at a time; a rerun resumes."""

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
from jobs.nightly.folder import Ending, NightlyFolder, nightly_folders
from jobs.nightly.models import candidate_or_none, require_same
from jobs.nightly.page import one_line, status_lines
from jobs.nightly.partitions import Partitions, newest
from jobs.nightly.plan import ONE_DAY, MaturedEvaluation, Model, NightlyPlan, days_of, plan_night
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import delayed_tasks, has_matured
from jobs.nightly.rows import read_facts
from jobs.nightly.stages import (
    STAGE_NAMES,
    STAGES,
    NightlyRun,
    is_about_the_model,
    is_refused,
)
from jobs.processes.signals import catch_stop_signals
from marigold_rec.config.schema import Config
from marigold_rec.errors import (
    EXIT_DONE,
    EXIT_NOT_PUBLISHED,
    CheckpointError,
    ConfigError,
    StoppedError,
)

LOGGER = logging.getLogger("marigold_rec")

FaultHook = Callable[[str], None]


def run_nightly(
    config: Config, arguments: NightlyArguments, fault_hook: FaultHook = lambda point: None
) -> int:
    """Does what `arguments` ask for; returns the exit code. Writes below run.dir/run.name only.

    `fault_hook`: see NightlyRun.
    """
    root = run_folder(config).absolute()
    published = Published(root)
    if arguments.status:
        for line in status_lines(root, published):
            print(line)
        return EXIT_DONE
    with lock_folder(root), catch_stop_signals() as signals:
        published.check()
        published.sync_pointer()
        if arguments.roll_back:
            night, skipped = published.roll_back(fault_hook)
            for why in skipped:
                LOGGER.warning("skipped: %s", why)
            LOGGER.info("rolled back: the model of %s is in use", night)
            return EXIT_DONE
        job = _NightlyJob(config, root, published, lambda: bool(signals), fault_hook)
        return job.run(arguments)


class _NightlyJob:
    """Runs the requested nights one after the other."""

    def __init__(
        self,
        config: Config,
        root: Path,
        published: Published,
        is_stopped: Callable[[], bool],
        fault_hook: FaultHook,
    ) -> None:
        self._config = config
        self._root = root
        self._published = published
        self._is_stopped = is_stopped
        self._fault_hook = fault_hook
        self._data_root = data_root(config, LOGGER.info)
        self._partitions = Partitions(self._data_root, config.nightly.complete_marker)

    def run(self, arguments: NightlyArguments) -> int:
        """Runs all requested nights in order. A refused one does not end them."""
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
            LOGGER.warning(
                "skipped: the partition %s is after tomorrow; remove it, or name it with --date",
                other,
            )
        if day is None:
            raise ConfigError(
                f"--date auto: {self._data_root} has no complete day (dt=YYYY-MM-DD) up to "
                "tomorrow; name the day"
            )
        LOGGER.info("the newest complete day is %s", day)
        return day

    def _run_night(self, day: datetime.date, again_from: str | None) -> int:
        folder = NightlyFolder(self._root, day)
        again = self._again(folder, day, again_from)
        if not again and (ending := folder.ending) is not None:
            LOGGER.info("nightly run %s is done: %s", day, ending.sentence)
            return ending.exit_code
        plan = None if STAGE_NAMES[0] in again else folder.plan
        if is_new := plan is None:
            plan = self._new_plan(day)
        else:
            self._require_valid(plan, folder, again)
        self._wait_for_days(plan)
        # Every check has passed by now: the first change comes after all of them.
        if again:
            folder.begin_redo(again[0], again)
            self._fault_hook("redo:begun")
            for stage in reversed(STAGES):
                if stage.name in again:
                    stage.undo(folder)
            self._fault_hook("redo:cleared")
        if is_new:  # only once its days are there: until then another model may be published
            folder.begin(plan)
        folder.end_redo()
        run = NightlyRun(
            config=self._config,
            plan=plan,
            folder=folder,
            published=self._published,
            data_root=self._data_root,
            profiles=DayProfiles(self._root, self._config, self._data_root, self._partitions),
            is_stopped=self._is_stopped,
            log=LOGGER.info,
            fault_hook=self._fault_hook,
        )
        for stage in STAGES:
            if stage.name in folder.seconds or (is_refused(run) and not stage.run_if_refused):
                continue
            if self._is_stopped():
                raise StoppedError("stopped by a signal; run the same command again to resume")
            LOGGER.info("nightly run %s: %s", day, stage.name)
            self._fault_hook(f"{stage.name}:begin")
            started = time.monotonic()
            stage.work(run)
            self._fault_hook(f"{stage.name}:end")
            folder.mark_done(stage.name, time.monotonic() - started)
        return self._end(run)

    def _again(
        self, folder: NightlyFolder, day: datetime.date, again_from: str | None
    ) -> tuple[str, ...]:
        """Returns the finished stages to repeat because of --from, now or before a kill.

        Raises ConfigError; changes nothing.
        """
        wanted = [stage for stage in (again_from, folder.redo) if stage is not None]
        if not wanted:
            return ()
        if unknown := set(wanted) - set(STAGE_NAMES):
            raise CheckpointError(
                f"{folder.path / 'redo.json'}: names an unknown stage ({unknown}); remove it and "
                "repeat the command with --from"
            )
        first = min(wanted, key=STAGE_NAMES.index)
        if is_about_the_model(first) and day in self._published.in_use():
            raise ConfigError(
                f"--from {first}: the model of {day} is in use, or a rollback may return to it: it "
                "must stay as it was published; roll back past it first (--rollback)"
            )
        verdict = folder.verdict if first != STAGE_NAMES[0] else None
        if verdict and verdict.stage == "data" and is_about_the_model(first):
            raise ConfigError(
                f"--from {first}: the data of {day} was refused before the training; check the "
                "data again with --from data"
            )
        return STAGE_NAMES[STAGE_NAMES.index(first) :]

    def _require_valid(
        self, plan: NightlyPlan, folder: NightlyFolder, again: tuple[str, ...]
    ) -> None:
        """Raises ConfigError or CheckpointError if the run can't resume with its plan."""
        day = plan.night
        if plan.config_hash != (digest := _hash_of(self._config)):
            raise ConfigError(
                f"nightly run {day} was started under another config (hash {plan.config_hash}, now "
                f"{digest}); use the old config, or start again with --from data"
            )
        for model in (plan.base, plan.previous_candidate):
            if model is not None:
                require_same(
                    self._root, model, "this run was planned with; start again with --from data"
                )
        verdict = folder.verdict
        is_over = verdict is not None and not verdict.publish and "gate" not in again
        is_over |= "publish" in folder.seconds and "publish" not in again
        if not is_over and day != self._published.current:
            # The gate compares with the plan's base: passing it means nothing for another base.
            base = self._published.base()
            if base != plan.base:
                raise ConfigError(
                    f"nightly run {day} was started from {_describe(plan.base)}, but now "
                    f"{_describe(base)} is in use; start again with --from data"
                )
        LOGGER.info("nightly run %s resumes", day)

    def _new_plan(self, day: datetime.date) -> NightlyPlan:
        base = self._published.base()
        before = [night for night, _ in nightly_folders(self._root) if night < day]
        is_other = before and (base is None or before[-1] != base.night)
        plan = plan_night(
            day,
            self._config.nightly,
            self._config.tasks,
            config_hash=_hash_of(self._config),
            complete=self._partitions.complete(),
            base=base,
            previous_candidate=(
                candidate_or_none(NightlyFolder(self._root, before[-1])) if is_other else None
            ),
            matured_evaluation=self._find_matured(day),
        )
        LOGGER.info(
            "nightly run %s: trains on %s to %s from %s, evaluates on %s to %s",
            day,
            *plan.train,
            _describe(plan.base),
            *plan.evaluation,
        )
        return plan

    def _find_matured(self, night: datetime.date) -> MaturedEvaluation | None:
        """Finds the newest published model whose evaluation days have final labels by now, if no
        run has evaluated it on them."""
        tasks = self._config.tasks
        if not delayed_tasks(tasks):
            return None
        for change in reversed(self._published.reachable()):
            plan = NightlyFolder(self._root, change.night).plan
            if change.night < night and plan is not None and has_matured(plan, night, tasks):
                model = candidate_or_none(NightlyFolder(self._root, change.night))
                if model != change.model or change.night in self._evaluated_before(night):
                    return None
                return MaturedEvaluation(model=change.model, days=plan.evaluation)
        return None

    def _evaluated_before(self, night: datetime.date) -> set[datetime.date]:
        """Returns the nights whose models earlier runs have evaluated on final labels."""
        plans = (folder.plan for each, folder in nightly_folders(self._root) if each < night)
        return {
            plan.matured_evaluation.model.night
            for plan in plans
            if plan and plan.matured_evaluation
        }

    def _wait_for_days(self, plan: NightlyPlan) -> None:
        self._partitions.wait_for(
            days_of(plan),
            wait_s=self._config.nightly.wait_s,
            poll_s=self._config.nightly.poll_s,
            is_stopped=self._is_stopped,
            log=LOGGER.info,
        )
        if self._is_stopped():
            raise StoppedError("stopped by a signal; run the same command again to resume")

    def _end(self, run: NightlyRun) -> int:
        verdict = run.folder.verdict
        assert verdict is not None, "the gate has run"
        code = EXIT_DONE if verdict.publish else EXIT_NOT_PUBLISHED
        if verdict.publish:
            sentence = "its model is published"
        else:
            sentence = _summarize(verdict.reasons)
            for reason in verdict.reasons:
                LOGGER.error("nightly run %s: refused: %s", run.plan.night, reason)
        run.folder.end(
            Ending(
                night=run.plan.night,
                status="published" if verdict.publish else "refused",
                exit_code=code,
                sentence=sentence,
                seconds=run.folder.seconds,
                rows=read_facts(run.folder),
            )
        )
        LOGGER.log(
            logging.INFO if verdict.publish else logging.ERROR,
            "nightly run %s: %s; see %s",
            run.plan.night,
            sentence,
            run.folder.path / "night.html",
        )
        return code


def _hash_of(config: Config) -> str:
    """Hashes the settings that decide a model; the gate's rules and waiting times may change."""
    tree = config.model_dump(mode="json", exclude={"nightly"})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _describe(model: Model | None) -> str:
    return "its initial values" if model is None else f"the model of {model.night}"


def _summarize(reasons: Sequence[str]) -> str:
    """Summarizes the reasons in one line; verdict.json and the log hold them in full."""
    count = "" if len(reasons) == 1 else f"{len(reasons)} reasons, first: "
    return one_line(f"NOT published: {count}{reasons[0]}")
