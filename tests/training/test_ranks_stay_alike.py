"""After every step of a two-rank run the ranks are alike, to the bit.

Dense parameters, their gradients and the task weights; and each table has been written once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.distributed.model_parallel import get_unwrapped_module

from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run

_STEPS = 7


def _trace(config: Path, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    def train(run: Run) -> list[dict[str, Any]]:
        trace: list[dict[str, Any]] = []
        module = run.built.objective
        batches = run.trainer._all_batches()
        updates = _count_table_updates(run)
        for _ in range(_STEPS):
            before = dict(updates)
            run.trainer.pipeline.progress(batches)
            trace.append(
                {
                    "dense": {n: p.detach().clone() for n, p in module.named_parameters()},
                    "gradients": {n: _copied(p.grad) for n, p in module.named_parameters()},
                    "balancer": {n: b.clone() for n, b in module.balancer.named_buffers()},
                    "updates": {n: updates[n] - before[n] for n in updates},
                }
            )
        return trace

    return with_run(config, overrides, train)


def _copied(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.detach().clone()


def _count_table_updates(run: Run) -> dict[str, int]:
    """Counts, per group of tables on this rank, the backward calls that write them."""
    counts: dict[str, int] = {}
    # The lookups are kept in a plain list, out of reach of named_modules.
    lookups = cast(Any, get_unwrapped_module(run.built.model)).embeddings.ebc._lookups
    for i, lookup in enumerate(lookups):
        for name, module in lookup.named_modules(prefix=str(i)):
            if not isinstance(module, BatchedFusedEmbeddingBag):
                continue
            counts[name] = 0

            def hook(_module: Any, _inputs: Any, output: Tensor, name: str = name) -> None:
                # The gradient of the lookup's output is computed once per backward through it, and
                # each such call applies the fused optimizer.
                def count(_gradient: Tensor) -> None:
                    counts[name] += 1

                output.register_hook(count)

            module.register_forward_hook(hook)
    return counts


@pytest.mark.parametrize("sharding", ["table_wise", "row_wise"])
def test_two_ranks_stay_alike(tmp_path: Path, sharding: str) -> None:
    config = default_setup(tmp_path)
    overrides = (
        f"sharding.default={sharding}",
        "balancer.probe.every_n_steps=2",
        "model.dropout=0.1",
    )
    first, second = run_ranks(_trace, 2, config, overrides, init_group=False)
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        for part in ("dense", "gradients", "balancer"):
            assert a[part].keys() == b[part].keys()
            for name in a[part]:
                assert torch.equal(a[part][name], b[part][name]), (step, part, name)
        for rank in (a, b):
            assert rank["updates"], "no fused kernel was found"
            assert set(rank["updates"].values()) == {1}, (step, rank["updates"])
    weights = [step["balancer"]["weights_T"] for step in first]
    assert not torch.equal(weights[0], weights[-1]), "the balancer never moved"
