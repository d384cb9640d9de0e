"""Defines the stages of a nightly run, in order. Each can be repeated: it first clears its outputs.

A stage reads only the files that earlier stages have written, so that a killed run resumes at the
first unfinished stage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.preflight.evaluation_columns import require_evaluable
from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.folder import NightlyFolder
from jobs.nightly.gate import (
    gate_candidate,
    gate_days,
)
from jobs.nightly.late_files import record_files
from jobs.nightly.models import artefact_digest, candidate, trained_model
from jobs.nightly.page import write_page
from jobs.nightly.partitions import Partitions
from jobs.nightly.plan import DataWindow, Model, NightlyPlan
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import (
    is_needed_later,
    read_recalibration,
    recalibrate,
)
from jobs.nightly.retention import drop_old_models
from jobs.nightly.rows import DaySource, make_row_history
from jobs.nightly.subprocesses import StageFailedError, launcher, run_stage, wait_for_lock
from marigold_rec.config.dumping import dump_config
from marigold_rec.config.loading import config_from
from marigold_rec.config.schema import Config
from marigold_rec.errors import CheckpointError

_EXIT_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class NightlyRun:
    """One nightly run, as its stages see it: its plan, its folder, and the services they call."""

    config: Config
    plan: NightlyPlan
    folder: NightlyFolder
    published: Published
    data_root: str
    profiles: DayProfiles
    is_stopped: Callable[[], bool]
    log: Callable[[str], None]
    fault_hook: Callable[[str], None]
    """Called at named points, for tests that kill the process there."""


def profile_data(run: NightlyRun) -> None:
    """Profiles the new days and gates them against the days before."""
    run.folder.verdict_file.unlink(missing_ok=True)
    partitions = Partitions(run.data_root, run.config.nightly.complete_marker)
    record_files(run.plan, run.folder, partitions)
    gate_days(run.config, run.plan, run.folder, run.profiles)
    if not is_refused(run):
        # Checked before hours are spent on the training.
        require_evaluable(run.config, run.data_root, run.plan.evaluation_window.dates)


def update_row_history(run: NightlyRun) -> None:
    """Decides which table rows the training evicts and which it admits."""
    partitions = Partitions(run.data_root, run.config.nightly.complete_marker)
    source = DaySource(run.data_root, partitions, run.is_stopped, run.log, run.fault_hook)
    make_row_history(run.config, run.plan, run.folder, source)


def evaluate_matured(run: NightlyRun) -> None:
    """Evaluates an earlier published model on days then new to it, whose labels are final by now.

    A failure does not end the nightly run: recalibration then uses the earlier measurements.
    """
    matured, out = run.plan.matured_evaluation, run.folder.matured_evaluation
    if matured is not None:
        checkpoint = run.folder.root / matured.model.checkpoint
        window = DataWindow(dates=matured.days, due=None)
        try:
            _evaluate(run, "matured_evaluation", out, window, None, checkpoint)
        except StageFailedError as error:
            run.folder.clear(out)
            run.log(f"matured evaluation of the model of {matured.model.night} failed: {error}")
    rules = run.config.nightly.recalibration
    made = recalibrate(rules, run.config.tasks, run.plan, run.folder)
    for task, sentence in made.sentences.items():
        run.log(f"{task}: {sentence}")


def train(run: NightlyRun) -> None:
    """Trains the published model on the new days. A killed training resumes from its checkpoint."""
    file = run.folder.path / "train.yaml"
    file.write_text(dump_config(training_config(run)), encoding="utf-8")
    # The ranks of a nightly run that was killed got SIGTERM, and may still be saving.
    wait_for_lock(run.folder.train / ".lock", _EXIT_TIMEOUT_S)
    _run(
        run,
        "train",
        "launch/train.py",
        ["--config", str(file), "--resume", "auto"],
        max_restarts=run.config.nightly.max_restarts,
    )
    run.folder.clear(run.folder.train / "tensorboard")
    run.folder.record_model(trained_model(run.folder, run.plan))


def training_config(run: NightlyRun) -> Config:
    """Makes the config of the nightly run's training."""
    plan = run.plan
    overrides = [
        f"run.dir={_text(run.folder.path)}",
        "run.name=train",
        *_reading("data.train", plan.train_window),
        f"data.path={_text(run.data_root)}",
        "data.eval=null",  # launch/evaluate.py evaluates
    ]
    if plan.base is not None:
        overrides.append(f"warm_start.path={_text(run.folder.root / plan.base.checkpoint)}")
    if run.config.life_cycle.tables:
        overrides.append(f"life_cycle.rows={_text(run.folder.rows)}")
    if (recalibration := read_recalibration(run.folder)) is not None:
        overrides += [
            f"tasks.{task}.logit_offset={offset:.6f}"
            for task, offset in recalibration.offsets.items()
        ]
    tree = run.config.model_dump(mode="json", exclude={"nightly"})
    return config_from(tree, overrides, where=f"config of the nightly run {plan.night}")


def evaluate(run: NightlyRun) -> None:
    """Evaluates on the newest days, which no model has learned, against the published model."""
    plan = run.plan
    _evaluate(run, "evaluation", run.folder.evaluation, plan.evaluation_window, plan.base)


def evaluate_holdout(run: NightlyRun) -> None:
    """Evaluates on the hold-out days, where there are any, against the published model."""
    if run.plan.holdout is not None:
        # The hold-out days are old: their labels have matured.
        window = DataWindow(dates=run.plan.holdout, due=None)
        _evaluate(run, "holdout", run.folder.holdout, window, run.plan.base)


