"""A probe of the real update, in the sharded pipeline: what it finds, and that it disturbs nothing.

Shapes: B rows of a rank, R width of the representation, T tasks.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.balancing import Probe
from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training.probing import Prober
from tests.support.ranks import run_ranks
from tests.support.runs import (
    Run,
    click_log,
    config_tree,
    default_setup,
    with_run,
    write_config,
    write_days,
)
from tests.training.test_against_plain_torch import plain_pooled

_EVERY_STEP = "balancer.probe={scope: update, every_n_steps: 1}"
_STEPS = 5


def _record_probes(run: Run) -> list[Probe]:
    balancer = run.built.objective.balancer
    probes: list[Probe] = []
    observe = balancer.observe

    def recorded(probe: Probe) -> None:
        probes.append(dataclasses.replace(probe, losses_T=probe.losses_T.clone()))
        observe(probe)

    setattr(balancer, "observe", recorded)  # noqa: B010 - a method of one object only
    return probes


def _plain_losses(run: Run, batch: Batch) -> Tensor:
    """The global losses of the model as it is now, by plain lookups in the gathered tables, [T]."""
    found = run.tensors()
    tables = {table.name: found[table.state_key] for table in run.config.tables}
    network = copy.deepcopy(run.built.objective.network)
    with torch.no_grad():
        outputs = network(Inputs(plain_pooled(batch, tables, run), batch.dense_BD))
    sums_2T = torch.zeros(2, len(outputs), dtype=torch.float64)
    for i, (head, output) in enumerate(zip(network.task_heads, outputs, strict=True)):
        weight_B = (batch.observed_BT[:, i] * batch.weights_B).double()
        sums_2T[0, i] = (weight_B * head.loss(output, batch.labels_BT[:, i])).sum()
        sums_2T[1, i] = weight_B.sum()
    dist.all_reduce(sums_2T, group=run.ranks.control)
    return sums_2T[0] / sums_2T[1]


def _falls(config: Path, overrides: tuple[str, ...]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per step: the probe's h and losses, f(before) - f(after) by plain PyTorch."""

    def work(run: Run) -> list[tuple[Tensor, Tensor, Tensor]]:
        probes = _record_probes(run)
        batches, again = run.trainer._all_batches(), run.trainer._all_batches()
        found = []
        for _ in range(_STEPS):
            batch = next(again)
            before_T = _plain_losses(run, batch)
            run.trainer.pipeline.progress(batches)
            fall_T = before_T - _plain_losses(run, batch)
            torch.testing.assert_close(probes[-1].losses_T.double(), before_T, rtol=1e-5, atol=0)
            found.append((probes[-1].descent_T, probes[-1].losses_T, fall_T))
        assert len(probes) == _STEPS
        return found

    return with_run(config, overrides, work)


@pytest.mark.parametrize(
    ("num_ranks", "sharding"),
    [
        (1, "table_wise"),
        (2, "table_wise"),
        (2, "row_wise"),
        pytest.param(2, "column_wise", marks=pytest.mark.slow),
    ],
)
def test_its_fall_is_that_of_the_whole_model(tmp_path: Path, num_ranks: int, sharding: str) -> None:
    config = default_setup(tmp_path, rows=1500)
    overrides = (f"sharding.default={sharding}", "model.head_bias_init=zero", _EVERY_STEP)
    first, *others = run_ranks(_falls, num_ranks, config, overrides, init_group=False)
    for step, (descent_T, losses_T, fall_T) in enumerate(first):
        for other in others:
            assert torch.equal(other[step][0], descent_T)
        assert (fall_T.abs() > 1e-4).any(), "nothing moved"
        # Both are differences of float32 losses.
        atol = 3e-6 * losses_T.max().item()
        torch.testing.assert_close(descent_T.double(), fall_T, rtol=0, atol=atol)


def _final_state(config: Path, overrides: tuple[str, ...], probes: bool) -> dict[str, Tensor]:
    """All of this rank that a checkpoint holds, after a run whose balancer learns of no probe."""

    def work(run: Run) -> dict[str, Tensor]:
        objective = run.built.objective
        seen: list[Probe] = []
        setattr(objective.balancer, "observe", seen.append)  # noqa: B010 - as above
        if not probes:
            objective.prober = Prober(objective.balancer, run.ranks.group)
        outcome = run.train()
        assert len(seen) == (outcome.step if probes else 0)
        found: dict[str, Tensor] = {}
        for name, tensor in run.trainer._state.tensors().items():
            whole: Any = tensor
            local = whole.to_local() if hasattr(whole, "to_local") else whole
            shards = local.local_shards() if hasattr(local, "local_shards") else [local]
            found |= {f"{name} {i}": shard.detach().clone() for i, shard in enumerate(shards)}
        return found

    return with_run(config, overrides, work)


@pytest.mark.parametrize(
    "sharding",
    [
        "row_wise",
        pytest.param("table_wise", marks=pytest.mark.slow),
        pytest.param("column_wise", marks=pytest.mark.slow),
    ],
)
def test_the_training_is_the_same_to_the_bit_as_without_it(tmp_path: Path, sharding: str) -> None:
    """With dropout on, over the seam of two epochs, to the last row."""
    overrides = (
        f"sharding.default={sharding}",
        "run.epochs=2",
        "model.dropout=0.2",
        "optimizer.dense.clip_norm=1.0",
        _EVERY_STEP,
    )
    found = []
    for probes in (True, False):
        folder = tmp_path / str(probes)
        folder.mkdir()
        config = default_setup(folder, rows=900)
        found.append(run_ranks(_final_state, 2, config, overrides, probes, init_group=False))
    for probed, plain in zip(*found, strict=True):
        assert probed.keys() == plain.keys()
        assert len(probed) > 20
        different = [name for name in plain if not torch.equal(probed[name], plain[name])]
        assert not different, different


def _weights(config: Path, overrides: tuple[str, ...]) -> list[list[float]]:
    def work(run: Run) -> list[list[float]]:
        batches = run.trainer._all_batches()
        found = []
        for _ in range(_RANK_STEPS):
            run.trainer.pipeline.progress(batches)
            found.append(run.built.objective.balancer.weights.tolist())
        return found

    return with_run(config, overrides, work)


_RANK_STEPS, _GLOBAL_BATCH = 40, 128


def test_one_and_two_ranks_agree(tmp_path: Path) -> None:
    """A fall is a difference of losses after the optimizers' step, and Adam's first steps turn a
    gradient's rounding around zero into steps of full size; hence more than 1e-6.
    """
    table = click_log(_RANK_STEPS * _GLOBAL_BATCH)
    # Step s of two ranks holds the rows of step s of one.
    rows = np.arange(_RANK_STEPS * _GLOBAL_BATCH).reshape(_RANK_STEPS, 2, _GLOBAL_BATCH // 2)
    halves = table.take(pa.array(rows.transpose(1, 0, 2).reshape(-1)))
    found = []
    for ranks, log in ((1, table), (2, halves)):
        days = {"2024-01-01": log, "2024-01-02": click_log(400, seed=1)}
        tree = config_tree(write_days(tmp_path / str(ranks), days), tmp_path / "runs")
        config = write_config(tree, tmp_path / f"{ranks}.yaml")
        overrides = (
            f"data.batch_size={_GLOBAL_BATCH // ranks}",
            "data.shuffle_rows=0",
            _EVERY_STEP,
        )
        first, *others = run_ranks(_weights, ranks, config, overrides, init_group=False)
        assert all(other == first for other in others)
        found.append(torch.tensor(first))
    assert (found[0][-1] - found[0][0]).abs().max() > 0.02, "the weights never moved"
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4)
