"""A task that must not be harmed: a constraint on the step, met by dual ascent.

The constraint is that the primary task's share of the joint descent, k_p <g_p, d> / ||d||^2, is at
least `min_share`; at 0, that its loss does not rise along the step. The multiplier is an extra
weight for it. Ours; a constraint of the descent itself, not of the loss's level.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.directions.direction import Along, Direction

_MOST = 100.0
"""A task that opposes all others for good shall not take all of the weight to the last digit."""


class PrimaryDirection(Direction):
    """k = k + multiplier * (sum of k) * e_primary."""

    def __init__(self, task: int, num_tasks: int, min_share: float, lr: float) -> None:
        super().__init__()
        self._task = task
        self._min_share = min_share
        self._lr = lr
        self.register_buffer("multiplier", torch.zeros(()))
        chosen_T = torch.zeros(num_tasks)
        chosen_T[task] = 1.0
        self.register_buffer("chosen_T", chosen_T, persistent=False)

    def mix(self, mix_T: Tensor, step: int) -> Tensor:
        return mix_T + cast(Tensor, self.multiplier) * mix_T.sum() * cast(Tensor, self.chosen_T)

    def observe(self, along: Along, weights_T: Tensor, step: int) -> None:
        multiplier = cast(Tensor, self.multiplier)
        missing = self._min_share - along.share_T[self._task]
        raised = (multiplier + self._lr * missing.clamp(-1.0, 1.0)).clamp(0.0, _MOST)
        multiplier.copy_(torch.where(along.update_T[self._task], raised, multiplier))
