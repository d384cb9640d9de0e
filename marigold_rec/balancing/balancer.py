"""What a balancer is: weights for the tasks' losses inside the one fused backward.

Shapes: T tasks, in config order.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from marigold_rec.balancing.probe import Probe
from marigold_rec.config.balancers import ProbeConfig


class Balancer(nn.Module):
    """Base of all balancers. State lives in buffers, so that checkpoints carry it.

    In each training step, on every rank: `observe_losses`, then `observe_gram` if `needs_gram`,
    then `coefficients`, the one backward, and `observe` at the end of a step that was probed.
    All ranks see the same global losses, Gram matrices and probes, hence hold the same weights.
    No method may wait for the device (no `.item()`, no `if tensor`): choices are `torch.where`.
    """

    probing: ProbeConfig | None = None
    """Which probes this balancer wants; None: none at all."""

    needs_gram: bool = False
    """Whether it wants the exact Gram matrix of every step: one backward per task. Rivals only."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.register_buffer("weights_T", torch.ones(num_tasks))

    @property
    def weights(self) -> Tensor:
        """The tasks' present weights, [T], for logs."""
        return cast(Tensor, self.weights_T)

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        """The global losses of step `step` (from 0); a loss counts only where its task is present.
        Once per step, detached."""

    def observe_labels(self, labels_T: Tensor) -> None:
        """How many labels (by weight) each task's loss of this step is the mean of, over all ranks.
        Once per step, before `coefficients`."""

    def observe_gram(self, gram_TT: Tensor) -> None:
        """<g_i, g_j> of the losses' gradients at the representation, over all ranks' rows."""
        raise TypeError(f"{type(self).__name__} takes no Gram matrix")

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        """c_T >= 0, without gradient: the step's backward is that of sum_i c_i f_i."""
        return self.weights

    def observe(self, probe: Probe) -> None:
        """Takes a probe that was asked for, and moves the weights."""
        raise TypeError(f"{type(self).__name__} takes no probes")

    def diagnostics(self) -> dict[str, Tensor]:
        """Scalars or [T] tensors for the logs, by name."""
        return {}
