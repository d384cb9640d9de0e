"""FAMO against a plain transcription of the published algorithm, with torch's Adam and autograd.

Shapes: B rows, R width of the representation, T tasks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from marigold_rec.balancing import Balancer, Probe
from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._inputs import make_balancer, task_names
from tests.balancing._networks import SmallNetwork, make_batch, one_rank, probe_after, probe_before

_EPS = 1e-8


class _Published:
    """Algorithm 1 of 2306.03792 as its authors run it: losses >= 0, one move per step."""

    def __init__(self, num_tasks: int, lr: float = 0.025, weight_decay: float = 1e-3) -> None:
        self.logits_T = torch.zeros(num_tasks, dtype=torch.float64, requires_grad=True)
        self.adam = torch.optim.Adam([self.logits_T], lr=lr, weight_decay=weight_decay)

    @property
    def weights_T(self) -> Tensor:
        return torch.softmax(self.logits_T, 0).detach()

    def combined(self, losses_T: Tensor) -> Tensor:
        scale = (self.weights_T / (losses_T + _EPS)).sum().detach()
        return ((losses_T + _EPS).log() * self.weights_T / scale).sum()

    def move(self, before_T: Tensor, after_T: Tensor) -> None:
        delta_T = (before_T + _EPS).log() - (after_T + _EPS).log()
        self.adam.zero_grad()
        (gradient_T,) = torch.autograd.grad(
            torch.softmax(self.logits_T, 0), self.logits_T, grad_outputs=delta_T.detach()
        )
        self.logits_T.grad = gradient_T
        self.adam.step()


def _probe(before_T: Tensor, after_T: Tensor, c_T: Tensor, present_T: Tensor) -> Probe:
    descent_T = before_T - after_T
    return Probe(descent_T, (c_T * descent_T).sum(), before_T, c_T, present_T)


def _observe(
    balancer: Balancer, step: int, before_T: Tensor, after_T: Tensor, present_T: Tensor
) -> Tensor:
    balancer.observe_losses(step, before_T, present_T)
    c_T = balancer.coefficients(before_T, present_T)
    balancer.observe(_probe(before_T, after_T, c_T, present_T))
    return c_T


def _random_losses(steps: int, num_tasks: int) -> tuple[Tensor, Tensor]:
    """Before and after each step; positive, of mixed sizes."""
    random = torch.Generator().manual_seed(0)
    size_T = 10.0 ** torch.arange(-2, num_tasks - 2, dtype=torch.float64)
    before = size_T * (torch.rand(steps, num_tasks, generator=random, dtype=torch.float64) + 0.5)
    change = 0.1 * torch.randn(steps, num_tasks, generator=random, dtype=torch.float64)
    return before, before * torch.exp(change - torch.linspace(0, 0.2, num_tasks))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3, 0.5])
def test_coefficients_and_weights_are_the_published_ones(weight_decay: float) -> None:
    balancer = make_balancer("famo", task_names(4), weight_decay=weight_decay).double()
    published = _Published(4, weight_decay=weight_decay)
    everyone_T = torch.ones(4, dtype=torch.bool)
    for step, (before_T, after_T) in enumerate(zip(*_random_losses(200, 4), strict=True)):
        losses_T = before_T.clone().requires_grad_()
        published.combined(losses_T).backward()
        assert losses_T.grad is not None
        c_T = _observe(balancer, step, before_T, after_T, everyone_T)
        torch.testing.assert_close(c_T, 4 * losses_T.grad, rtol=1e-9, atol=0)
        published.move(before_T, after_T)
        torch.testing.assert_close(balancer.weights, published.weights_T, rtol=1e-9, atol=0)
    assert (balancer.weights - 0.25).abs().max() > 0.01, "the weights never moved"


def test_absent_tasks_rest_and_the_others_balance_as_if_alone() -> None:
    """With one task away from the start, the other three run the published algorithm."""
    # Without decay: it pulls logits to 0, and the absent task's weight makes another 0 of it.
    balancer = make_balancer("famo", task_names(4), weight_decay=0.0).double()
    published = _Published(3, weight_decay=0.0)
    present_T = torch.tensor([True, True, False, True])
    for step, (before_T, after_T) in enumerate(zip(*_random_losses(60, 4), strict=True)):
        before_T, after_T = before_T * present_T, after_T * present_T
        c_T = _observe(balancer, step, before_T, after_T, present_T)
        published.move(before_T[present_T], after_T[present_T])
        assert c_T[2] == 0
        assert balancer.weights[2] == 0.25
        torch.testing.assert_close(c_T.sum(), torch.tensor(3.0).double())
        share_T = balancer.weights[present_T] / 0.75
        torch.testing.assert_close(share_T, published.weights_T, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        torch.softmax(balancer.diagnostics()["logits"], 0), balancer.weights, rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_probes_that_are_not_finite_are_counted(bad: float) -> None:
    balancer = make_balancer("famo", task_names(2)).double()
    everyone_T = torch.ones(2, dtype=torch.bool)
    before_T = torch.tensor([1.0, 2.0], dtype=torch.float64)
    bad_T = torch.tensor([0.9, bad], dtype=torch.float64)
    _observe(balancer, 0, before_T, bad_T, everyone_T)
    assert balancer.weights.tolist() == [0.5, 0.5]
    assert balancer.diagnostics()["refused_probes"] == 1
    _observe(balancer, 1, before_T, before_T * torch.tensor([0.9, 0.5]), everyone_T)
    assert balancer.weights[1] < 0.5 < balancer.weights[0], "the one that fell less gains"
    assert balancer.diagnostics()["refused_probes"] == 1


def test_a_loss_of_zero_takes_no_part() -> None:
    balancer = make_balancer("famo", task_names(3)).double()
    everyone_T = torch.ones(3, dtype=torch.bool)
    before_T = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    c_T = _observe(balancer, 0, before_T, before_T * 0.9, everyone_T)
    torch.testing.assert_close(c_T, torch.tensor([4 / 3, 0.0, 2 / 3]).double())
    assert balancer.weights[1] == make_balancer("famo", task_names(3)).weights[1]


def test_it_trains_a_network_as_the_published_algorithm_does() -> None:
    """Through the real objective and its prober, with an embedding that moves too."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(30, 8).double()
    network = SmallNetwork(8, 4).double()
    their_table, their_network = copy.deepcopy(table), copy.deepcopy(network)

    balancer = make_balancer("famo", task_names(4)).double()
    objective = Objective(network, balancer, one_rank())
    sgd = torch.optim.SGD([*table.parameters(), *network.parameters()], lr=0.3)
    published = _Published(4)
    their_sgd = torch.optim.SGD([*their_table.parameters(), *their_network.parameters()], lr=0.3)
    for step in range(40):
        batch = replace(make_batch(64, 4, seed=step, dtype=torch.float64), step=step)
        ids_B = torch.randint(30, (64,), generator=torch.Generator().manual_seed(step))

        sgd.zero_grad()
        scalar, output = objective(Inputs(table(ids_B), batch.dense_BD), batch)
        scalar.backward()
        probe_before(objective, output)
        sgd.step()
        probe_after(objective, output, _lookup(table, ids_B))

        their_sgd.zero_grad()
        before_T = _losses(their_network, their_table(ids_B), batch)
        (4 * published.combined(before_T)).backward()
        their_sgd.step()
        with torch.no_grad():
            after_T = _losses(their_network, their_table(ids_B), batch)
        published.move(before_T.detach(), after_T)

        torch.testing.assert_close(balancer.weights, published.weights_T, rtol=0, atol=1e-7)
    assert (balancer.weights - 0.25).abs().max() > 0.05, "the weights never moved"
    torch.testing.assert_close(table.weight, their_table.weight, rtol=0, atol=1e-6)


def _lookup(table: torch.nn.Embedding, ids_B: Tensor) -> Callable[[Batch], Inputs]:
    return lambda batch: Inputs(table(ids_B), batch.dense_BD)


def _losses(network: SmallNetwork, z_BR: Tensor, batch: Batch) -> Tensor:
    outputs = network(Inputs(z_BR, batch.dense_BD))
    weight_BT = batch.observed_BT * batch.weights_B[:, None]
    rows = [
        head.loss(output_BK, batch.labels_BT[:, i])
        for i, (head, output_BK) in enumerate(zip(network.task_heads, outputs, strict=True))
    ]
    return (torch.stack(rows, dim=1) * weight_BT).sum(0) / weight_BT.sum(0)
