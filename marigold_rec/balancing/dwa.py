"""Dynamic weight average: more weight where the loss has been falling slowly.

Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention" (1803.10704), eq. 7:

    w_i = T exp(r_i / temperature) / sum_j exp(r_j / temperature),   r_i = L_i(t - 1) / L_i(t - 2)

Deliberate differences: L is the mean over an interval of steps, not over an epoch, since a log is
read once; and over those steps where the task was there.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.simplex import masked_sum
from marigold_rec.config.balancers import DWABalancerConfig


class DWA(Balancer):
    """The weights sum to T, and are those of the next step; they are 1 for two intervals.

    A task that was not there in a whole interval keeps its weight, and the others share out theirs.
    """

    def __init__(self, config: DWABalancerConfig, task_names: tuple[str, ...]) -> None:
        super().__init__(len(task_names))
        self._config = config
        for name in ("sum_T", "count_T", "last_mean_T", "mean_before_T", "num_means_T"):
            self.register_buffer(name, torch.zeros(len(task_names)))
        self.register_buffer("used_T", torch.ones(len(task_names)), persistent=False)

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        # The last step of an interval is still weighted as the others were.
        cast(Tensor, self.used_T).copy_(self.weights)
        counted_T = present_T & torch.isfinite(losses_T)
        cast(Tensor, self.sum_T).add_(torch.where(counted_T, losses_T, 0.0))
        cast(Tensor, self.count_T).add_(counted_T)
        if (step + 1) % self._config.interval_steps == 0:
            self._end_interval()

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        return cast(Tensor, self.used_T)

    def _end_interval(self) -> None:
        sum_T, count_T = cast(Tensor, self.sum_T), cast(Tensor, self.count_T)
        last_T, before_T = cast(Tensor, self.last_mean_T), cast(Tensor, self.mean_before_T)
        num_means_T = cast(Tensor, self.num_means_T)
        seen_T = count_T > 0
        before_T.copy_(torch.where(seen_T, last_T, before_T))
        last_T.copy_(torch.where(seen_T, sum_T / count_T, last_T))
        num_means_T.add_(seen_T)
        sum_T.zero_()
        count_T.zero_()

        ratio_T = last_T / before_T
        # There is no ratio to a loss of zero.
        moves_T = seen_T & (num_means_T >= 2) & torch.isfinite(ratio_T)
        score_T = (ratio_T / self._config.temperature).masked_fill(~moves_T, -torch.inf)
        moved_T = masked_sum(self.weights, moves_T) * torch.softmax(score_T, 0)
        self.weights.copy_(torch.where(moves_T, moved_T, self.weights))
