"""Dynamic weight average, by hand. Shapes: T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from marigold_rec.balancing import Balancer
from tests.balancing._inputs import make_balancer, task_names

_EVERYONE = torch.ones(3, dtype=torch.bool)


def _run(balancer: Balancer, losses: Tensor, presence: Tensor | None = None) -> list[Tensor]:
    """The coefficients of each step."""
    found = []
    for step, losses_T in enumerate(losses):
        present_T = _EVERYONE if presence is None else presence[step]
        balancer.observe_losses(step, losses_T * present_T, present_T)
        found.append(balancer.coefficients(losses_T * present_T, present_T).clone())
    return found


def test_the_weights_are_the_papers() -> None:
    random = torch.Generator().manual_seed(0)
    losses = torch.rand(24, 3, generator=random, dtype=torch.float64) + 0.1
    balancer = make_balancer("dwa", task_names(3), interval_steps=4, temperature=1.5).double()
    found = _run(balancer, losses)
    means = losses.view(6, 4, 3).mean(1)
    for step, coefficients_T in enumerate(found):
        interval = step // 4
        if interval < 2:
            expected_T = torch.ones(3, dtype=torch.float64)
        else:
            ratio_T = means[interval - 1] / means[interval - 2]
            expected_T = 3 * torch.softmax(ratio_T / 1.5, 0)
        torch.testing.assert_close(coefficients_T, expected_T, rtol=1e-12, atol=0)


def test_a_task_counts_in_the_steps_where_it_is_there() -> None:
    losses = torch.tensor([[1.0, 1.0, 1.0], [3.0, 3.0, 3.0], [1.0, 1.0, 1.0]])
    presence = torch.tensor([[True, True, True], [True, False, True], [True, True, True]])
    balancer = make_balancer("dwa", task_names(3), interval_steps=2)
    _run(balancer, losses, presence)
    assert balancer.state_dict()["last_mean_T"].tolist() == [2.0, 1.0, 2.0]


def test_a_task_absent_for_an_interval_keeps_its_weight_and_the_others_share_theirs() -> None:
    random = torch.Generator().manual_seed(1)
    losses = torch.rand(20, 3, generator=random) + 0.1
    presence = torch.ones(20, 3, dtype=torch.bool)
    presence[8:16, 1] = False
    found = _run(make_balancer("dwa", task_names(3), interval_steps=4), losses, presence)
    assert found[12][1] == found[15][1] == found[11][1] != found[7][1]
    assert not torch.equal(found[12], found[11])
    for coefficients_T in found:
        torch.testing.assert_close(coefficients_T.sum(), torch.tensor(3.0))


def test_losses_that_are_zero_or_not_finite_leave_usable_weights() -> None:
    losses = torch.tensor([[0.0, torch.nan, 1.0], [1.0, 2.0, 1e-20], [1e-30, torch.inf, 1e15]])
    found = _run(make_balancer("dwa", task_names(3), interval_steps=1), losses.repeat(5, 1))
    for coefficients_T in found:
        assert torch.isfinite(coefficients_T).all()
        torch.testing.assert_close(coefficients_T.sum(), torch.tensor(3.0))
