"""What of a run's plan makes its model worthless, or unjudged: too few steps, no evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from data_pipelines.order.partition import steps
from marigold_rec.config.schema import Config

MIN_STEPS = 200
"""Of a cold start: after fewer, a model has hardly left its first values."""
_GOOD_STEPS = 1_000
_SMALLEST_BATCH = 64


def plan_findings(config: Config, num_rows: int, world_size: int) -> Iterator[str]:
    """`num_rows`: of the training split."""
    if config.data.eval is None:
        yield (
            "data.eval: null: nothing will tell how good the model is on rows that it has not "
            "learned; set data.eval.dates or data.eval.path, or run launch/evaluate.py --data later"
        )
    per_epoch = steps(num_rows, world_size, config.data.batch_size)
    total = per_epoch * config.run.epochs
    asked_for_few = config.run.steps is not None and config.run.steps <= total
    if total >= MIN_STEPS or not num_rows or asked_for_few or config.warm_start.path is not None:
        return
    ranks = f"{world_size} rank{'' if world_size == 1 else 's'}"
    epochs = f"{config.run.epochs} epoch{'' if config.run.epochs == 1 else 's'}"
    yield (
        f"run.epochs: {epochs} of {num_rows:,} rows = {total:,} steps ({ranks} x "
        f"{config.data.batch_size:,} rows each): too few to learn, expected are at least "
        f"{MIN_STEPS}; set {_more_steps(config, num_rows, world_size)}"
    )


def _more_steps(config: Config, num_rows: int, world_size: int) -> str:
    """A smaller batch first; more epochs for what is missing then."""
    batch = config.data.batch_size
    while batch > _SMALLEST_BATCH and steps(num_rows, world_size, batch) < _GOOD_STEPS:
        batch = max(_SMALLEST_BATCH, batch // 2)
    epochs = -(-MIN_STEPS // max(1, steps(num_rows, world_size, batch)))
    wanted = [f"data.batch_size: {batch}"] if batch < config.data.batch_size else []
    wanted += [f"run.epochs: {epochs}"] if epochs > config.run.epochs else []
    return " and ".join(wanted) or f"run.epochs: {config.run.epochs + 1}"
