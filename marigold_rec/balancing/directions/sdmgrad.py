"""SDMGrad's regulariser: the step keeps a fixed part of the mean gradient.

Source: Xiao, Ban, Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
Algorithms" (2305.18409), objective min_w 1/2 ||G w + lambda g_0||^2, g_0 the mean gradient. Its
gradient in w is G'(G w + lambda g_0): the descent along the step that is being taken, which is all
that a probe measures. Deliberate difference: one probe of one batch, with a running mean, where
SDMGrad takes two independent batches.

Shapes: T tasks.
"""

from __future__ import annotations

from torch import Tensor

from marigold_rec.balancing.directions.direction import Direction


class SDMGradDirection(Direction):
    """k = w + lambda / T."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self._strength = strength

    def mix(self, mix_T: Tensor, step: int) -> Tensor:
        return mix_T + self._strength / len(mix_T)
