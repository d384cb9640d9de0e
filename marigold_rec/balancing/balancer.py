"""What a balancer is: weights for the tasks' losses inside the one fused backward.

Shapes: T tasks, in config order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Probe:
    """What one probe of the step direction found; equal on all ranks.

    With d the gradient of the combined loss at the shared representation, over all ranks' rows:
    """

    descent_T: Tensor
    """h_i: how fast the loss of task i falls along d, (f_i(z) - f_i(z - mu d)) / mu ~ <g_i, d>."""
    direction_norm2: Tensor
    """||d||^2, scalar."""
    losses_T: Tensor
    """f_i(z): global losses at the unmoved point."""
    coefficients_T: Tensor
    """c_i of d = sum_i c_i g_i: what `combine` multiplied the losses by."""
    present_T: Tensor
    """bool: the task has an observed label in this batch."""

    @property
    def self_check(self) -> Tensor:
        """r = sum_i c_i h_i / ||d||^2; 1 when the finite difference is exact."""
        return (self.coefficients_T * self.descent_T).sum() / self.direction_norm2


class Balancer(nn.Module):
    """Base of all balancers. State lives in buffers, so that checkpoints carry it.

    All ranks see the same global losses and the same probes, hence hold the same weights.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.register_buffer("weights_T", torch.ones(num_tasks))

    @property
    def weights(self) -> Tensor:
        """The tasks' present weights, [T], for logs."""
        return cast(Tensor, self.weights_T)

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        """c_T, without gradient: the combined loss is sum_i c_i f_i. `losses_T` are global."""
        return self.weights

    def wants_probe(self, step: int) -> bool:
        """Whether this step (counted from 0) shall end with a probe. Equal on all ranks."""
        return False

    def probe_norm(self) -> float:
        """Length ||mu d|| of the probe's step at the representation, over all ranks' rows."""
        raise TypeError(f"{type(self).__name__} takes no probes")

    def observe(self, probe: Probe) -> None:
        """Takes a probe that was asked for, and moves the weights."""
        raise TypeError(f"{type(self).__name__} takes no probes")

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars or [T] tensors for the logs, by name."""
        return {}
