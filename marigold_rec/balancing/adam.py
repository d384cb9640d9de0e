"""Adam for one vector that is no parameter of the model: a balancer's own logits. T tasks."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class VectorAdam(nn.Module):
    """torch.optim.Adam with its state in buffers, so that it is saved along with the balancer, and
    with a mask: an entry that does not move keeps its moments and its count of steps."""

    def __init__(self, size: int, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__()
        self._lr = lr
        self._weight_decay = weight_decay
        self.register_buffer("mean_T", torch.zeros(size))
        self.register_buffer("square_T", torch.zeros(size))
        self.register_buffer("steps_T", torch.zeros(size))

    def step(self, values_T: Tensor, gradient_T: Tensor, moves_T: Tensor) -> None:
        """Moves `values_T` in place where `moves_T`; elsewhere the gradient may be NaN."""
        mean_T, square_T = cast(Tensor, self.mean_T), cast(Tensor, self.square_T)
        steps_T = cast(Tensor, self.steps_T)
        gradient_T = gradient_T + self._weight_decay * values_T  # L2, not AdamW's
        steps_T.add_(moves_T)
        mean_T.copy_(torch.where(moves_T, mean_T.lerp(gradient_T, 1.0 - _BETA1), mean_T))
        fresh_T = _BETA2 * square_T + (1.0 - _BETA2) * gradient_T.square()
        square_T.copy_(torch.where(moves_T, fresh_T, square_T))
        # 1 - beta^n; as it stands, float32 would lose its digits while n is small.
        unbiased_mean_T = mean_T / -torch.expm1(steps_T * math.log(_BETA1))
        unbiased_square_T = square_T / -torch.expm1(steps_T * math.log(_BETA2))
        moved_T = values_T - self._lr * unbiased_mean_T / (unbiased_square_T.sqrt() + _EPS)
        values_T.copy_(torch.where(moves_T, moved_T, values_T))
