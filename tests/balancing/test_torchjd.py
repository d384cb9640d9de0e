"""TorchJD as a rival: its weights for exact gradients; and TorchJD as an oracle for MARIGOLD.

Shapes: P tasks present, R width of the representation, T tasks.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor
from torchjd import aggregation as jd

from marigold_rec.balancing import torchjd as module
from marigold_rec.errors import ConfigError
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._asserts import assert_stays_usable, assert_survives_absence
from tests.balancing._inputs import (
    EVERY_STEP,
    PROBLEMS,
    Problem,
    drive,
    make_balancer,
    random_problem,
    task_names,
)
from tests.balancing._networks import SmallNetwork, make_batch, one_rank, task_gradients

_THEIRS = {
    "aligned_mtl": jd.AlignedMTLWeighting(),
    "dualproj": jd.DualProjWeighting(),
    "fairgrad": jd.FairGradWeighting(alpha=2.0),
    "imtl_g": jd.IMTLGWeighting(),
    "mgda": jd.MGDAWeighting(),
    "nash_mtl": jd.FairGradWeighting(alpha=1.0),
    "pcgrad": jd.PCGradWeighting(),
    "upgrad": jd.UPGradWeighting(),
}
every_aggregator = pytest.mark.parametrize("aggregator", _THEIRS)


def _their_weights(aggregator: str, gram_TT: Tensor, step: int) -> Tensor:
    """TorchJD's own, for a matrix that is long enough for it; negative ones count as 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step)
        weights_T = _THEIRS[aggregator](gram_TT).clamp_min(0.0)
    if aggregator in ("fairgrad", "nash_mtl"):  # their sum depends on the gradients' length
        return weights_T * (len(weights_T) / weights_T.sum())
    return weights_T


@pytest.mark.parametrize("log_losses", [False, True])
@every_aggregator
def test_coefficients_are_torchjds_for_the_gradients_at_the_representation(
    aggregator: str, log_losses: bool
) -> None:
    torch.manual_seed(0)
    network = SmallNetwork(10, 4).double()
    settings = {"aggregator": aggregator, "log_losses": log_losses}
    balancer = make_balancer("torchjd", task_names(4), **settings).double()
    objective = Objective(network, balancer, one_rank())
    for step in range(3):
        z_BR = torch.randn(48, 10, dtype=torch.float64).requires_grad_()
        batch = make_batch(48, 4, seed=step, dtype=torch.float64)
        batch = replace(batch, step=step)
        _, output = objective(Inputs(z_BR, batch.dense_BD), batch)
        found_T = output.coefficients_T
        gradients_TD = task_gradients(network, z_BR, batch)
        if log_losses:
            gradients_TD /= output.losses.global_T[:, None]
            found_T = found_T * output.losses.global_T
        gradients_TD *= 100.0
        expected_T = _their_weights(aggregator, gradients_TD @ gradients_TD.T, step)
        torch.testing.assert_close(found_T, expected_T, rtol=1e-4, atol=1e-6)
        assert balancer.diagnostics()["refused_grams"] == 0


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
@pytest.mark.parametrize("log_losses", [False, True])
@every_aggregator
def test_coefficients_stay_usable(aggregator: str, log_losses: bool, problem: Problem) -> None:
    assert_stays_usable(
        lambda names: make_balancer("torchjd", names, aggregator=aggregator, log_losses=log_losses),
        problem,
        steps=1,
    )


@every_aggregator
def test_a_task_may_be_absent(aggregator: str) -> None:
    assert_survives_absence(
        lambda names: make_balancer("torchjd", names, aggregator=aggregator),
        random_problem(4),
        task=1,
        steps=3,
    )


