"""Uncertainty weighting against autograd on its objective. Shapes: T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.balancing._inputs import make_balancer, task_names

_EVERYONE = torch.ones(4, dtype=torch.bool)


def _losses(steps: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    mean_T = torch.tensor([0.01, 0.5, 3.0, 50.0], dtype=torch.float64)
    return mean_T * (torch.rand(steps, 4, generator=random, dtype=torch.float64) + 0.5)


def test_it_is_torchs_adam_on_the_published_objective() -> None:
    balancer = make_balancer("uncertainty", task_names(4), lr=0.05).double()
    log_variance_T = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    adam = torch.optim.Adam([log_variance_T], lr=0.05)
    for step, losses_T in enumerate(_losses(300)):
        losses_T.requires_grad_()
        objective = (losses_T / (2 * log_variance_T.exp()) + log_variance_T / 2).sum()
        adam.zero_grad()
        objective.backward()
        adam.step()

        balancer.observe_losses(step, losses_T.detach(), _EVERYONE)
        # The published coefficient of each loss in the same step, before s has moved.
        torch.testing.assert_close(
            balancer.coefficients(losses_T.detach(), _EVERYONE), losses_T.grad, rtol=1e-9, atol=0
        )
        torch.testing.assert_close(
            balancer.diagnostics()["log_variance"], log_variance_T.detach(), rtol=0, atol=1e-9
        )


def test_the_variance_settles_at_the_loss() -> None:
    balancer = make_balancer("uncertainty", task_names(4), lr=0.05)
    losses_T = torch.tensor([0.01, 0.5, 3.0, 50.0])
    for step in range(2000):
        balancer.observe_losses(step, losses_T, _EVERYONE)
    torch.testing.assert_close(
        balancer.diagnostics()["log_variance"].exp(), losses_T, rtol=1e-3, atol=0
    )


def test_a_loss_of_zero_does_not_end_in_an_infinite_weight() -> None:
    balancer = make_balancer("uncertainty", task_names(4), lr=1.0)
    losses_T = torch.tensor([0.0, 0.5, 3.0, 1e15])
    for step in range(500):
        balancer.observe_losses(step, losses_T, _EVERYONE)
    assert torch.isfinite(balancer.weights * losses_T).all()


def test_a_loss_that_is_not_finite_moves_no_variance() -> None:
    balancer = make_balancer("uncertainty", task_names(4), lr=0.1)
    balancer.observe_losses(0, torch.tensor([torch.nan, torch.inf, 1.0, 2.0]), _EVERYONE)
    moved_T = balancer.diagnostics()["log_variance"] != 0
    assert moved_T.tolist() == [False, False, False, True]
