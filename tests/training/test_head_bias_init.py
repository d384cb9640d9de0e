"""The heads' biases begin at the labels' own level, alike on all ranks, and never after a load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run


def _biases(run: Run) -> Tensor:
    heads = cast(Any, run.built.objective.network.heads)
    return torch.stack([head.linear.bias.detach().clone()[0] for head in heads])


def _expected(run: Run) -> Tensor:
    """From the labels of all ranks' first batches, gathered row by row."""
    batch = next(run.trainer._all_batches())
    rows = torch.cat([batch.labels_BT, batch.observed_BT], dim=1)
    parts = [torch.empty_like(rows) for _ in range(run.ranks.world_size)]
    dist.all_gather(parts, rows, group=run.ranks.control)
    labels, observed = torch.cat(parts).numpy()[:, :3], torch.cat(parts).numpy()[:, 3:] > 0
    click, conversion, seconds = (labels[observed[:, i], i] for i in range(3))
    return torch.tensor(
        [
            math.log(click.mean() / (1 - click.mean())),
            math.log(conversion.mean() / (1 - conversion.mean())),
            np.log1p(seconds.astype(np.float64)).mean(),
        ],
        dtype=torch.float32,
    )


def _start(config: Path, overrides: tuple[str, ...]) -> list[Tensor]:
    def work(run: Run) -> list[Tensor]:
        before, expected = _biases(run), _expected(run)
        seen: list[Tensor] = []
        network = cast(Any, run.built.objective.network)
        network.register_forward_pre_hook(lambda *_: seen.append(_biases(run)))
        batches = run.trainer._all_batches()
        for _ in range(2):
            run.trainer.pipeline.progress(batches)
        return [before, expected, seen[0], _biases(run)]

    return with_run(config, overrides, work)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_the_first_forward_finds_the_mean_labels_of_all_ranks(
    tmp_path: Path, num_ranks: int
) -> None:
    found = run_ranks(_start, num_ranks, default_setup(tmp_path), (), init_group=False)
    for before, expected, first, second in found:
        assert torch.equal(before, torch.zeros(3))
        torch.testing.assert_close(first, expected, rtol=1e-6, atol=1e-6)
        # From then on only the optimizer moves them: Adam's first step is its learning rate.
        assert 0 < (second - first).abs().max() < 0.01
        assert torch.equal(first, found[0][2])
        assert torch.equal(second, found[0][3])


def test_zero_is_zero(tmp_path: Path) -> None:
    config = default_setup(tmp_path)
    [[_, _, first, _]] = run_ranks(
        _start, 1, config, ("model.head_bias_init=zero",), init_group=False
    )
    assert torch.equal(first, torch.zeros(3))


def _before_and_after_a_resume(config: Path) -> list[Tensor]:
    def train(run: Run) -> Tensor:
        run.train()
        return _biases(run)

    def resume(run: Run) -> Tensor:
        found = run.store.find("auto")
        assert found is not None
        run.trainer.resume(found)
        seen: list[Tensor] = []
        network = cast(Any, run.built.objective.network)
        network.register_forward_pre_hook(lambda *_: seen.append(_biases(run)))
        run.trainer.pipeline.progress(run.trainer._all_batches())
        return seen[0]

    return [with_run(config, ("run.steps=2",), work) for work in (train, resume)]


def test_a_model_that_was_trained_keeps_its_own(tmp_path: Path) -> None:
    config = default_setup(tmp_path)
    [[before, after]] = run_ranks(_before_and_after_a_resume, 1, config, init_group=False)
    assert torch.equal(after, before)
