"""Every balancer, on every nasty problem: the properties of _asserts.py."""

from __future__ import annotations

import pytest
import torch

from marigold_rec.balancing import BALANCERS as CLASSES
from tests.balancing._asserts import (
    assert_equivariant,
    assert_refuses,
    assert_round_trip,
    assert_stays_usable,
    assert_survives_absence,
    assert_usable,
)
from tests.balancing._inputs import BALANCERS, PROBLEMS, Make, Problem, drive, random_problem

every_balancer = pytest.mark.parametrize("make", BALANCERS)
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())


def test_every_balancer_is_listed() -> None:
    built = {type(case.values[0](("task0", "task1"))) for case in BALANCERS}
    assert built == set(CLASSES.values())


@every_problem
@every_balancer
def test_coefficients_stay_usable(make: Make, problem: Problem) -> None:
    assert_stays_usable(make, problem, steps=40)


@every_balancer
def test_tasks_may_come_in_any_order(make: Make) -> None:
    assert_equivariant(make, random_problem(4), torch.tensor([2, 0, 3, 1]), steps=60)


@every_balancer
def test_the_state_survives_a_checkpoint(make: Make) -> None:
    assert_round_trip(make, random_problem(3), steps=8)


@pytest.mark.parametrize("task", [0, 2])
@every_balancer
def test_a_task_may_be_absent_for_long(make: Make, task: int) -> None:
    assert_survives_absence(make, random_problem(4), task, steps=25)


@every_balancer
def test_batches_without_any_task(make: Make) -> None:
    problem = random_problem(3)
    balancer = make(problem.names)
    before_T = balancer.weights.clone()
    nobody_T = torch.zeros(3, dtype=torch.bool)
    assert_usable(drive(balancer, problem, 20, nobody_T), nobody_T)
    assert torch.equal(balancer.weights, before_T)


@every_balancer
def test_probes_that_are_not_finite_change_nothing(make: Make) -> None:
    assert_refuses(make, random_problem(3), steps=7)
