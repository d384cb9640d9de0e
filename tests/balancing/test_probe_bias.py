"""A batch's own noise lies in its step's direction: a probe on that batch counts it as descent.

E over labels of h = G'G w plus the gradients' variance, so same-batch descent is above that of the
population; the same direction probed on fresh labels is not, by hand or with `batch: next`.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.training import Objective
from tests.balancing._networks import (
    RecordingMarigold,
    SmallNetwork,
    make_batch,
    marigold,
    one_rank,
    probe_before,
    task_gradients,
)
from tests.training.probing._looks import task_jacobian

_ROWS, _WIDTH, _DRAWS = 64, 6, 300


@dataclasses.dataclass(frozen=True)
class _World:
    """Rows whose labels are drawn anew: near what the network predicts, so that most of a gradient
    is noise."""

    network: SmallNetwork
    z_BR: Tensor
    mean_batch: Batch
    """Its labels are the chances: a loss is linear in a yes/no label, so these give the mean
    gradients."""

    def draw(self) -> Batch:
        return dataclasses.replace(
            self.mean_batch, labels_BT=torch.bernoulli(self.mean_batch.labels_BT)
        )


def _world() -> _World:
    torch.manual_seed(0)
    network = SmallNetwork(_WIDTH, 2).double()  # two yes/no tasks
    batch = make_batch(_ROWS, 2, seed=0, dtype=torch.float64)
    batch.observed_BT.fill_(1.0)
    z_BR = torch.randn(_ROWS, _WIDTH, dtype=torch.float64)
    with torch.no_grad():
        logits_BT = torch.cat(network(Inputs(z_BR, batch.dense_BD)), dim=1)
        chance_BT = torch.sigmoid(logits_BT + torch.tensor([0.5, -0.3]).double())
    return _World(network, z_BR, dataclasses.replace(batch, labels_BT=chance_BT))


def _step(objective: Objective, balancer: RecordingMarigold, z_BR: Tensor, batch: Batch) -> Tensor:
    """A step that moves nothing: the representation's gradient."""
    balancer.weights.fill_(0.5)  # d's weights stay the same over the draws
    moved_BR = z_BR.clone().requires_grad_()
    objective.zero_grad()
    scalar, output = objective(Inputs(moved_BR, batch.dense_BD), batch)
    scalar.backward()
    probe_before(objective, output)
    assert moved_BR.grad is not None
    return moved_BR.grad


def test_same_batch_descent_is_above_the_populations() -> None:
    world = _world()
    balancer = marigold(2, probe={"step": 1e-3 / _ROWS**0.5}, log_losses=False)
    objective = Objective(world.network, balancer, one_rank())
    same, fresh = [], []
    for _ in range(_DRAWS):
        direction_BR = _step(objective, balancer, world.z_BR, world.draw())
        same.append(balancer.last.descent_T)
        again_TD = task_gradients(world.network, world.z_BR, world.draw())
        fresh.append(again_TD @ direction_BR.flatten())
    population_TD = task_gradients(world.network, world.z_BR, world.mean_batch)
    population_T = population_TD @ population_TD.sum(0)  # coefficients 1, 1

    same_T = torch.stack(same).mean(0)
    assert (same_T > 2 * population_T).all(), (same_T, population_T)
    _assert_mean(torch.stack(fresh), population_T)


def _shared_descents(world: _World, **probe: Any) -> Tensor:
    """h of probes on ever new labels, [draws, T]."""
    settings = {"scope": "shared_parameters", "step": 1e-4, "every_n_steps": 2, **probe}
    balancer = marigold(2, probe=settings, log_losses=False)
    objective = Objective(world.network, balancer, one_rank())
    found = []
    for step in range(2 * _DRAWS):
        _step(objective, balancer, world.z_BR, dataclasses.replace(world.draw(), step=step))
        if step % 2:
            found.append(balancer.last.descent_T)
    return torch.stack(found)


def test_the_next_batch_tells_the_populations_descent() -> None:
    world = _world()
    population_TN = task_jacobian(world.network, world.z_BR, world.mean_batch, "shared_parameters")
    population_T = population_TN @ population_TN.sum(0)
    same_DT = _shared_descents(world, batch="same")
    assert (same_DT.mean(0) > 1.5 * population_T).all(), (same_DT.mean(0), population_T)
    next_DT = _shared_descents(world, batch="next")
    _assert_mean(next_DT, population_T)
    # Noisier, too: the standard errors must not be what lets it pass.
    assert (4 * next_DT.std(0) / _DRAWS**0.5 < 0.5 * population_T).all()


def _assert_mean(found_DT: Tensor, expected_T: Tensor) -> None:
    standard_error_T = found_DT.std(0) / len(found_DT) ** 0.5
    assert ((found_DT.mean(0) - expected_T).abs() < 4 * standard_error_T).all()
