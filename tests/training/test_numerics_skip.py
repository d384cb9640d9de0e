"""numerics.on_non_finite=skip_batch: a bad batch changes nothing, and the training goes on.

One rank's loss is NaN for one batch. Compared are whole checkpoints: tables, dense parameters, both
optimizers' state, the balancer's and the prober's state, and the random streams (dropout is on).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchrec.distributed.model_parallel import get_unwrapped_module

from tests.support.launches import (
    PATIENT,
    AtStep,
    Fault,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    spoil_gradient,
    spoil_loss,
    spoil_table,
    strict_json,
    summary,
)
from tests.support.runs import default_setup

_BAD, _LAST = 5, 8
_SETTINGS = (
    "numerics.on_non_finite=skip_batch",
    "data.eval=null",
    "data.shuffle_rows=150",
    "model.dropout=0.2",
    "balancer.probe.every_n_steps=5",  # the bad step is to be probed
    "optimizer.dense={name: adamw, weight_decay: 0.1, clip_norm: 1.0}",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    PATIENT,
)


def _spoil_once(pipeline: Any) -> None:
    """The first task's loss of the next forward is NaN."""
    task: Any = get_unwrapped_module(pipeline._model)
    head = task.objective.network.heads[0]
    loss = head.loss

    def spoilt(output_BK: Tensor, labels_B: Tensor) -> Tensor:
        head.loss = loss
        return loss(output_BK, labels_B) * torch.nan

    head.loss = spoilt


_NAN = AtStep(_BAD, 1, _spoil_once)


@dataclass(frozen=True)
class WithoutBatches:
    """No rank's reader gives these batches."""

    batches: tuple[int, ...]

    def install(self) -> None:
        from data_pipelines.reading.reader import ParquetReader

        batches = ParquetReader.batches

        def fewer(reader: ParquetReader, start: Any) -> Iterator[Any]:
            return (b for i, b in enumerate(batches(reader, start)) if i not in self.batches)

        ParquetReader.batches = fewer  # pyright: ignore[reportAttributeAccessIssue]


def _trained(
    folder: Path, *overrides: str, steps: int = _LAST, faults: tuple[Fault, ...] = ()
) -> dict[str, Tensor]:
    """What the run's last checkpoint holds."""
    folder.mkdir(exist_ok=True)
    config = default_setup(folder, rows=1001)
    ended = launch_train(config, *_SETTINGS, *overrides, f"run.steps={steps}", faults=faults)
    assert codes(ended) == [0, 0], ended[0].said
    tensors = checkpoint_tensors(folder / f"runs/test/checkpoints/step-{steps:09d}", folder)
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.ndim > 0)
    return tensors


