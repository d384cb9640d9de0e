"""Two and three ranks weigh the tasks as one rank on the joined rows does.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._networks import SmallNetwork, make_batch, marigold, probe_after, probe_before
from tests.support.ranks import run_ranks

_STEPS, _ROWS, _WIDTH, _TASKS, _IDS = 100, 192, 12, 4, 50


def _weights_over_steps(settings: dict[str, Any], dtype: torch.dtype) -> Tensor:
    """Trains an embedding and a small network on this rank's part of each step's rows; [steps, T].

    The parts are of unequal length, and some steps lack a task on one rank or on all.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assert dist.group.WORLD is not None
    torch.manual_seed(5)
    table = torch.nn.Embedding(_IDS, _WIDTH).to(dtype)
    balancer = marigold(_TASKS, **settings)
    network = SmallNetwork(_WIDTH, _TASKS)
    objective = Objective(network, balancer, dist.group.WORLD).to(dtype)
    parameters = [*table.parameters(), *network.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.2)
    trace = []
    for step in range(_STEPS):
        ids_B, batch = _step_rows(step, rank, world_size, dtype)
        optimizer.zero_grad()
        batch = replace(batch, step=step)
        scalar, output = objective(Inputs(table(ids_B), batch.dense_BD), batch)
        scalar.backward()
        _average_gradients(parameters, world_size)
        probe_before(objective, output)
        optimizer.step()
        probe_after(
            objective, output, lambda batch, ids_B=ids_B: Inputs(table(ids_B), batch.dense_BD)
        )
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


def _step_rows(step: int, rank: int, world_size: int, dtype: torch.dtype) -> tuple[Tensor, Batch]:
    batch = make_batch(_ROWS, _TASKS, step, dtype)
    ids_B = torch.randint(_IDS, (_ROWS,), generator=torch.Generator().manual_seed(step))
    if step % 7 == 3:
        batch.observed_BT[:, 1] = 0.0
    if step % 7 == 5:
        batch.observed_BT[: _ROWS // 2, 2] = 0.0
    # 1/3 and 2/3 of the rows, or 1/6, 2/6 and 3/6.
    cuts = [_ROWS * r * (r + 1) // (world_size * (world_size + 1)) for r in range(world_size + 1)]
    mine = slice(cuts[rank], cuts[rank + 1])
    return ids_B[mine], batch._map(lambda t: t[mine] if isinstance(t, Tensor) else t)


def _all_weights(cases: list[tuple[dict[str, Any], torch.dtype]]) -> list[Tensor]:
    return [_weights_over_steps(settings, dtype) for settings, dtype in cases]


_NEXT = {"scope": "shared_parameters", "batch": "next", "every_n_steps": 2}

# Float32, and how far the weights may part over the steps. A difference of losses is rounded to
# some 1e-7 of a loss, and divided by the little that the probe's step changes: with the default of
# 0.002 that comes to 1e-4 of h, of which each probe lets lr (1 - ema) = 0.5 % into a weight.
_FLOAT32: list[tuple[dict[str, Any], float]] = [
    ({"probe": {"every_n_steps": 10, "warmup_steps": 0}}, 1e-6),
    ({"log_losses": False, "alpha": 1.0}, 3e-5),
    ({"probe": {"step": 0.02}}, 1e-6),
    ({"probe": {"scope": "update"}}, 1e-6),
]
_FLOAT32_MORE: list[tuple[dict[str, Any], float]] = [
    ({"probe": {"estimator": "jvp"}}, 1e-6),
    ({"probe": {"estimator": "exact"}}, 1e-6),
    ({"probe": {"estimator": "central_difference"}}, 1e-5),
    ({"probe": {"scope": "shared_parameters", "estimator": "jvp"}}, 1e-6),
    ({"probe": {"scope": "shared_parameters"}}, 1e-5),
    # Here h is small beside the noise of two batches, and its rounding is not.
    ({"probe": _NEXT}, 1e-4),
]
# Float64 has no such excuse: what differs is rounding, and nothing else.
_FLOAT64: list[tuple[dict[str, Any], float]] = [
    ({}, 1e-11),
    ({"probe": {"scope": "shared_parameters"}}, 1e-11),
    ({"probe": _NEXT}, 1e-11),
    ({"probe": {"scope": "update"}}, 1e-11),
    ({"regulariser": "cagrad"}, 1e-11),
]
_FLOAT64_MORE: list[tuple[dict[str, Any], float]] = [
    ({"regulariser": "sdmgrad"}, 1e-11),
    ({"primary": {"task": "task1", "min_share": 0.4}}, 1e-11),
    ({"probe": {"estimator": "jvp"}}, 1e-11),
    ({"probe": _NEXT | {"estimator": "jvp", "every_n_steps": 3}}, 1e-11),
]
_slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("dtype", "cases", "num_ranks"),
    [
        pytest.param(torch.float32, _FLOAT32, (2, 3), id="float32"),
        pytest.param(torch.float64, _FLOAT64, (2,), id="float64"),
        pytest.param(torch.float64, _FLOAT64, (3,), id="float64-3", marks=_slow),
        pytest.param(torch.float32, _FLOAT32_MORE, (2, 3), id="float32-more", marks=_slow),
        pytest.param(torch.float64, _FLOAT64_MORE, (2, 3), id="float64-more", marks=_slow),
    ],
)
def test_weights_are_those_of_one_rank(
    dtype: torch.dtype, cases: list[tuple[dict[str, Any], float]], num_ranks: tuple[int, ...]
) -> None:
    all_settings = [(settings, dtype) for settings, _ in cases]
    (whole,) = run_ranks(_all_weights, 1, all_settings, timeout_s=25)
    for trace in whole:
        assert (trace[-1] - trace[0]).abs().max() > 0.02, "the weights never moved"
    for world_size in num_ranks:
        ranks = run_ranks(_all_weights, world_size, all_settings, timeout_s=25)
        for case, (settings, tolerance) in enumerate(cases):
            first, *others = [traces[case] for traces in ranks]
            assert all(torch.equal(first, other) for other in others), (world_size, settings)
            worst = (first - whole[case]).abs().max().item()
            assert worst < tolerance, (world_size, settings, worst)