@every_aggregator
def test_absent_tasks_are_left_out_of_the_gram_matrix(aggregator: str) -> None:
    problem, present_T = random_problem(4), torch.tensor([True, False, True, True])
    fewer = Problem(problem.jacobian_TD[present_T], problem.losses_T[present_T])
    (found_T,) = drive(_double(aggregator, problem), problem, 1, present_T)
    (expected_P,) = drive(_double(aggregator, fewer), fewer, 1)
    assert found_T[1] == 0
    torch.testing.assert_close(found_T[present_T], expected_P)


@every_aggregator
def test_short_gradients_are_not_taken_for_none(aggregator: str) -> None:
    """At a batch's representation the trace is far below TorchJD's 1e-4."""
    # The mean gradient harms the first task; another direction harms none.
    rows = [[1.0, 0.2, 0.0], [-3.0, 1.0, 0.5], [0.2, 0.1, 1.0]]
    problem = Problem(torch.tensor(rows).double(), torch.ones(3).double())
    short = problem.scaled(torch.full((3,), 1e-6, dtype=torch.float64))
    (long_T,) = drive(_double(aggregator, problem), problem, 1)
    (short_T,) = drive(_double(aggregator, short), short, 1)
    torch.testing.assert_close(short_T, long_T, rtol=1e-3, atol=1e-6)
    assert (long_T - long_T.mean()).abs().max() > 0.02


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.0])
@every_aggregator
def test_a_gram_matrix_without_weights_is_counted_and_the_last_ones_stay(
    aggregator: str, bad: float
) -> None:
    problem = random_problem(3)
    balancer = _double(aggregator, problem)
    drive(balancer, problem, 2)
    before_T = balancer.weights.clone()
    gram_TT = torch.full((3, 3), bad, dtype=torch.float64)
    balancer.observe_losses(2, problem.losses_T, torch.ones(3, dtype=torch.bool))
    balancer.observe_gram(gram_TT)
    assert torch.equal(balancer.weights, before_T)
    assert balancer.diagnostics()["refused_grams"] == 1


def test_the_random_stream_is_left_alone_and_ranks_draw_alike() -> None:
    """PCGrad draws an order: the same one on ranks whose streams differ."""
    problem = random_problem(8, width=3)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(drive(_double("pcgrad", problem), problem, 4))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a_T, b_T) for a_T, b_T in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[0][1]), "each step draws anew"


def test_without_torchjd_the_config_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name == "quadprog" else find_spec(name)
    )
    with pytest.raises(ConfigError, match=r"needs quadprog.*marigold-rec\[rivals\]"):
        make_balancer("torchjd", task_names(2), aggregator="upgrad")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("alpha", "weighting"),
    [
        (None, jd.MGDAWeighting(epsilon=1e-9, max_iters=20_000)),
        (1.0, jd.FairGradWeighting(alpha=1.0)),
        (2.0, jd.FairGradWeighting(alpha=2.0)),
    ],
    ids=["mgda", "nash-mtl", "fairgrad"],
)
def test_marigold_comes_to_rest_at_torchjds_weights(
    alpha: float | None, weighting: jd.Weighting, seed: int
) -> None:
    """On random gradients, knowing one direction's descent where TorchJD has the Gram matrix."""
    problem = random_problem(4, seed=seed)
    # Lengths as they are would let the shortest gradient have all of MGDA's weight.
    length_T = problem.jacobian_TD.norm(dim=1)
    problem = replace(problem, jacobian_TD=problem.jacobian_TD / length_T[:, None])
    settings = {"alpha": alpha, "lr": 0.4, "ema": 0.0, "min_weight": 0.0, "log_losses": False}
    marigold = make_balancer("marigold", problem.names, probe=EVERY_STEP, **settings).double()
    drive(marigold, problem, 2000)
    expected_T = weighting(problem.gram_TT)
    torch.testing.assert_close(marigold.weights, expected_T / expected_T.sum(), rtol=0, atol=2e-3)


def _double(aggregator: str, problem: Problem) -> module.TorchJD:
    balancer = make_balancer("torchjd", problem.names, aggregator=aggregator).double()
    assert isinstance(balancer, module.TorchJD)
    return balancer
