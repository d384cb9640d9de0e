"""`batch: next`: the direction of one step, measured on the rows of the next.

Shapes: B rows, T tasks, N numbers that the scope moves.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._networks import (
    RecordingMarigold,
    SmallNetwork,
    make_batch,
    marigold,
    one_rank,
    probe_before,
)
from tests.training.probing._looks import error_T, task_jacobian

_TASKS, _WIDTH, _ROWS = 3, 12, 64


def _rows(step: int) -> tuple[Tensor, Batch]:
    random = torch.Generator().manual_seed(step)
    z_BR = torch.randn(_ROWS, _WIDTH, generator=random, dtype=torch.float64)
    batch = make_batch(_ROWS, _TASKS, seed=step, dtype=torch.float64)
    if step % 5 == 4:
        batch.observed_BT[:, 1] = 0.0
    return z_BR, batch


def _build(every_n_steps: int, estimator: str = "jvp") -> tuple[Objective, RecordingMarigold]:
    torch.manual_seed(0)
    probe: dict[str, object] = {
        "scope": "shared_parameters",
        "batch": "next",
        "estimator": estimator,
        "every_n_steps": every_n_steps,
    }
    balancer = marigold(_TASKS, probe=probe).double()
    network = SmallNetwork(_WIDTH, _TASKS).double()
    return Objective(network, balancer, one_rank()).double(), balancer


def _step(objective: Objective, step: int) -> tuple[Tensor, Tensor]:
    """The direction of the shared parameters and the coefficients of a training step."""
    z_BR, batch = _rows(step)
    batch = replace(batch, step=step)
    objective.zero_grad()
    scalar, output = objective(Inputs(z_BR.requires_grad_(), batch.dense_BD), batch)
    scalar.backward()
    shared = objective.network.shared_parameters.values()
    direction_N = torch.cat([cast(Tensor, p.grad).flatten() for p in shared])
    probe_before(objective, output)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter -= 0.1 * cast(Tensor, parameter.grad)
    return direction_N, output.coefficients_T


@pytest.mark.parametrize("every_n_steps", [2, 3])
def test_it_measures_the_last_steps_direction_where_the_parameters_are_now(
    every_n_steps: int,
) -> None:
    objective, balancer = _build(every_n_steps)
    network = cast(SmallNetwork, objective.network)
    waiting: tuple[Tensor, Tensor] | None = None
    probes = 0
    for step in range(11):
        z_BR, batch = _rows(step)
        jacobian_TN = task_jacobian(network, z_BR, batch, "shared_parameters")
        balancer.__dict__.pop("last", None)
        found = _step(objective, step)
        assert hasattr(balancer, "last") == (waiting is not None), step
        if waiting is not None:
            direction_N, coefficients_T = waiting
            assert error_T(balancer.last, jacobian_TN @ direction_N).max() < 1e-10
            assert torch.equal(balancer.last.coefficients_T, coefficients_T)
            torch.testing.assert_close(balancer.last.direction_norm2, direction_N.square().sum())
            assert torch.equal(balancer.last.present_T, batch.observed_BT.sum(0) > 0)
            probes += 1
        waiting = found if step % every_n_steps == 0 else None
    assert probes == len(range(0, 10, every_n_steps))
    assert balancer.diagnostics()["refused_probes"] == 0


@pytest.mark.parametrize("estimator", ["forward_difference", "jvp"])
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_the_direction_waits_in_the_checkpoint(cut: int, estimator: str) -> None:
    """Directions are taken at steps 0, 3 and 6: after 4 steps one is waiting."""
    straight, balancer = _build(3, estimator)
    for step in range(cut):
        _step(straight, step)
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)
    resumed, other = _build(3, estimator)
    resumed.load_state_dict(torch.load(file))
    for step in range(cut, 9):
        _step(straight, step)
        _step(resumed, step)
        assert torch.equal(balancer.weights, other.weights), step
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
