"""The same global batches on one rank and on two give the same training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, config_tree, with_run, write_config, write_days

_STEPS, _GLOBAL_BATCH = 50, 128


def _steps_of_losses(config: Path, overrides: tuple[str, ...]) -> list[list[float]]:
    def train(run: Run) -> list[list[float]]:
        found = []
        batches = run.trainer._all_batches()
        for step in range(_STEPS):
            run.built.objective.step = step
            run.trainer._optimizers.begin_step(step)
            output = run.trainer.pipeline.progress(batches)
            found.append([*output.losses.global_T.tolist(), *output.coefficients_T.tolist()])
        return found

    return with_run(config, overrides, train)


def _two_rank_order(table: pa.Table) -> pa.Table:
    """Rows reordered so that step s of two ranks holds the rows of step s of one rank."""
    rows = np.arange(_STEPS * _GLOBAL_BATCH).reshape(_STEPS, 2, _GLOBAL_BATCH // 2)
    return table.take(pa.array(rows.transpose(1, 0, 2).reshape(-1)))


@pytest.mark.parametrize("balancer", ["static", "marigold"])
def test_losses_and_weights_agree(tmp_path: Path, balancer: str) -> None:
    table = click_log(_STEPS * _GLOBAL_BATCH)
    configs = []
    for name, rows in (("one", table), ("two", _two_rank_order(table))):
        data = write_days(tmp_path / name, {"2024-01-01": rows})
        tree = config_tree(data, tmp_path / "runs")
        tree["balancer"] = {"name": balancer}
        del tree["data"]["eval"]
        configs.append(write_config(tree, tmp_path / f"{name}.yaml"))
    one, two = "data.batch_size=128", "data.batch_size=64"
    whole = run_ranks(
        _steps_of_losses, 1, configs[0], (one, "data.shuffle_rows=0"), init_group=False
    )[0]
    halves = run_ranks(
        _steps_of_losses, 2, configs[1], (two, "data.shuffle_rows=0"), init_group=False
    )
    assert halves[0] == halves[1], "the ranks disagree"
    torch.testing.assert_close(
        torch.tensor(halves[0], dtype=torch.float64),
        torch.tensor(whole, dtype=torch.float64),
        rtol=1e-5,
        atol=0,
    )
    # Watch time starts far off: its fall shows that there was a training to agree on.
    assert whole[-1][2] < 0.9 * whole[0][2]
