"""Fixed task weights; equal ones are the control that every study needs."""

from __future__ import annotations

import torch

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.config.balancers import StaticBalancerConfig


class Static(Balancer):
    def __init__(self, config: StaticBalancerConfig, task_names: tuple[str, ...]) -> None:
        super().__init__(len(task_names))
        self.weights.copy_(torch.tensor([config.weights.get(name, 1.0) for name in task_names]))
