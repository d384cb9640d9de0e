"""What is MARIGOLD's own: its floor, its memory, and what it does without a usable probe.

Shapes: T tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from marigold_rec.balancing import Balancer
from tests.balancing._inputs import (
    EVERY_STEP,
    PROBLEMS,
    Problem,
    drive,
    make_balancer,
    random_problem,
    task_names,
)

_ALPHAS = pytest.mark.parametrize("alpha", [0.05, 1.0, 2.0, None])


def _marigold(num_tasks: int, **settings: Any) -> Balancer:
    return make_balancer("marigold", task_names(num_tasks), **{"probe": EVERY_STEP, **settings})


def _orthogonal(*lengths: float) -> Problem:
    lengths_T = torch.tensor(lengths, dtype=torch.float64)
    return Problem(torch.diag(lengths_T), torch.ones_like(lengths_T))


def _buffer(balancer: Balancer, name: str) -> Tensor:
    return dict(balancer.named_buffers())[name].clone()


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
@_ALPHAS
def test_weights_sum_to_one_and_keep_the_floor(problem: Problem, alpha: float | None) -> None:
    floor = min(0.03, 0.5 / problem.num_tasks)
    balancer = _marigold(problem.num_tasks, alpha=alpha, min_weight=0.03, lr=1.0)
    for _ in range(5):
        drive(balancer, problem, 20)
        torch.testing.assert_close(balancer.weights.sum(), torch.tensor(1.0))
        assert balancer.weights.min() >= floor * (1 - 1e-6)


def test_coefficients_sum_to_the_number_of_tasks_present() -> None:
    problem = random_problem(4)
    balancer = _marigold(4)
    drive(balancer, problem, 20)
    present_T = torch.tensor([True, False, True, True])
    coefficients_T = balancer.coefficients(problem.losses_T.float(), present_T)
    assert coefficients_T[1] == 0
    torch.testing.assert_close(coefficients_T.sum(), torch.tensor(3.0))


def test_a_loss_of_zero_does_not_drown_the_others() -> None:
    losses_T = torch.tensor([0.5, 0.0, 2.0])
    coefficients_T = _marigold(3).coefficients(losses_T, torch.ones(3, dtype=torch.bool))
    assert coefficients_T[1] == 0
    torch.testing.assert_close(coefficients_T, torch.tensor([1.6, 0.0, 0.4]))


def test_without_logarithms_losses_may_be_negative() -> None:
    balancer = _marigold(2, log_losses=False)
    coefficients_T = balancer.coefficients(torch.tensor([-3.0, 0.0]), torch.ones(2) > 0)
    torch.testing.assert_close(coefficients_T, torch.ones(2))


@pytest.mark.parametrize("alpha", [1.0, None])
def test_a_task_at_the_floor_comes_back_when_its_turn_comes(alpha: float | None) -> None:
    """Nothing winds up, however long it has been there."""

    def return_time(probes_at_floor: int) -> int:
        balancer = _marigold(2, alpha=alpha)
        drive(balancer, _orthogonal(300.0, 1.0), probes_at_floor)
        torch.testing.assert_close(balancer.weights[0], torch.tensor(0.01))
        for probes in range(0, 3000, 10):
            if balancer.weights[0] > 0.5:
                return probes
            drive(balancer, _orthogonal(1.0, 300.0), 10)
        raise AssertionError(f"still at {balancer.weights[0]} after 3000 probes")

    assert return_time(1500) == return_time(800)


@_ALPHAS
def test_an_absent_task_keeps_its_weight_and_its_memory(alpha: float | None) -> None:
    """The others find their own balance meanwhile, as if it did not exist."""
    problem = random_problem(4)
    balancer = _marigold(4, alpha=alpha, min_weight=1e-4, lr=0.2)
    drive(balancer, problem, 300)
    before_T, memory_T = balancer.weights.clone(), _buffer(balancer, "descent.mean_T")
    present_T = torch.tensor([True, True, False, True])
    drive(balancer, problem, 1000, present_T)
    assert balancer.weights[2] == before_T[2]
    assert _buffer(balancer, "descent.mean_T")[2] == memory_T[2]

    others = Problem(problem.jacobian_TD[present_T], problem.losses_T[present_T])
    alone = _marigold(3, alpha=alpha, min_weight=1e-4, lr=0.2)
    drive(alone, others, 1000)
    found_T = balancer.weights[present_T]
    torch.testing.assert_close(found_T / found_T.sum(), alone.weights, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("alpha", [1.0, 2.0, None])
def test_tasks_that_come_and_go_are_balanced_as_if_always_there(alpha: float | None) -> None:
    """Orthogonal gradients: a task's balance does not depend on which others are there."""
    problem = _orthogonal(1.0, 2.0, 3.0)
    always, changing = (_marigold(3, alpha=alpha, lr=0.2) for _ in range(2))
    drive(always, problem, 1000)
    for step in range(500):
        present_T = torch.ones(3, dtype=torch.bool)
        present_T[step % 3] = step % 2 == 0
        drive(changing, problem, 2, present_T)
    torch.testing.assert_close(changing.weights, always.weights, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("field", ["descent_T", "direction_norm2"])
def test_a_refused_probe_is_counted_and_changes_nothing(field: str) -> None:
    problem = random_problem(3)
    balancer = _marigold(3)
    drive(balancer, problem, 20)
    names = ("weights_T", "descent.mean_T", "descent.seen_T")
    before = {name: _buffer(balancer, name) for name in names}
    drive(
        balancer, problem, 4, spoil=lambda p: replace(p, **{field: getattr(p, field) * torch.nan})
    )
    for name in names:
        assert torch.equal(_buffer(balancer, name), before[name]), name
    assert balancer.diagnostics()["refused_probes"] == 4
    assert balancer.diagnostics()["self_check"].isnan()
    drive(balancer, problem, 1)
    assert balancer.diagnostics()["refused_probes"] == 4
    assert balancer.diagnostics()["self_check"].item() == pytest.approx(1.0, abs=1e-5)


def test_no_descent_to_share_out_leaves_the_weights() -> None:
    """A Pareto-stationary point: all gradients cancel, or there are none."""
    for problem in (PROBLEMS["zero-gradient"], _cancelling()):
        balancer = _marigold(problem.num_tasks, log_losses=False)
        before_T = balancer.weights.clone()
        drive(balancer, problem, 30)
        assert torch.equal(balancer.weights, before_T)


def test_a_harmed_task_raises_the_conflict_flag() -> None:
    harmed = Problem(torch.tensor([[1.0, 0.0], [-0.3, 0.1]]).double(), torch.ones(2).double())
    balancer = _marigold(2)
    drive(balancer, harmed, 1)
    assert balancer.diagnostics()["conflict"] == 1
    drive(balancer, harmed, 500)
    assert balancer.diagnostics()["conflict"] == 0, "balanced: nobody is harmed any more"


def test_the_descent_shown_is_in_units_of_the_whole_step() -> None:
    balancer = _marigold(3, lr=1e-9)
    drive(balancer, random_problem(3), 5)
    total = (balancer.weights * balancer.diagnostics()["descent"]).sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


def test_a_small_alpha_with_a_strong_preference_does_not_overflow() -> None:
    preference = {"task0": 1e-6, "task1": 1e6}
    balancer = _marigold(3, alpha=0.01, min_weight=0.0, lr=1.0, preference=preference)
    drive(balancer, random_problem(3), 200)
    assert torch.isfinite(balancer.weights).all()


def _cancelling() -> Problem:
    row_D = random_problem(1).jacobian_TD[0]
    return Problem(torch.stack([row_D, -row_D]), torch.ones(2).double())


@pytest.mark.parametrize("log_losses", [True, False])
def test_with_the_label_prior_equal_weights_count_every_label_alike(log_losses: bool) -> None:
    balancer = _marigold(3, prior="labels", log_losses=log_losses)
    losses_T, labels_T = torch.tensor([0.5, 0.25, 2.0]), torch.tensor([800.0, 0.0, 100.0])
    balancer.observe_labels(labels_T)
    coefficients_T = balancer.coefficients(losses_T, labels_T > 0)
    # Mean losses times their labels: sums over labels.
    expected_T = labels_T / losses_T if log_losses else labels_T
    torch.testing.assert_close(coefficients_T, 2 * expected_T / expected_T.sum())
