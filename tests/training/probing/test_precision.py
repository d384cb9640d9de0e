"""bf16: the training forward in bfloat16, heads, losses and probes in float32.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training import Objective
from models.heads.linear import LinearHead
from tests.balancing._networks import marigold, one_rank, probe_after, probe_before
from tests.training.probing._looks import (
    MODELS,
    Scope,
    error_T,
    look,
    real_batch,
    real_network,
    task_jacobian,
)

every_scope = pytest.mark.parametrize("scope", ["representation", "shared_parameters"])
every_estimator = pytest.mark.parametrize(
    "estimator", ["forward_difference", "central_difference", "jvp", "exact"]
)


def _watch_dtypes(network: Network) -> tuple[list[torch.dtype], list[torch.dtype]]:
    """What the towers and the heads give, forward by forward."""
    towers: list[torch.dtype] = []
    heads: list[torch.dtype] = []

    def note(seen: list[torch.dtype]) -> Any:
        return lambda _module, _inputs, output: seen.append(output.dtype)

    network.towers.register_forward_hook(note(towers))
    for module in network.modules():
        if isinstance(module, LinearHead):
            module.register_forward_hook(note(heads))
    return towers, heads


@every_estimator
@every_scope
@pytest.mark.parametrize("model", MODELS)
def test_a_probe_of_a_bf16_step_is_float32(model: str, scope: Scope, estimator: str) -> None:
    network = real_network(model)
    z_BR, batch = real_batch(256)
    jacobian_TN = task_jacobian(network, z_BR, batch, scope)
    towers, heads = _watch_dtypes(network)
    found = look(network, z_BR, batch, precision="bf16", scope=scope, estimator=estimator)
    assert towers[0] == torch.bfloat16, "the training forward"
    assert len(towers) > 1, "no probe"
    assert set(towers[1:]) == {torch.float32}, "the probe"
    assert set(heads) == {torch.float32}
    assert found.probe.losses_T.dtype == found.probe.descent_T.dtype == torch.float32
    # Along the direction of the bf16 backward, with exact gradients.
    assert found.direction_N.dtype == torch.float32
    assert error_T(found.probe, jacobian_TN @ found.direction_N).max() < 0.03
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_and_gradients_are_float32(precision: Any) -> None:
    network = real_network("mmoe")
    z_BR, batch = real_batch(128)
    objective = Objective(network, marigold(3), one_rank(), precision)
    scalar, output = objective(Inputs(z_BR.requires_grad_(), batch.dense_BD), batch)
    scalar.backward()
    assert scalar.dtype == torch.float32
    for tensor in (output.losses.rows_TB, output.losses.global_T, output.coefficients_T):
        assert tensor.dtype == torch.float32
    gradients: list[Tensor | None] = [p.grad for p in objective.parameters()]
    for gradient in (z_BR.grad, *gradients):
        assert gradient is not None
        assert gradient.dtype == torch.float32


def test_evaluation_is_float32() -> None:
    network = real_network("mmoe")
    z_BR, batch = real_batch(16)
    towers, _ = _watch_dtypes(network)
    objective = Objective(network, marigold(3), one_rank(), "bf16").eval()
    assert objective(Inputs(z_BR, batch.dense_BD), batch).dtype == torch.float32
    assert towers == [torch.float32]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_is_measured_in_float32_on_both_sides(precision: Any) -> None:
    """Dense parameters and representation move by little: far less than bfloat16 can tell."""
    network = real_network("mmoe")
    z_BR, batch = real_batch(512)
    balancer = marigold(3, probe={"scope": "update"})
    objective = Objective(network, balancer, one_rank(), precision)
    z_BR.requires_grad_()
    scalar, output = objective(Inputs(z_BR, batch.dense_BD), batch)
    scalar.backward()
    assert z_BR.grad is not None
    moved_BR = z_BR.detach() - 1e-2 * z_BR.grad

    def losses_T(z: Tensor) -> Tensor:
        with torch.no_grad():
            rows_TB = torch.stack(
                [
                    head.loss(output, batch.labels_BT[:, i])
                    for i, (head, output) in enumerate(
                        zip(network.task_heads, network(Inputs(z, batch.dense_BD)), strict=True)
                    )
                ]
            ).double()
        weights_TB = (batch.observed_BT * batch.weights_B[:, None]).T
        return (rows_TB * weights_TB).sum(1) / weights_TB.sum(1)

    before_T = losses_T(z_BR.detach())
    probe_before(objective, output)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter -= 1e-4 * cast(Tensor, parameter.grad)
    probe_after(objective, output, lambda batch: Inputs(moved_BR, batch.dense_BD))
    fall_T = before_T - losses_T(moved_BR)
    assert (fall_T.abs() < 0.02 * before_T).all(), "too far for the test to mean anything"
    found_T = balancer.last.descent_T.double()
    torch.testing.assert_close(found_T, fall_T, rtol=1e-3, atol=1e-3 * fall_T.abs().max().item())
