"""The same global batches on one rank and on two give the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist

from marigold_rec.training.clipping import GradientClipping
from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, config_tree, with_run, write_config, write_days

_STEPS, _COMPARED, _GLOBAL_BATCH = 200, 50, 128


def _train(config: Path, overrides: tuple[str, ...]) -> tuple[list[list[float]], dict[str, Any]]:
    """Losses, coefficients and dense gradient norm of every step; the figures after the last."""

    def train(run: Run) -> tuple[list[list[float]], dict[str, Any]]:
        found = []
        batches = run.trainer._all_batches()
        [clipping] = [h for h in run.trainer.hooks if isinstance(h, GradientClipping)]
        for _ in range(_STEPS):
            output = run.trainer.pipeline.progress(batches)
            norm = clipping.norm.item()
            found.append([*output.losses.global_T.tolist(), *output.coefficients_T.tolist(), norm])
        run.trainer.pipeline.detach()
        evaluation = run.evaluation()
        diagnostics = run.built.objective.balancer.diagnostics()
        self_check = float(diagnostics.get("self_check", torch.ones(())))
        own = {"accumulated": _accumulated(run), "self_check": self_check}
        return found, evaluation.scalars | own

    return with_run(config, overrides, train)


def _accumulated(run: Run) -> float:
    """Sum of the tables' Adagrad accumulators over all ranks: squares of all their gradients.

    Adam and Adagrad undo any factor on the loss, so that losses alone would not show a wrong one.
    """
    total = torch.zeros((), dtype=torch.float64)
    state: dict[str, Any] = run.trainer._state.tensors()
    for name, sums in state.items():
        if name.startswith("optimizer/sparse.") and hasattr(sums, "to_local"):
            for shard in sums.to_local().local_shards():
                total += shard.double().sum()
    dist.all_reduce(total, group=run.ranks.control)
    return total.item()


def _two_rank_order(table: pa.Table) -> pa.Table:
    """Rows reordered so that step s of two ranks holds the rows of step s of one rank."""
    rows = np.arange(_STEPS * _GLOBAL_BATCH).reshape(_STEPS, 2, _GLOBAL_BATCH // 2)
    return table.take(pa.array(rows.transpose(1, 0, 2).reshape(-1)))


@pytest.mark.parametrize("balancer", ["static", "marigold"])
def test_losses_and_weights_agree(tmp_path: Path, balancer: str) -> None:
    table = click_log(_STEPS * _GLOBAL_BATCH)
    configs = []
    for name, rows in (("one", table), ("two", _two_rank_order(table))):
        days = {"2024-01-01": rows, "2024-01-02": click_log(4000, seed=1)}
        data = write_days(tmp_path / name, days)
        tree = config_tree(data, tmp_path / "runs")
        tree["balancer"] = {"name": balancer}
        configs.append(write_config(tree, tmp_path / f"{name}.yaml"))
    one, two = "data.batch_size=128", "data.batch_size=64"
    in_order = "data.shuffle_rows=0"
    whole, one_figures = run_ranks(_train, 1, configs[0], (one, in_order), init_group=False)[0]
    halves = run_ranks(_train, 2, configs[1], (two, in_order), init_group=False)
    assert halves[0] == halves[1], "the ranks disagree"
    torch.testing.assert_close(
        torch.tensor(halves[0][0][:_COMPARED], dtype=torch.float64),
        torch.tensor(whole[:_COMPARED], dtype=torch.float64),
        rtol=1e-5,
        atol=0,
    )
    accumulated = one_figures["accumulated"]
    assert accumulated > 0
    assert halves[0][1]["accumulated"] == pytest.approx(accumulated, rel=0.01)
    # The weights do not depend on the scale of the probe's direction; the self-check does.
    for figures in (one_figures, halves[0][1]):
        assert figures["self_check"] == pytest.approx(1.0, abs=0.2)
    for task in ("ctr", "cvr"):
        one_auc, two_auc = (f[f"eval/auc/{task}"] for f in (one_figures, halves[0][1]))
        assert abs(one_auc - two_auc) < 0.002, (task, one_auc, two_auc)
        assert one_auc > 0.6, "nothing was learned: the agreement would mean little"
