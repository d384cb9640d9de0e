"""A run that was cut and resumed equals, to the bit, one that never stopped.

In tables, dense parameters, both optimizers' state, the balancer's state, the random streams and
the rows that each rank reads, in their order: with the balancer between two probes, dropout on,
and cuts before, at and after the seam of two epochs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from data_pipelines.reader import ParquetReader
from tests.support.launches import (
    PATIENT,
    AtStep,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    die,
    launch_train,
    strict_json,
    summary,
    train_main,
)
from tests.support.ranks import RankDiedError, rank_outcomes, run_ranks
from tests.support.runs import Run, default_setup, with_run

_ROWS = 1001  # 500 and 501 on two ranks
_STEPS_PER_EPOCH = 8  # the last batch of each rank is filled up
_STEPS = 2 * _STEPS_PER_EPOCH
_SETTINGS = (
    "run.epochs=2",
    "data.shuffle_rows=150",
    "model.dropout=0.2",
    "balancer.probe.every_n_steps=5",
    "optimizer.dense={name: adamw, weight_decay: 0.1, warmup_steps: 12, clip_norm: 1.0}",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    PATIENT,
)


@dataclass(frozen=True)
class Trained:
    """The steps that one rank took, and the ids of their rows."""

    began: int
    ended: int
    rows: list[list[int]]


@dataclass(frozen=True)
class Straight:
    ranks: list[Trained]
    tensors: dict[str, Tensor]


def _train(config: Path, overrides: tuple[str, ...]) -> Trained:
    """Trains from the newest checkpoint, if there is one."""

    def work(run: Run) -> Trained:
        rows: list[list[int]] = []
        trainer, progress = run.trainer, run.trainer.pipeline.progress
        trainer._reader = ParquetReader(
            run.data.train,
            run.config,
            rank=run.ranks.rank,
            world_size=run.ranks.world_size,
            extra_columns=("row",),
        )

        def recorded(batches: Any) -> Any:
            output = progress(batches)
            rows.append(output.batch.columns["row"].to_pylist())
            return output

        setattr(trainer.pipeline, "progress", recorded)  # noqa: B010 - its own type is narrower
        if (found := run.store.find("auto")) is not None:
            trainer.resume(found)
        began = trainer.step
        outcome = run.train()
        return Trained(began, outcome.step, rows)

    return with_run(config, overrides, work)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("straight")
    config = default_setup(folder, rows=_ROWS)
    ranks = run_ranks(_train, 2, config, _SETTINGS, timeout_s=30, init_group=False)
    return Straight(ranks, _last_tensors(folder))


def test_the_straight_run_is_worth_comparing_with(straight: Straight) -> None:
    assert [(rank.began, rank.ended) for rank in straight.ranks] == [(0, _STEPS)] * 2
    orders = []
    for epoch in (slice(_STEPS_PER_EPOCH), slice(_STEPS_PER_EPOCH, None)):
        order = [row for rank in straight.ranks for batch in rank.rows[epoch] for row in batch]
        assert sorted(order) == list(range(_ROWS))
        orders.append(order)
    assert orders[0] != orders[1], "both epochs go through the rows in one order"
    names = straight.tensors.keys()
    for name in (
        "model/embeddings.ebc.embedding_bags.user.weight",
        "model/objective.balancer.descent.mean_T",
        "model/objective.balancer.weights_T",
    ):
        assert name in names
    for ending in ("exp_avg", "exp_avg_sq", "step", "user.momentum1", "price_band.momentum1"):
        assert any(n.startswith("optimizer/") and n.endswith(ending) for n in names), ending
    first, second = straight.tensors["random/rank-0"], straight.tensors["random/rank-1"]
    assert not first.equal(second), "the ranks draw the same dropout masks"


@pytest.mark.parametrize(
    "cut",
    [6, _STEPS_PER_EPOCH, pytest.param(11, marks=pytest.mark.slow)],
    ids=["before the seam", "at the seam", "after the seam"],
)
def test_a_resumed_run_equals_a_straight_one(tmp_path: Path, straight: Straight, cut: int) -> None:
    config = default_setup(tmp_path, rows=_ROWS)
    first = run_ranks(
        _train, 2, config, (*_SETTINGS, f"run.steps={cut}"), timeout_s=30, init_group=False
    )
    second = run_ranks(_train, 2, config, _SETTINGS, timeout_s=30, init_group=False)
    for before, after, expected in zip(first, second, straight.ranks, strict=True):
        assert (before.ended, after.began, after.ended) == (cut, cut, _STEPS)
        assert before.rows + after.rows == expected.rows
    assert_same_tensors(_last_tensors(tmp_path), straight.tensors)


def test_a_killed_rank_costs_only_the_steps_since_the_last_save(
    tmp_path: Path, straight: Straight
) -> None:
    config = default_setup(tmp_path, rows=_ROWS)
    arguments = ("--config", str(config), *_SETTINGS, "checkpoint.every_n_steps=4")
    outcomes = rank_outcomes(
        train_main, 2, arguments, (AtStep(11, 1, die),), timeout_s=30, init_group=False
    )
    assert isinstance(outcomes[1].error, RankDiedError)
    assert "SIGKILL" in str(outcomes[1].error)
    assert outcomes[0].value is not None, "rank 0 should have ended by itself"
    assert outcomes[0].value.code == 1
    run = tmp_path / "runs/test"
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 1)
    assert checkpoints(run) == ["step-000000004", "step-000000008"]

    ended = launch_train(config, *_SETTINGS)
    assert codes(ended) == [0, 0]
    assert re.search(r"resumed from .*/step-000000008 at step 8\n", ended[0].said)
    assert (summary(run)["status"], summary(run)["step"]) == ("done", _STEPS)
    steps = [strict_json(x)["step"] for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 5, 9, 10, 15, 16, 16], "steps taken twice are logged once"
    assert_same_tensors(_last_tensors(tmp_path), straight.tensors)


def _last_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint that the whole run ends with."""
    return checkpoint_tensors(folder / f"runs/test/checkpoints/step-{_STEPS:09d}", folder)
