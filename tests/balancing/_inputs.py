"""Balancers to test and nasty problems to put them before. Shapes: T tasks, D width of gradients.

A new balancer gets its lines in BALANCERS and passes through test_every_balancer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from marigold_rec.balancing import BALANCERS as CLASSES
from marigold_rec.balancing import Balancer, Probe
from marigold_rec.config import balancers

Make = Callable[[tuple[str, ...]], Balancer]


EVERY_STEP = {"every_n_steps": 1}
"""Settings of a probe in each step."""


def wants_probe(balancer: Balancer, step: int) -> bool:
    return balancer.probing is not None and balancer.probing.is_due(step)


def make_balancer(name: str, task_names: tuple[str, ...], **settings: Any) -> Balancer:
    """The balancer `name`; names in the settings of tasks that are not there are left out."""
    settings = {
        key: {k: v for k, v in value.items() if k in task_names}
        if key in ("weights", "preference")
        else value
        for key, value in settings.items()
    }
    config = TypeAdapter(balancers.Balancer).validate_python({"name": name, **settings})
    return CLASSES[name](config, task_names)


def _case(label: str, name: str, **settings: Any) -> Any:
    def make(task_names: tuple[str, ...]) -> Balancer:
        return make_balancer(name, task_names, **settings)

    return pytest.param(make, id=label)


BALANCERS = [
    _case("static", "static"),
    _case("static-weighted", "static", weights={"task1": 0.25}),
    _case("marigold", "marigold", probe=EVERY_STEP),
    _case("marigold-every-3", "marigold", probe={"every_n_steps": 3, "warmup_steps": 5}),
    _case("marigold-alpha-0.1", "marigold", probe=EVERY_STEP, alpha=0.1),
    _case("marigold-alpha-1", "marigold", probe=EVERY_STEP, alpha=1.0),
    _case("marigold-alpha-2-preference", "marigold", probe=EVERY_STEP, alpha=2.0,
          preference={"task0": 3.0, "task2": 0.5}),
    _case("marigold-losses", "marigold", probe=EVERY_STEP, log_losses=False),
    _case("marigold-losses-alpha-1", "marigold", probe=EVERY_STEP, log_losses=False, alpha=1.0),
    _case("marigold-labels", "marigold", probe=EVERY_STEP, prior="labels", alpha=1.0),
    _case("marigold-no-floor", "marigold", probe=EVERY_STEP, min_weight=0.0, lr=1.0),
    _case("marigold-sdmgrad", "marigold", probe=EVERY_STEP, regulariser="sdmgrad"),
    _case("marigold-cagrad", "marigold", probe=EVERY_STEP, regulariser="cagrad"),
    _case("marigold-primary", "marigold", probe=EVERY_STEP, primary={"task": "task0"}),
    _case("marigold-cagrad-primary", "marigold", probe=EVERY_STEP, regulariser="cagrad",
          regulariser_strength=0.8, primary={"task": "task0", "min_share": 0.5, "lr": 1.0}),
    _case("uncertainty", "uncertainty", lr=0.1),
    _case("dwa", "dwa", interval_steps=5),
    _case("inverse-loss", "inverse_loss"),
    _case("famo", "famo"),
    _case("famo-every-3", "famo", every_n_steps=3, lr=0.5),
    _case("torchjd-upgrad", "torchjd", aggregator="upgrad"),
    _case("torchjd-upgrad-logs", "torchjd", aggregator="upgrad", log_losses=True),
    _case("torchjd-mgda", "torchjd", aggregator="mgda"),
    _case("torchjd-aligned-mtl", "torchjd", aggregator="aligned_mtl"),
]  # fmt: skip


def task_names(num_tasks: int) -> tuple[str, ...]:
    return tuple(f"task{i}" for i in range(num_tasks))


@dataclass(frozen=True)
class Problem:
    """Tasks with fixed losses and gradients: what a balancer sees of a model that does not move."""

    jacobian_TD: Tensor
    """float64."""
    losses_T: Tensor
    """float64."""

    @property
    def num_tasks(self) -> int:
        return len(self.losses_T)

    @property
    def names(self) -> tuple[str, ...]:
        return task_names(self.num_tasks)

    @property
    def gram_TT(self) -> Tensor:
        return self.jacobian_TD @ self.jacobian_TD.T

    def scaled(self, scale_T: Tensor) -> Problem:
        """The same tasks in other units."""
        return Problem(self.jacobian_TD * scale_T[:, None], self.losses_T * scale_T)

    def permuted(self, order_T: Tensor) -> Problem:
        return Problem(self.jacobian_TD[order_T], self.losses_T[order_T])

    def probe(self, coefficients_T: Tensor, present_T: Tensor) -> Probe:
        """What an exact oracle finds, computed in float64, in the dtype of the coefficients."""
        c_T = coefficients_T.double() * present_T
        direction_D = c_T @ self.jacobian_TD
        dtype = coefficients_T.dtype
        return Probe(
            descent_T=((self.jacobian_TD @ direction_D) * present_T).to(dtype),
            direction_norm2=direction_D.square().sum().to(dtype),
            losses_T=(self.losses_T * present_T).to(dtype),
            coefficients_T=coefficients_T,
            present_T=present_T,
        )


def drive(
    balancer: Balancer,
    problem: Problem,
    steps: int,
    present_T: Tensor | None = None,
    spoil: Callable[[Probe], Probe] = lambda probe: probe,
) -> list[Tensor]:
    """Takes `balancer` through `steps` steps on `problem`: each step's coefficients."""
    if present_T is None:
        present_T = torch.ones(problem.num_tasks, dtype=torch.bool)
    losses_T = (problem.losses_T * present_T).to(balancer.weights.dtype)
    labels_T = 100.0 * present_T
    found = []
    for step in range(steps):
        balancer.observe_losses(step, losses_T, present_T)
        balancer.observe_labels(labels_T.to(losses_T.dtype))
        if balancer.needs_gram:
            gram_TT = problem.gram_TT * present_T * present_T[:, None]
            balancer.observe_gram(gram_TT.to(losses_T.dtype))
        coefficients_T = balancer.coefficients(losses_T, present_T).clone()
        if wants_probe(balancer, step):
            balancer.observe(spoil(problem.probe(coefficients_T, present_T)))
        found.append(coefficients_T)
    return found


