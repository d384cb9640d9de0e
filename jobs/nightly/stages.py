"""The stages of a night, in order. Each may be done again: it begins by clearing what it writes.

What a stage leaves behind is all that the next ones know of it, so that a night goes on after a
kill as if nothing had happened.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.preflight.evaluation_columns import require_evaluable
from jobs.nightly.children import StageFailedError, launcher, run_stage, wait_for_lock
from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.folder import NightFolder
from jobs.nightly.judging import (
    judge_before_training,
    judge_the_model,
    read_verdict,
)
from jobs.nightly.late_files import note_files
from jobs.nightly.models import artefact_digest, candidate, trained_model
from jobs.nightly.page import write_page
from jobs.nightly.partitions import Partitions
from jobs.nightly.plan import Model, NightPlan, Reads
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import (
    is_needed_later,
    read_recalibration,
    recalibrate,
)
from jobs.nightly.retention import drop_old_models
from jobs.nightly.rows import Log, make_rows
from marigold_rec.config import Config, dump_config
from marigold_rec.config.loading import config_from
from marigold_rec.errors import CheckpointError

_LEAVING_S = 90.0


@dataclass(frozen=True)
class Night:
    """What the stages work with."""

    config: Config
    plan: NightPlan
    folder: NightFolder
    published: Published
    data_root: str
    profiles: DayProfiles
    is_stopped: Callable[[], bool]
    say: Callable[[str], None]
    at: Callable[[str], None]
    """Called at named points; for tests that kill there."""


def look_at_data(night: Night) -> None:
    """Profiles the new days and holds them against those of the nights before."""
    night.folder.verdict_file.unlink(missing_ok=True)
    partitions = Partitions(night.data_root, night.config.nightly.complete_marker)
    note_files(night.plan, night.folder, partitions)
    judge_before_training(night.config, night.plan, night.folder, night.profiles)
    if not is_refused(night):
        # Found before hours are spent on the training.
        require_evaluable(night.config, night.data_root, night.plan.evaluation_reads.dates)


def note_rows(night: Night) -> None:
    """Which rows of the tables begin anew, and which are admitted: for the training."""
    partitions = Partitions(night.data_root, night.config.nightly.complete_marker)
    log = Log(night.data_root, partitions, night.is_stopped, night.say, night.at)
    make_rows(night.config, night.plan, night.folder, log)


def judge_served(night: Night) -> None:
    """What an earlier model said of days then new to it, now that their late labels are final.

    No night is lost over it: where that model can't be judged, the findings of others do.
    """
    served = night.plan.served
    if served is not None:
        checkpoint = night.folder.root / served.model.checkpoint
        reads = Reads(dates=served.days, due=None)
        try:
            _evaluate(night, "served", night.folder.served, reads, None, checkpoint)
        except StageFailedError as error:
            night.folder.clear(night.folder.served)
            night.say(f"what the model of {served.model.night} served is not judged: {error}")
    rules = night.config.nightly.recalibration
    made = recalibrate(rules, night.config.tasks, night.plan, night.folder)
    for task, sentence in made.sentences.items():
        night.say(f"{task}: {sentence}")


def train(night: Night) -> None:
    """Goes on from the published model, on the new days. A killed one goes on where it stood."""
    file = night.folder.path / "train.yaml"
    file.write_text(dump_config(training_config(night)), encoding="utf-8")
    # The ranks of a night that was killed are told to leave, and may be saving.
    wait_for_lock(night.folder.train / ".lock", _LEAVING_S)
    _run(
        night,
        "train",
        "launch/train.py",
        ["--config", str(file), "--resume", "auto"],
        max_restarts=night.config.nightly.max_restarts,
    )
    night.folder.clear(night.folder.train / "tensorboard")
    night.folder.note_model(trained_model(night.folder, night.plan))


def training_config(night: Night) -> Config:
    """The config of the night's training run."""
    plan = night.plan
    overrides = [
        f"run.dir={_text(night.folder.path)}",
        "run.name=train",
        *_reading("data.train", plan.train_reads),
        f"data.path={_text(night.data_root)}",
        "data.eval=null",  # launch/evaluate.py does that
    ]
    if plan.base is not None:
        overrides.append(f"warm_start.path={_text(night.folder.root / plan.base.checkpoint)}")
    if night.config.life_cycle.tables:
        overrides.append(f"life_cycle.rows={_text(night.folder.rows)}")
    if (recalibration := read_recalibration(night.folder)) is not None:
        overrides += [
            f"tasks.{task}.logit_offset={offset:.6f}"
            for task, offset in recalibration.offsets.items()
        ]
    tree = night.config.model_dump(mode="json", exclude={"nightly"})
    return config_from(tree, overrides, where=f"config of night {plan.night}")


def evaluate(night: Night) -> None:
    """On the newest days, which no model has learned, against the published model."""
    plan = night.plan
    _evaluate(night, "evaluation", night.folder.evaluation, plan.evaluation_reads, plan.base)


def evaluate_holdout(night: Night) -> None:
    """On the fixed days, where there are any, against the published model."""
    if night.plan.holdout is not None:
        # Of days long ago, whose labels have matured.
        reads = Reads(dates=night.plan.holdout, due=None)
        _evaluate(night, "holdout", night.folder.holdout, reads, night.plan.base)


