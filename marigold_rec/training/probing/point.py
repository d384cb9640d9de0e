"""The point that a probe starts from: its variables, the direction to move, the losses there.

Shapes: T tasks, B rows of this rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Variables = tuple[Tensor, ...]


@dataclass(frozen=True)
class ProbePoint:
    """One step's losses as a function of the variables that a scope moves."""

    variables: Variables
    direction: Variables
    """d: the gradient of the combined global loss with respect to `variables`."""
    norm2: Tensor
    """||d||^2 over all ranks, scalar."""
    rows_at: Callable[[Variables], Tensor]
    """This rank's weight * loss of each row at other variables, [T, B]; float32, with
    the dropout masks of the training forward."""
    base_losses_TB: Tensor | None
    """`rows_at(variables)`, where the training forward has left it."""

    def moved(self, mu: Tensor) -> Variables:
        """The variables minus mu d."""
        return tuple(v - mu * d for v, d in zip(self.variables, self.direction, strict=True))
