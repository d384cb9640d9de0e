"""Four estimators of how fast every task's loss falls along d: one for training, three as oracles.

Each takes a ProbePoint and the step mu (which the derivatives do not need) and returns this rank's
sum over rows of <its part of g_i, d>, [T]; summed over ranks and divided by the losses'
denominators, these are h. The rows' differences are taken before they are summed: the rounding of
two whole sums, which depends on how the rows lie on the ranks, would be large beside their
difference.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from marigold_rec.training.probing.point import ProbePoint, Variables

Estimator = Callable[[ProbePoint, Tensor], Tensor]


@torch.no_grad()
def forward_difference(point: ProbePoint, mu: Tensor) -> Tensor:
    """(f(x) - f(x - mu d)) / mu: one extra forward; wrong by mu d'Hd / 2."""
    base_losses_TB = (
        point.rows_at(point.variables) if point.base_losses_TB is None else point.base_losses_TB
    )
    return (base_losses_TB - point.rows_at(point.moved(mu))).sum(1) / mu


@torch.no_grad()
def central_difference(point: ProbePoint, mu: Tensor) -> Tensor:
    """(f(x + mu d) - f(x - mu d)) / 2 mu: two extra forwards; wrong by O(mu^2)."""
    difference_TB = point.rows_at(point.moved(-mu)) - point.rows_at(point.moved(mu))
    return difference_TB.sum(1) / (2.0 * mu)


@torch.no_grad()
def jvp(point: ProbePoint, mu: Tensor) -> Tensor:
    """The forward-mode derivative: exact, at two to three times the cost of a forward."""

    def rows(*variables: Tensor) -> Tensor:
        return point.rows_at(variables)

    tangent_TB = torch.func.jvp(rows, point.variables, point.direction)[1]
    return tangent_TB.sum(1)


def exact(point: ProbePoint, mu: Tensor) -> Tensor:
    """One backward per task: the reference, and what the others save."""
    variables: Variables = tuple(v.detach().requires_grad_() for v in point.variables)
    with torch.enable_grad():
        sums_T = point.rows_at(variables).sum(1)
    return torch.stack(
        [
            torch.stack(
                [
                    (gradient * d).sum()
                    for gradient, d in zip(
                        torch.autograd.grad(
                            task_sum, variables, retain_graph=True, materialize_grads=True
                        ),
                        point.direction,
                        strict=True,
                    )
                ]
            ).sum()
            for task_sum in sums_T
        ]
    )


ESTIMATORS: dict[str, Estimator] = {
    "forward_difference": forward_difference,
    "central_difference": central_difference,
    "jvp": jvp,
    "exact": exact,
}
"""Name in the config (`balancer.probe.estimator`) -> function."""
