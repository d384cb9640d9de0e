"""The balancer that docs/marigold.md shows works as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from marigold_rec.balancing import Balancer
from marigold_rec.config.balancers import StaticBalancerConfig
from tests.balancing._asserts import (
    assert_equivariant,
    assert_round_trip,
    assert_stays_usable,
    assert_survives_absence,
)
from tests.balancing._inputs import PROBLEMS, Problem, drive, random_problem

_PAGE = Path(__file__).parents[2] / "docs" / "marigold.md"


def _steady(task_names: tuple[str, ...]) -> Balancer:
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    names = {
        "Balancer": Balancer,
        "StaticBalancerConfig": StaticBalancerConfig,
        "Tensor": torch.Tensor,
        "torch": torch,
    }
    exec(code, names)
    made = names["Steady"](StaticBalancerConfig(name="static"), task_names)
    assert isinstance(made, Balancer)
    return made


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_it_stays_usable(problem: Problem) -> None:
    assert_stays_usable(_steady, problem, steps=20)


def test_it_has_the_properties_of_every_balancer() -> None:
    assert_equivariant(_steady, random_problem(4), torch.tensor([2, 0, 3, 1]), steps=20)
    assert_round_trip(_steady, random_problem(3), steps=8)
    assert_survives_absence(_steady, random_problem(4), task=2, steps=10)


def test_it_weighs_a_jumping_loss_less() -> None:
    balancer, problem = _steady(("task0", "task1")), random_problem(2)
    for step in range(50):
        losses_T = torch.tensor([1.0, 1.0 + step % 2])
        balancer.observe_losses(step, losses_T, torch.ones(2, dtype=torch.bool))
    (coefficients_T,) = drive(balancer, problem, 1)
    assert coefficients_T[0] > 1.2 * coefficients_T[1]