def evaluate_previous_candidate(run: NightlyRun) -> None:
    """Evaluates on the newest days against the previous run's model, if that was not published."""
    plan, out = run.plan, run.folder.previous_candidate
    if plan.previous_candidate is not None:
        window, baseline = plan.evaluation_window, plan.previous_candidate
        _evaluate(run, "previous_candidate", out, window, baseline)


def gate(run: NightlyRun) -> None:
    gate_candidate(run.config, run.plan, run.folder)


def export(run: NightlyRun) -> None:
    """Exports the artefact that servers load: before the model is published, never after."""
    run.folder.clear(run.folder.artefact)
    if run.config.nightly.export is None:
        return
    run_stage(
        "export",
        [sys.executable],
        "launch/export.py",
        [
            "--checkpoint", str(_checkpoint(run)),
            "--out", str(run.folder.artefact),
            "--tables", run.config.nightly.export,
        ],
        log_file=run.folder.path / "logs" / "export.log",
        is_stopped=run.is_stopped,
    )  # fmt: skip


def publish(run: NightlyRun) -> None:
    verdict = run.folder.verdict
    if verdict is None or verdict.stage != "night" or not verdict.publish:
        raise CheckpointError(
            f"{run.folder.verdict_file}: the gate has not accepted this model; run the gate again "
            "with --from gate"
        )
    run.published.publish(candidate(run.folder), artefact_digest(run.folder))
    run.fault_hook("publish:history")
    run.published.sync_pointer()


def report(run: NightlyRun) -> None:
    write_page(run.folder, run.plan, run.config.life_cycle)


def retain(run: NightlyRun) -> None:
    nightly = run.config.nightly
    dropped = drop_old_models(
        run.folder.root,
        run.published,
        keep_published=nightly.keep_published,
        keep_nights=nightly.keep_nights,
        is_needed=lambda each: is_needed_later(each, run.plan.night, run.config.tasks),
    )
    for path in dropped:
        run.log(f"deleted the model of {path.name}; its reports stay")


@dataclass(frozen=True)
class Stage:
    """One step of a nightly run."""

    name: str
    work: Callable[[NightlyRun], None]
    run_if_refused: bool
    """True: it also runs after the gate has refused the data or the model."""
    undo: Callable[[NightlyFolder], None] = lambda folder: None
    """Clears its outputs before it is repeated on request (--from): a run that is refused now must
    not show an artefact of its first attempt."""


STAGES: Sequence[Stage] = (
    Stage("data", profile_data, True, lambda of: of.clear(of.verdict_file, of.data_verdict_file)),
    Stage("rows", update_row_history, False, lambda of: of.clear(of.rows)),
    Stage(
        "matured_evaluation",
        evaluate_matured,
        False,
        lambda of: of.clear(of.matured_evaluation, of.recalibration_file),
    ),
    Stage("train", train, False, lambda of: of.move_training_aside()),
    Stage("evaluation", evaluate, False, lambda of: of.clear(of.evaluation)),
    Stage("holdout", evaluate_holdout, False, lambda of: of.clear(of.holdout)),
    Stage(
        "previous_candidate",
        evaluate_previous_candidate,
        False,
        lambda of: of.clear(of.previous_candidate),
    ),
    Stage("gate", gate, False, lambda of: of.clear(of.verdict_file)),
    Stage("export", export, False, lambda of: of.clear(of.artefact)),
    Stage("publish", publish, False),
    Stage("report", report, True),
    Stage("retention", retain, True),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def is_about_the_model(stage: str) -> bool:
    """Returns True for the stages up to `publish`, which decide what is published."""
    return STAGE_NAMES.index(stage) <= STAGE_NAMES.index("publish")


def is_refused(run: NightlyRun) -> bool:
    verdict = run.folder.verdict
    return verdict is not None and not verdict.publish


def _evaluate(
    run: NightlyRun,
    name: str,
    out: Path,
    window: DataWindow,
    baseline: Model | None,
    checkpoint: Path | None = None,
) -> None:
    """Evaluates `checkpoint`, by default the run's own model, on `window`."""
    run.folder.clear(out)
    arguments = [
        "--checkpoint", str(checkpoint or _checkpoint(run)),
        "--out", str(out),
        *_reading("data.eval", window),
    ]  # fmt: skip
    if baseline is not None:
        arguments += ["--baseline", str(run.folder.root / baseline.checkpoint)]
    _run(run, name, "launch/evaluate.py", arguments)


def _checkpoint(run: NightlyRun) -> Path:
    return run.folder.root / candidate(run.folder).checkpoint


def _run(
    run: NightlyRun, name: str, script: str, arguments: list[str], *, max_restarts: int = 0
) -> None:
    run_stage(
        name,
        launcher(run.config.nightly, max_restarts=max_restarts),
        script,
        arguments,
        log_file=run.folder.path / "logs" / f"{name}.log",
        is_stopped=run.is_stopped,
    )


def _reading(split: str, window: DataWindow) -> list[str]:
    """Makes the overrides with which a run reads these days and labels."""
    overrides = [f"{split}.dates=[{window.dates[0]}, {window.dates[1]}]"]
    if window.due is not None:
        since, until = (moment.isoformat() for moment in window.due)
        overrides.append(f'{split}.due=["{since}", "{until}"]')
    return overrides


def _text(path: Path | str) -> str:
    """Quotes a path for YAML: a JSON string is valid YAML, whatever the path holds."""
    return json.dumps(str(path))
