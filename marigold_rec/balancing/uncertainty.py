"""Uncertainty weighting: each task's noise is learned along with the model.

Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
Geometry and Semantics" (1705.07115). With s_i = log sigma_i^2, the objective is

    sum_i f_i / (2 exp(s_i)) + s_i / 2

Deliberate differences: one form for all tasks, as in LibMTL, where the paper has f_i / exp(s_i) for
a classification (its s_i settles at log f_i for either, the pull on it differs); and s is moved by
an Adam of its own, from the global losses, so that it is no parameter to be sharded or reduced.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.adam import VectorAdam
from marigold_rec.balancing.balancer import Balancer
from marigold_rec.config.balancers import UncertaintyBalancerConfig

_MOST = 60.0
"""|s| stays below: a loss of zero would take exp(-s) to infinity."""


class Uncertainty(Balancer):
    """The weights are exp(-s_i) / 2, those of a task's last step; they have no fixed sum."""

    def __init__(self, config: UncertaintyBalancerConfig, task_names: tuple[str, ...]) -> None:
        super().__init__(len(task_names))
        self.weights.fill_(0.5)
        self.register_buffer("log_variance_T", torch.zeros(len(task_names)))
        self._adam = VectorAdam(len(task_names), config.lr)

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        log_variance_T = cast(Tensor, self.log_variance_T)
        half_precision_T = torch.exp(-log_variance_T) / 2
        # This step is weighted by s as it was: s and the model move together.
        self.weights.copy_(torch.where(present_T, half_precision_T, self.weights))
        gradient_T = 0.5 - losses_T * half_precision_T
        self._adam.step(log_variance_T, gradient_T, present_T & torch.isfinite(gradient_T))
        log_variance_T.clamp_(-_MOST, _MOST)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"log_variance": cast(Tensor, self.log_variance_T)}
