"""CAGrad's regulariser: the step stays in a ball around the mean gradient.

Source: Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent for Multi-task Learning"
(2110.14048): d = g_0 + (c ||g_0|| / ||g_w||) g_w, where w minimises <g_w, g_0> + c ||g_0|| ||g_w||,
g_w = G w and g_0 the mean gradient. The objective's gradient in w is G'd: the descent along the
step that is being taken. Deliberate difference: the ratio ||g_0|| / ||g_w|| can't be had from one
probe, so every fourth probed step goes along g_0 alone. It measures ||g_0||^2 and <g_i, g_0>, with
which each other probe gives ||g_w||^2; running means of both stand in for one step's values.

Shapes: T tasks. Gradients in units of the balanced quantity.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.directions.direction import Along, Direction
from marigold_rec.balancing.simplex import TINY, masked_sum
from marigold_rec.config.balancers import ProbeConfig

_REFERENCE_EVERY = 4
_EMA = 0.9
_RATIO_LIMITS = (1e-2, 1e2)


class CAGradDirection(Direction):
    """k = 1 / T + (c ||g_0|| / ||g_w||) w; 1 / T in the reference steps."""

    def __init__(self, c: float, num_tasks: int, probe: ProbeConfig) -> None:
        super().__init__()
        self._c = c
        self._period = probe.every_n_steps * _REFERENCE_EVERY
        # With `batch: next` a direction is measured one step later: k has to be the same by then.
        self._last = 1 if probe.batch == "next" else 0
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("along_mean_T", torch.zeros(num_tasks))
        """<g_i, g_0>, from the reference steps."""
        self.register_buffer("norm2_w", torch.zeros(()))

    def mix(self, mix_T: Tensor, step: int) -> Tensor:
        mean_T = torch.full_like(mix_T, 1.0 / len(mix_T))
        if self._is_reference(step):
            return mean_T
        return mean_T + self._c * cast(Tensor, self.ratio) * mix_T

    def weighs(self, step: int) -> bool:
        """Not the reference steps: their direction is not the one that w is to be best for."""
        return not self._is_reference(step)

    def observe(self, along: Along, weights_T: Tensor, step: int) -> None:
        along_mean_T = cast(Tensor, self.along_mean_T)
        if self._is_reference(step):
            fresh_T = _running(along_mean_T, along.descent_T)
            along_mean_T.copy_(torch.where(along.update_T, fresh_T, along_mean_T))
            return
        ratio, norm2_w = cast(Tensor, self.ratio), cast(Tensor, self.norm2_w)
        # <g_w, d> = <g_w, g_0> + c ratio ||g_w||^2
        along_w = masked_sum(weights_T * along.descent_T, along.update_T)
        mean_w = masked_sum(weights_T * along_mean_T, along.update_T)
        fresh = ((along_w - mean_w) / (self._c * ratio).clamp_min(TINY)).clamp_min(0.0)
        norm2_w.copy_(torch.where(along.update_T.any(), _running(norm2_w, fresh), norm2_w))
        norm2_0 = along_mean_T.mean().clamp_min(0.0)
        found = (norm2_0 / norm2_w.clamp_min(TINY)).sqrt().clamp(*_RATIO_LIMITS)
        known = along.update_T.any() & (norm2_w > TINY) & (norm2_0 > TINY)
        ratio.copy_(torch.where(known, found, ratio))

    def _is_reference(self, step: int) -> bool:
        return step % self._period <= self._last


def _running(mean: Tensor, fresh: Tensor) -> Tensor:
    return torch.where(mean == 0, fresh, _EMA * mean + (1.0 - _EMA) * fresh)
