"""The probe of the real Objective against one exact backward per task.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from marigold_rec.balancing import Probe
from marigold_rec.batch import Batch
from marigold_rec.training import Objective
from tests.balancing._networks import (
    SmallNetwork,
    make_batch,
    marigold,
    one_rank,
    task_gradients,
)

_TASKS, _WIDTH = 4, 20


@dataclass(frozen=True)
class _Found:
    probe: Probe
    exact_T: Tensor
    """G'd in the dtype of the network."""

    @property
    def error_T(self) -> Tensor:
        return (self.probe.descent_T - self.exact_T) / self.exact_T.abs().max()


def _setup(
    rows: int, dtype: torch.dtype, dropout: float = 0.0
) -> tuple[SmallNetwork, Tensor, Batch]:
    torch.manual_seed(1)
    network = SmallNetwork(_WIDTH, _TASKS, dropout).to(dtype)
    return network, torch.randn(rows, _WIDTH, dtype=dtype), make_batch(rows, _TASKS, 2, dtype)


def _probe(
    network: SmallNetwork, z_BR: Tensor, batch: Batch, probe_norm: float, **settings: object
) -> _Found:
    """One step of the Objective with its probe, beside the exact descent under the same mask."""
    balancer = marigold(
        _TASKS, probe={"step": probe_norm / len(z_BR) ** 0.5, "adapt_step": False}, **settings
    ).to(z_BR.dtype)
    objective = Objective(network, balancer, one_rank())
    random_state = torch.get_rng_state()
    exact_TD = task_gradients(network, z_BR, batch)
    torch.set_rng_state(random_state)
    z_BR = z_BR.detach().requires_grad_()
    scalar, _ = objective(z_BR, batch)
    scalar.backward()
    before = [p.detach().clone() for p in network.parameters()]
    random_state = torch.get_rng_state()
    objective.before_optimizer()
    assert torch.equal(torch.get_rng_state(), random_state), "the probe used up random numbers"
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    direction_D = balancer.last.coefficients_T @ exact_TD
    return _Found(balancer.last, exact_TD @ direction_D)


@pytest.mark.parametrize("log_losses", [True, False])
def test_float64_error_is_small_and_linear_in_the_step(log_losses: bool) -> None:
    network, z_BR, batch = _setup(48, torch.float64)
    errors = {}
    for norm in (1e-3, 1e-2, 1e-1):
        found = _probe(network, z_BR, batch, norm, log_losses=log_losses)
        errors[norm] = found.error_T
        assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.1 * norm)
    assert errors[1e-3].abs().max() < 2e-4
    torch.testing.assert_close(errors[1e-2], 10 * errors[1e-3], rtol=0.05, atol=1e-9)
    torch.testing.assert_close(errors[1e-1], 100 * errors[1e-3], rtol=0.3, atol=1e-9)


@pytest.mark.parametrize("norm", [1e-2, 3e-2, 1e-1])
def test_float32_error_is_below_a_percent(norm: float) -> None:
    """The default, 0.1, and a decade below it."""
    found = _probe(*_setup(512, torch.float32), norm)
    assert found.error_T.abs().max() < 0.01
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.01)


def test_both_points_see_the_same_dropout_mask() -> None:
    network, z_BR, batch = _setup(512, torch.float32, dropout=0.3)
    found = _probe(network, z_BR, batch, 0.1)
    assert found.error_T.abs().max() < 0.01
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.01)
    # With masks of their own the two points differ by far more than the step does.
    with torch.no_grad():
        a, b = network(z_BR, batch.dense_BD)[0], network(z_BR, batch.dense_BD)[0]
    assert (a - b).abs().mean() > 0.05


def test_an_absent_task_and_filling_rows_count_for_nothing() -> None:
    """Filling: nothing observed, weight 0. Its rows neither move nor are moved for."""
    network, z_BR, batch = _setup(96, torch.float64)
    batch.observed_BT[:, 1] = 0.0
    full = _probe(network, z_BR[:64], _rows(batch, 64), 1e-3)
    batch.observed_BT[64:] = 0.0
    batch.weights_B[64:] = 0.0
    filled = _probe(network, z_BR, batch, 1e-3)
    assert filled.error_T.abs().max() < 2e-4
    assert not filled.probe.present_T[1]
    assert filled.probe.descent_T[1] == 0
    assert filled.probe.coefficients_T[1] == 0
    torch.testing.assert_close(filled.probe.descent_T, full.probe.descent_T)
    torch.testing.assert_close(filled.probe.direction_norm2, full.probe.direction_norm2)
    assert filled.probe.self_check.item() == pytest.approx(1.0, abs=1e-3)


def test_a_batch_with_nothing_observed_is_refused() -> None:
    network, z_BR, batch = _setup(32, torch.float32)
    batch.observed_BT.zero_()
    balancer = marigold(_TASKS)
    objective = Objective(network, balancer, one_rank())
    scalar, _ = objective(z_BR.requires_grad_(), batch)
    scalar.backward()
    objective.before_optimizer()
    assert balancer.diagnostics()["refused_probes"] == 1
    assert torch.equal(balancer.weights, torch.full((_TASKS,), 1 / _TASKS))


def _rows(batch: Batch, rows: int) -> Batch:
    return batch._map(lambda t: t[:rows] if isinstance(t, Tensor) else t)
