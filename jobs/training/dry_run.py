"""Implements --dry-run: checks all that can fail before the first real step, without writing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from torchrec.distributed.types import ShardingPlan

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.preflight.evaluation_columns import told_before_training
from jobs.assembly.data import Data, check_inputs, find_data, train_reader
from jobs.assembly.model import build_model
from marigold_rec.batch import Batch
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.dumping import config_hash
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.errors import EXIT_DONE
from marigold_rec.sharding.planner import placements
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.trainer import Trainer

_MIB = 1024**2


def dry_run(config: Config, ranks: Ranks) -> int:
    """Logs what a run would do, and takes one step on its first batch. Collective.

    Raises what the run would raise; writes no file except the synthetic log, if that is used.
    """
    data = find_data(config, ranks)
    check_inputs(config, data, ranks)
    for warning in told_before_training(config.evaluation, data.eval):
        LOGGER.warning("%s", warning)
    built = build_model(config, ranks)
    reader = train_reader(config, data, ranks)
    nowhere = Path("/dev/null/dry-run")  # any attempt to write there fails
    store = CheckpointStore(nowhere, ranks, config)
    # The step is to fail for what a run would skip.
    numerics = config.numerics.model_copy(update={"on_non_finite": "stop"})
    strict = config.model_copy(update={"numerics": numerics})
    trainer = Trainer(strict, ranks, built.model, built.objective, reader, store)
    output = trainer.try_one_step()
    losses = output.losses.global_T.tolist()
    for line in itertools.chain(
        [f"config: ok, hash {config_hash(config)}"],
        _data_lines(data),
        _label_lines(config, output.batch, reader.counts),
        _plan_lines(built.plan, built.tables, ranks.world_size),
        [
            "one step: ok, "
            + ", ".join(
                f"{n} loss {f:.4f}" for n, f in zip(config.task_names, losses, strict=True)
            ),
            f"a run takes {trainer.total_steps:,} steps of {ranks.world_size} ranks x "
            f"{reader.batch_size:,} rows",
        ],
    ):
        LOGGER.info("%s", line)
    return EXIT_DONE


def _data_lines(data: Data) -> Iterator[str]:
    yield _split_line("train", data.train)
    yield "eval: none" if data.eval is None else _split_line("eval", data.eval)


def _split_line(name: str, catalog: Catalog) -> str:
    days = sorted({file.day for file in catalog.files if file.day is not None})
    dates = f", days {days[0]} to {days[-1]}" if days else ""
    return (
        f"{name}: {catalog.num_rows:,} rows in {len(catalog.files)} files and "
        f"{len(catalog.rows_per_group)} row groups{dates}"
    )


def _label_lines(config: Config, batch: Batch, counts: Mapping[str, int]) -> Iterator[str]:
    """Describes the labels of rank 0's first batch, which shows a label from a wrong column."""
    for i, task in enumerate(config.tasks):
        observed = batch.observed_BT[:, i] > 0
        labels = batch.labels_BT[observed, i]
        mean = f"{labels.mean().item():.4g}" if len(labels) else "none"
        where = f" where {task.observed_if} = 1" if task.observed_if else ""
        yield (
            f"task {task.name} ({task.kind}): label {task.label}{where}: observed in "
            f"{len(labels):,} of {batch.num_rows:,} first rows, mean {mean}"
        )
    for name, count in sorted(counts.items()):
        yield f"in the first block of rows: {name} {count:,}"


def _plan_lines(plan: ShardingPlan, tables: tuple[Table, ...], world_size: int) -> Iterator[str]:
    by_name = {table.name: table for table in tables}
    weights = [0] * world_size
    # RowWiseAdagrad keeps one float per row (and per column shard), beside the row itself.
    states = [0] * world_size
    for place in placements(plan):
        table = by_name[place.table]
        for rank, size, rows in zip(
            place.ranks, place.bytes_per_rank, place.rows_per_rank, strict=True
        ):
            weights[rank] += size
            states[rank] += 4 * rows
        yield (
            f"table {table.name}: {table.rows:,} x {table.dim}, {place.sharding} on "
            f"{'rank' if len(place.ranks) == 1 else 'ranks'} {_spans(place.ranks)}"
        )
    for rank, (weight, state) in enumerate(zip(weights, states, strict=True)):
        yield (
            f"rank {rank}: tables {weight / _MIB:,.1f} MiB, their optimizer {state / _MIB:,.1f} MiB"
        )


def _spans(ranks: tuple[int, ...]) -> str:
    if len(ranks) > 4 and ranks == tuple(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]} to {ranks[-1]}"
    return ", ".join(map(str, ranks))
