"""CAGrad's and SDMGrad's directions against their published objectives, and the primary task.

Shapes: T tasks, D width of gradients.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from marigold_rec.balancing import Balancer
from tests.balancing._inputs import EVERY_STEP, Problem, drive, make_balancer, random_problem

_EXACT = {"probe": EVERY_STEP, "log_losses": False, "min_weight": 0.0, "ema": 0.0}
_PERIOD = 4
"""Every fourth step is one of CAGrad's reference steps."""


def _marigold(problem: Problem, **settings: Any) -> Balancer:
    return make_balancer("marigold", problem.names, **{**_EXACT, **settings}).double()


def _buffer(balancer: Balancer, ending: str) -> Tensor:
    (found,) = [b for name, b in balancer.named_buffers() if name.endswith(ending)]
    return found


def _objective(problem: Problem, regulariser: str, strength: float, weights_T: Tensor) -> Tensor:
    """What the papers minimise over w."""
    mean_D = problem.jacobian_TD.mean(0)
    weighted_D = weights_T @ problem.jacobian_TD
    if regulariser == "sdmgrad":
        return 0.5 * (weighted_D + strength * mean_D).square().sum()
    return weighted_D @ mean_D + strength * mean_D.norm() * weighted_D.norm()


@pytest.mark.parametrize("strength", [0.3, 0.9])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("regulariser", ["sdmgrad", "cagrad"])
def test_the_log_weights_move_along_the_gradient_of_the_published_objective(
    regulariser: str, seed: int, strength: float
) -> None:
    """Of the objective through softmax, by autograd; in units of ||d||^2, as all of h is."""
    problem = random_problem(4, width=8, seed=seed)
    lr = 1e-3
    balancer = _marigold(problem, regulariser=regulariser, regulariser_strength=strength, lr=lr)
    logits_T = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    logits_T.requires_grad_()
    weights_T = logits_T.softmax(0)
    _objective(problem, regulariser, strength, weights_T).backward()

    before_T = weights_T.detach()
    balancer.weights.copy_(before_T)
    scale_T = torch.full((4,), strength / 4, dtype=torch.float64)
    if regulariser == "cagrad":
        mean_D, weighted_D = problem.jacobian_TD.mean(0), before_T @ problem.jacobian_TD
        ratio = mean_D.norm() / weighted_D.norm()
        _buffer(balancer, "ratio").copy_(ratio)
        mix_T = 0.25 + strength * ratio * before_T
    else:
        mix_T = before_T + scale_T
    step = 1  # not a reference step
    losses_T, present_T = problem.losses_T, torch.ones(4, dtype=torch.bool)
    balancer.observe_losses(step, losses_T, present_T)
    coefficients_T = balancer.coefficients(losses_T, present_T)
    torch.testing.assert_close(coefficients_T, 4 * mix_T / mix_T.sum())
    balancer.observe(problem.probe(coefficients_T, present_T))

    norm2 = (mix_T @ problem.jacobian_TD).square().sum()
    moved_T = (balancer.weights.log() - before_T.log()) * (norm2 / -lr)
    assert logits_T.grad is not None
    assert logits_T.grad.abs().max() < norm2, "clipped: another seed"
    expected_T = logits_T.grad - logits_T.grad[0]  # softmax takes a constant off all logits
    torch.testing.assert_close(moved_T - moved_T[0], expected_T, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("regulariser", "seed"),
    [
        *(("sdmgrad", seed) for seed in range(4)),
        *(("cagrad", seed) for seed in range(4)),
    ],
)
def test_the_weights_end_where_the_published_objective_is_least(
    regulariser: str, seed: int
) -> None:
    problem, strength = random_problem(4, width=6, seed=seed), 0.8

    def value(weights: Any) -> float:
        weights_T = torch.as_tensor(np.asarray(weights), dtype=torch.float64)
        return _objective(problem, regulariser, strength, weights_T).item()

    solved = minimize(
        value,
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    balancer = _marigold(
        problem, regulariser=regulariser, regulariser_strength=strength, lr=0.5, ema=0.0
    )
    drive(balancer, problem, 3000)
    found, least, start = value(balancer.weights), solved.fun, value(np.full(4, 0.25))
    assert found - least < 0.01 * (start - least), (found, least, start)


@pytest.mark.parametrize("log_losses", [False, True])
@pytest.mark.parametrize("c", [0.2, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_cagrads_step_stays_on_the_ball_around_the_mean_gradient(
    seed: int, c: float, log_losses: bool
) -> None:
    """||d - g_0|| = c ||g_0||, with the ratio ||g_0|| / ||g_w|| from probes alone."""
    problem = random_problem(4, width=8, seed=seed)
    balancer = _marigold(
        problem, regulariser="cagrad", regulariser_strength=c, lr=1e-9, log_losses=log_losses
    )
    weights_T = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    balancer.weights.copy_(weights_T)
    drive(balancer, problem, 40 * _PERIOD)
    jacobian_TD = problem.jacobian_TD
    if log_losses:
        jacobian_TD = jacobian_TD / problem.losses_T[:, None]
    mean_D, weighted_D = jacobian_TD.mean(0), weights_T @ jacobian_TD
    ratio = _buffer(balancer, "ratio")
    torch.testing.assert_close(ratio, mean_D.norm() / weighted_D.norm(), rtol=1e-6, atol=0.0)
    # Coefficients count the tasks; k sums to 1 + c ratio.
    coefficients_T = drive(balancer, problem, 2)[1]
    unit_T = 1 / problem.losses_T if log_losses else torch.ones(4).double()
    mix_T = coefficients_T / unit_T
    mix_T *= (1.0 + c * ratio) / mix_T.sum()
    direction_D = mix_T @ jacobian_TD
    torch.testing.assert_close(
        (direction_D - mean_D).norm(), c * mean_D.norm(), rtol=1e-5, atol=0.0
    )


@pytest.mark.parametrize("regulariser", ["sdmgrad", "cagrad"])
def test_more_strength_is_nearer_to_the_mean_gradient(regulariser: str) -> None:
    """SDMGrad's lambda pulls there; CAGrad's c lets go."""
    problem = random_problem(4, width=6, seed=3)
    mean_D = problem.jacobian_TD.mean(0)
    cosines = []
    for strength in (0.0 if regulariser == "sdmgrad" else 0.05, 0.5, 4.0):
        balancer = _marigold(problem, regulariser=regulariser, regulariser_strength=strength)
        coefficients_T = drive(balancer, problem, 402)[-1]
        direction_D = coefficients_T @ problem.jacobian_TD
        cosines.append(torch.cosine_similarity(direction_D, mean_D, dim=0).item())
    assert cosines == sorted(cosines, reverse=regulariser == "cagrad"), cosines
    assert max(cosines) - min(cosines) > 0.01


_EQUAL = {"lr": 1e-9, "ema": 0.5}
"""Weights that stay equal: nothing but the constraint keeps a task from harm."""


def _harmed() -> Problem:
    """Task 1 descends little, and the sum of the others pushes it uphill."""
    problem = random_problem(4, width=8, seed=1)
    jacobian_TD = problem.jacobian_TD.clone()
    others_D = jacobian_TD[[0, 2, 3]].sum(0)
    jacobian_TD[1] = -0.15 * others_D + 0.1 * jacobian_TD[1]
    return replace(problem, jacobian_TD=jacobian_TD)


def _descent_and_share(balancer: Balancer, problem: Problem, task: int) -> tuple[float, float]:
    """h of `task` along the balancer's step, and its share of ||d||^2, exactly."""
    coefficients_T = drive(balancer, problem, 400)[-1]
    direction_D = coefficients_T @ problem.jacobian_TD
    descent = problem.jacobian_TD[task] @ direction_D
    share = coefficients_T[task] * descent / direction_D.square().sum()
    return descent.item(), share.item()


@pytest.mark.parametrize("log_losses", [False, True])
@pytest.mark.parametrize("min_share", [0.0, 0.3])
def test_a_primary_task_is_not_harmed(min_share: float, log_losses: bool) -> None:
    problem = _harmed()
    settings = {**_EQUAL, "log_losses": log_losses}
    plain, _ = _descent_and_share(_marigold(problem, **settings), problem, 1)
    assert plain < -1e-3, "the control: it must be harmed"
    primary = {"task": "task1", "min_share": min_share}
    balancer = _marigold(problem, **settings, primary=primary)
    descent, share = _descent_and_share(balancer, problem, 1)
    assert share > min_share - 1e-3
    assert descent > -1e-3
    # No more than it takes.
    assert share < min_share + 0.02
    assert _buffer(balancer, "multiplier") > 0


@pytest.mark.parametrize("log_losses", [False, True])
def test_an_unharmed_primary_task_gets_no_extra_weight(log_losses: bool) -> None:
    problem = replace(_harmed(), jacobian_TD=torch.eye(4, 8, dtype=torch.float64))
    settings = {"log_losses": log_losses, "lr": 0.5}
    plain = _marigold(problem, **settings)
    constrained = _marigold(problem, **settings, primary={"task": "task0"})
    for a_T, b_T in zip(drive(plain, problem, 50), drive(constrained, problem, 50), strict=True):
        assert torch.equal(a_T, b_T)
    assert _buffer(constrained, "multiplier") == 0


def test_the_multiplier_falls_when_the_harm_is_over() -> None:
    harmed = _harmed()
    calm = replace(harmed, jacobian_TD=torch.eye(4, 8, dtype=torch.float64))
    balancer = _marigold(harmed, **_EQUAL, primary={"task": "task1"})
    drive(balancer, harmed, 200)
    assert _buffer(balancer, "multiplier") > 0
    drive(balancer, calm, 200)
    assert _buffer(balancer, "multiplier") == 0


def test_an_absent_primary_task_keeps_its_multiplier() -> None:
    problem = _harmed()
    balancer = _marigold(problem, **_EQUAL, primary={"task": "task1"})
    drive(balancer, problem, 100)
    before = _buffer(balancer, "multiplier").clone()
    drive(balancer, problem, 50, torch.tensor([True, False, True, True]))
    assert torch.equal(_buffer(balancer, "multiplier"), before)


@pytest.mark.parametrize(
    "settings",
    [
        {"regulariser": "sdmgrad"},
        {"regulariser": "cagrad"},
        {"primary": {"task": "task1", "min_share": 0.3}},
        {"regulariser": "cagrad", "primary": {"task": "task1", "min_share": 0.3}},
    ],
)
@pytest.mark.parametrize("cut", [4, 5, 7])
def test_the_state_survives_a_checkpoint(settings: dict[str, Any], cut: int) -> None:
    """At a reference step, just after one, and between two."""
    problem = _harmed()
    saved, loaded = _marigold(problem, **settings), _marigold(problem, **settings)
    drive(saved, problem, cut)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file))
    for a_T, b_T in zip(drive(saved, problem, 9), drive(loaded, problem, 9), strict=True):
        assert torch.equal(a_T, b_T)
    for (name, a), (_, b) in zip(saved.named_buffers(), loaded.named_buffers(), strict=True):
        assert torch.equal(a, b), name
