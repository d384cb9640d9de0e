"""Every estimator at every scope against G'd by one plain backward per task.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._networks import SmallNetwork, make_batch, marigold, one_rank, probe_before
from tests.training.probing._looks import (
    MODELS,
    Look,
    Scope,
    error_T,
    first_rows,
    look,
    real_batch,
    real_network,
    task_jacobian,
)

_TASKS, _WIDTH = 4, 20

every_scope = pytest.mark.parametrize("scope", ["representation", "shared_parameters"])
every_estimator = pytest.mark.parametrize(
    "estimator", ["forward_difference", "central_difference", "jvp", "exact"]
)
the_derivatives = pytest.mark.parametrize("estimator", ["jvp", "exact"])
the_differences = pytest.mark.parametrize("estimator", ["forward_difference", "central_difference"])


def _setup(
    rows: int, dtype: torch.dtype, dropout: float = 0.0
) -> tuple[SmallNetwork, Tensor, Batch]:
    torch.manual_seed(1)
    network = SmallNetwork(_WIDTH, _TASKS, dropout).to(dtype)
    return network, torch.randn(rows, _WIDTH, dtype=dtype), make_batch(rows, _TASKS, 2, dtype)


def _against_exact(
    network: SmallNetwork, z_BR: Tensor, batch: Batch, scope: Scope, **settings: object
) -> tuple[Look, Tensor]:
    """The look, and G'd under the same dropout mask."""
    random_state = torch.get_rng_state()
    jacobian_TN = task_jacobian(network, z_BR, batch, scope)
    torch.set_rng_state(random_state)
    found = look(network, z_BR, batch, scope=scope, **settings)  # pyright: ignore[reportArgumentType]
    direction_N = found.probe.coefficients_T @ jacobian_TN
    torch.testing.assert_close(found.direction_N, direction_N)
    torch.testing.assert_close(found.probe.direction_norm2, direction_N.square().sum())
    return found, jacobian_TN @ direction_N


@pytest.mark.parametrize("log_losses", [True, False])
@the_derivatives
@every_scope
def test_derivatives_are_exact(scope: Scope, estimator: str, log_losses: bool) -> None:
    setup = _setup(48, torch.float64)
    found, exact_T = _against_exact(*setup, scope, estimator=estimator, log_losses=log_losses)
    assert error_T(found.probe, exact_T).max() < 1e-10
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=1e-10)


@the_differences
@every_scope
def test_a_differences_error_falls_with_the_step(scope: Scope, estimator: str) -> None:
    """Linearly for the forward difference, quadratically for the central one; in float64."""
    setup = _setup(48, torch.float64)
    order = 1 if estimator == "forward_difference" else 2
    # At the representation the step is a root mean square over the rows.
    scale = 0.005 if scope == "shared_parameters" else 0.1 * 48**-0.5
    errors = []
    for factor in (1, 2, 4):
        found, exact_T = _against_exact(
            *setup, scope, estimator=estimator, step=scale * factor, adapt_step=False
        )
        errors.append((found.probe.descent_T - exact_T) / exact_T.abs().max())
        assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.01 * factor**order)
    largest = errors[0].abs().max().item()
    assert 1e-7 < largest < 0.01
    for factor, error in zip((2, 4), errors[1:], strict=True):
        grown_T = errors[0] * factor**order
        torch.testing.assert_close(error, grown_T, rtol=0.0, atol=0.15 * largest * factor**order)


@every_estimator
@every_scope
def test_float32_error_at_the_default_step_is_below_a_percent(scope: Scope, estimator: str) -> None:
    found, exact_T = _against_exact(*_setup(512, torch.float32), scope, estimator=estimator)
    assert error_T(found.probe, exact_T).max() < 0.01
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.01)


@every_estimator
@every_scope
def test_both_points_see_the_same_dropout_mask(scope: Scope, estimator: str) -> None:
    network, z_BR, batch = _setup(512, torch.float32, dropout=0.3)
    found, exact_T = _against_exact(network, z_BR, batch, scope, estimator=estimator)
    assert error_T(found.probe, exact_T).max() < 0.02
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.01)
    # With masks of their own the two points differ by far more than the step does.
    with torch.no_grad():
        a, b = network(Inputs(z_BR, batch.dense_BD))[0], network(Inputs(z_BR, batch.dense_BD))[0]
    assert (a - b).abs().mean() > 0.05


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@every_estimator
@every_scope
@pytest.mark.parametrize("model", MODELS)
def test_the_real_networks_and_heads(
    model: str, scope: Scope, estimator: str, dropout: float
) -> None:
    network = real_network(model, dropout=dropout)
    z_BR, batch = real_batch(256)
    random_state = torch.get_rng_state()
    jacobian_TN = task_jacobian(network, z_BR, batch, scope)
    torch.set_rng_state(random_state)
    found = look(network, z_BR, batch, scope=scope, estimator=estimator)
    exact_T = jacobian_TN @ (found.probe.coefficients_T @ jacobian_TN)
    # Of fresh networks on labels far from what they say: more curvature than later on.
    tolerance = {"forward_difference": 0.03, "central_difference": 0.01}.get(estimator, 1e-5)
    assert error_T(found.probe, exact_T).max() < tolerance
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=tolerance)


@the_derivatives
@every_scope
def test_an_absent_task_and_filling_rows_count_for_nothing(scope: Scope, estimator: str) -> None:
    """Filling: nothing observed, weight 0. Its rows neither move nor are moved for."""
    network, z_BR, batch = _setup(96, torch.float64)
    batch.observed_BT[:, 1] = 0.0
    full, _ = _against_exact(network, z_BR[:64], first_rows(batch, 64), scope, estimator=estimator)
    batch.observed_BT[64:] = 0.0
    batch.weights_B[64:] = 0.0
    filled, exact_T = _against_exact(network, z_BR, batch, scope, estimator=estimator)
    assert error_T(filled.probe, exact_T).max() < 1e-10
    assert filled.probe.present_T.tolist() == [True, False, True, True]
    assert filled.probe.descent_T[1] == 0
    assert filled.probe.coefficients_T[1] == 0
    torch.testing.assert_close(filled.probe.descent_T, full.probe.descent_T)
    torch.testing.assert_close(filled.probe.direction_norm2, full.probe.direction_norm2)


@every_estimator
@every_scope
def test_a_batch_with_nothing_observed_is_refused(scope: Scope, estimator: str) -> None:
    network, z_BR, batch = _setup(32, torch.float32)
    batch.observed_BT.zero_()
    balancer = marigold(_TASKS, probe={"scope": scope, "estimator": estimator})
    objective = Objective(network, balancer, one_rank())
    before = {name: buffer.clone() for name, buffer in objective.prober.named_buffers()}
    scalar, output = objective(Inputs(z_BR.requires_grad_(), batch.dense_BD), batch)
    scalar.backward()
    probe_before(objective, output)
    assert balancer.diagnostics()["refused_probes"] == 1
    assert torch.equal(balancer.weights, torch.full((_TASKS,), 1 / _TASKS))
    # Such a batch says nothing of the step's size.
    for name, buffer in objective.prober.named_buffers():
        assert torch.equal(buffer, before[name]), name
