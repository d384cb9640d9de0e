"""One run: find the data, build, resume, train, evaluate, write the summary."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from launch.build import build_model, eval_reader, find_data, train_reader
from launch.run_folder import locked, move_aside, run_folder
from marigold_rec.checkpoint import CheckpointStore, config_differences
from marigold_rec.config import Config, config_hash, dump_config
from marigold_rec.distributed import Ranks, on_first_rank
from marigold_rec.errors import EXIT_DONE, EXIT_PREEMPTED, CheckpointError, MarigoldError
from marigold_rec.training import (
    LOGGER,
    Evaluation,
    Outcome,
    RunLog,
    Trainer,
    evaluate,
    stop_on_signals,
    write_summary,
)
from marigold_rec.versions import installed_versions


def train_and_evaluate(config: Config, ranks: Ranks, resume: str) -> int:
    """The whole run; returns the exit code. Collective. Writes below the run's folder only."""
    folder = run_folder(config)
    with ExitStack() as stack:
        on_first_rank(lambda: stack.enter_context(locked(folder)), ranks.control)
        if resume == "never":
            on_first_rank(lambda: _start_anew(folder), ranks.control)
        try:
            return _run(config, ranks, resume, folder)
        except MarigoldError as error:
            if ranks.is_first:
                failure = {"status": "failed", "exit_code": error.exit_code, "error": str(error)}
                write_summary(folder, _run_card(config, ranks) | failure)
            raise


def _run(config: Config, ranks: Ranks, resume: str, folder: Path) -> int:
    started = time.time()
    log = RunLog(
        folder, is_first=ranks.is_first, tensorboard=config.logging.tensorboard
    )  # before the data is read, so that a run without a place to write fails at once
    on_first_rank(
        lambda: (folder / "config.effective.yaml").write_text(dump_config(config)), ranks.control
    )
    data = find_data(config, ranks)
    built = build_model(config, ranks)
    store = CheckpointStore(folder / "checkpoints", ranks, config)
    reader = train_reader(config, data, ranks)
    trainer = Trainer(config, ranks, built.model, built.objective, reader, store, log)
    if (found := store.find(resume)) is not None:
        if differences := config_differences(found.manifest.config, config):
            raise CheckpointError(
                f"{found.folder} was saved under another config:\n" + "\n".join(differences) +
                "\nuse the old settings, another run.name, or --resume never"
            )  # fmt: skip
        for refused in found.refused:
            LOGGER.warning("refused: %s", refused)
        trainer.resume(found)
        LOGGER.info("resumed from %s at step %d", found.folder, trainer.step)
    LOGGER.info(
        "training %s: %d rows, %d steps of %d ranks x %d rows on %s; balancer %s, model %s",
        config.run.name,
        data.train.num_rows,
        trainer.total_steps,
        ranks.world_size,
        reader.batch_size,
        ranks.device.type,
        config.balancer.name,
        config.model.name,
    )
    try:
        with stop_on_signals() as stop:
            outcome = trainer.train(stop)
        evaluation = Evaluation({})
        held_out = eval_reader(config, data, ranks)
        if held_out is not None and not outcome.was_stopped:
            evaluation = evaluate(built.model, held_out, config.tasks, ranks)
            log.scalars(outcome.step, evaluation.scalars)
        log.summary(
            _run_card(config, ranks)
            | _ending(outcome, evaluation)
            | outcome.perf
            | evaluation.scalars
            | {"wall_s": time.time() - started, "data/counts": dict(reader.counts)}
        )
    finally:
        log.close()
    _say_ending(outcome, evaluation, folder)
    return EXIT_PREEMPTED if outcome.was_stopped else EXIT_DONE


def _start_anew(folder: Path) -> None:
    if (target := move_aside(folder)) is not None:
        LOGGER.info("--resume never: the earlier run's files are now in %s", target)


def _run_card(config: Config, ranks: Ranks) -> dict[str, Any]:
    return {
        "name": config.run.name,
        "config_hash": config_hash(config),
        "seed": config.run.seed,
        "world_size": ranks.world_size,
        "device": ranks.device.type,
        "versions": installed_versions(),
    }


def _ending(outcome: Outcome, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "status": "stopped" if outcome.was_stopped else "done",
        "exit_code": EXIT_PREEMPTED if outcome.was_stopped else EXIT_DONE,
        "step": outcome.step,
        "total_steps": outcome.total_steps,
        "eval_without_figure": evaluation.reasons,
    }


def _say_ending(outcome: Outcome, evaluation: Evaluation, folder: Path) -> None:
    for name, value in evaluation.scalars.items():
        reason = evaluation.reasons.get(name)
        LOGGER.info("%-28s %s", name, f"none: {reason}" if value is None else f"{value:.6g}")
    verb = "stopped after a save" if outcome.was_stopped else "done"
    LOGGER.info("%s at step %d of %d; see %s", verb, outcome.step, outcome.total_steps, folder)
