"""What one probe found: the only thing that a balancer ever learns of the tasks' gradients.

Shapes: T tasks, in config order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Probe:
    """One look along the step's direction; equal on all ranks.

    With d = sum_i c_i g_i the gradient of the combined loss, over all ranks' rows, with respect to
    what the probe's scope moves:
    """

    descent_T: Tensor
    """h_i = <g_i, d>: how fast the loss of task i falls along d. With scope `update`, by how much
    it fell in the optimizers' step."""
    direction_norm2: Tensor
    """||d||^2, scalar. With scope `update`, sum_i c_i h_i."""
    losses_T: Tensor
    """f_i before the move: global losses."""
    coefficients_T: Tensor
    """c_i of d: what the losses were multiplied by."""
    present_T: Tensor
    """bool: the task had an observed label where h was measured and where d was made."""

    @property
    def self_check(self) -> Tensor:
        """r = sum_i c_i h_i / ||d||^2; 1 when the derivative is exact (on the same batch)."""
        return (self.coefficients_T * self.descent_T).sum() / self.direction_norm2
