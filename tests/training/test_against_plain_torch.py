"""A few steps of the trainer equal a plain PyTorch model with the formulas written out.

So each table is updated exactly once per step, by the gradient of the global masked losses.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.sharding import table_rows
from tests.support.ranks import run_ranks
from tests.support.runs import Run, default_setup, with_run

_STEPS = 4


def plain_pooled(batch: Batch, tables: Mapping[str, Tensor], run: Run) -> Tensor:
    pooled = []
    for table in run.config.tables:
        for name in table.features:
            ids = batch.sparse[name]
            bag = nn.functional.embedding_bag(
                ids.values(),
                tables[table.name],
                ids.offsets()[:-1].long(),
                mode=table.pooling,
                include_last_offset=False,
            )
            pooled.append((name, bag))
    order = [feature.name for feature in run.config.sparse_features]
    return torch.cat([dict(pooled)[name] for name in order], dim=1)


def _start_heads(heads: list[Any], batch: Batch) -> None:
    """The biases by hand: log odds of the clicks and conversions, mean log of the seconds."""
    seen = [batch.labels_BT[batch.observed_BT[:, i] > 0, i] for i in range(3)]
    with torch.no_grad():
        for head, labels in zip(heads[:2], seen[:2], strict=True):
            head.linear.bias.fill_(torch.logit(labels.double().mean()))
        heads[2].linear.bias.fill_(seen[2].double().log1p().mean())


def _compare(config: Path, balancer: tuple[str, ...]) -> None:
    def check(run: Run) -> None:
        objective = run.built.objective
        network = cast(Any, copy.deepcopy(objective.network))
        tables = {
            table.name: nn.Parameter(table_rows(table, run.config.run.seed, 0, table.rows))
            for table in run.built.tables
        }
        sums = {name: torch.zeros(len(weight)) for name, weight in tables.items()}
        dense_optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        weights_T = torch.tensor([1.0, 0.5, 0.25])
        plain = run.trainer._all_batches()
        pipelined = run.trainer._all_batches()
        for step in range(_STEPS):
            batch = next(plain)
            if step == 0:
                _start_heads(network.heads, batch)
            outputs = network(Inputs(plain_pooled(batch, tables, run), batch.dense_BD))
            losses = []
            for i, (head, out) in enumerate(zip(network.heads, outputs, strict=True)):
                seen = batch.observed_BT[:, i] > 0
                losses.append(head.loss(out[seen], batch.labels_BT[seen, i]).mean())
            dense_optimizer.zero_grad()
            gradients = torch.autograd.grad(
                (weights_T * torch.stack(losses)).sum(),
                [*network.parameters(), *tables.values()],
            )
            count = len(list(network.parameters()))
            for parameter, gradient in zip(network.parameters(), gradients, strict=False):
                parameter.grad = gradient
            dense_optimizer.step()
            with torch.no_grad():  # row-wise Adagrad: one accumulator per row
                for (name, table), gradient in zip(tables.items(), gradients[count:], strict=True):
                    sums[name] += gradient.pow(2).mean(1)
                    table -= 0.05 * gradient / (sums[name].sqrt() + 1e-8)[:, None]

            output = run.trainer.pipeline.progress(pipelined)
            torch.testing.assert_close(
                output.losses.global_T, torch.stack(losses).detach(), rtol=1e-5, atol=1e-7
            )
        found = run.tensors()
        for name, table in tables.items():
            key = f"embeddings.ebc.embedding_bags.{name}.weight"
            torch.testing.assert_close(found[key], table.detach(), rtol=1e-4, atol=2e-6)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(
                found[f"objective.network.{name}"], parameter.detach(), rtol=1e-4, atol=2e-6
            )

    with_run(config, (*balancer, "data.shuffle_rows=0"), check)


def test_steps_equal_the_formulas(tmp_path: Path) -> None:
    config = default_setup(tmp_path)
    static = "balancer={name: static, weights: {ctr: 1.0, cvr: 0.5, watch_time: 0.25}}"
    run_ranks(_compare, 1, config, (static,), init_group=False)