def random_problem(num_tasks: int, width: int = 12, seed: int = 0) -> Problem:
    """Gradients of mixed lengths and angles."""
    random = torch.Generator().manual_seed(seed)
    jacobian_TD = torch.randn(num_tasks, width, generator=random, dtype=torch.float64)
    length_T = torch.rand(num_tasks, generator=random, dtype=torch.float64) + 0.5
    losses_T = torch.rand(num_tasks, generator=random, dtype=torch.float64) + 0.2
    return Problem(jacobian_TD * length_T[:, None], losses_T)


def _with_row(problem: Problem, task: int, row_D: Tensor) -> Problem:
    jacobian_TD = problem.jacobian_TD.clone()
    jacobian_TD[task] = row_D
    return replace(problem, jacobian_TD=jacobian_TD)


def _problems() -> dict[str, Problem]:
    four = random_problem(4)
    row_D = four.jacobian_TD[0]
    rank_one = Problem(four.jacobian_TD[:, :1] * row_D, four.losses_T)
    scales = {
        "tiny": torch.full((4,), 1e-10),
        "huge": torch.full((4,), 1e15),
        "mixed-scales": torch.tensor([1e-10, 1.0, 1e5, 1e15]),
    }
    return {
        "random": four,
        "one-task": random_problem(1),
        "32-tasks": random_problem(32),
        "rank-1": rank_one,
        "same-gradients": Problem(row_D.expand(4, -1), four.losses_T),
        "opposed": _with_row(four, 1, -0.7 * row_D),
        # With equal weights there is no descent left at all.
        "cancelling": _with_row(four, 3, -four.jacobian_TD[:3].sum(0)),
        "one-zero-gradient": _with_row(four, 2, torch.zeros_like(row_D)),
        "zero-gradient": Problem(torch.zeros_like(four.jacobian_TD), four.losses_T),
        "zero-loss": _with_row(
            replace(four, losses_T=four.losses_T * torch.tensor([1, 1, 0, 1])),
            2,
            torch.zeros_like(row_D),
        ),
        **{name: four.scaled(scale_T.double()) for name, scale_T in scales.items()},
    }


PROBLEMS = _problems()
