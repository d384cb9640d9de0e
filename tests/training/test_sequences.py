"""A sequence whose encoder is the mean trains as the mean-pooled feature does.

The probe is along the shared parameters. A probe of the representation moves a sequence's own
vectors instead of their mean, which is another measure of the same step: other h, other weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, config_tree, with_run, write_config, write_days

_STEPS = 12


def _tree(folder: Path, *, own_table: bool) -> dict[str, Any]:
    """History stands last of the sparse features: where a sequence's vector stands."""
    days = {"2024-01-01": click_log(1500), "2024-01-02": click_log(400, seed=1)}
    tree = config_tree(write_days(folder / "log", days), folder / "runs")
    history = tree["features"].pop(2)
    if own_table:
        history = {"name": "history", "kind": "id", "rows": 150, "dim": 8, "pooling": "mean"}
    tree["features"].insert(3, history)
    tree["run"]["steps"] = _STEPS
    tree["balancer"]["probe"]["scope"] = "shared_parameters"
    return tree


def _train(config: Path) -> tuple[list[list[float]], Tensor]:
    def work(run: Run) -> tuple[list[list[float]], Tensor]:
        found = []
        batches = run.trainer._all_batches()
        for _ in range(_STEPS):
            output = run.trainer.pipeline.progress(batches)
            found.append([*output.losses.global_T.tolist(), *output.coefficients_T.tolist()])
        run.trainer.pipeline.detach()
        return found, run.predictions()

    return with_run(config, (), work)


@pytest.mark.parametrize("own_table", [True, False], ids=["own table", "the item's table"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_mean_of_a_sequence_is_mean_pooling(
    tmp_path: Path, ranks: int, own_table: bool
) -> None:
    tree = _tree(tmp_path, own_table=own_table)
    pooled = write_config(tree, tmp_path / "pooled.yaml")
    tree["model"]["sequences"] = {"history": {"name": "mean"}}
    sequence = write_config(tree, tmp_path / "sequence.yaml")
    expected = run_ranks(_train, ranks, pooled, init_group=False)
    found = run_ranks(_train, ranks, sequence, init_group=False)
    for (losses, predictions), (of_pooled, predictions_of_pooled) in zip(
        found, expected, strict=True
    ):
        torch.testing.assert_close(
            torch.tensor(losses), torch.tensor(of_pooled), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(predictions, predictions_of_pooled, rtol=1e-3, atol=1e-4)
