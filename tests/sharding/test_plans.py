"""From one checkpoint, every sharding plan and number of ranks gives the same evaluation.

The order of an EmbeddingBagCollection's output depends on the plan; it must not reach the dense
part.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from marigold_rec.training import load_model
from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run

_PLANS = {
    "table_wise": ("sharding.default=table_wise",),
    "row_wise": ("sharding.default=row_wise",),
    "column_wise": ("sharding.default=column_wise",),
    "mixed": (
        "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    ),
}  # fmt: skip


def _trained(config: Path, overrides: tuple[str, ...]) -> Tensor:
    def work(run: Run) -> Tensor:
        run.train()
        return run.predictions()

    return with_run(config, overrides, work)


def _loaded(config: Path, overrides: tuple[str, ...]) -> Tensor:
    def work(run: Run) -> Tensor:
        found = run.store.find("auto")
        assert found is not None
        load_model(run.built.model, run.store, found)
        return run.predictions()

    return with_run(config, overrides, work)


def test_same_evaluation_from_one_checkpoint(tmp_path: Path) -> None:
    config = default_setup(tmp_path)
    # Trained under the mixed plan on two ranks; rank r evaluates the r-th part of the rows.
    expected = torch.cat(run_ranks(_trained, 2, config, _PLANS["mixed"], init_group=False))
    assert expected.std(0).min() > 0.01, "nothing was learned: any order would give the same"
    for world_size in (1, 2, 3):
        for name, overrides in _PLANS.items():
            parts = run_ranks(_loaded, world_size, config, overrides, init_group=False)
            found = torch.cat(parts)
            difference = ((found - expected).abs() / expected.abs().clamp_min(1.0)).max().item()
            assert difference <= 1e-6, f"{name} on {world_size} ranks: {difference}"


def _initial(config: Path, overrides: tuple[str, ...]) -> dict[str, Tensor]:
    return with_run(config, overrides, Run.tensors)


@pytest.mark.parametrize("plan", list(_PLANS))
def test_initial_values_do_not_depend_on_the_plan(tmp_path: Path, plan: str) -> None:
    config = default_setup(tmp_path)
    expected = run_ranks(_initial, 1, config, (), init_group=False)[0]
    for found in run_ranks(_initial, 2, config, _PLANS[plan], init_group=False):
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
