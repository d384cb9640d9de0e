"""Runs one training: finds the data, builds, resumes, trains, evaluates, writes the summary."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data_pipelines.catalog.catalog import schema_hash
from data_pipelines.preflight.evaluation_columns import told_before_training
from jobs.assembly.data import check_inputs, eval_reader, find_data, train_reader
from jobs.assembly.model import build_model
from jobs.entrypoint.run_folder import lock_folder, run_folder
from jobs.training.metric_table import metric_lines
from jobs.training.outputs import begin_summary, open_log, run_card, start_anew, write_config
from jobs.training.starting_point import load_starting_point
from jobs.training.summary import Summary
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.components import component_name
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_every_rank, on_first_rank
from marigold_rec.errors import (
    EXIT_DONE,
    EXIT_OTHER,
    EXIT_PREEMPTED,
    MarigoldError,
)
from marigold_rec.sharding.planner import placements
from marigold_rec.training.evaluation import Evaluation, evaluate
from marigold_rec.training.monitoring.rank_totals import peak_memory, total_counts
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.stop import StopRequest, stop_on_signals
from marigold_rec.training.trainer import Outcome, Trainer
from marigold_rec.transforms.row_bits import ADMITTED_NAME, row_bits_bytes


def train_and_evaluate(config: Config, ranks: Ranks, resume: str) -> int:
    """Runs the whole training; returns the exit code. Collective. Writes below the run's folder
    only."""
    folder = run_folder(config)
    with ExitStack() as stack:
        on_first_rank(lambda: stack.enter_context(lock_folder(folder)), ranks.control)
        # Until the very end: the first rank to exit makes torchrun signal the others, and the one
        # that is still writing its summary must finish it.
        stop = stack.enter_context(stop_on_signals())
        summary = Summary(folder, run_card(config, ranks), is_first=ranks.is_first)
        try:
            if resume == "never":
                on_first_rank(lambda: start_anew(config, folder), ranks.control)
            on_first_rank(lambda: begin_summary(folder, summary), ranks.control)
            return _run(config, ranks, resume, folder, summary, stop)
        except Exception as error:
            summary.fail(error.exit_code if isinstance(error, MarigoldError) else EXIT_OTHER, error)
            raise


def _run(
    config: Config, ranks: Ranks, resume: str, folder: Path, summary: Summary, stop: StopRequest
) -> int:
    started = time.time()
    data = find_data(config, ranks)
    built = build_model(config, ranks)
    store = CheckpointStore(
        folder / "checkpoints",
        ranks,
        config,
        schema_hash=schema_hash(data.train),
        plan={p.table: p.sharding for p in placements(built.plan)},
        files={ADMITTED_NAME: row_bits_bytes(data.admitted)} if data.admitted else {},
    )
    reader = train_reader(config, data, ranks)
    trainer = Trainer(config, ranks, built.model, built.objective, reader, store)
    reset = load_starting_point(trainer, store, config, ranks, resume)
    # Not earlier: a start that is refused must not change the files of the earlier run.
    on_first_rank(lambda: write_config(config, folder), ranks.control)
    inputs = check_inputs(config, data, ranks)
    for warning in told_before_training(config.evaluation, data.eval):
        LOGGER.warning("%s", warning)
    LOGGER.info(
        "training %s: %s rows, %s steps of %d ranks x %s rows on %s; model %s, balancer %s",
        config.run.name,
        f"{data.train.num_rows:,}",
        f"{trainer.total_steps:,}",
        ranks.world_size,
        f"{reader.batch_size:,}",
        ranks.device.type,
        component_name(config.model.trunk),
        config.balancer.name,
    )
    log = on_every_rank(lambda: open_log(config, folder, ranks, trainer.step), ranks.control)
    try:
        outcome = trainer.train(log, stop)
        evaluation = Evaluation({})
        counts = {"data/counts": total_counts(reader.counts, ranks)}
        if reset:
            counts["warm_start/evicted_rows"] = reset
        if data.train.skipped:
            counts["data/skipped_files"] = {"train": len(data.train.skipped)}
        held_out = eval_reader(config, data, ranks)
        if held_out is not None and not outcome.was_stopped:
            evaluation = evaluate(
                built.model,
                built.objective.network,
                held_out,
                config.tasks,
                ranks,
                stop,
                run_folder=folder,
            )
            log.scalars(outcome.step, evaluation.scalars)
            trainer.sanity.look_at_the_end(outcome.step, evaluation.figures)
            counts["eval/counts"] = total_counts(held_out.counts, ranks)
        figures = outcome.perf | peak_memory(ranks) | evaluation.scalars
        ending = _ending(outcome, evaluation)
        warnings = [*inputs.warnings, *trainer.sanity.warnings, *store.mirror_warnings()]
        ending |= {"warnings": warnings, "wall_s": time.time() - started}
        on_first_rank(lambda: summary.end(ending | figures | counts), ranks.control)
    finally:
        log.close()
    _log_ending(outcome, evaluation, folder)
    return EXIT_PREEMPTED if outcome.was_stopped else EXIT_DONE


def _ending(outcome: Outcome, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "status": "stopped" if outcome.was_stopped else "done",
        "exit_code": EXIT_PREEMPTED if outcome.was_stopped else EXIT_DONE,
        "step": outcome.step,
        "total_steps": outcome.total_steps,
        "eval_undefined": evaluation.reasons,
    }


def _log_ending(outcome: Outcome, evaluation: Evaluation, folder: Path) -> None:
    for line in metric_lines(evaluation):
        LOGGER.info("%s", line)
    verb = "stopped after a save" if outcome.was_stopped else "done"
    LOGGER.info("%s at step %d of %d; see %s", verb, outcome.step, outcome.total_steps, folder)
