"""The finite difference finds its own step: near enough, and not lost in rounding."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from marigold_rec.training.probing.step_size import StepSize
from tests.balancing._networks import RecordingMarigold, marigold, one_rank, probe_before
from tests.training.probing._looks import Scope, real_batch, real_network

every_scope = pytest.mark.parametrize("scope", ["representation", "shared_parameters"])
every_difference = pytest.mark.parametrize(
    "estimator", ["forward_difference", "central_difference"]
)

_ONE = torch.ones(())


def _self_checks(probes: int, model: str = "mmoe", **probe: Any) -> list[float]:
    """r, probe by probe, of a real network that learns a little on ever new rows."""
    network = real_network(model)
    balancer = marigold(3, probe=probe)
    objective = Objective(network, balancer, one_rank())
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    found = []
    for step in range(probes):
        found.append(_step(objective, balancer, step))
        optimizer.step()
    return found


def _step(objective: Objective, balancer: RecordingMarigold, step: int) -> float:
    _train_step(objective, step)
    return balancer.last.self_check.item()


_DEFAULT = {"representation": 0.002, "shared_parameters": 0.01}


@every_difference
@every_scope
@pytest.mark.parametrize("off_by", [2.0**-16, 2.0**10], ids=["too short", "too long"])
@pytest.mark.parametrize("model", ["mmoe", pytest.param("ple", marks=pytest.mark.slow)])
def test_it_comes_back_from_far_away(
    model: str, off_by: float, scope: Scope, estimator: str
) -> None:
    step = _DEFAULT[scope] * off_by
    found = _self_checks(40, model, scope=scope, estimator=estimator, step=step)
    if estimator == "forward_difference" or off_by < 1:  # the central one gets there within a few
        assert all(abs(r - 1.0) > 0.1 for r in found[:2]), "it was not far away"
    assert all(abs(r - 1.0) < 0.05 for r in found[30:]), found


@every_difference
@every_scope
def test_where_all_is_well_it_stays(scope: Scope, estimator: str) -> None:
    balancer = marigold(3, probe={"scope": scope, "estimator": estimator})
    objective = Objective(real_network("mmoe"), balancer, one_rank())
    for step in range(20):
        assert abs(_step(objective, balancer, step) - 1.0) < 0.02
    assert _state(objective.prober)["step_size.factor"] == 1.0


@pytest.mark.parametrize(
    "probe",
    [
        {"adapt_step": False},
        {"estimator": "jvp"},
        {"estimator": "exact"},
        {"scope": "shared_parameters", "batch": "next", "every_n_steps": 2},
    ],
)
def test_who_does_not_adapt(probe: dict[str, Any]) -> None:
    """Not asked to, no difference at all, or a self-check that is off for other reasons."""
    settings = {"step": 1e-9, **probe} if probe.get("estimator") is None else probe
    balancer = marigold(3, probe=settings)
    objective = Objective(real_network("mmoe"), balancer, one_rank())
    for step in range(4):
        _train_step(objective, step)
    assert _state(objective.prober)["step_size.factor"] == 1.0


def test_a_loss_that_is_not_finite_was_too_far_away() -> None:
    """Far out float32 overflows: halved until it doesn't, then as ever."""
    for bad in (torch.nan, torch.inf, -torch.inf):
        step_size = StepSize(adapts=True)
        factors = []
        for r in [bad, bad, bad, 0.5, 0.8, 0.99]:
            step_size.observe(torch.tensor(r), _ONE)
            factors.append(_state(step_size)["factor"].item())
        assert factors == [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125]


def test_a_move_without_any_effect_was_lost_in_rounding() -> None:
    """Doubled at once, however little the probes before it make of it."""
    step_size = StepSize(adapts=True)
    factors = []
    for r in [0.0, 0.0, 0.3, 0.0, 0.0, 0.6, 0.99]:
        step_size.observe(torch.tensor(r), _ONE)
        factors.append(_state(step_size)["factor"].item())
    assert factors == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0]


def test_a_probe_that_overflows_is_refused_and_the_next_ones_are_fine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, balancer = real_network("mmoe"), marigold(3, probe={"step": 0.002})
    objective = Objective(network, balancer, one_rank())
    _step(objective, balancer, 0)
    weights_T = balancer.weights.clone()
    # Where the probe stands, a loss has no value.
    head = network.task_heads[1]
    loss = head.loss

    def spoiled(output_BK: Tensor, label_B: Tensor) -> Tensor:
        return loss(output_BK, label_B) + (0.0 if output_BK.requires_grad else torch.inf)

    monkeypatch.setattr(head, "loss", spoiled)
    assert not torch.isfinite(torch.tensor(_step(objective, balancer, 1)))
    assert torch.equal(balancer.weights, weights_T)
    assert balancer.diagnostics()["refused_probes"] == 1
    monkeypatch.undo()
    for step in range(2, 6):
        assert abs(_step(objective, balancer, step) - 1.0) < 0.02
    assert _state(objective.prober)["step_size.factor"] == 0.5


def test_a_direction_of_zero_says_nothing() -> None:
    step_size = StepSize(adapts=True)
    step_size.observe(torch.tensor(0.5), _ONE)
    before = _state(step_size)
    for norm2 in (0.0, torch.nan, torch.inf):
        step_size.observe(torch.tensor(torch.nan), torch.tensor(norm2))
        for name, value in _state(step_size).items():
            assert torch.equal(value, before[name]), (norm2, name)


def test_it_turns_at_the_ends_of_its_range() -> None:
    """As off at any length: it must not stay at an end for good."""
    step_size = StepSize(adapts=True)
    factors = []
    for _ in range(60):
        step_size.observe(torch.tensor(0.5), _ONE)
        factors.append(_state(step_size)["factor"].item())
    assert min(factors) == 2.0**-12
    assert max(factors) == 2.0**12


def test_the_state_survives_a_checkpoint() -> None:
    saved, loaded = StepSize(adapts=True), StepSize(adapts=True)
    checks = torch.linspace(0.2, 1.4, 17)
    for r in checks:
        saved.observe(r, _ONE)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file))
    for r in checks:
        for step_size in (saved, loaded):
            step_size.observe(r, _ONE)
        assert _state(saved) == _state(loaded)
    assert _state(saved)["factor"] != 1.0


def _train_step(objective: Objective, step: int) -> None:
    z_BR, batch = real_batch(256, seed=step)
    batch = replace(batch, step=step)
    objective.zero_grad()
    scalar, output = objective(Inputs(z_BR.requires_grad_(), batch.dense_BD), batch)
    scalar.backward()
    probe_before(objective, output)


def _state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}
