"""The rivals' weights on two ranks are those of one rank on the joined rows.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._inputs import make_balancer, task_names
from tests.balancing._networks import SmallNetwork, make_batch, probe_after, probe_before
from tests.support.ranks import run_ranks

_STEPS, _ROWS, _WIDTH, _TASKS, _IDS = 40, 96, 12, 4, 50

_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "uncertainty": ("uncertainty", {"lr": 0.05}),
    "dwa": ("dwa", {"interval_steps": 5, "temperature": 0.1}),
    "inverse-loss": ("inverse_loss", {}),
    "famo": ("famo", {}),
    "upgrad": ("torchjd", {"aggregator": "upgrad"}),
    "pcgrad-logs": ("torchjd", {"aggregator": "pcgrad", "log_losses": True}),
}


def _weights_over_steps(name: str, settings: dict[str, Any]) -> Tensor:
    """Trains an embedding and a small network on this rank's part of each step's rows; [steps, T].

    The first of two ranks has a third of the rows; some steps lack a task there, or everywhere.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assert dist.group.WORLD is not None
    torch.manual_seed(5)
    table = torch.nn.Embedding(_IDS, _WIDTH)
    network = SmallNetwork(_WIDTH, _TASKS)
    balancer = make_balancer(name, task_names(_TASKS), **settings)
    objective = Objective(network, balancer, dist.group.WORLD)
    parameters = [*table.parameters(), *network.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    torch.manual_seed(rank)  # from here on, the ranks' random streams may differ
    trace = []
    for step in range(_STEPS):
        batch = make_batch(_ROWS, _TASKS, seed=step)
        ids_B = torch.randint(_IDS, (_ROWS,), generator=torch.Generator().manual_seed(step))
        if step % 7 == 3:
            batch.observed_BT[:, 1] = 0.0
        if step % 7 == 5:
            batch.observed_BT[: _ROWS // 3, 2] = 0.0
        if world_size == 2:
            mine = slice(_ROWS // 3) if rank == 0 else slice(_ROWS // 3, None)
            ids_B = ids_B[mine]
            batch = batch._map(lambda t, mine=mine: t[mine] if isinstance(t, Tensor) else t)
        optimizer.zero_grad()
        batch = replace(batch, step=step)
        scalar, output = objective(Inputs(table(ids_B), batch.dense_BD), batch)
        scalar.backward()
        for parameter in parameters:  # the mean over ranks, as DDP takes it
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size
        probe_before(objective, output)
        optimizer.step()
        probe_after(
            objective, output, lambda batch, ids_B=ids_B: Inputs(table(ids_B), batch.dense_BD)
        )
        trace.append(balancer.weights.clone())
    return torch.stack(trace)


def _all_weights() -> dict[str, Tensor]:
    return {label: _weights_over_steps(*case) for label, case in _CASES.items()}


@pytest.fixture(scope="module")
def traces() -> list[dict[str, Tensor]]:
    """Of one rank, and of either of two."""
    return [*run_ranks(_all_weights, 1), *run_ranks(_all_weights, 2)]


@pytest.mark.parametrize("label", _CASES)
def test_weights_are_those_of_one_rank(traces: list[dict[str, Tensor]], label: str) -> None:
    whole, first, second = (trace[label] for trace in traces)
    assert (whole[-1] - whole[0]).abs().max() > 0.02, "the weights never moved"
    assert torch.equal(first, second)
    torch.testing.assert_close(first, whole, rtol=1e-4, atol=1e-5)