@pytest.mark.parametrize(
    "balancer",
    [
        "{name: marigold, probe: {every_n_steps: 5}}",
        "{name: marigold, probe: {every_n_steps: 5, scope: update}}",
        "{name: uncertainty}",
        # The bad step is the last of an interval, and a direction waits for it.
        pytest.param("{name: dwa, interval_steps: 3}", marks=pytest.mark.slow),
        pytest.param(
            "{name: marigold, probe: {every_n_steps: 4, scope: shared_parameters, batch: next}}",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_is_as_after_the_step_before(tmp_path: Path, balancer: str) -> None:
    settings = (f"balancer={balancer}",)
    before = _trained(tmp_path / "before", *settings, steps=_BAD)
    skipped = _trained(tmp_path / "skipped", *settings, steps=_BAD + 1, faults=(_NAN,))
    assert_same_tensors(skipped, before)


@pytest.mark.parametrize(
    "bad",
    [(_BAD,), pytest.param((0, 1), id="from the first on", marks=pytest.mark.slow)],
)
def test_a_run_is_as_if_the_batches_had_not_been_in_the_data(
    tmp_path: Path, bad: tuple[int, ...]
) -> None:
    """Where nothing goes by the step's number, nor begins at the first batch's labels.

    From the first on: DDP learns the graph in the first backward, not in the first forward.
    """
    settings = ("balancer.probe.every_n_steps=1", "model.head_bias_init=zero")
    faults = tuple(AtStep(step, 1, _spoil_once) for step in bad)
    skipped = _trained(tmp_path / "skipped", *settings, faults=faults)
    num_steps = _LAST - len(bad)
    left_out = _trained(tmp_path / "out", *settings, steps=num_steps, faults=(WithoutBatches(bad),))
    assert_same_tensors(skipped, left_out)


def test_it_is_told_and_counted_and_resumes_to_the_bit(tmp_path: Path) -> None:
    straight = _trained(tmp_path / "straight", faults=(_NAN,))

    config = default_setup(tmp_path, rows=1001)
    first = launch_train(config, *_SETTINGS, f"run.steps={_BAD + 1}", faults=(_NAN,))
    run = tmp_path / "runs/test"
    assert codes(first) == [0, 0]
    (line,) = [x for x in first[0].said.splitlines() if "THE BATCH IS LEFT OUT" in x]
    for told in (
        f"step {_BAD}: not finite (ctr: loss nan, weight ",
        "cvr: loss 0.",
        "; rank 1 read ",
        "part-00000.parquet row group ",
        "(skipped since this start: 1, numerics.max_skipped_batches: 10)",
    ):
        assert told in line
    assert "rank 0 read" not in line
    logged = [strict_json(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    counts = [x["numerics/skipped_batches"] for x in logged if "optim/lr/dense" in x]
    assert counts == [0, 0, 1]  # steps 1, 5, 6
    assert logged[2]["train/loss/ctr"] is None
    assert logged[2]["train/window_ne/ctr"] > 0, "a skipped batch is in the window"
    assert summary(run)["numerics/skipped_batches"] == 1

    assert codes(launch_train(config, *_SETTINGS)) == [0, 0]
    resumed = checkpoint_tensors(run / f"checkpoints/step-{_LAST:09d}", tmp_path)
    assert_same_tensors(resumed, straight)


def test_a_used_up_budget_ends_the_run_with_4(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1001)
    ended = launch_train(
        config,
        *_SETTINGS,
        "numerics.max_skipped_batches=2",
        "checkpoint.every_n_steps=3",
        faults=(AtStep(4, 1, spoil_loss),),  # and all that follow
    )
    assert codes(ended) == [4, 4]
    assert ended[0].said.count("THE BATCH IS LEFT OUT") == 2
    run = tmp_path / "runs/test"
    error = summary(run)["error"]
    assert error.startswith("step 6: not finite (ctr: loss inf")
    assert "2 batches were left out since this start, no more may be" in error
    assert checkpoints(run) == ["step-000000003", "step-000000006"]
    tensors = [checkpoint_tensors(run / "checkpoints" / n, tmp_path) for n in checkpoints(run)]
    assert all(bool(t.isfinite().all()) for each in tensors for t in each.values() if t.ndim > 0)


def test_a_batch_that_is_not_to_blame_is_not_left_out(tmp_path: Path) -> None:
    """The gradient before was not finite, so that no batch could have a finite loss."""
    config = default_setup(tmp_path, rows=1001)
    fault = AtStep(_BAD - 1, 1, spoil_gradient)
    ended = launch_train(config, *_SETTINGS, faults=(fault,))
    assert codes(ended) == [4, 4]
    run = tmp_path / "runs/test"
    error = summary(run)["error"]
    assert error.startswith(f"step {_BAD}: not finite")
    assert "It can't be left out: the last gradient of the dense part was not finite" in error
    assert checkpoints(run) == []


def test_a_dry_run_leaves_no_batch_out(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1001)
    ended = launch_train(config, *_SETTINGS, "--dry-run", faults=(AtStep(0, 1, _spoil_once),))
    assert codes(ended) == [4, 4]
    assert "NumericsError: step 0: not finite (ctr: loss nan" in ended[0].said


def test_a_bad_table_is_named(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1001)
    ended = launch_train(
        config,
        *_SETTINGS,
        "numerics.check_tables_every_n_steps=2",
        "logging.every_n_steps=1",
        faults=(AtStep(_BAD, 1, spoil_table),),
    )
    assert codes(ended) == [4, 4]
    error = summary(tmp_path / "runs/test")["error"]
    assert error.startswith("step 6: tables with values that are not finite: ")
    assert "user (rank 1)" in error
    assert "(rank 0)" not in error
