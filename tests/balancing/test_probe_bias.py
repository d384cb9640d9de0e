"""A batch's own noise lies in its step's direction: a probe on that batch counts it as descent.

E over labels of h = G'G w plus the gradients' variance, so same-batch descent is above that of the
population; the same direction probed on fresh labels is not. Shapes: B rows, T tasks.
"""

from __future__ import annotations

import dataclasses

import torch

from marigold_rec.training import Objective
from tests.balancing._networks import (
    SmallNetwork,
    make_batch,
    marigold,
    one_rank,
    task_gradients,
)

_ROWS, _WIDTH, _DRAWS = 64, 6, 300


def test_same_batch_descent_is_above_the_populations() -> None:
    torch.manual_seed(0)
    network = SmallNetwork(_WIDTH, 2).double()  # two yes/no tasks
    batch = make_batch(_ROWS, 2, seed=0, dtype=torch.float64)
    batch.observed_BT.fill_(1.0)
    z_BR = torch.randn(_ROWS, _WIDTH, dtype=torch.float64)
    # The labels' law: near what the network predicts, so that most of a gradient is noise.
    with torch.no_grad():
        logits_BT = torch.cat(network(z_BR, batch.dense_BD), dim=1)
        chance_BT = torch.sigmoid(logits_BT + torch.tensor([0.5, -0.3]).double())
    balancer = marigold(2, probe={"step": 1e-3 / _ROWS**0.5}, log_losses=False)
    objective = Objective(network, balancer, one_rank())

    same, fresh, directions = [], [], []
    for _ in range(_DRAWS):
        drawn, again = (
            dataclasses.replace(batch, labels_BT=torch.bernoulli(chance_BT)) for _ in range(2)
        )
        balancer.weights.fill_(0.5)  # d's weights stay the same over the draws
        moved_BR = z_BR.clone().requires_grad_()
        scalar, _ = objective(moved_BR, drawn)
        scalar.backward()
        objective.before_optimizer()
        assert moved_BR.grad is not None
        direction_D = moved_BR.grad.flatten()
        same.append(balancer.last.descent_T)
        fresh.append(task_gradients(network, z_BR, again) @ direction_D)
        directions.append(direction_D)
    # A loss is linear in a yes/no label, so the mean labels give the mean gradients.
    mean_batch = dataclasses.replace(batch, labels_BT=chance_BT)
    population_TD = task_gradients(network, z_BR, mean_batch)
    population_T = population_TD @ population_TD.sum(0)  # coefficients 1, 1

    same_T, fresh_DT = torch.stack(same).mean(0), torch.stack(fresh)
    assert (same_T > 2 * population_T).all(), (same_T, population_T)
    standard_error_T = fresh_DT.std(0) / _DRAWS**0.5
    assert ((fresh_DT.mean(0) - population_T).abs() < 4 * standard_error_T).all()
