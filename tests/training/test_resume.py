"""A run that was cut and resumed equals, to the bit, one that never stopped.

In tables, dense parameters, both optimizers' state, the balancer's state, the random streams, the
rows that each rank reads in their order, the logged losses and weights and the evaluation: with the
balancer between two probes, dropout on, and cuts before, at and after the seam of two epochs.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from data_pipelines.reading.reader import ParquetReader
from tests.support.launches import (
    PATIENT,
    AtStep,
    Ended,
    Fault,
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
from tests.support.ranks import RankDiedError, rank_outcomes
from tests.support.runs import default_setup

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
class RecordRows:
    """A tests.support.launches.Fault: each rank notes the rows of each step, as it takes it."""

    folder: Path

    def install(self) -> None:
        from marigold_rec.training.pipeline import TrainPipeline

        read, progress = ParquetReader.__init__, TrainPipeline.progress
        path = self.folder / f"rows-{os.environ['RANK']}.jsonl"

        def with_rows(*args: Any, **kwargs: Any) -> None:
            read(*args, **kwargs, extra_columns=("row",))

        def recorded(pipeline: Any, batches: Any) -> Any:
            output = progress(pipeline, batches)
            # At once and whole: the next thing that happens may be a kill.
            with path.open("a") as file:
                rows = output.batch.columns["row"].to_pylist()
                file.write(json.dumps([output.batch.step, rows]) + "\n")
            return output

        setattr(ParquetReader, "__init__", with_rows)  # noqa: B010 - its own type is narrower
        setattr(TrainPipeline, "progress", recorded)  # noqa: B010


@dataclass(frozen=True)
class Straight:
    rows: list[list[list[int]]]
    """By rank and step, in their order."""
    tensors: dict[str, Tensor]
    figures: list[dict[str, Any]]


def _train(config: Path, *more: str, faults: tuple[Fault, ...] = ()) -> list[Ended]:
    """One start of the run, which goes on from its newest checkpoint, if there is one."""
    return launch_train(
        config, *_SETTINGS, *more, faults=(RecordRows(config.parent), *faults), timeout_s=25
    )


def _recorded(folder: Path, rank: int) -> list[tuple[int, list[int]]]:
    """Steps, in the order in which all starts took them, and their rows."""
    lines = (folder / f"rows-{rank}.jsonl").read_text().splitlines()
    return [(step, rows) for step, rows in map(json.loads, lines)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("straight")
    assert codes(_train(default_setup(folder, rows=_ROWS))) == [0, 0]
    recorded = [_recorded(folder, rank) for rank in range(2)]
    assert [[step for step, _ in steps] for steps in recorded] == [list(range(_STEPS))] * 2
    rows = [[rows for _, rows in steps] for steps in recorded]
    return Straight(rows, _last_tensors(folder), _figures(folder))


def test_the_straight_run_is_worth_comparing_with(straight: Straight) -> None:
    orders = []
    for epoch in (slice(_STEPS_PER_EPOCH), slice(_STEPS_PER_EPOCH, None)):
        order = [row for rank in straight.rows for batch in rank[epoch] for row in batch]
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
    assert codes(_train(config, f"run.steps={cut}")) == [0, 0]
    assert codes(_train(config)) == [0, 0]
    for rank, expected in enumerate(straight.rows):
        assert _recorded(tmp_path, rank) == list(enumerate(expected))
    _assert_same_figures(tmp_path, straight)
    assert_same_tensors(_last_tensors(tmp_path), straight.tensors)


# The balancer probes every 5 steps: all of these lie between two probes, as do the checkpoints.
@pytest.mark.parametrize(
    ("every", "kill", "rank"),
    [(4, 11, 1), (6, _STEPS_PER_EPOCH, 0)],
    ids=["rank 1, after the seam", "rank 0, the steps since the save go over the seam"],
)
def test_a_killed_rank_costs_only_the_steps_since_the_last_save(
    tmp_path: Path, straight: Straight, every: int, kill: int, rank: int
) -> None:
    config = default_setup(tmp_path, rows=_ROWS)
    saving, fault = f"checkpoint.every_n_steps={every}", AtStep(kill, rank, die)
    arguments = ("--config", str(config), *_SETTINGS, saving)
    faults = (RecordRows(tmp_path), fault)
    outcomes = rank_outcomes(train_main, 2, arguments, faults, timeout_s=25, init_group=False)
    assert isinstance(outcomes[rank].error, RankDiedError)
    assert "SIGKILL" in str(outcomes[rank].error)
    other = outcomes[1 - rank].value
    assert other is not None, "the other rank should have ended by itself"
    assert other.code == 1
    run = tmp_path / "runs/test"
    if rank == 0:
        assert summary(run)["status"] == "running", "who writes it is dead"
    else:
        assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 1)
    # Saves go beside the steps: the newest may have been on its way. The one before can't be.
    published = [int(name[5:]) for name in checkpoints(run) if ".tmp-" not in name]
    begun = list(range(every, kill, every))
    assert published in (begun, begun[:-1])
    saved = max(published, default=0)

    ended = _train(config)
    assert codes(ended) == [0, 0]
    if saved:
        assert re.search(rf"resumed from .*/step-{saved:09d} at step {saved}\n", ended[0].said)
    assert (summary(run)["status"], summary(run)["step"]) == ("done", _STEPS)
    for which, expected in enumerate(straight.rows):
        recorded = _recorded(tmp_path, which)
        # The step in which the other rank died may have gone through on this one, or not.
        first = [step for step, _ in recorded[: -(_STEPS - saved)]]
        assert first in ([*range(kill)], [*range(kill + 1)])
        assert [step for step, _ in recorded[-(_STEPS - saved) :]] == [*range(saved, _STEPS)]
        assert all(rows == expected[step] for step, rows in recorded)
    steps = [line["step"] for line in _lines(tmp_path)]
    assert steps == [*sorted({1, 5, 10, 15, _STEPS} | {saved + 1}), _STEPS], "logged twice"
    _assert_same_figures(tmp_path, straight)
    assert_same_tensors(_last_tensors(tmp_path), straight.tensors)


def _last_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the checkpoint that the whole run ends with."""
    return checkpoint_tensors(folder / f"runs/test/checkpoints/step-{_STEPS:09d}", folder)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [
        strict_json(line) for line in (folder / "runs/test/metrics.jsonl").read_text().splitlines()
    ]


def _figures(folder: Path) -> list[dict[str, Any]]:
    """By logged step what is said of the model and of the evaluation.

    Not what measures the machine, nor what counts from the start: windows and the reader's counts.
    """
    from_start = ("perf/", "memory/", "data/", "train/window_")
    found = [*_lines(folder), {"step": "end", **summary(folder / "runs/test")}]
    return [
        {
            name: value
            for name, value in line.items()
            if name == "step" or ("/" in name and not name.startswith((*from_start, "eval/counts")))
        }
        for line in found
    ]


def _assert_same_figures(folder: Path, straight: Straight) -> None:
    """All that the straight run logged; a start logs its first step too."""
    found = _figures(folder)
    names = {name for line in straight.figures for name in line}
    assert {"train/loss/ctr", "train/weight/ctr", "eval/auc/ctr"} <= names
    assert [line for line in straight.figures if line not in found] == []
