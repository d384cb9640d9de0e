"""Where MARIGOLD's update comes to rest, on fixed gradients and with exact descent.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from tests.balancing._inputs import EVERY_STEP, Problem, drive, make_balancer, random_problem


def _rest(problem: Problem, steps: int = 1200, **settings: Any) -> Tensor:
    """The weights after `steps` probes, float64."""
    given = {"probe": EVERY_STEP, "log_losses": False, "min_weight": 0.0, "lr": 0.4, **settings}
    balancer = make_balancer("marigold", problem.names, **given).double()
    drive(balancer, problem, steps)
    return balancer.weights


def _assert_all_equal(values_T: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        values_T / values_T.mean(), torch.ones_like(values_T), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("num_tasks", [2, 5])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
def test_a_finite_alpha_equalises_w_to_one_over_alpha_times_h(alpha: float, num_tasks: int) -> None:
    """alpha = 1: all w_i h_i equal (Nash-MTL); alpha = 2: all h_i sqrt(w_i) equal (FairGrad)."""
    problem = random_problem(num_tasks)
    weights_T = _rest(problem, alpha=alpha)
    descent_T = problem.gram_TT @ weights_T
    assert (descent_T > 0).all(), "some task is harmed"
    _assert_all_equal(weights_T ** (1 / alpha) * descent_T, 1e-6)


def test_alpha_1_solves_nash_mtls_equation() -> None:
    """G'G w = 1/w up to w's length, and no task's unit matters to any task's descent."""
    problem = random_problem(4)
    weights_T = _rest(problem, alpha=1.0)
    scale_T = torch.tensor([1e-2, 1.0, 10.0, 3.0], dtype=torch.float64)
    scaled_T = _rest(problem.scaled(scale_T), alpha=1.0, steps=2500) * scale_T
    torch.testing.assert_close(scaled_T / scaled_T.sum(), weights_T, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_infinite_alpha_finds_the_shortest_direction(seed: int) -> None:
    """Against scipy's solution of min |sum w_i g_i| over the simplex; with seed 0 it lies inside,
    with others on a face of the simplex.
    """
    problem = random_problem(4, width=4 if seed else 12, seed=seed)
    gram = problem.gram_TT.numpy()
    weights_T = _rest(problem, steps=6000, lr=1.0, ema=0.0)
    solved = minimize(
        lambda w: 0.5 * w @ gram @ w,
        np.full(4, 0.25),
        jac=lambda w: gram @ w,
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert solved.success
    np.testing.assert_allclose(weights_T.numpy(), solved.x, atol=2e-3)
    # KKT: the tasks that have weight descend equally fast, no task more slowly.
    descent = gram @ weights_T.numpy()
    norm2 = weights_T.numpy() @ descent
    assert norm2 - descent.min() < 4e-3 * norm2
    np.testing.assert_allclose(descent[solved.x > 0.01], norm2, rtol=4e-3)


@pytest.mark.parametrize("alpha", [1.0, 2.0, None])
def test_balance_is_kept_where_it_is(alpha: float | None) -> None:
    """Orthogonal gradients of one length are balanced by equal weights: these stay."""
    problem = Problem(torch.eye(3).double() * 7.0, torch.ones(3).double())
    torch.testing.assert_close(_rest(problem, 50, alpha=alpha), torch.full((3,), 1 / 3).double())


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_preference_divides_the_descent(alpha: float) -> None:
    problem = random_problem(3)
    preference_T = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    names = dict(zip(problem.names, preference_T.tolist(), strict=True))
    weights_T = _rest(problem, alpha=alpha, preference=names)
    descent_T = problem.gram_TT @ weights_T
    _assert_all_equal(weights_T ** (1 / alpha) * descent_T / preference_T, 1e-6)
    plain_T = _rest(problem, alpha=alpha)
    assert weights_T[0] > plain_T[0]


@pytest.mark.parametrize("alpha", [1.0, 2.0, None])
def test_log_losses_do_not_see_a_losses_unit(alpha: float | None) -> None:
    """The same path of weights in any units; and that of the gradients of log f on losses."""
    problem = random_problem(4)
    scale_T = torch.tensor([1e-10, 1.0, 1e5, 1e15], dtype=torch.float64)
    logs = Problem(problem.jacobian_TD / problem.losses_T[:, None], torch.ones(4).double())
    found = [
        _rest(problem, 300, alpha=alpha, log_losses=True),
        _rest(problem.scaled(scale_T), 300, alpha=alpha, log_losses=True),
        _rest(logs, 300, alpha=alpha),
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=0)
    assert (found[0] - 0.25).abs().max() > 0.02, "the weights never moved"
