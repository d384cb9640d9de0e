"""Properties that every balancer has. Shapes: T tasks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from marigold_rec.balancing import Balancer, Probe
from tests.balancing._inputs import Make, Problem, drive


def assert_usable(coefficients: Sequence[Tensor], present_T: Tensor | None = None) -> None:
    """Finite, not negative, and some task counts whenever one is present."""
    for step, coefficients_T in enumerate(coefficients):
        assert torch.isfinite(coefficients_T).all(), (step, coefficients_T)
        assert (coefficients_T >= 0).all(), (step, coefficients_T)
        if present_T is None or present_T.any():
            assert (coefficients_T > 0).any(), (step, coefficients_T)


def assert_finite_state(balancer: Balancer) -> None:
    """All that lives on to later steps; a diagnostic may be NaN to say that it has no value."""
    shown = {id(value) for value in balancer.diagnostics().values() if value.ndim == 0}
    for name, buffer in balancer.named_buffers():
        if id(buffer) not in shown:
            assert torch.isfinite(buffer).all(), (name, buffer)


def assert_stays_usable(make: Make, problem: Problem, steps: int) -> None:
    balancer = make(problem.names)
    assert_usable(drive(balancer, problem, steps))
    assert_finite_state(balancer)


def assert_equivariant(make: Make, problem: Problem, order_T: Tensor, steps: int) -> None:
    """Tasks in another order get the same coefficients, in that order."""
    names = problem.names
    permuted_names = tuple(names[i] for i in order_T.tolist())
    straight = drive(make(names), problem, steps)
    permuted = drive(make(permuted_names), problem.permuted(order_T), steps)
    for a_T, b_T in zip(straight, permuted, strict=True):
        torch.testing.assert_close(b_T, a_T[order_T], rtol=1e-4, atol=1e-6)


def assert_round_trip(make: Make, problem: Problem, steps: int) -> None:
    """A balancer that is loaded from a checkpoint goes on as the saved one, to the bit."""
    saved, loaded = make(problem.names), make(problem.names)
    drive(saved, problem, steps)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file))
    for a_T, b_T in zip(drive(saved, problem, steps), drive(loaded, problem, steps), strict=True):
        assert torch.equal(a_T, b_T)
    for (name, a), (_, b) in zip(saved.named_buffers(), loaded.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def assert_survives_absence(make: Make, problem: Problem, task: int, steps: int) -> None:
    """While a task is absent its weight stays; afterwards all goes on from where it was."""
    balancer = make(problem.names)
    drive(balancer, problem, steps)
    before_T = balancer.weights.clone()
    present_T = torch.ones(problem.num_tasks, dtype=torch.bool)
    present_T[task] = False
    assert_usable(drive(balancer, problem, 10 * steps, present_T), present_T)
    assert_finite_state(balancer)
    assert torch.equal(balancer.weights[task], before_T[task]), "an absent task's weight moved"
    assert_usable(drive(balancer, problem, steps))
    if torch.isclose(before_T.sum(), torch.ones(())):  # shares; a rival's weights need not be any
        torch.testing.assert_close(balancer.weights.sum(), before_T.sum())


def assert_refuses(make: Make, problem: Problem, steps: int) -> None:
    """Probes that are not finite leave the weights to the bit."""
    balancer = make(problem.names)
    if balancer.probing is None:
        return  # its weights may move for other reasons
    drive(balancer, problem, steps)
    before_T = balancer.weights.clone()
    for bad in (torch.nan, torch.inf, -torch.inf):
        for spoil in (_spoiled_descent, _spoiled_norm):
            drive(balancer, problem, steps, spoil=lambda p, s=spoil, b=bad: s(p, b))
            assert torch.equal(balancer.weights, before_T), (spoil.__name__, bad)
    assert_usable(drive(balancer, problem, steps))
    assert_finite_state(balancer)


def _spoiled_descent(probe: Probe, bad: float) -> Probe:
    descent_T = probe.descent_T.clone()
    descent_T[0] = bad
    return replace(probe, descent_T=descent_T)


def _spoiled_norm(probe: Probe, bad: float) -> Probe:
    # As the objective finds it: the step is then of no or unknown length, and so is every h.
    return replace(
        probe,
        direction_norm2=torch.full_like(probe.direction_norm2, bad),
        descent_T=torch.full_like(probe.descent_T, torch.nan),
    )