def evaluate_yesterday(night: Night) -> None:
    """On the newest days against the last night's model, where that one was not published."""
    if night.plan.yesterday is not None:
        plan = night.plan
        _evaluate(night, "yesterday", night.folder.yesterday, plan.evaluation_reads, plan.yesterday)


def gate(night: Night) -> None:
    judge_the_model(night.config, night.plan, night.folder)


def export(night: Night) -> None:
    """What a server loads: made before the model is published, never after."""
    night.folder.clear(night.folder.artefact)
    if night.config.nightly.export is None:
        return
    run_stage(
        "export",
        [sys.executable],
        "launch/export.py",
        [
            "--checkpoint", str(_checkpoint(night)),
            "--out", str(night.folder.artefact),
            "--tables", night.config.nightly.export,
        ],
        log_file=night.folder.path / "logs" / "export.log",
        is_stopped=night.is_stopped,
    )  # fmt: skip


def publish(night: Night) -> None:
    verdict = read_verdict(night.folder)
    if verdict is None or verdict.stage != "night" or not verdict.publish:
        raise CheckpointError(
            f"{night.folder.verdict_file}: no verdict of the gate lets this model pass; judge it "
            "again with --from gate"
        )
    night.published.publish(candidate(night.folder), artefact_digest(night.folder))
    night.at("publish:history")
    night.published.settle()


def report(night: Night) -> None:
    write_page(night.folder, night.plan, night.config.life_cycle)


def retain(night: Night) -> None:
    nightly = night.config.nightly
    dropped = drop_old_models(
        night.folder.root,
        night.published,
        keep_published=nightly.keep_published,
        keep_nights=nightly.keep_nights,
        is_needed=lambda each: is_needed_later(each, night.plan.night, night.config.tasks),
    )
    for path in dropped:
        night.say(f"dropped the model of {path.name}: its reports stay")


@dataclass(frozen=True)
class Stage:
    name: str
    work: Callable[[Night], None]
    of_refused: bool
    """Also of a night whose data or model the gate has refused by then."""
    undo: Callable[[NightFolder], None] = lambda folder: None
    """Clears what it has left, before it is done again because somebody asked for it (--from): a
    night that is refused now must not show an artefact of the time before."""


STAGES: Sequence[Stage] = (
    Stage("data", look_at_data, True, lambda of: of.clear(of.verdict_file, of.data_verdict_file)),
    Stage("rows", note_rows, False, lambda of: of.clear(of.rows)),
    Stage("served", judge_served, False, lambda of: of.clear(of.served, of.recalibration_file)),
    Stage("train", train, False, lambda of: of.put_training_aside()),
    Stage("evaluation", evaluate, False, lambda of: of.clear(of.evaluation)),
    Stage("holdout", evaluate_holdout, False, lambda of: of.clear(of.holdout)),
    Stage("yesterday", evaluate_yesterday, False, lambda of: of.clear(of.yesterday)),
    Stage("gate", gate, False, lambda of: of.clear(of.verdict_file)),
    Stage("export", export, False, lambda of: of.clear(of.artefact)),
    Stage("publish", publish, False),
    Stage("report", report, True),
    Stage("retention", retain, True),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def is_about_the_model(stage: str) -> bool:
    """Whether the stage decides what is published: all up to `publish`."""
    return STAGE_NAMES.index(stage) <= STAGE_NAMES.index("publish")


def is_refused(night: Night) -> bool:
    verdict = read_verdict(night.folder)
    return verdict is not None and not verdict.publish


def _evaluate(
    night: Night,
    name: str,
    out: Path,
    reads: Reads,
    baseline: Model | None,
    checkpoint: Path | None = None,
) -> None:
    """Of the night's model, where no other `checkpoint` is given."""
    night.folder.clear(out)
    arguments = [
        "--checkpoint", str(checkpoint or _checkpoint(night)),
        "--out", str(out),
        *_reading("data.eval", reads),
    ]  # fmt: skip
    if baseline is not None:
        arguments += ["--baseline", str(night.folder.root / baseline.checkpoint)]
    _run(night, name, "launch/evaluate.py", arguments)


def _checkpoint(night: Night) -> Path:
    return night.folder.root / candidate(night.folder).checkpoint


def _run(
    night: Night, name: str, script: str, arguments: list[str], *, max_restarts: int = 0
) -> None:
    run_stage(
        name,
        launcher(night.config.nightly, max_restarts=max_restarts),
        script,
        arguments,
        log_file=night.folder.path / "logs" / f"{name}.log",
        is_stopped=night.is_stopped,
    )


def _reading(split: str, reads: Reads) -> list[str]:
    """Overrides that make a run read these days and labels."""
    overrides = [f"{split}.dates=[{reads.dates[0]}, {reads.dates[1]}]"]
    if reads.due is not None:
        since, until = (moment.isoformat() for moment in reads.due)
        overrides.append(f'{split}.due=["{since}", "{until}"]')
    return overrides


def _text(path: Path | str) -> str:
    """A JSON string is one of YAML, whatever the path holds."""
    return json.dumps(str(path))
