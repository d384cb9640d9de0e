"""What bends MARIGOLD's step away from sum_i w_i g_i: a regulariser, or a primary task.

Shapes: T tasks. g_i is the gradient of the balanced quantity (a loss or its logarithm).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


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
