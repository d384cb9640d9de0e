"""The running mean of what the probes find: one probe is noisy. Shapes: T tasks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class RunningDescent(nn.Module):
    """An exponential mean per task that starts at the first value seen."""

    def __init__(self, num_tasks: int, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("mean_T", torch.zeros(num_tasks))
        self.register_buffer("seen_T", torch.zeros(num_tasks, dtype=torch.bool))

    @property
    def mean(self) -> Tensor:
        return cast(Tensor, self.mean_T)

    def update(self, fresh_T: Tensor, update_T: Tensor) -> Tensor:
        """Takes `fresh_T` in where `update_T` holds; elsewhere it may be NaN. Returns the mean."""
        seen_T = cast(Tensor, self.seen_T)
        decay_T = torch.where(seen_T, self._decay, 0.0)
        moved_T = decay_T * self.mean + (1.0 - decay_T) * fresh_T
        self.mean.copy_(torch.where(update_T, moved_T, self.mean))
        seen_T.logical_or_(update_T)
        return self.mean
