"""Losses divided by their running means. Shapes: T tasks."""

from __future__ import annotations

import torch

from tests.balancing._inputs import make_balancer, random_problem, task_names

_EVERYONE = torch.ones(3, dtype=torch.bool)


def test_it_divides_by_the_bias_corrected_running_mean() -> None:
    random = torch.Generator().manual_seed(0)
    losses = torch.rand(30, 3, generator=random, dtype=torch.float64) + 0.1
    balancer = make_balancer("inverse_loss", task_names(3), ema=0.8).double()
    for step, losses_T in enumerate(losses):
        balancer.observe_losses(step, losses_T, _EVERYONE)
        decay = 0.8 ** torch.arange(step, -1, -1, dtype=torch.float64)
        mean_T = (decay[:, None] * losses[: step + 1]).sum(0) / decay.sum()
        expected_T = 3 / mean_T / (1 / mean_T).sum()
        torch.testing.assert_close(balancer.coefficients(losses_T, _EVERYONE), expected_T)


def test_coefficients_sum_to_the_number_of_tasks_present() -> None:
    balancer = make_balancer("inverse_loss", task_names(3))
    losses_T = torch.tensor([0.2, 5.0, 1.0])
    balancer.observe_losses(0, losses_T, _EVERYONE)
    present_T = torch.tensor([True, False, True])
    balancer.observe_losses(1, losses_T * present_T, present_T)
    coefficients_T = balancer.coefficients(losses_T * present_T, present_T)
    torch.testing.assert_close(coefficients_T, torch.tensor([10 / 6, 0.0, 2 / 6]))


def test_a_tasks_unit_does_not_matter() -> None:
    """The weighted losses stay the same, up to a common factor."""
    problem = random_problem(3)
    scale_T = torch.tensor([1e-3, 1.0, 1e4])
    shares = []
    for losses_T in (problem.losses_T.float(), problem.losses_T.float() * scale_T):
        balancer = make_balancer("inverse_loss", task_names(3))
        for step in range(5):
            balancer.observe_losses(step, losses_T * (1 + step), _EVERYONE)
        weighted_T = balancer.weights * losses_T
        shares.append(weighted_T / weighted_T.sum())
    torch.testing.assert_close(shares[0], shares[1])


def test_a_loss_that_is_zero_or_not_finite_does_not_drown_the_others() -> None:
    balancer = make_balancer("inverse_loss", task_names(3))
    for step, bad in enumerate((torch.nan, torch.inf, 0.0)):
        losses_T = torch.tensor([bad, 2.0, 1.0])
        balancer.observe_losses(step, losses_T, _EVERYONE)
        found_T = balancer.coefficients(losses_T, _EVERYONE)
        torch.testing.assert_close(found_T, torch.tensor([1.0, 2 / 3, 4 / 3]))
    balancer.observe_losses(3, torch.tensor([1.0, 2.0, 1.0]), _EVERYONE)
    assert balancer.weights[0] > 1.0, "it counts again"
