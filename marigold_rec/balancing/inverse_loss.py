"""Each loss divided by its own running mean, so that all weigh alike, whatever their units.

The simplest way to be rid of the losses' scales, and the control for all that is cleverer: it knows
nothing of gradients.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.simplex import TINY
from marigold_rec.config.balancers import InverseLossBalancerConfig


class InverseLoss(Balancer):
    """c_i = 1 / mean of f_i, scaled to sum to the number of tasks present."""

    def __init__(self, config: InverseLossBalancerConfig, task_names: tuple[str, ...]) -> None:
        super().__init__(len(task_names))
        self._ema = config.ema
        self.register_buffer("decayed_sum_T", torch.zeros(len(task_names)))
        self.register_buffer("decayed_count_T", torch.zeros(len(task_names)))

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        sum_T, count_T = cast(Tensor, self.decayed_sum_T), cast(Tensor, self.decayed_count_T)
        fresh_T = present_T & torch.isfinite(losses_T)
        sum_T.copy_(torch.where(fresh_T, sum_T.lerp(losses_T, 1.0 - self._ema), sum_T))
        # What a mean that began at 0 has of its weight so far: dividing by it corrects the bias.
        count_T.copy_(torch.where(fresh_T, self._ema * count_T + (1.0 - self._ema), count_T))
        mean_T = sum_T / count_T
        # A loss that has always been zero has no gradient; it would drown the other tasks.
        counted_T = present_T & (mean_T > TINY)
        inverse_T = torch.where(counted_T, 1.0 / mean_T, 0.0)
        scaled_T = inverse_T * (counted_T.sum() / inverse_T.sum())
        self.weights.copy_(torch.where(counted_T, scaled_T, self.weights))

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        return torch.where(present_T, self.weights, 0.0)
