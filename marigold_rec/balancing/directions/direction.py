"""What bends MARIGOLD's step away from sum_i w_i g_i: a regulariser, or a primary task.

Shapes: T tasks. g_i is the gradient of the balanced quantity (a loss or its logarithm).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marigold_rec.balancing.probe import Probe
from marigold_rec.balancing.simplex import TINY, masked_sum


@dataclass(frozen=True)
class Along:
    """A probe in the balanced quantities' own terms, with d = sum_i k_i g_i."""

    mix_T: Tensor
    """k_T."""
    descent_T: Tensor
    """<g_i, d>."""
    norm2: Tensor
    """||d||^2."""
    update_T: Tensor
    """bool: the tasks that this probe measured; none, when it is not to be trusted."""

    @staticmethod
    def of(probe: Probe, mix_T: Tensor, unit_T: Tensor, update_T: Tensor) -> Along:
        """From a probe of the losses: its c_i are scale * k_i * unit_i."""
        raw = masked_sum(mix_T * unit_T, update_T).clamp_min(TINY)
        scale = masked_sum(probe.coefficients_T, update_T) / raw
        descent_T = torch.where(update_T, probe.descent_T * unit_T / scale, 0.0)
        return Along(mix_T, descent_T, probe.direction_norm2 / scale**2, update_T)

    @property
    def share_T(self) -> Tensor:
        """Each task's part of ||d||^2; they sum to 1."""
        return self.mix_T * self.descent_T / self.norm2


class Direction(nn.Module):
    """Bends k; `mix` is called in each step, `observe` after each probe. State lies in buffers."""

    def mix(self, mix_T: Tensor, step: int) -> Tensor:
        """The new k_T from the old; positive."""
        raise NotImplementedError

    def weighs(self, step: int) -> bool:
        """Whether a probe of this step's direction may move the weights."""
        return True

    def observe(self, along: Along, weights_T: Tensor, step: int) -> None:
        """`weights_T` and `step` are those of the probed step's `mix`."""
