"""Two and three ranks weigh the tasks as one rank on the joined rows does.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from marigold_rec.batch import Batch
from marigold_rec.training import Objective
from tests.balancing._networks import SmallNetwork, make_batch, marigold
from tests.support.ranks import run_ranks

_STEPS, _ROWS, _WIDTH, _TASKS, _IDS = 100, 96, 12, 4, 50


def _weights_over_steps(settings: dict[str, Any]) -> Tensor:
    """Trains an embedding and a small network on this rank's part of each step's rows; [steps, T].

    The parts are of unequal length, and some steps lack a task on one rank or on all.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assert dist.group.WORLD is not None
    torch.manual_seed(5)
    table = torch.nn.Embedding(_IDS, _WIDTH)
    balancer = marigold(_TASKS, **settings)
    network = SmallNetwork(_WIDTH, _TASKS)
    objective = Objective(network, balancer, dist.group.WORLD)
    parameters = [*table.parameters(), *network.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.2)
    trace = []
    for step in range(_STEPS):
        ids_B, batch = _step_rows(step, rank, world_size)
        optimizer.zero_grad()
        objective.step = step
        scalar, _ = objective(table(ids_B), batch)
        scalar.backward()
        _average_gradients(parameters, world_size)
        objective.before_optimizer()
        optimizer.step()
        trace.append(balancer.weights.clone())
    assert balancer.diagnostics()["refused_probes"] == 0
    return torch.stack(trace)


def _average_gradients(parameters: list[Parameter], world_size: int) -> None:
    """The mean over ranks, as DDP takes it."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    parts = flat.split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient) / world_size)


def _step_rows(step: int, rank: int, world_size: int) -> tuple[Tensor, Batch]:
    batch = make_batch(_ROWS, _TASKS, seed=step)
    ids_B = torch.randint(_IDS, (_ROWS,), generator=torch.Generator().manual_seed(step))
    if step % 7 == 3:
        batch.observed_BT[:, 1] = 0.0
    if step % 7 == 5:
        batch.observed_BT[: _ROWS // 2, 2] = 0.0
    # 1/3 and 2/3 of the rows, or 1/6, 2/6 and 3/6.
    cuts = [_ROWS * r * (r + 1) // (world_size * (world_size + 1)) for r in range(world_size + 1)]
    mine = slice(cuts[rank], cuts[rank + 1])
    return ids_B[mine], batch._map(lambda t: t[mine] if isinstance(t, Tensor) else t)


def _all_weights(all_settings: list[dict[str, Any]]) -> list[Tensor]:
    return [_weights_over_steps(settings) for settings in all_settings]


def test_weights_are_those_of_one_rank() -> None:
    cases: list[tuple[dict[str, Any], float]] = [
        ({"probe": {"every_n_steps": 10}}, 1e-6),
        # Ten times as many probes add up ten times as much of float32's rounding in the layers.
        ({"log_losses": False, "alpha": 1.0}, 1e-5),
    ]
    all_settings = [settings for settings, _ in cases]
    (whole,) = run_ranks(_all_weights, 1, all_settings)
    for trace in whole:
        assert (trace[-1] - trace[0]).abs().max() > 0.02, "the weights never moved"
    for world_size in (2, 3):
        ranks = run_ranks(_all_weights, world_size, all_settings)
        for case, (settings, tolerance) in enumerate(cases):
            first, *others = [traces[case] for traces in ranks]
            assert all(torch.equal(first, other) for other in others), (world_size, settings)
            torch.testing.assert_close(first, whole[case], rtol=0, atol=tolerance)
